"""Checkpoints: written in the background, verified when read, independent of the devices that wrote them.

A checkpoint is a directory `<checkpoints>/<step>/`. It holds one folder for each item, a tree of arrays that can be
read without the others, and `meta`, a JSON object: the format, the step, its metrics, what the run says of itself, and
the fingerprint of every item. Arrays are saved as host arrays in their natural shapes: one replica, written by the
primary process, with no trace of a topology.

Orbax notices files that are cut short or missing, but may restore flipped bits without a word. Hence the fingerprints.
"""

import asyncio
import contextlib
import errno
import os

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from jaxgan.core import quiet
from jaxgan.core.errors import summary
from jaxgan.core.files import as_path
from jaxgan.core.integrity import describe, fingerprint, seal, unseal, verify
from jaxgan.core.parallel import any_process, assert_same_on_processes, first_replica, is_primary_process, is_shared
from jaxgan.core.retention import Retention, read_scores, write_scores

FORMAT = 1  # The format of `meta` and the items; raised when an older jaxgan could misread a checkpoint

quiet.silence_orbax()


class CheckpointError(OSError):
    """Says in one line why no checkpoint can be used, or none be written."""


class MissingItem(CheckpointError):
    """Says which item a checkpoint lacks, and which ones are there."""


class Checkpoints:
    """Manages the checkpoints of a training run; leaving the context waits for the save under way.

    With several processes, all of them make every call.

    Example:
      with Checkpoints("run/checkpoints", keep_last=3) as checkpoints:
          items = checkpoints.restore({"state": jax.eval_shape(create_state)})
          checkpoints.save(1000, {"state": state}, {"config": {}}, {"eval/fid": 12.5})
    """

    def __init__(self, directory, *, keep_last=2, keep_every_steps=0, best_metric="", higher_is_better=True):
        """Creates `directory` and clears away what a killed process left half written there.

        Args:
          directory: on a disk that all processes see, or gs://...
          keep_last: how many of the latest to keep, at least 1.
          keep_every_steps: steps divisible by it are kept for good; 0 keeps none.
          best_metric: the score by which the best checkpoint is kept, see `rate`; one without it is no candidate. ""
            keeps none.
          higher_is_better: direction of `best_metric`.

        Raises:
          CheckpointError: the directory cannot be opened, or is not the same on all processes.
        """
        assert keep_last >= 1, keep_last
        self.directory = _absolute(directory)
        self._retention = Retention(keep_last, keep_every_steps, best_metric, higher_is_better)
        self._damaged: list[int] = []  # newer than what was restored; renamed by the next save
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._retention,
            cleanup_tmp_directories=True,
            # Otherwise orbax's writers wait five minutes for a directory that could not be made.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        )
        with _one_line("cannot open", self.directory):
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        if not is_shared(self.directory):
            raise CheckpointError(f"{self.directory} is not the same directory on all processes: give a shared one")
        self._retention.rate_saved(self.directory, self.all_steps(), _read_metrics)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.close()
        except CheckpointError as error:
            if kind is None:
                raise
            if not issubclass(kind, CheckpointError):  # which is of the same disk
                logging.warning("%s", error)  # the error that is on its way out comes first

    def all_steps(self) -> list[int]:
        """Returns the steps with a checkpoint, ascending.

        They include the one being written and exclude those that `restore` found damaged.
        """
        return sorted(set(self._manager.all_steps()) - set(self._damaged))

    def latest_step(self) -> int | None:
        """Returns the last of `all_steps`, or None."""
        return max(self.all_steps(), default=None)

    def save(self, step: int, items: dict, run: dict, metrics: dict[str, float] | None = None) -> None:
        """Copies `items` to the host and writes them in the background; their buffers may be donated right afterwards.

        Waits for the save before this one. Renames checkpoints that `restore` passed over to `<step>.damaged`.

        Args:
          step: above `latest_step()`.
          items: {name: tree of arrays}. Arrays are on the host, on one device, or replicated on the devices of this
            process or of all; none has size 0, which orbax refuses. A tree without arrays is left out of the files.
          run: what describes the run, as JSON can hold it.
          metrics: numbers kept with the checkpoint.

        Raises:
          CheckpointError: this save failed, or the one before in the background.
          AssertionError: processes would save different bits.
        """
        self._move_damaged_aside()
        latest = self.latest_step()
        if latest is not None and step <= latest:
            raise CheckpointError(f"cannot save step {step}: {self.directory} already holds step {latest}")
        items = jax.tree.map(np.asarray, jax.device_get(first_replica(items)))
        fingerprints = {name: fingerprint(tree) for name, tree in items.items()}
        assert_same_on_processes(seal(fingerprints)["crc32"], f"the state of step {step}")
        metrics = {name: float(value) for name, value in (metrics or {}).items()}
        meta = {
            "format": FORMAT,
            "step": step,
            "metrics": metrics,
            "best": [self._retention.metric, self._retention.higher_is_better],
            "versions": {"jax": jax.__version__, "orbax": ocp.__version__},
            "run": run,
            "items": fingerprints,
        }
        self._retention.rate(step, metrics)
        arguments = {name: ocp.args.PyTreeSave(tree) for name, tree in items.items() if jax.tree.leaves(tree)}
        arguments["meta"] = ocp.args.JsonSave(seal(meta))
        with _one_line("cannot save to", self.directory):
            self._manager.save(step, args=ocp.args.Composite(**arguments), force=True)

    def rate(self, step: int, scores: dict[str, float]) -> None:
        """Keeps the scores of a checkpoint beside it; they may make it the best one."""
        self._retention.rate(step, scores)
        if is_primary_process():
            known = read_scores(self.directory) | {step: scores}
            write_scores(self.directory, {step: known[step] for step in self.all_steps() if step in known})

    def restore(self, abstract_items: dict) -> dict | None:
        """Returns the items of the newest undamaged checkpoint, or None if nothing was ever saved.

        Args:
          abstract_items: {name: `jax.eval_shape` of what creates the tree}, which gives structure, shapes and dtypes.

        Returns:
          {name: tree of host arrays}, equal on all processes; {} for a tree without arrays.

        Raises:
          CheckpointError: there are checkpoints but all are damaged, or one holds other arrays.
        """

        def read(path):
            _require_same_arrays(path, abstract_items)
            return {name: _read_item(path, name, tree) for name, tree in abstract_items.items()}

        found = _newest_undamaged(self.directory, self.all_steps(), read, agree=True)
        if found is None:
            return None
        items, step = found
        self._damaged = [newer for newer in self.all_steps() if newer > step]
        return items

    def restore_run(self) -> dict | None:
        """Returns `run` of the newest readable checkpoint, whatever its arrays; None if nothing was ever saved."""
        found = _newest_undamaged(self.directory, self.all_steps(), _read_run, agree=True, warn=False)
        return found and found[0]

    def read_metrics(self, step: int) -> dict[str, float]:
        """Returns what was saved as the metrics of a step that was restored."""
        return _read_metrics(self.directory / str(step))

    def reached_preemption(self, step: int) -> bool:
        """Returns whether the scheduler takes the machines away; all processes get the same answer for a step."""
        return self._manager.reached_preemption(step)

    def wait(self) -> None:
        """Blocks until the save under way is on the disk."""
        with _one_line("cannot save to", self.directory):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save under way and frees orbax's threads."""
        with _one_line("cannot save to", self.directory):
            self._manager.close()

    def _move_damaged_aside(self) -> None:
        if not self._damaged:
            return
        if is_primary_process():
            for step in self._damaged:
                before = len(list(self.directory.glob(f"{step}.damaged*")))
                name = f"{step}.damaged.{before + 1}" if before else f"{step}.damaged"
                (self.directory / str(step)).rename(self.directory / name)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are moved aside")
        self._manager.reload()
        self._damaged = []


