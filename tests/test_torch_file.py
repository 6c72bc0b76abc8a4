"""Weight files: what PyTorch writes is read, what it would not write is refused; downloads are verified."""

import builtins
import contextlib
import hashlib
import http.server
import os
import pickle
import threading
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.core import torch_file
from jaxgan.evaluation.networks import weights
from tests.golden.torch_writer import Call, Global, Persistent, dumps, legacy_file, storage, tensor, zip_file

GOLDEN = Path(__file__).parent / "golden"


NUMBERS = np.arange(6, dtype=np.float32)
PARTS = {"x/data/0": NUMBERS.tobytes()}


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_reads_what_torch_saved(kind):
    read = torch_file.load(GOLDEN / f"torch_file.{kind}.pth")
    assert list(read) == ["types", "views", "scalar", "empty", "parameter", "module", "plain"]
    for name, array in read["types"].items():
        assert array.dtype == jnp.dtype(name)
        np.testing.assert_array_equal(array, np.abs(np.arange(-3, 3)).reshape(2, 3).astype(array.dtype))
    assert len(read["types"]) == 10
    counting = np.arange(24, dtype=np.float32)
    grid = counting.reshape(4, 6)
    views = [grid, grid.T, counting[5::3], counting.reshape(2, 3, 4)[1, :, 1:3], np.full((2, 2), 7, np.float32)]
    for array, expected in zip(read["views"], views, strict=True):
        np.testing.assert_array_equal(array, expected, strict=True)
    assert all(np.shares_memory(read["views"][0], view) for view in read["views"])
    np.testing.assert_array_equal(read["scalar"], np.array(2.5, np.float32), strict=True)
    np.testing.assert_array_equal(read["empty"], np.zeros((0, 3), np.float32), strict=True)
    np.testing.assert_array_equal(read["parameter"], np.ones(2, np.float32), strict=True)
    assert {name: array.shape for name, array in read["module"].items()} == {
        **{"0.weight": (3, 2), "0.bias": (3,), "1.weight": (3,), "1.bias": (3,)},
        **{"1.running_mean": (3,), "1.running_var": (3,), "1.num_batches_tracked": ()},
    }
    np.testing.assert_array_equal(read["module"]["0.bias"], np.full(3, 1.5, np.float32))
    plain = (None, True, False, 1, -300, 70000, 2**40, 0.25, "text", [], {}, (), (1, 2, 3, 4), {"a": [1]}, {7: "b"})
    assert repr(read["plain"]) == repr(plain)


def test_the_files_of_these_tests_are_files_that_can_be_read(tmp_path):
    value = dumps({"w": tensor(), "d": Call("collections.OrderedDict", [("a", 1)], state={"_metadata": {}})})
    for path in (
        zip_file(tmp_path / "zip", value, PARTS),
        legacy_file(
            tmp_path / "legacy",
            dumps({"w": tensor(store=storage(6, "0", "Float", None)), "d": {"a": 1}}),
            ["0"],
            (6).to_bytes(8, "little") + NUMBERS.tobytes(),
        ),
    ):
        read = torch_file.load(path)
        np.testing.assert_array_equal(read["w"], NUMBERS.reshape(2, 3))
        assert read["d"] == {"a": 1}


