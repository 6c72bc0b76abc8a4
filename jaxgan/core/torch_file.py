"""Reads the files that PyTorch and NumPy users share networks in, without either's code and without running the file's.

`load` takes what `torch.save` writes of a dictionary of tensors, and nothing else. `load_objects` takes any pickle,
whose classes and functions it leaves as `Record`s: see `jaxgan.core.pickled`. Both formats of `torch.save` are read,
the zip archive of PyTorch 1.6 and later, and before it a sequence of pickles with the storages of the tensors behind
(PyTorch's `_legacy_save`), which is also what a tensor in a plain pickle is made of.
"""

import io
import math
import mmap
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgan.core import pickled
from jaxgan.core.pickled import DEPTH, Global, Record

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file before PyTorch 1.6

_BROKEN = (  # what zipfile, pickletools, numpy and the functions below raise for a damaged or hostile file
    *(zipfile.BadZipFile, pickle.UnpicklingError, struct.error, OSError, EOFError),
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),
)

SHARED = 2**20  # elements that may be views of fewer: in small files tensors share their numbers


def load(path) -> dict:
    """Returns the dictionary in a file, its tensors as numpy arrays (bfloat16 as JAX has it).

    Values are arrays, None, bool, int, float, str, and dicts, lists or tuples of these. Arrays may share memory, as the
    tensors did, and may be read-only.

    Raises:
      ValueError: the file holds anything else, in one line.
      OSError: it cannot be read.
    """
    return _load(path, strict=True)


def load_objects(path) -> Any:
    """Returns what a file that `torch.save` or `pickle.dump` wrote holds, tensors and arrays as numpy arrays.

    What has a class or comes of a function that is not known here is a `Record` or, alone, a `Global`.

    Raises:
      ValueError: the file is damaged, or not such a file, in one line.
      OSError: it cannot be read.
    """
    return _load(path, strict=False)


