"""Reads the weight files that `torch.save` writes, without PyTorch and without running code from the file.

Such a file holds a pickle: a program that may call any function of any module. Here it may use only the instructions
in `_INSTRUCTIONS` and the names in `_NAMES`, which are what a dictionary of tensors needs and which it cannot change.
Both formats are read: the zip archive of PyTorch 1.6 and later, and before it a sequence of pickles with the storages
of the tensors behind (PyTorch's `_legacy_save`).

Memory is bounded by the size of the file, up to a small factor. Time is not: a file made to do so can take for ever,
for example over a key whose hash does.
"""

import io
import mmap
import pickle
import pickletools
import struct
import zipfile

import jax.numpy as jnp
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file before PyTorch 1.6

# What torch.save writes: pickles of protocol 2.
_INSTRUCTIONS = set(
    """PROTO NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE
    MARK TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL REDUCE
    BUILD BINPERSID STOP""".split()  # noqa: SIM905
)
_BROKEN = (  # what zipfile, pickle, numpy and the functions below raise for a damaged or hostile file
    *(zipfile.BadZipFile, pickle.UnpicklingError, struct.error, OSError, EOFError),
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),
)


def load(path) -> dict:
    """Returns the dictionary in a file, its tensors as numpy arrays (bfloat16 as JAX has it).

    Values are arrays, None, bool, int, float, str, and dicts, lists or tuples of these. Arrays may share memory, as the
    tensors did, and may be read-only.

    Raises:
      ValueError: the file holds anything else, in one line.
      OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            value = _load_zip(file, len(data)) if data[:4] == b"PK\x03\x04" else _load_legacy(data)
            if type(value) is not dict:
                raise ValueError(f"it holds a {type(value).__name__}, not a dictionary")
        except _BROKEN as error:
            raise ValueError(f"{path} is not a PyTorch weight file that can be read safely: {error}") from error
    return value


def _load_zip(file, file_size):
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
            return np.frombuffer(archive.read(f"{root}data/{key}"), dtype, numel)

        return _unpickle(io.BytesIO(archive.read(pickles[0])), read)


def _load_legacy(data):
    storages, size = {}, 0

    def allocate(dtype, key, numel):  # to be filled below: tensors are views
        nonlocal size
        size += numel * dtype.itemsize
        if size > len(data):
            raise ValueError("truncated: storages are larger than the file")
        storages[key] = np.zeros(numel, dtype)
        return storages[key]

    if _unpickle(data) != MAGIC:
        raise ValueError("it starts like none")
    _unpickle(data)  # version of the protocol: there is one
    system = _unpickle(data)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("numbers are not little-endian")
    value = _unpickle(data, allocate)
    keys = _unpickle(data)
    if keys != sorted(storages):
        raise ValueError("the storages are not those that tensors use")
    for key in keys:
        storage = storages[key]
        if int.from_bytes(data.read(8), "little") != len(storage):
            raise ValueError(f"truncated, or storage {key!r} is not of the size that tensors expect")
        storage[:] = np.frombuffer(data, storage.dtype, len(storage), data.tell())
        data.seek(storage.nbytes, io.SEEK_CUR)
    return value


def _unpickle(file, read=None):
    """Returns the value of the next pickle in a file; `read(dtype, key, numel)` gives a storage, once a key."""
    start = file.tell()
    for instruction, argument, position in pickletools.genops(file):
        if instruction.name not in _INSTRUCTIONS:
            raise ValueError(f"it uses the instruction {instruction.name}")
        # pickle keeps an array as long as the largest number that a value is stored under.
        if instruction.name == "LONG_BINPUT" and argument > position:
            raise ValueError(f"it stores a value under {argument}, before that many instructions")
    stop = file.tell()
    file.seek(start)
    return _plain(_Unpickler(io.BytesIO(file.read(stop - start)), read).load(), {})


class _Unpickler(pickle.Unpickler):
    """Knows the names in `_NAMES` and storages, and nothing else."""

    def __init__(self, file, read):
        super().__init__(file)
        self._read, self._storages = read, {}

    def find_class(self, module, name):
        if f"{module}.{name}" not in _NAMES:
            raise ValueError(f"it asks for {module}.{name}, no part of a dictionary of tensors")
        return _NAMES[f"{module}.{name}"]

    def persistent_load(self, pid):
        match pid:
            case ("storage", _StorageType(dtype=dtype), str(key), str(), int(numel), *rest) if rest in ([], [None]):
                if numel < 0:
                    raise ValueError(f"storage {key!r} has {numel} elements")
                if key not in self._storages:
                    self._storages[key] = _Storage(self._read(dtype, key, numel))
                storage = self._storages[key]
                if storage.array.dtype != dtype or len(storage.array) != numel:
                    raise ValueError(f"storage {key!r} has two types or sizes")
                return storage
        raise ValueError("it refers to something outside that is no storage")


class _Sealed:
    """Something that a pickle can reach but not change: the instruction that sets attributes calls `__setstate__`."""

    __slots__ = ()

    def __setstate__(self, state):
        raise ValueError(f"it sets attributes of a {type(self).__name__}")


class _StorageType(_Sealed):
    __slots__ = ("dtype",)

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)


class _Storage(_Sealed):
    __slots__ = ("array",)

    def __init__(self, array):
        self.array = array


class _Tensor(_Sealed):
    """A view of a storage; offset and strides count elements."""

    __slots__ = ("array",)

    def __init__(self, storage, offset, size, stride, requires_grad, hooks, metadata=None):
        numbers = (offset, *size, *stride)
        if not isinstance(storage, _Storage) or not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise ValueError(f"a tensor has offset {offset}, shape {size} and strides {stride}")
        flat = storage.array
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if 0 in size:
            self.array = np.zeros(size, flat.dtype)
        elif last >= flat.size:
            raise ValueError(f"a tensor needs {last + 1} elements of a storage of {flat.size}")
        else:
            width = flat.itemsize
            self.array = np.ndarray(size, flat.dtype, flat, offset * width, [s * width for s in stride])


class _Parameter(_Sealed):
    """Is the tensor that it is given."""

    def __new__(cls, tensor, requires_grad, hooks):
        return tensor


class _OrderedDict(dict):
    def __setstate__(self, state):
        """Ignores the `_metadata` of a state dict: versions of its modules."""


_NAMES = {
    "collections.OrderedDict": _OrderedDict,
    "torch._utils._rebuild_tensor_v2": _Tensor,
    "torch._utils._rebuild_parameter": _Parameter,
    "torch.DoubleStorage": _StorageType("<f8"),
    "torch.FloatStorage": _StorageType("<f4"),
    "torch.HalfStorage": _StorageType("<f2"),
    "torch.BFloat16Storage": _StorageType(jnp.bfloat16),
    "torch.LongStorage": _StorageType("<i8"),
    "torch.IntStorage": _StorageType("<i4"),
    "torch.ShortStorage": _StorageType("<i2"),
    "torch.CharStorage": _StorageType("i1"),
    "torch.ByteStorage": _StorageType("u1"),
    "torch.BoolStorage": _StorageType("?"),
}


def _plain(value, done: dict):
    """Returns what a pickle made as plain dicts, lists, tuples and arrays; `done` has the results by id, each once."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Tensor):
        return value.array
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        done[id(value)] = plain = {}
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise ValueError(f"it has a {type(key).__name__} as a key")
            plain[key] = _plain(item, done)
    elif isinstance(value, list):
        done[id(value)] = plain = []
        plain.extend(_plain(item, done) for item in value)
    elif isinstance(value, tuple):
        done[id(value)] = plain = tuple(_plain(item, done) for item in value)
    else:
        raise ValueError(f"it holds a {type(value).__name__}")
    return plain
