"""Kernel least squares on images of 8x8 pixels: a classifier that is fitted in a moment, when it is loaded."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

SIDE = 8  # pixels


def fit(examples: np.ndarray, classes: np.ndarray, alpha: float, gamma: float) -> tuple[dict[str, np.ndarray], str]:
    """Returns the variables of a classifier, and the SHA-256 of them.

    Args:
      examples: float32 [n, d].
      classes: int [n].
      alpha: what is added to the diagonal of the kernel's matrix.
      gamma: the kernel is exp(-gamma |a - b|^2).
    """
    from sklearn.kernel_ridge import KernelRidge

    one_hot = 2.0 * np.eye(10, dtype=np.float32)[classes] - 1.0
    fitted = KernelRidge(alpha=alpha, kernel="rbf", gamma=gamma).fit(examples, one_hot)
    variables = {"examples": examples, "weights": np.asarray(fitted.dual_coef_, np.float32)}
    return variables, hashlib.sha256(b"".join(variables[name].tobytes() for name in sorted(variables))).hexdigest()


def logits(variables: dict, x: jax.Array, gamma: float) -> jax.Array:
    """Returns what the classifier says of x [n, d], float32 [n, 10]; pure."""
    a, b = x, variables["examples"]
    squares = jnp.sum(a * a, axis=1)[:, None] - 2.0 * a @ b.T + jnp.sum(b * b, axis=1)
    return jnp.exp(-gamma * squares) @ variables["weights"]


def shrink(images) -> jax.Array:
    """Returns images uint8 [n, H, W, C] averaged over areas to 8x8, as float32 [n, 8, 8, C] in 0..1; pure."""
    rows, columns = (_area_weights(size) for size in images.shape[1:3])
    return jnp.einsum("nhwc,yh,xw->nyxc", images.astype(jnp.float32) / 255.0, rows, columns)


def _area_weights(size: int) -> np.ndarray:
    """Returns the matrix [8, size] that averages `size` pixels to 8, each of which covers size / 8 pixels."""
    edges = np.arange(SIDE + 1) * (size / SIDE)
    pixel = np.arange(size)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (np.maximum(covered, 0.0) * (SIDE / size)).astype(np.float32)
