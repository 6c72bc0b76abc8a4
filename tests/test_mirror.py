"""A run's past beside its checkpoints, in a bucket or on another disk; a run that once had checkpoints needs them."""

import contextlib
import pathlib
import shutil

import fsspec
import pytest
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from jaxgan.core.checkpoint import Checkpoints
from jaxgan.core.errors import ConfigError, RunFailed
from jaxgan.settings import default_config, to_json
from jaxgan.training.log import MetricsLog
from jaxgan.training.mirror import Mirror
from jaxgan.training.resume import note_checkpoints, require_checkpoints

SAVE_EVERY = 4


class Bucket(MemoryFileSystem):
    """Google's file system without Google: files are written whole, and nothing is renamed or appended to."""

    protocol = ("gcs", "gs")
    store: dict = {}  # noqa: RUF012
    pseudo_dirs: list = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).removeprefix("gs://").removeprefix("gcs://"))

    def _open(self, path, mode="rb", **options):
        assert mode in ("rb", "wb"), mode
        return super()._open(path, mode, **options)

    def mv(self, *paths, **options):
        raise AssertionError("a bucket renames nothing")

    rename = mv


@pytest.fixture(params=["bucket", "disk"])
def place(request, tmp_path, monkeypatch):
    """A directory of checkpoints elsewhere: in a bucket, or on another disk."""
    if request.param == "disk":
        return tmp_path / "disk/ck"
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "pseudo_dirs", [""])
    monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", fsspec.filesystem)
    fsspec.register_implementation("gcs", Bucket, clobber=True)
    return epath.Path("gs://bucket/ck")


def go_on(workdir, place, resume_step, last_step, warn=pytest.fail, attempt="same"):
    """Lives the life of a run from a checkpoint on, as the training loop does: a line each step, two pictures."""
    mirror = Mirror(workdir, place, warn)
    mirror.pull()
    log = MetricsLog(workdir, resume_step=resume_step)
    (workdir / "config.json").write_text('{"seed": 0}')
    mirror.push(resume_step)
    for step in range(resume_step + 1, last_step + 1):
        log.scalars(step, {"kimg": step, "loss/d": step**0.5})
        if step % SAVE_EVERY == 0:
            (workdir / "samples").mkdir(exist_ok=True)
            (workdir / f"samples/{step:010.3f}kimg.png").write_bytes(b"picture %d" % step)
            (workdir / "curves.png").write_bytes(b"curves to %d" % step)
            mirror.push(step)
    log.close()


def content(workdir):
    return {path.name: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}


def in_mirror(place):
    return sorted(path.name for path in (place / "run").iterdir() if path.name.startswith("metrics"))