def execute(command):
    raise AssertionError(f"the file ran {command}")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Call("os.system", "false"), r"asks for os\.system"),
        ({"a": [Call("posix.system", "false")]}, r"asks for posix\.system"),
        ({"a": (1, {"b": Call("builtins.eval", "1")})}, r"asks for builtins\.eval"),
        ({"a": Global("torch.nn.Linear")}, r"asks for torch\.nn\.Linear"),
        (
            {"a": Call("torch._utils._rebuild_tensor_v2.__globals__", 1)},
            r"asks for torch\._utils\._rebuild_tensor_v2\.",
        ),
        ({"a": Call("torch.FloatStorage", 3)}, r"asks for torch\.FloatStorage"),
        ({"a": Global("torch.FloatStorage")}, "holds a dtype|holds a Float32DType"),
        ({"a": (Global("collections.OrderedDict"),)}, "holds a Global"),
        (
            {"a": Call("torch._utils._rebuild_parameter", 1, 2, 3, state={"__call__": 4})},
            "has other arguments or attributes",
        ),
        (
            {"a": Call("torch._utils._rebuild_parameter", tensor(), 2, 3, state={"array": 4})},
            "has other arguments or attributes",
        ),
        (
            {"a": Call("torch._utils._rebuild_parameter", Global("torch.FloatStorage"), 2, 3, state={"dtype": 4})},
            "has other arguments or attributes",
        ),
        (
            {"a": Call("torch._utils._rebuild_parameter", Global("collections.OrderedDict"), 2, 3, state={"get": 4})},
            "has other arguments or attributes",
        ),
        ({"a": Call("torch._utils._rebuild_parameter", Global("collections.OrderedDict"), 2, 3)}, "is a Global"),
        ({"a": Call("torch._utils._rebuild_tensor_v2", [1], 0, (1,), (1,), False, {})}, "a tensor has"),
        ({"a": Persistent("module", "torch.nn.Linear", None, None)}, "no storage"),
        ({"a": storage()}, "holds a Storage"),
        ({"a": storage(-1)}, "has -1 elements"),
        ({"a": storage(7)}, "buffer is smaller"),
        ({"a": storage(key="../data.pkl")}, r"no item named 'x/data/\.\./data\.pkl'"),
        ({"a": storage(key="/etc/passwd")}, "no item named"),
        ({"a": [tensor(), tensor(store=storage(3))]}, "two types or sizes"),
        ({"a": [tensor(), tensor(store=storage(kind="Int"))]}, "two types or sizes"),
        ({"a": tensor(offset=1)}, "needs 7 elements of a storage of 6"),
        ({"a": tensor(offset=-1)}, "offset -1"),
        ({"a": tensor(size=(3, 3))}, "needs 9 elements of a storage of 6"),
        ({"a": tensor(stride=(-3, 1))}, "strides"),
        ({"a": tensor(stride=(2**62, 1))}, "elements of a storage of 6"),
        ({"a": tensor(size=(2**40, 2**40), stride=(0, 0))}, "of a storage of 6 elements"),
        ({"a": tensor(size=(2**21,), stride=(0,))}, "of a storage of 6 elements"),
        ({"a": tensor(size=(0, 2**63))}, "."),
        ({"a": tensor(size=(2, 3, 1))}, "zip"),
        ({"a": tensor(size=("2", 3))}, "a tensor has"),
        ({(1, 2): 3}, "a tuple as a key"),
        ([1], "holds a list, not a dictionary"),
        ({"a": {1, 2}}, "asks for"),
        ({"a": b"bytes"}, "asks for"),
    ],
)
def test_refuses_what_is_no_dictionary_of_tensors(tmp_path, monkeypatch, value, message):
    monkeypatch.setattr(os, "system", execute)
    monkeypatch.setattr(builtins, "eval", execute)
    path = zip_file(tmp_path / "hostile.pth", dumps(value), PARTS)
    with pytest.raises(
        ValueError, match=rf"hostile\.pth is not a PyTorch weight file that can be read safely: .*{message}"
    ):
        torch_file.load(path)


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"\x80\x02]r\xff\xff\xff\x7f.", "list"),  # pickle would make 2 ** 32 entries
        (b"\x80\x02X\xff\xff\xff\x7fa.", "."),  # a string of 2 GiB, of which one byte is there
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "."),  # bytes of 8 EiB
        (b"\x80\x02c__builtin__\neval\n(X\x01\x00\x00\x001tR.", "asks for __builtin__.eval"),
        (b"(S'1'\ni__builtin__\neval\n.", "instruction"),  # INST
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".", "recursion"),  # lists in lists
        (b"\x80\x02}h\x05.", "."),  # nothing in the memo
        (b"\x80\x02t.", "."),  # no mark
        (b"\x80\x02}", "."),  # no end
        (b"\x80\x02.", "."),  # nothing on the stack
    ],
)
def test_hostile_instructions(tmp_path, pickled, message):
    for path in (zip_file(tmp_path / "a.zip", pickled), legacy_file(tmp_path / "a.pth", pickled)):
        with pytest.raises(ValueError, match=message):
            torch_file.load(path)


def test_archives_that_torch_does_not_write(tmp_path):
    value = dumps({"a": tensor()})
    for message, path in (
        ("compressed", zip_file(tmp_path / "a", value, {"x/data/0": bytes(10**6)}, zipfile.ZIP_DEFLATED)),
        ("2 data.pkl", zip_file(tmp_path / "b", value, {"y/data.pkl": value})),
        ("little-endian", zip_file(tmp_path / "c", value, {**PARTS, "x/byteorder": b"big"})),
        ("no item named", zip_file(tmp_path / "d", value, {"../x/data/0": NUMBERS.tobytes()})),
        ("little-endian", legacy_file(tmp_path / "e", dumps({}), little_endian=False)),
        ("storages are not those", legacy_file(tmp_path / "f", value)),
        ("larger than the file", legacy_file(tmp_path / "g", dumps({"a": storage(10**15)}), ["0"])),
        ("not of the size", legacy_file(tmp_path / "h", value, ["0"], (5).to_bytes(8, "little") + NUMBERS.tobytes())),
    ):
        with pytest.raises(ValueError, match=message):
            torch_file.load(path)
    assert {path.name for path in tmp_path.iterdir()} == set("abcdefgh")


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_damage_is_one_error(tmp_path, kind):
    whole = (GOLDEN / f"torch_file.{kind}.pth").read_bytes()
    path = tmp_path / "damaged.pth"
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"damaged\.pth is not a PyTorch weight file"):
            torch_file.load(path)
    rng = np.random.default_rng(0)
    for _ in range(300):  # any byte: read as something else, or refused, but no other error
        data = bytearray(whole)
        data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(ValueError):
            torch_file.load(path)


