"""Checksums that tell whether what was read is what was written.

They are computed on the host: 40 ms for 60 million floats, where compiling a checksum for the device takes 2 to 12 s.
"""

import json
import zlib

import jax
import numpy as np

from jaxgan.core.parallel import first_replica


class Damaged(Exception):
    """Says in a few words what is wrong with what was read."""


def crc32(array: np.ndarray) -> int:
    """Returns the CRC-32 of an array's elements in row-major order."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def describe(tree) -> dict[str, list]:
    """Returns {path of a leaf: [dtype, shape]}; the leaves may be abstract."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): [str(leaf.dtype), list(leaf.shape)] for path, leaf in leaves}


def fingerprint(tree) -> dict[str, list]:
    """Returns {path of a leaf: [dtype, shape, CRC-32]} of host arrays, as JSON gives it back."""
    checksums = map(crc32, jax.tree.leaves(tree))
    return {path: [*kind, checksum] for (path, kind), checksum in zip(describe(tree).items(), checksums, strict=True)}


def verify(tree, saved: dict[str, list]) -> None:
    """Raises Damaged unless the fingerprint of `tree` is `saved`."""
    found = fingerprint(tree)
    changed = sorted(path for path in found.keys() | saved.keys() if found.get(path) != saved.get(path))
    if changed:
        raise Damaged(f"{len(changed)} of {len(saved)} arrays changed, such as {changed[0]}")


def seal(document: dict) -> dict:
    """Returns a copy of a JSON object with its own CRC-32, which no order of keys and no white space changes."""
    document = json.loads(json.dumps(document))
    return document | {"crc32": zlib.crc32(json.dumps(document, sort_keys=True).encode())}


def unseal(document: dict) -> dict:
    """Returns the JSON object that was sealed; raises Damaged if it has changed since."""
    if not isinstance(document, dict):
        raise Damaged("it holds no JSON object")
    content = {key: value for key, value in document.items() if key != "crc32"}
    if seal(content) != document:
        raise Damaged("the JSON object changed")
    return content


def all_finite(tree) -> bool:
    """Returns whether no array of `tree` holds a NaN or an infinity.

    The check runs on the host, on one replica: 12 ms for 60 million floats, plus their copy from an accelerator unless
    they are host arrays. A compiled check takes seconds to half a minute the first time.
    """
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(first_replica(tree)))
