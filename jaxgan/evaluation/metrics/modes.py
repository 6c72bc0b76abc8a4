"""How many of the 1,000 modes of `stacked_digits` a generator captures (Metz et al. 2017, section 3.3.1)."""

import numpy as np

MODES = 1000


def modes(logits: np.ndarray) -> dict[str, float]:
    """Returns how many modes N images capture, of 1,000, and how unevenly: {"modes": 0 to 1000, "kl": 0 to 6.9}.

    `logits` [N, 30] are those of the ten digits in each of the three planes. `kl` is KL(p || uniform) in nats for the
    fraction p of each mode among the images: 0 if all modes are equally frequent, log(1000) = 6.9 if there is only one.
    N real images of 1,000 equally likely modes have about 999 / 2N (0.02 at the usual 26,000).
    """
    digits = logits.reshape(-1, 3, 10).argmax(axis=-1)
    count = np.bincount(digits @ (100, 10, 1), minlength=MODES)
    p = count[count > 0] / len(digits)
    return {"modes": float(len(p)), "kl": float(np.sum(p * np.log(p * MODES)))}
