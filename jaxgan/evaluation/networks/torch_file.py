"""Reads the weight files that `torch.save` writes, without PyTorch and without running code from the file.

Such a file holds a pickle, a program for a stack machine that may call any function of any module. Here a
machine of our own runs it, which knows only what a dictionary of tensors needs: plain values, containers
and the five kinds of names in `_GLOBALS`. Both formats are read: the zip archive of PyTorch 1.6 and later,
and before it a sequence of pickles with the tensors' storages behind (PyTorch's `_legacy_save`).
"""

import io
import mmap
import pickletools
import struct
import zipfile

import jax.numpy as jnp
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file before PyTorch 1.6

_BROKEN = (  # what zipfile, pickletools, numpy and the machine below raise for a damaged or hostile file
    *(zipfile.BadZipFile, struct.error, OSError, EOFError),
    *(ArithmeticError, LookupError, RuntimeError, TypeError, ValueError),
)


def load(path) -> dict:
    """The dictionary in a file, its tensors as numpy arrays (bfloat16 as JAX has it).

    Values are arrays, None, bool, int, float, str, and dicts, lists or tuples of these. Arrays may share memory, as the
    tensors did, and may be read-only. Everything else is refused with a ValueError of one line, an unreadable file
    with an OSError. Tensors take no more memory than the file.
    """
    with open(path, "rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            value = _load_zip(file, len(data)) if data[:4] == b"PK\x03\x04" else _load_legacy(data)
            _check(value)
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
    """Run one pickle (protocol 2, which torch.save writes); `read(dtype, key, numel)` gives a storage, once a key."""
    outer, stack, memo, storages = [], [], {}, {}  # a mark sets the stack aside until what follows it is collected
    for opcode, arg, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                stack.append(arg)
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[opcode.name]())
            case "MARK":
                outer.append(stack)
                stack = []
            case "TUPLE":
                stack = [*outer.pop(), tuple(stack)]
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                n = int(opcode.name[-1])
                stack[-n:] = [tuple(stack[-n:])]
            case "APPEND":
                _list(stack[-2]).append(stack.pop())
            case "APPENDS":
                items, stack = stack, outer.pop()
                _list(stack[-1]).extend(items)
            case "SETITEM":
                key, value = stack[-2:]
                del stack[-2:]
                _set_items(stack[-1], [(key, value)])
            case "SETITEMS":
                items, stack = stack, outer.pop()
                _set_items(stack[-1], zip(items[::2], items[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "GLOBAL":
                if arg not in _GLOBALS:
                    raise ValueError(f"it asks for {arg.replace(' ', '.')}, no part of a dictionary of tensors")
                stack.append(_GLOBALS[arg])
            case "REDUCE":
                args = stack.pop()
                if not callable(stack[-1]):
                    raise ValueError(f"it calls a {type(stack[-1]).__name__}")
                stack.append(stack.pop()(*args))
            case "BUILD":  # the `_metadata` of a state dict: versions of its modules
                if type(stack[-2]) is not dict:
                    raise ValueError(f"it sets attributes of a {type(stack[-2]).__name__}")
                stack.pop()
            case "BINPERSID":
                match stack.pop():
                    case ("storage", np.dtype() as dtype, str(key), str(), int(numel), *rest) if rest in ([], [None]):
                        if numel < 0:
                            raise ValueError(f"storage {key!r} has {numel} elements")
                        if key not in storages:
                            storages[key] = read(dtype, key, numel)
                        if storages[key].dtype != dtype or len(storages[key]) != numel:
                            raise ValueError(f"storage {key!r} has two types or sizes")
                        stack.append(storages[key])
                    case _:
                        raise ValueError("it refers to something outside that is no storage")
            case "STOP":
                return stack.pop()
            case name:
                raise ValueError(f"it uses the instruction {name}")


def _list(value):
    if type(value) is not list:
        raise ValueError(f"it appends to a {type(value).__name__}")
    return value


def _set_items(target, items):
    if type(target) is not dict:
        raise ValueError(f"it sets items of a {type(target).__name__}")
    for key, value in items:
        if not isinstance(key, str | int):  # the hash of nested tuples can take for ever
            raise ValueError(f"it has a {type(key).__name__} as a key")
        target[key] = value


def _dict(items=()):
    out = {}
    _set_items(out, items)
    return out


def _tensor(storage, offset, size, stride, requires_grad, hooks, metadata=None):
    """A view of a storage; offset and strides count elements."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, np.ndarray) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise ValueError(f"a tensor has offset {offset}, shape {size} and strides {stride}")
    if 0 in size:
        return np.zeros(size, storage.dtype)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if last >= storage.size:
        raise ValueError(f"a tensor needs {last + 1} elements of a storage of {storage.size}")
    width = storage.itemsize
    return np.ndarray(size, storage.dtype, storage, offset * width, [s * width for s in stride])


def _parameter(tensor, requires_grad, hooks):
    return tensor


_GLOBALS = {
    "collections OrderedDict": _dict,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch DoubleStorage": np.dtype("<f8"),
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
    "torch ShortStorage": np.dtype("<i2"),
    "torch CharStorage": np.dtype("i1"),
    "torch ByteStorage": np.dtype("u1"),
    "torch BoolStorage": np.dtype("?"),
}


def _check(value):
    """Refuse what is no dictionary, and parts of the machinery (a function, a type) left in it."""
    if type(value) is not dict:
        raise ValueError(f"it holds a {type(value).__name__}, not a dictionary")
    todo, seen = [value], set()
    while todo:
        value = todo.pop()
        if isinstance(value, dict | list | tuple):
            if id(value) not in seen:
                seen.add(id(value))
                todo.extend(value.values() if isinstance(value, dict) else value)
        elif not isinstance(value, np.ndarray | str | int | float | None):
            raise ValueError(f"it holds a {type(value).__name__}")
