"""Writes files in both formats of torch.save, with anything in them, without PyTorch."""

import io
import pickle
import zipfile

from jaxgan.core import torch_file


def zip_file(path, pickled, parts=(), compression=zipfile.ZIP_STORED):
    """Writes the format of PyTorch 1.6 and later; `parts` are further files by name, such as "x/data/0"."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in {"x/data.pkl": pickled, "x/byteorder": b"little", **dict(parts)}.items():
            archive.writestr(name, data)
    return path


def legacy_file(path, pickled, keys=(), storages=b"", little_endian=True):
    """Writes the format before; `storages` follow the pickles, in the order of `keys`."""
    head = (torch_file.MAGIC, 1001, {"little_endian": little_endian})
    path.write_bytes(b"".join(pickle.dumps(h, 2) for h in head) + pickled + pickle.dumps(list(keys), 2) + storages)
    return path


class Global:
    """Is pickled as the name of a global, so that a file may ask for what is not installed here."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return self.name


class Pickler(pickle._Pickler):
    """Writes Global as GLOBAL, Call as REDUCE, Persistent as BINPERSID."""

    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Persistent) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            module, _, name = obj.name.rpartition(".")
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.args)
            self.write(pickle.NEWOBJ if obj.new else pickle.REDUCE)
            if obj.state is not None:
                self.save(obj.state)
                self.write(pickle.BUILD)
        else:
            super().save(obj, save_persistent_id)


class Call:
    """Is pickled as a call of a global, or as a `new` object of one, and then a `state` to set."""

    def __init__(self, function, *args, state=None, new=False):
        self.function, self.args, self.state, self.new = Global(function), args, state, new


class Persistent:
    """Is pickled as something outside the pickle."""

    def __init__(self, *pid):
        self.pid = pid


def dumps(value, protocol=2):
    """Returns the pickle of a value."""
    file = io.BytesIO()
    Pickler(file, protocol).dump(value)
    return file.getvalue()


def alone(array, is_parameter=True):
    """Returns a float32 tensor, or a parameter, with its storage in bytes of its own, as in a plain pickle."""
    head = (torch_file.MAGIC, 1001, {"little_endian": True})
    data = b"".join(pickle.dumps(h, 2) for h in head) + dumps(storage(array.size, "k", "Float", None))
    data += pickle.dumps(["k"], 2) + array.size.to_bytes(8, "little") + array.tobytes()
    strides = tuple(s // 4 for s in array.strides)
    made = tensor(0, array.shape, strides, Call("torch.storage._load_from_bytes", data))
    return (
        Call("torch._utils._rebuild_parameter", made, True, Call("collections.OrderedDict")) if is_parameter else made
    )


def storage(numel=6, key="0", kind="Float", *view):
    return Persistent("storage", Global(f"torch.{kind}Storage"), key, "cpu", numel, *view)


def tensor(offset=0, size=(2, 3), stride=(3, 1), store=None):
    return Call("torch._utils._rebuild_tensor_v2", store or storage(), offset, size, stride, False, {})