def find(path) -> tuple[epath.Path, list[int]]:
    """Returns the directory of checkpoints that `path` is or has, and its steps, ascending.

    Args:
      path: a workdir, its directory of checkpoints, or one checkpoint.

    Raises:
      CheckpointError: there is none.
    """
    path = _absolute(path)
    for directory in (path / "checkpoints", path):
        if steps := sorted(found.step for found in ocp.path.step.standard_name_format().find_all(directory)):
            return directory, steps
    if _is_checkpoint(path):
        return path.parent, [int(path.name)] if path.name.isdecimal() else []
    raise CheckpointError(f"no checkpoint in {path}: no numbered directory in it or in {path / 'checkpoints'}")


def restore_items(path, step: int | None, names) -> tuple[dict, dict, int]:
    """Returns some items of a checkpoint, read without the others, its run, and its step.

    Args:
      path: a workdir, its directory of checkpoints, or one checkpoint, wherever it was copied to.
      step: which one of several; the newest undamaged one if None.
      names: list of the items to read, trees of dicts; none of them if empty.

    Returns:
      {name: nested dicts of host arrays}, the run as saved, and the step.

    Raises:
      CheckpointError: there is no checkpoint, not this one, not this item, all are damaged, or it has no dicts alone.
    """

    def read(path):
        meta = _read_meta(path)
        for name in names:
            if name not in meta["items"]:
                raise MissingItem(f"{path} has no item {name!r}: there is {', '.join(meta['items'])}")
            if odd := [leaf for leaf in meta["items"][name] if "]." in f"]{leaf}"]:  # an attribute
                raise CheckpointError(f"item {name!r} of {path} has {odd[0]}, no dicts alone: use Checkpoints.restore")
        return {name: _read_item(path, name) for name in names}, meta["run"], meta["step"]

    path = _absolute(path)
    if step is None and _is_checkpoint(path):
        return _newest_undamaged(path.parent, [path.name], read)[0]
    directory, steps = find(path)
    if step is not None and step not in steps:
        raise CheckpointError(f"no checkpoint of step {step!r} in {directory}: there is {', '.join(map(str, steps))}")
    return _newest_undamaged(directory, steps if step is None else [step], read)[0]


