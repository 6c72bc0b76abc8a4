"""Paths that people name, locks, and a package that needs no POSIX."""

import json
import os
import pathlib
import threading

import filelock
import numpy as np
import pytest

from jaxgan.config_files import config as load_config
from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.core.files import as_path, is_held, is_remote, locked, read_json, same_place, sole_user
from jaxgan.sampling.load import locate
from jaxgan.sampling.pictures import save_images
from jaxgan.settings import default_config, make_paths_absolute
from jaxgan.training.resume import changes, checkpoint_directory
from tests.helpers import finish, run_snippet, start_python

HOME = pathlib.Path("~").expanduser()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("~/runs/x", HOME / "runs/x"),
        (pathlib.Path("~/runs/x"), HOME / "runs/x"),
        ("runs/x", pathlib.Path.cwd() / "runs/x"),
        ("a/../runs/./x", pathlib.Path.cwd().resolve() / "runs/x"),
        (pathlib.Path("../x"), pathlib.Path.cwd().resolve().parent / "x"),
        ("file:///data/my%20images", pathlib.Path("/data/my images")),
        ("/a b/~", pathlib.Path("/a b/~")),
    ],
)
def test_a_place_of_this_machine_is_absolute(value, expected):
    path = as_path(value, "--workdir", local=True)
    assert (path, type(path)) == (expected, type(expected))
    assert as_path(path) == path


@pytest.mark.parametrize("value", ["gs://bucket/run", "s3://bucket/a b"])
def test_a_bucket_stays_one(value):
    assert str(as_path(value)) == str(as_path(as_path(value) / "")) == value
    assert is_remote(as_path(value))
    with pytest.raises(ConfigError, match=rf"^--out='{value}': must be on this machine$"):
        as_path(value, "--out", local=True)


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("", "must be a path"),
        (None, "must be a path"),
        (b"runs", "must be a path"),
        ("a\0b", "must be a path"),
        ("~nobody-of-this-name/x", "this home is not known here"),
        ("hdfs://x/y", "no such places are known here"),
        ("file://images", "write three slashes"),
        (pathlib.Path("gs://bucket/run"), "write a bucket as a string"),
    ],
)
def test_what_is_no_path_is_named(value, right):
    with pytest.raises(ConfigError, match=rf"^--workdir=.*: {right}"):
        as_path(value, "--workdir")


def test_where_nothing_can_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "parent/mine").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "parent")  # root may write anywhere
    assert as_path(tmp_path / "parent/mine", "--out", new=True) == tmp_path / "parent/mine"
    with pytest.raises(ConfigError, match=r"^--out=.*other.*: nothing can be written into .*parent$"):
        as_path(tmp_path / "parent/other", "--out", new=True)
    assert as_path(tmp_path / "a/b.png", "--out", new=True) == tmp_path / "a/b.png"
    with pytest.raises(ConfigError, match=r"^--out=.*file/b\.png.*: .*file is a file, no directory"):
        as_path(tmp_path / "file/b.png", "--out", new=True)


def test_two_dots_behind_a_link_lead_where_the_system_says(tmp_path, monkeypatch):
    (tmp_path / "deep/run").mkdir(parents=True)
    (tmp_path / "link").symlink_to("deep/run")
    monkeypatch.chdir(tmp_path)
    assert as_path("link/../x") == (tmp_path / "deep/x").resolve()
    assert as_path("link/x") == tmp_path / "link/x"  # a name without dots stays as it was given


def test_a_bucket_whose_package_is_missing_is_named(tmp_path, monkeypatch):
    def exists(self):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(type(as_path("gs://bucket")), "exists", exists)
    config = default_config()
    config.checkpoint.dir = "gs://bucket/run"
    with pytest.raises(ConfigError, match=r"^config\.checkpoint\.dir='gs://bucket/run': .*install gcsfs .*extra gcs"):
        checkpoint_directory(config, tmp_path)


def test_places_are_compared_as_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to("images")
    for other in ("images", "./images/", "link", "link/../images", tmp_path / "images"):
        assert same_place(other, tmp_path / "images")
    assert not same_place("images", "images2")
    assert same_place("gs://bucket/run/", "gs://bucket/run")
    assert not same_place("gs://bucket/run", "gs://bucket/run2")