def _load(path, strict: bool):
    with open(path, "rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if data[:4] == b"PK\x03\x04":
                value = _load_zip(file, len(data), strict)
            else:
                value = _load_pickles(data, len(data), strict)
            if strict and type(value) is not dict:
                raise ValueError(f"it holds a {type(value).__name__}, not a dictionary")
        except _BROKEN as error:
            what = "a PyTorch weight file" if strict else "a file of networks"
            tells = isinstance(error, (ValueError, OSError, MemoryError, zipfile.BadZipFile))
            reason = str(error).partition("; use sys.")[0] if tells else ""  # Python's advice is for programmers
            reason = reason or "it is damaged, or of another kind"
            raise ValueError(f"{path} is not {what} that can be read safely: {reason}") from error
    return value


def _load_zip(file, file_size, strict):
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"the archive has {len(pickles)} data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1 for e in archive.infolist()):
            raise ValueError("compressed or encrypted")  # PyTorch's are not; a small file could unpack to a huge one
        if sum(e.file_size for e in archive.infolist()) > file_size:
            raise ValueError("the archive is truncated, or its parts overlap")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("numbers are not little-endian")

        def read(dtype, key, numel):
            name = f"{root}data/{key}"
            if name not in archive.NameToInfo:
                raise ValueError(f"the archive has no item named {name!r}")
            return np.frombuffer(archive.read(name), dtype, numel)

        value = pickled.read(io.BytesIO(archive.read(pickles[0])))
        return _Resolver(strict, read).resolve(value)


def _load_pickles(data, size, strict):
    """Returns what is in a file of pickles, `torch.save`'s of before PyTorch 1.6 or a single one."""
    first = pickled.read(data)
    if first == MAGIC:
        return _load_legacy(data, size, strict)
    if strict:
        raise ValueError("it starts like none")
    return _Resolver(strict).resolve(first)


def _load_legacy(data, size, strict, alone=False):
    """Returns what `torch.save` wrote before PyTorch 1.6 to a file of `size` bytes, whose magic number is read.

    Where it is `alone`, there is a storage in it without a tensor.
    """
    storages, total = {}, 0

    def allocate(dtype, key, numel):  # to be filled below: tensors are views
        nonlocal total
        total += numel * dtype.itemsize
        if total > size:
            raise ValueError("truncated: storages are larger than the file")
        storages[key] = np.zeros(numel, dtype)
        return storages[key]

    pickled.read(data)  # version of the protocol: there is one
    system = pickled.read(data)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("numbers are not little-endian")
    resolver = _Resolver(strict, allocate)
    value = (resolver.storage if alone else resolver.resolve)(pickled.read(data))
    keys = pickled.read(data)
    if keys != sorted(storages):
        raise ValueError("the storages are not those that tensors use")
    for key in keys:
        storage = storages[key]
        if int.from_bytes(data.read(8), "little") != len(storage):
            raise ValueError(f"truncated, or storage {key!r} is not of the size that tensors expect")
        storage[:] = np.frombuffer(data.read(storage.nbytes), storage.dtype, len(storage))
    return value


class _Storage:
    """The flat array that tensors are views of."""

    __slots__ = ("array",)

    def __init__(self, array):
        self.array = array


class _Resolver:
    """Turns what `pickled.read` returns into arrays and plain values.

    Args:
      strict: whether there may be no other classes and functions than those of a dictionary of tensors.
      read: read(dtype, key, numel) returns a storage that the pickle refers to, and is called once a key.
    """

    def __init__(self, strict: bool, read: Callable | None = None):
        self._strict, self._read = strict, read
        self._done, self._storages, self._depth = {}, {}, 0
        self.stored = {}  # storages in bytes of their own, by the id of these
        self._bytes = {"storages": 0, "tensors": 0}
        self._kept = []  # what `_done` knows by its id must not be freed

    def resolve(self, value):
        """Returns a value with all that it holds resolved, each thing once, however often it is referred to."""
        plain = self._part(value)
        if isinstance(plain, _Storage | Global | np.dtype) and (self._strict or isinstance(plain, _Storage)):
            raise ValueError(f"it holds a {type(plain).__name__.strip('_')}")
        return plain

    def storage(self, value) -> _Storage:
        """Returns what a reference to a storage, and nothing else, stands for."""
        storage = self._part(value)
        if not isinstance(storage, _Storage):
            raise ValueError(f"a {type(storage).__name__} is stored in place of numbers")
        return storage

    def _part(self, value):
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, bytes):
            if self._strict:
                raise ValueError("it holds bytes")
            return value
        if id(value) in self._done:
            return self._done[id(value)]
        self._depth += 1
        if self._depth > DEPTH:
            raise ValueError("values in values, a recursion that is too deep")
        self._kept.append(value)
        result = self._container(value) if isinstance(value, dict | list | tuple) else self._object(value)
        self._done[id(value)] = result
        self._depth -= 1
        return result

    def _container(self, value):
        if isinstance(value, tuple):
            return tuple(self.resolve(item) for item in value)
        self._done[id(value)] = plain = type(value)()  # it may hold itself
        if isinstance(value, list):
            plain.extend(self.resolve(item) for item in value)
        else:
            plain.update((key, self.resolve(item)) for key, item in value.items())
        return plain

    def _object(self, value: Global | Record):
        if isinstance(value, Global):
            if value.name in _STORAGES:
                return _STORAGES[value.name]
            if self._strict and value.name not in _CALLS:
                raise ValueError(f"it asks for {value.name}, no part of a dictionary of tensors")
            return value
        if value.name == "":
            return self._outside(*value.args)
        if value.name in _CALLS or (not self._strict and value.name in _MORE_CALLS):
            call = _CALLS.get(value.name) or _MORE_CALLS[value.name]
            return call(self, value)
        if self._strict:
            raise ValueError(f"it asks for {value.name}, no part of a dictionary of tensors")
        self._done[id(value)] = record = Record(value.name, ())
        record.args = tuple(self._part(item) for item in value.args)
        record.state = self._part(value.state)
        record.items = [(key, self._part(item)) for key, item in value.items]
        return record

    def _outside(self, pid) -> _Storage:
        parts = tuple(self._part(part) for part in pid) if isinstance(pid, tuple) else ()
        match parts:
            case ("storage", np.dtype() as dtype, str(key), str(), int(numel), *rest) if rest in ([], [None]):
                if self._read is None:
                    raise ValueError("it refers to storages that are not in it")
                if numel < 0:
                    raise ValueError(f"storage {key!r} has {numel} elements")
                if key not in self._storages:
                    self._storages[key] = self.count(_Storage(self._read(dtype, key, numel)))
                storage = self._storages[key]
                if storage.array.dtype != dtype or len(storage.array) != numel:
                    raise ValueError(f"storage {key!r} has two types or sizes")
                return storage
        raise ValueError("it refers to something outside that is no storage")

    def count(self, thing: _Storage | np.ndarray):
        """Returns a storage or a tensor; a ValueError says where tensors are far more than what they are views of."""
        is_storage = isinstance(thing, _Storage)
        self._bytes["storages" if is_storage else "tensors"] += thing.array.nbytes if is_storage else thing.nbytes
        if self._bytes["tensors"] > 4 * SHARED + 16 * self._bytes["storages"]:  # whoever copies them would need it all
            raise ValueError("tensors share their numbers beyond all measure")
        return thing

    def arguments(self, record: Record, most: int, state: bool = False) -> list:
        """Returns the arguments of a call, at most so many; there may be no attributes to set unless `state`."""
        if (record.state is not None and not state) or record.items or len(record.args) > most:
            raise ValueError(f"{record.name} has other arguments or attributes than PyTorch and NumPy give it")
        return [self._part(item) for item in record.args]