def test_no_file_and_other_files(tmp_path):
    with pytest.raises(OSError, match=r"nothing\.pth"):
        torch_file.load(tmp_path / "nothing.pth")
    other = tmp_path / "other"
    for data, message in ((b"", "empty"), (b"\x89PNG\r\n", "."), (pickle.dumps({"a": 1}, 2), "starts like none")):
        other.write_bytes(data)
        with pytest.raises(
            ValueError, match=f"other is not a PyTorch weight file that can be read safely: .*{message}"
        ):
            torch_file.load(other)


WEIGHTS = b"weights" * 1000
PREFIX = hashlib.sha256(WEIGHTS).hexdigest()[:8]


class Handler(http.server.BaseHTTPRequestHandler):
    """/w.pth is the file, /short its first half and then silence, anything else is not found."""

    def do_GET(self):
        if self.path not in ("/w.pth", "/short"):
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(WEIGHTS)))
        self.end_headers()
        self.wfile.write(WEIGHTS if self.path == "/w.pth" else WEIGHTS[: len(WEIGHTS) // 2])
        self.server.served += 1

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.served = 0
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        server.url = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "jaxgan" / "weights").iterdir())


def test_fetch_downloads_once(server, tmp_path, capsys):
    (tmp_path / "jaxgan" / "weights" / ".download-killed").mkdir(parents=True)
    for _ in range(2):
        path = weights.fetch("w.pth", f"{server.url}/w.pth", PREFIX)
        assert path == tmp_path / "jaxgan" / "weights" / "w.pth"
        assert path.read_bytes() == WEIGHTS
    assert server.served == 1
    assert cached(tmp_path) == [".lock", "w.pth"]
    assert capsys.readouterr().err == f"Downloading {server.url}/w.pth to {path} (once) ...\n"
    assert weights.sha256(path) == hashlib.sha256(WEIGHTS).hexdigest()
    path.write_bytes(WEIGHTS[1:])  # what was put there is verified too
    with pytest.raises(ValueError, match=rf"w\.pth is damaged or another file .* remove it and fetch {server.url}"):
        weights.fetch("w.pth", f"{server.url}/w.pth", PREFIX)


@pytest.mark.parametrize(
    ("file", "prefix", "error", "message"),
    [
        ("w.pth", "0123abcd", ValueError, "is damaged or another file .*, not 0123abcd"),
        ("short", PREFIX, (ValueError, OSError), "damaged|could not download"),  # by version of Python
        ("none", PREFIX, OSError, "could not download .*404"),
    ],
)
def test_fetch_keeps_nothing_wrong(server, tmp_path, file, prefix, error, message):
    with pytest.raises(error, match=message) as caught:
        weights.fetch("w.pth", f"{server.url}/{file}", prefix)
    if file == "none":
        caught.value.__cause__.close()  # an HTTPError is the answer too
    for part in (f"{server.url}/{file}", f"put it at {tmp_path}/jaxgan/weights/w.pth", "--metrics=fd_cifar"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert cached(tmp_path) == [".lock"]


def test_fetch_without_a_network(tmp_path, monkeypatch):
    def unreachable(url, timeout):
        assert timeout <= 10
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(
        OSError, match=r"could not download http://x/w\.pth .*unreachable.*: put it at .*w\.pth yourself"
    ):
        weights.fetch("w.pth", "http://x/w.pth", PREFIX)
    assert cached(tmp_path) == [".lock"]


def test_fetch_takes_what_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own = tmp_path / "own.pth"
    with pytest.raises(FileNotFoundError, match=r"own\.pth: no such weight file; it can be downloaded from http://x"):
        weights.fetch("w.pth", "http://x", PREFIX, str(own))
    own.write_bytes(b"another file")
    assert weights.fetch("w.pth", "http://x", PREFIX, str(own)) == own
    assert not (tmp_path / "cache").exists()