def best_step(path) -> tuple[int, str]:
    """Returns the best of a run's checkpoints, the later of equals, and the score by which the run keeps it.

    Damaged checkpoints are no candidates.

    Args:
      path: as for `find`.

    Raises:
      CheckpointError: there is no checkpoint, the run keeps no best, or none has its score.
    """
    directory, steps = find(path)
    (metric, higher_is_better), _ = _newest_undamaged(directory, steps, _read_best, warn=False)
    if not metric:
        raise CheckpointError(f"the run has no config.checkpoint.best_metric to say which is the best in {directory}")
    retention = Retention(1, 0, metric, higher_is_better)
    retention.rate_saved(directory, steps, _read_metrics)
    best = retention.best(steps)
    if best is None:
        raise CheckpointError(f"no checkpoint in {directory} has the score {metric!r}")
    return best, metric


class _PatientReader(ocp.type_handlers.NumpyHandler):
    """Reads arrays as orbax does, but lets the other reads end when one fails; orbax's print a traceback each."""

    async def deserialize(self, infos, args=None):
        read = super().deserialize
        reads = [read([info], [arg]) for info, arg in zip(infos, args, strict=True)]
        results = await asyncio.gather(*reads, return_exceptions=True)
        for failure in (result for result in results if isinstance(result, BaseException)):
            raise failure
        return [result[0] for result in results]


def _require_same_arrays(path: epath.Path, abstract_items: dict) -> None:
    """Raises a CheckpointError, which no older checkpoint would mend, unless both have the same arrays."""
    saved = {
        f"{name}{leaf}": kind for name, tree in _read_meta(path)["items"].items() for leaf, (*kind, _) in tree.items()
    }
    wanted = {f"{name}{leaf}": kind for name, tree in abstract_items.items() for leaf, kind in describe(tree).items()}
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            there, here = ("{}{}".format(*kinds[name]) if name in kinds else "absent" for kinds in (saved, wanted))
            raise CheckpointError(f"{path} is of another model: {name} is {there} there, {here} in this run")


def _newest_undamaged(directory: epath.Path, steps: list, read, agree: bool = False, warn: bool = True):
    """Returns (read(path), step) of the newest checkpoint that can be read; None if `steps`, ascending, is empty.

    agree: all processes call this, and what one of them cannot read none of them uses.
    """
    damaged = []
    for step in reversed(steps):
        problem = ""
        try:
            result = read(directory / str(step))
        except (CheckpointError, MemoryError):
            raise
        except Exception as error:  # orbax, tensorstore and json make all kinds of damaged files
            problem = summary(error)
        if agree and any_process(bool(problem)):
            problem = problem or "another process cannot read it"
        if not problem:
            if damaged and warn:
                logging.warning("damaged in %s: %s; step %s is used instead", directory, ", ".join(damaged), step)
            return result, step
        damaged.append(f"step {step} ({problem})")
    if damaged:
        raise CheckpointError(f"every checkpoint in {directory} is damaged: {', '.join(damaged)}")
    return None


def _read_meta(path: epath.Path) -> dict:
    meta = unseal(ocp.JsonCheckpointHandler().restore(path / "meta"))
    if meta["format"] > FORMAT:
        raise CheckpointError(f"{path} has format {meta['format']}; this jaxgan reads up to {FORMAT}: upgrade it")
    return meta


def _read_run(path: epath.Path) -> dict:
    return _read_meta(path)["run"]


def _read_best(path: epath.Path) -> list:
    return _read_meta(path)["best"]


def _read_metrics(path: epath.Path) -> dict:
    return _read_meta(path)["metrics"]


def _read_item(path: epath.Path, name: str, abstract=None):
    """Returns one item with host arrays: in the structure of `abstract`, otherwise nested dicts and lists."""
    saved = _read_meta(path)["items"][name]
    if not saved:
        return {}
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), abstract)
    registry = ocp.type_handlers.create_type_handler_registry((np.ndarray, _PatientReader()))
    reader = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    tree = reader.restore(path / name, args=ocp.args.PyTreeRestore(abstract, restore_args=as_numpy))
    verify(tree, saved)
    return tree


def _is_checkpoint(path: epath.Path) -> bool:
    """Returns whether `path` is one checkpoint rather than a directory of them."""
    return (path / "meta").exists()


def _absolute(path) -> epath.Path:
    return epath.Path(as_path(path))  # tensorstore wants an absolute one


@contextlib.contextmanager
def _one_line(what: str, directory: epath.Path):
    """Turns whatever goes wrong in orbax into a CheckpointError that says what was tried."""
    try:
        yield
    except Exception as error:
        full = os.strerror(errno.ENOSPC)
        if full in str(error):
            raise CheckpointError(errno.ENOSPC, full, str(directory)) from error
        raise CheckpointError(f"{what} {directory}: {summary(error)}") from error