def test_paths_of_a_config_name_one_place_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = default_config()
    config.data.dir, config.data.manual_dir = "imgs", "https://mine/images"
    config.checkpoint.dir, config.eval.inception_weights = "~/ck", "file:///w.pth"
    make_paths_absolute(config)
    assert (config.data.dir, config.data.manual_dir) == (str(tmp_path / "imgs"), "https://mine/images")
    assert (config.checkpoint.dir, config.eval.inception_weights) == (str(HOME / "ck"), "/w.pth")
    assert config.eval.dinov2_weights == ""
    assert checkpoint_directory(config, tmp_path) == HOME / "ck"
    assert checkpoint_directory(default_config(), tmp_path) == tmp_path / "checkpoints"

    again = config.copy_and_resolve_references()
    (tmp_path / "imgs").mkdir()
    (tmp_path / "link").symlink_to("imgs")
    again.data.dir = str(tmp_path / "link")
    assert changes(again, config) == ([], [])
    again.data.dir = str(tmp_path)
    assert [change.split(":")[0] for change in changes(again, config)[0]] == ["config.data.dir"]


def test_homes_and_variants_of_config_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a:b.py").write_text(
        "import jaxgan\ndef get_config(variant='none'):\n    return jaxgan.settings.Settings({'is': variant})\n"
    )
    assert [load_config(name)["is"] for name in ("~/a:b.py", "~/a:b.py:wide")] == ["none", "wide"]


def test_where_a_run_keeps_its_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("run").mkdir()
    assert locate("run") == tmp_path / "run"
    for elsewhere in (str(tmp_path / "ck"), "gs://bucket/ck"):
        pathlib.Path("run/config.json").write_text(json.dumps({"checkpoint": {"dir": elsewhere}}))
        assert str(locate("run")) == elsewhere


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b'{"checkpoint": {\n"dir": ',
            "config.json, line 2: damaged, no JSON .*; name the checkpoints themselves, such",
        ),
        (b"[1]", "config.json: damaged, it holds no checkpoint.dir"),
        (b'{"checkpoint": 3}', "config.json: damaged, it holds no checkpoint.dir"),
        (b"\xff\xfe", "config.json: damaged, no text"),
    ],
)
def test_a_damaged_config_of_a_run_is_named_with_its_line(tmp_path, content, problem):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(RunFailed, match=rf"^{tmp_path}/{problem}"):
        locate(tmp_path)
    (tmp_path / "config.json").write_text('{"a": {"b": 1}}')
    assert read_json(tmp_path / "config.json", "a", "b") == 1


def test_images_go_to_a_home_and_to_no_bucket(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    images = np.zeros((1, 8, 8, 3), np.uint8)
    save_images("~/new/x.png", images, columns=1)
    assert (tmp_path / "new/x.png").exists()
    with pytest.raises(ConfigError, match=r"^path='gs://x/y.png': must be on this machine"):
        save_images("gs://x/y.png", images, columns=1)


def test_one_process_at_a_time(tmp_path):
    """The second one is told the setting; a kill lets go."""
    code = "import sys, time, pathlib\nfrom jaxgan.core.files import sole_user\n"
    code += "with sole_user({'x': pathlib.Path(sys.argv[1])}):\n    print('held', flush=True); time.sleep(60)"
    process = start_python("-c", code, str(tmp_path))
    assert process.stdout.readline() == "held\n"
    (tmp_path / "w").mkdir()
    directories = {"--workdir": tmp_path / "w", "config.checkpoint.dir": tmp_path, "other": as_path("gs://bucket/x")}
    with (
        pytest.raises(ConfigError, match=rf"^config\.checkpoint\.dir='{tmp_path}': another process is training there$"),
        sole_user(directories),
    ):
        pass
    process.kill()
    finish(process, status=-9)
    with sole_user(directories), sole_user({}):
        pass
    with filelock.FileLock(tmp_path / ".lock", thread_local=False) as looking:  # for a moment, as `is_held` does
        threading.Timer(0.2, looking.release).start()
        with sole_user(directories):
            assert is_held(tmp_path)
    with sole_user({"a": tmp_path, "b": tmp_path / "w/.."}):  # the same directory twice is no quarrel
        pass
    with locked(tmp_path / "made"):
        assert (tmp_path / "made").is_dir()


@pytest.mark.slow
def test_the_package_imports_without_posix():
    """As on Windows: the modules that it lacks are hidden, and those that jaxgan needs come with Python everywhere."""
    code = """
import importlib, os, pathlib, pkgutil, sys
import filelock, flax.linen, optax, orbax.checkpoint, tqdm, PIL.Image  # which know what Windows has
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("posix_fallocate", "getuid", "geteuid", "fork", "sched_getaffinity", "sysconf", "statvfs", "uname"):
    if hasattr(os, name):
        delattr(os, name)
import jaxgan
names = [module.name for module in pkgutil.walk_packages(jaxgan.__path__, "jaxgan.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""
    assert int(run_snippet(code, devices=1)) > 80
