"""Keeps a run's past beside its checkpoints, so that a new machine, with an empty disk, goes on with all of it.

Where config.checkpoint.dir is a bucket or another disk, `<checkpoint.dir>/run/` holds what a workdir holds: settings,
samples, curves, and metrics.jsonl in pieces, as a bucket can neither append nor rename. The piece
`metrics-00000400.jsonl` holds the lines after the piece before it, up to step 400.
"""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath

from jaxgan.core.errors import RunFailed, summary
from jaxgan.core.files import atomic_write
from jaxgan.training.log import last_step
from jaxgan.training.resume import WHERE_CHECKPOINTS_ARE

LOG = "metrics.jsonl"
FILES = ("config.json", "data.json", "about.json", "held_out.json", "warnings.jsonl", "curves.png", "report.html")
FILES += ("wandb_id", "mlflow_id", WHERE_CHECKPOINTS_ARE)
AT_ONCE = 16  # files read from a bucket, each of which takes a tenth of a second or so


class Mirror:
    """Copies what is new in a workdir to `<checkpoints>/run/`, and all of it back to a workdir that is behind.

    Args:
      workdir: a local directory.
      checkpoints: the directory of checkpoints. One inside the workdir goes where the workdir goes: nothing is copied.
      warn: is given a line when what could be written before can be written no more.
      active: False does nothing: the processes other than the primary one.

    Example:
      mirror = Mirror(workdir, checkpoints, print)
      mirror.pull()      # before anything in the workdir is read
      mirror.push(step)  # once the log is cut to the step that the run goes on from
      mirror.push(step)  # whenever the checkpoint of a step, its lines and its pictures are written
    """

    def __init__(self, workdir: Path, checkpoints: Path | epath.Path, warn: Callable[[str], None], active: bool = True):
        self._workdir, self._directory, self._warn = workdir, checkpoints / "run", warn
        self._active = active and not checkpoints.is_relative_to(workdir)
        self._step: int | None = None  # pieces after it are of a past that this run does not have
        self._read = 0  # bytes of the log that are in pieces
        self._written: dict[str, tuple] = {}  # name: size and time of the files that are there
        self._failing = False

    def pull(self) -> None:
        """Fetches the past of the run if the log in the workdir, which is made then, ends before it or is not there.

        Raises:
          RunFailed: it is there and cannot be read.
        """
        log = self._workdir / LOG
        if not self._active:
            return
        try:
            there, pieces = self._names(), self._pieces()
            if not there or (log.exists() and max(pieces, default=0) <= last_step(log)):
                return
            names = [name for name in FILES if name in there]
            names += [f"samples/{name}" for name in self._names("samples")]
            names = [name for name in names if name in FILES or not (self._workdir / name).exists()]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                contents = pool.map(lambda name: (self._directory / name).read_bytes(), names)
                lines = list(pool.map(lambda step: pieces[step].read_bytes(), sorted(pieces)))
                (self._workdir / "samples").mkdir(parents=True, exist_ok=True)
                for name, content in zip(names, contents):
                    atomic_write(self._workdir / name, content)
            atomic_write(log, b"".join(_in_order(lines)))  # last: a start that is killed before this fetches again
        except Exception as error:  # a bucket's libraries raise all kinds
            raise RunFailed(f"cannot fetch the past of this run from {self._directory}: {summary(error)}") from error

    def push(self, step: int) -> None:
        """Makes the mirror hold the run as it is at `step`; what cannot be written now is written with the next call.

        The first call says where the run goes on: pieces after its step are replaced.
        """
        if not self._active:
            return
        if self._step is None:
            self._step = step
        try:
            self._push(step)
            self._failing = False
        except Exception as error:  # the run itself needs none of this
            if not self._failing:
                self._warn(f"cannot write to {self._directory}, the next save tries again: {summary(error)}")
            self._failing = True

    def _push(self, step: int) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "samples").mkdir(parents=True, exist_ok=True)
        if not self._written:  # a picture that was there before this start is what it was
            names = [f"samples/{name}" for name in self._names("samples")]
            self._written = {name: stamp for name, stamp in self._stamps() if name in names}
        for name, stamp in self._stamps():
            if self._written.get(name) != stamp:
                self._write(name, (self._workdir / name).read_bytes())
                self._written[name] = stamp
        pieces = self._pieces()
        covered = max((number for number in pieces if number <= self._step), default=0)
        with (self._workdir / LOG).open("rb") as file:
            file.seek(self._read)
            lines = [line for line in file if line.endswith(b"\n")]
        if new := [line for line in lines if covered < _step(line)]:
            self._write(f"metrics-{step:08d}.jsonl", b"".join(new))
        for number, piece in pieces.items():
            if number > self._step and number != step:
                piece.unlink()
        self._read += sum(map(len, lines))
        self._step = step

    def _write(self, name: str, content: bytes) -> None:
        """Writes a file whole or not at all, as buckets do."""
        path = self._directory / name
        atomic_write(path, content) if isinstance(path, Path) else path.write_bytes(content)

    def _names(self, folder: str = "") -> list[str]:
        """Returns the names in the mirror, or in a folder of it, sorted."""
        directory = self._directory / folder
        return sorted(path.name for path in directory.iterdir()) if directory.exists() else []

    def _pieces(self) -> dict[int, Path | epath.Path]:
        """Returns the last step of each piece of the log, and where it is."""
        steps = {name: name.removeprefix("metrics-").removesuffix(".jsonl") for name in self._names()}
        return {int(step): self._directory / name for name, step in steps.items() if step.isdecimal()}

    def _stamps(self) -> Iterable[tuple[str, tuple]]:
        """Yields the name of each local file that belongs into the mirror, and what changes with its content."""
        for path in (*(self._workdir / name for name in FILES), *sorted(self._workdir.glob("samples/*.png"))):
            if path.exists():
                stat = path.stat()
                yield path.relative_to(self._workdir).as_posix(), (stat.st_size, stat.st_mtime_ns)


def _step(line: bytes) -> int:
    return json.loads(line)["step"]


def _in_order(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """Yields the lines of all pieces, without those of a step that came before.

    A run that was killed while it replaced the pieces of a lost past leaves both.
    """
    last = 0
    for piece in pieces:
        for line in piece.splitlines(keepends=True):
            if (step := _step(line)) > last:
                yield line
                last = step