@pytest.mark.parametrize("killed_at", [0, 3, 4, 6, 9, 11])
@pytest.mark.parametrize("behind", [0, SAVE_EVERY])
def test_a_run_goes_on_with_its_past_on_another_machine(tmp_path, place, killed_at, behind):
    """The kill comes at any step, and the last checkpoint may not have been complete by then."""
    go_on(tmp_path / "undisturbed", tmp_path / "none", 0, 12)
    resumed_from = max(killed_at // SAVE_EVERY * SAVE_EVERY - behind, 0)
    go_on(tmp_path / "first", place, 0, killed_at)
    go_on(tmp_path / "second", place, resumed_from, 12)
    assert content(tmp_path / "second") == content(tmp_path / "undisturbed")
    assert in_mirror(place) == [f"metrics-{step:08d}.jsonl" for step in (4, 8, 12)]
    Mirror(tmp_path / "third", place, pytest.fail).pull()
    assert content(tmp_path / "third") == content(tmp_path / "undisturbed")


def test_a_machine_that_was_left_behind_catches_up(tmp_path, place):
    """The log that goes further is the run's: here that in the mirror, there the one in the workdir."""
    go_on(tmp_path / "first", place, 0, 5)
    shutil.copytree(tmp_path / "first", tmp_path / "left")
    go_on(tmp_path / "first", place, 4, 8)
    go_on(tmp_path / "left", place, 8, 10)
    assert content(tmp_path / "left") | content(tmp_path / "first") == content(tmp_path / "left") | {
        "metrics.jsonl": content(tmp_path / "first")["metrics.jsonl"]
    }
    steps = [line.split(b",")[0] for line in content(tmp_path / "left")["metrics.jsonl"].splitlines()]
    assert steps == [b'{"step": %d' % step for step in range(1, 11)]
    go_on(tmp_path / "left", place, 8, 12)
    Mirror(tmp_path / "new", place, pytest.fail).pull()
    assert content(tmp_path / "new") == content(tmp_path / "left")


def test_lines_of_a_past_that_was_lost_come_once(tmp_path, place):
    """A kill between the new piece and the removal of the old ones leaves both."""
    go_on(tmp_path / "first", place, 0, 8)
    (place / "run/metrics-00000006.jsonl").write_bytes(b"".join(b'{"step": %d}\n' % step for step in (5, 6)))
    Mirror(tmp_path / "second", place, pytest.fail).pull()
    assert content(tmp_path / "second")["metrics.jsonl"].count(b"\n") == 8


def test_only_what_changed_is_written_again(tmp_path, place, monkeypatch):
    go_on(tmp_path / "run", place, 0, 8)
    written = []
    monkeypatch.setattr(Mirror, "_write", lambda self, name, data: written.append(name))
    mirror = Mirror(tmp_path / "run", place, pytest.fail)
    mirror.push(8)
    assert written == ["config.json", "curves.png"]  # a start writes these anew
    (tmp_path / "run/samples/000008.000kimg.png").write_bytes(b"another picture")
    mirror.push(8)
    assert written[2:] == ["samples/000008.000kimg.png"]


def test_a_bucket_that_cannot_be_written_costs_no_run(tmp_path, place, monkeypatch):
    """One warning, and the next save writes all; what cannot be read at the start ends it."""
    warnings, write = [], Mirror._write

    def fail(self, name, data):
        raise ConnectionError("no route\nto the bucket")

    monkeypatch.setattr(Mirror, "_write", fail)
    go_on(tmp_path / "run", place, 0, 9, warnings.append)
    assert len(warnings) == 1
    assert warnings[0].startswith(
        f"cannot write to {place}/run, the next save tries again: ConnectionError: no route to"
    )
    monkeypatch.setattr(Mirror, "_write", write)
    go_on(tmp_path / "run", place, 8, 12)
    Mirror(tmp_path / "new", place, pytest.fail).pull()
    assert content(tmp_path / "new") == content(tmp_path / "run")
    (place / "run/metrics-00000008.jsonl").write_bytes(b"damaged\n")
    with pytest.raises(RunFailed, match=f"^cannot fetch the past of this run from {place}/run: "):
        Mirror(tmp_path / "other", place, pytest.fail).pull()
    assert not (tmp_path / "other/metrics.jsonl").exists()  # the next start tries again


@pytest.mark.parametrize("options", [{"active": False}, {}])
def test_nothing_is_copied_inside_a_workdir_or_by_other_processes(tmp_path, options):
    place = tmp_path / "elsewhere" if options else tmp_path / "run/checkpoints"
    mirror = Mirror(tmp_path / "run", place, pytest.fail, **options)
    mirror.pull()
    mirror.push(0)
    assert not list(tmp_path.iterdir())


CONFIG = default_config()


@pytest.mark.parametrize(("last", "words"), [(0, ""), (7, ""), (8, "this run had checkpoints in")])
def test_a_log_that_goes_on_to_a_second_save_tells_of_checkpoints(tmp_path, last, words):
    """The note of them may be lost. What counts are the settings of the run, not of this start."""
    config = default_config()
    config.checkpoint.every_kimg, config.checkpoint.keep_every_kimg = 4 * 0.064, 100.0
    (tmp_path / "config.json").write_text(to_json(config))
    with contextlib.closing(MetricsLog(tmp_path)) as log:
        for step in range(1, last + 1):
            log.scalars(step, {"kimg": 0.064 * step})
    with pytest.raises(ConfigError, match=words) if words else contextlib.nullcontext():
        require_checkpoints(tmp_path, tmp_path / "checkpoints", CONFIG)


def test_a_run_that_had_checkpoints_does_not_begin_again(tmp_path):
    """A run that is killed before its first checkpoint does, although it has a log, too."""
    workdir, directory = tmp_path / "run", tmp_path / "run/checkpoints"
    with contextlib.closing(MetricsLog(workdir)) as log:
        log.scalars(1, {"kimg": 1})
    (directory / "4.orbax-checkpoint-tmp").mkdir(parents=True)  # killed during the first save
    note_checkpoints(workdir, directory)
    require_checkpoints(workdir, directory, CONFIG)

    with Checkpoints(directory) as checkpoints:
        checkpoints.save(4, {}, {})
        checkpoints.wait()
        (directory / "run").mkdir()  # the mirror
        (directory / ".lock").touch()
        assert checkpoints.all_steps() == [4]
        note_checkpoints(workdir, checkpoints.directory)
    for name in (directory, workdir / "../run/checkpoints"):
        assert require_checkpoints(workdir, name, CONFIG)

    elsewhere = directory.rename(tmp_path / "moved")
    with pytest.raises(ConfigError) as error:
        require_checkpoints(workdir, directory, CONFIG)
    assert str(error.value) == (
        f"workdir='{workdir}': this run had checkpoints in '{directory}', and now there is none. Bring them back or "
        "name their directory by config.checkpoint.dir; to begin again, give another workdir or remove this one"
    )
    with pytest.raises(ConfigError, match=rf"in '{directory}', and now there is none in '/nowhere/x'\. Bring"):
        require_checkpoints(workdir, pathlib.Path("/nowhere/x"), CONFIG)
    assert (workdir / "metrics.jsonl").exists()
    require_checkpoints(workdir, elsewhere, CONFIG)
    note_checkpoints(workdir, elsewhere)
    assert (workdir / "saved_in.txt").read_text() == f"{elsewhere}\n"
