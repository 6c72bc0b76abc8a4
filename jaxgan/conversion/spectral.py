"""The state of spectral norm: which vector u here makes the norm that another code base divides a weight by.

There, a weight W [out, in] is divided by u^T W v of two kept vectors, as old as the last step (PyTorch), or by that of
the two vectors that one power iteration makes of a kept u (BigGAN-PyTorch). Here one power iteration begins from the u
[out] of a kernel, or from a vector [features] of a table, whose W [classes, features] is transposed there. So each u
below is one of which that iteration makes the very norm, whether or not iterations have converged.
"""

from collections.abc import Callable

import numpy as np

DAMPING = 1e-9  # of squared singular values: what far smaller ones contribute is noise
BISECTIONS = 60
INVERSE_ITERATIONS = 3


def unit(x: np.ndarray) -> np.ndarray:
    """Returns x over its norm."""
    return x / np.linalg.norm(x)


def inverses(matrix: np.ndarray) -> tuple[Callable, Callable]:
    """Returns functions from v [m] to the smallest u [n] with matrix [m, n] u = v, and from u to v with matrix^T v = u.

    Where there is none, it is one that is as near as can be.
    """
    wide = matrix.shape[0] < matrix.shape[1]
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    inverse = np.linalg.inv(gram + DAMPING * np.linalg.norm(gram, np.inf) * np.eye(len(gram)))
    if wide:
        return lambda v: matrix.T @ (inverse @ v), lambda u: inverse @ (matrix @ u)
    return lambda v: inverse @ (matrix.T @ v), lambda u: matrix @ (inverse @ u)


def state_for(matrix: np.ndarray, v: np.ndarray, norm: float) -> dict[str, np.ndarray]:
    """Returns the state for a matrix [m, n] that is divided by `norm` there, which is |v^T matrix| or a little less.

    It is v mixed with a direction of which the matrix makes less. A ValueError says that there is no such mixture.
    """
    before, before_transposed = inverses(matrix)
    more = less = unit(matrix @ before(v))
    for _ in range(INVERSE_ITERATIONS):
        less = unit(before_transposed(before(less)))
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if np.linalg.norm(unit(more + middle * (less - more)) @ matrix) > norm:
            low = middle
        else:
            high = middle
    found = state(matrix, before(more + low * (less - more)))
    if not abs(found["sigma"] - norm) <= 1e-3 * norm:
        raise ValueError(f"its spectral norm divides by {norm:.3g}, which no power iteration makes")
    return found


def kernel_state(matrix: np.ndarray, u: np.ndarray, v: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the state for a kernel as a matrix [in, out] that is divided by v^T matrix u there."""
    return state_for(matrix, v, v @ matrix @ u)


def table_state(table: np.ndarray, u: np.ndarray, v: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the state for a table [classes, features] that is divided by u^T table v there."""
    return state_for(table, unit(table @ v), u @ table @ v)


def state(matrix: np.ndarray, u: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what `flax.linen.SpectralNorm` keeps of a matrix [m, n] and u [n]."""
    sigma = np.linalg.norm(unit(matrix @ u) @ matrix)
    return {"u": np.float32(unit(u)[None]), "sigma": np.float32(sigma)}
