"""The state of spectral norm: which vector u here makes the norm that another code base divides a weight by.

There, a weight W [out, in] is divided by u^T W v of two kept vectors (PyTorch), or by that of the two vectors that one
power iteration makes of a kept u (BigGAN-PyTorch). Here one power iteration begins from the u [out] of a kernel, and
from a vector [features] of a table, whose W [classes, features] is transposed there. A norm has as good as converged in
a net that was trained, but not in one of a few steps, so each u below is one that makes the very norm.
"""

import numpy as np

DAMPING = 1e-9  # of squared singular values: what far smaller ones contribute is noise
BISECTIONS = 60


def unit(x: np.ndarray) -> np.ndarray:
    """Returns x over its norm."""
    return x / np.linalg.norm(x)


def before(matrix: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns the u [n] with matrix [m, n] u = v, or as near as can be, by the smaller one of the normal equations."""
    wide = matrix.shape[0] < matrix.shape[1]
    gram, right = (matrix @ matrix.T, v) if wide else (matrix.T @ matrix, matrix.T @ v)
    gram += DAMPING * np.linalg.norm(gram, np.inf) * np.eye(len(gram))
    found = np.linalg.solve(gram, right)
    return matrix.T @ found if wide else found


def kernel_state(matrix: np.ndarray, v: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the state for a kernel as a matrix [in, out], whose kept right singular vector there is v [in]."""
    return state(matrix, before(matrix, v))


def table_state(table: np.ndarray, u: np.ndarray, v: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the state for a table [classes, features] that is divided by u^T table v there.

    One power iteration from v makes more of it, and one that ends at the u before v makes less: between them is ours.
    """
    norm = u @ table @ v
    more, less, low, high = unit(table @ v), unit(before(table.T, v)), 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if np.linalg.norm(unit(more + middle * (less - more)) @ table) > norm:
            low = middle
        else:
            high = middle
    return state(table, before(table, more + low * (less - more)))


def state(matrix: np.ndarray, u: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what `flax.linen.SpectralNorm` keeps of a matrix [m, n] and u [n]."""
    sigma = np.linalg.norm(unit(matrix @ u) @ matrix)
    return {"u": np.float32(unit(u)[None]), "sigma": np.float32(sigma)}