def _tensor(resolver, record) -> np.ndarray:
    """Returns a view of a storage; offset and strides count elements."""
    storage, offset, size, stride, *_ = resolver.arguments(record, 7)
    sizes = isinstance(size, tuple) and isinstance(stride, tuple) and (offset, *size, *stride)
    if not isinstance(storage, _Storage) or not sizes or not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise ValueError(f"a tensor has offset {offset}, shape {size} and strides {stride}")
    flat = storage.array
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if 0 in size:
        return np.zeros(size, flat.dtype)
    if last >= flat.size:
        raise ValueError(f"a tensor needs {last + 1} elements of a storage of {flat.size}")
    if math.prod(size) > max(flat.size, SHARED):  # a few bytes could be a huge one
        raise ValueError(f"a tensor has shape {size}, of a storage of {flat.size} elements")
    view = np.ndarray(size, flat.dtype, flat, offset * flat.itemsize, [s * flat.itemsize for s in stride])
    return resolver.count(view)


def _parameter(resolver, record) -> np.ndarray:
    tensor, *_ = resolver.arguments(record, 3)
    if not isinstance(tensor, np.ndarray):
        raise ValueError(f"a parameter is a {type(tensor).__name__}")
    return tensor


def _ordered_dict(resolver, record) -> dict:
    """Returns the items; the state of a state dict is `_metadata`, versions of its modules, and means nothing here."""
    resolver._done[id(record)] = plain = {}
    pairs = [pair for pairs in record.args for pair in pairs] + record.items
    for key, value in pairs:
        if type(key) not in (str, int, bool):
            raise ValueError(f"it has a {type(key).__name__} as a key")
        plain[key] = resolver.resolve(value)
    return plain


def _stored(resolver, record) -> _Storage:
    """Returns the storage in bytes of their own, a whole file of before PyTorch 1.6, each read once."""
    (data,) = resolver.arguments(record, 1)
    if id(data) not in resolver.stored:
        file = io.BytesIO(data)
        if pickled.read(file) != MAGIC:
            raise ValueError("a storage starts like none")
        resolver.stored[id(data)] = resolver.count(_load_legacy(file, len(data), strict=True, alone=True))
    return resolver.stored[id(data)]


def _dtype(resolver, record) -> np.dtype:
    name, *_ = resolver.arguments(record, 3, state=True)
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "|"
    if not (isinstance(name, str) and re.fullmatch("[biuf][1248]", name) and order in ("<", "|")):
        raise ValueError(f"an array has numbers of the type {order}{name}")
    return np.dtype(name)


def _array(resolver, record) -> np.ndarray:
    resolver.arguments(record, 3, state=True)
    _, shape, dtype, fortran, data = (resolver._part(part) for part in record.state)
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise ValueError(f"an array holds {type(data).__name__}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _buffer(resolver, record) -> np.ndarray:
    """Returns an array as protocol 5 of pickle has it."""
    data, dtype, shape, order = resolver.arguments(record, 4)
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise ValueError(f"an array holds {type(data).__name__}")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _scalar(resolver, record):
    dtype, data = resolver.arguments(record, 2)
    if not isinstance(dtype, np.dtype) or len(data) != dtype.itemsize:
        raise ValueError("a number has another size than its type")
    return np.frombuffer(data, dtype)[0].item()


def _encoded(resolver, record) -> bytes:
    text, encoding = resolver.arguments(record, 2)
    if encoding != "latin1":
        raise ValueError(f"bytes are encoded as {encoding}")
    return text.encode("latin1")


_STORAGES = {
    f"torch.{name}Storage": np.dtype(dtype)
    for name, dtype in {
        **{"Double": "<f8", "Float": "<f4", "Half": "<f2", "BFloat16": jnp.bfloat16, "Long": "<i8", "Int": "<i4"},
        **{"Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?"},
    }.items()
}
_CALLS = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
_NUMPY = ("numpy.core", "numpy._core")
_MORE_CALLS = {
    "torch.storage._load_from_bytes": _stored,
    "numpy.dtype": _dtype,
    **{f"{package}.multiarray._reconstruct": _array for package in _NUMPY},
    **{f"{package}.multiarray.scalar": _scalar for package in _NUMPY},
    **{f"{package}.numeric._frombuffer": _buffer for package in _NUMPY},
    "_codecs.encode": _encoded,
}
