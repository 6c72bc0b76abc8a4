"""Checkpoints: written in the background, checked when read, independent of the devices that wrote them.

A checkpoint is a directory `<checkpoints>/<step>/` with four items: `state` (the training state but for its average),
`ema` (the averaged generator's variables, so that sampling reads nothing else), `config` and `meta` (JSON); a fifth,
`posthoc`, has the averages of further widths where a run keeps some. Arrays are saved as host arrays in their natural
shapes: one replica, written by process 0, with no trace of a topology.

Orbax notices files that are cut short or missing, but may restore flipped bytes without a word. So `meta` holds a
CRC-32 of every array, of the config and of itself, computed on the host from the copy that orbax needs anyway: 40 ms
for 60 million floats, where compiling a checksum for the device takes 2 to 12 s.
"""

import asyncio
import contextlib
import json
import math
import zlib

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

FORMAT = 1  # of `meta` and the names in it; raised when an older jaxgan could misread a checkpoint

# Orbax logs dozens of lines for each save through absl's logger, which absl's app.run makes audible, and each failure
# with several tracebacks; all failures come back from its calls too, and become one warning or CheckpointError here.
logging.get_absl_logger().addFilter(lambda record: "/orbax/checkpoint/" not in record.pathname)


class CheckpointError(OSError):
    """No checkpoint can be used, or none be written; the message is one line."""


class _Damage(Exception):
    """What is wrong with one checkpoint, in a few words."""


class Checkpoints:
    """The checkpoints of a training run; leaving the context waits for the save under way.

    With several processes, all of them make every call.
    """

    def __init__(self, directory, *, keep_last=2, keep_every_steps=0, best_metric="", best_mode="max"):
        """Creates `directory` and clears away what a killed process left half written there.

        Args:
          directory: on a disk that all processes see, or gs://...
          keep_last: at least 1: the latest is never deleted.
          keep_every_steps: keep steps divisible by it for good; 0: none.
          best_metric: keep the best by this key of `metrics`; a save without it is no candidate. "": none.
          best_mode: max or min.
        """
        assert keep_last >= 1, keep_last
        assert best_mode in ("max", "min"), best_mode
        self.directory = _absolute(directory)
        self._keep = _Keep(keep_last, keep_every_steps, best_metric, 1.0 if best_mode == "max" else -1.0)
        self._damaged: list[int] = []  # newer than what was restored; renamed by the next save
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._keep,
            cleanup_tmp_directories=True,
            # Otherwise orbax's writers wait five minutes for a directory that could not be made.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        )
        with _one_line(f"cannot open {self.directory}"):
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        if jax.process_count() > 1:
            latest = multihost_utils.process_allgather(np.int32(self.latest_step() or 0))
            if len(set(latest.tolist())) > 1:
                raise CheckpointError(f"{self.directory} is not the same directory on all processes: give a shared one")
        for step in self.all_steps():
            with contextlib.suppress(Exception):  # damaged: no candidate for the best
                self._keep.rate(step, _read_meta(self.directory / str(step))["metrics"])

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.close()
        except CheckpointError as error:
            if kind is None:
                raise
            logging.warning("%s", error)  # the error that is on its way out comes first

    def all_steps(self) -> list[int]:
        """Steps with a checkpoint, ascending: also the one being written, but none that `restore` found damaged."""
        return sorted(set(self._manager.all_steps()) - set(self._damaged))

    def latest_step(self) -> int | None:
        return max(self.all_steps(), default=None)

    def save(self, step: int, state, config: dict, metrics: dict[str, float] | None = None) -> None:
        """Copy `state` to the host and write it in the background; its buffers may be donated right afterwards.

        Waits for the save before this one. Checkpoints that `restore` passed over are renamed to `<step>.damaged`.

        Args:
          step: above `latest_step()`.
          state: a flax dataclass with a field `ema`; arrays on the host, on one device, or replicated on the devices
            of this process or of all. None of size 0 (orbax refuses them).
          config: what JSON can hold.
          metrics: kept with the checkpoint; may make it the best one.

        Raises:
          CheckpointError: this save, or the one before in the background, failed.
        """
        self._move_damaged_aside()
        latest = self.latest_step()
        if latest is not None and step <= latest:
            raise CheckpointError(f"cannot save step {step}: {self.directory} already holds step {latest}")
        host = jax.tree.map(np.asarray, jax.device_get(jax.tree.map(_one_replica, _items(state))))
        config = json.loads(json.dumps(config))  # a copy: it is written later, when the caller may have changed it
        metrics = {name: float(value) for name, value in (metrics or {}).items()}
        meta = {
            "format": FORMAT,
            "step": step,
            "metrics": metrics,
            "versions": {"jax": jax.__version__, "orbax": ocp.__version__},
            "config": _crc(config),
            "arrays": _describe(host, _crc),
        }
        meta["meta"] = _crc(meta)
        self._keep.rate(step, metrics)
        items = {item: ocp.args.PyTreeSave(tree) for item, tree in host.items()}
        items |= {"config": ocp.args.JsonSave(config), "meta": ocp.args.JsonSave(meta)}
        with _one_line(f"cannot save to {self.directory}"):
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore(self, abstract_state):
        """The newest undamaged state, or None if nothing was ever saved.

        Args:
          abstract_state: `jax.eval_shape` of what creates a state: it gives structure, shapes and dtypes.

        Returns:
          The state with host arrays, equal on all processes; how to place them is for the caller to say.

        Raises:
          CheckpointError: there are checkpoints but all are damaged, or one is of another model.
        """
        abstract = _items(abstract_state)
        found = _newest(self.directory, self.all_steps(), lambda path: _read_state(path, abstract), agree=True)
        if found is None:
            return None
        restored, step = found
        self._damaged = [newer for newer in self.all_steps() if newer > step]
        return restored.pop("state").replace(**restored)

    def restore_config(self) -> dict | None:
        """The newest readable config, without its arrays; None if nothing was ever saved."""
        found = _newest(self.directory, self.all_steps(), _read_config, agree=True, warn=False)
        return found and found[0]

    def reached_preemption(self, step: int) -> bool:
        """Whether the scheduler takes the machines away; the same answer for a step on all processes."""
        return self._manager.reached_preemption(step)

    def wait(self) -> None:
        """Block until the save under way is on the disk."""
        with _one_line(f"cannot save to {self.directory}"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        with _one_line(f"cannot save to {self.directory}"):
            self._manager.close()

    def _move_damaged_aside(self) -> None:
        if not self._damaged:
            return
        if jax.process_index() == 0:
            for step in self._damaged:
                before = len(list(self.directory.glob(f"{step}.damaged*")))
                name = f"{step}.damaged.{before + 1}" if before else f"{step}.damaged"
                (self.directory / str(step)).rename(self.directory / name)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are moved aside")
        self._manager.reload()
        self._damaged = []


def restore_generator(path, step: int | None = None) -> tuple[dict, dict, int]:
    """What it takes to sample, from the checkpoint alone: the config, the averaged generator's variables, the step.

    Args:
      path: a workdir, its directory of checkpoints, or one checkpoint, wherever it was copied to.
      step: which one of several; the newest undamaged one if not given.

    Returns:
      The config as saved, the Flax variables on the default device, and the step they are of.

    Raises:
      CheckpointError: there is none, not this one, or all are damaged.
    """
    if step is None and _is_checkpoint(path := _absolute(path)):
        return _newest(path.parent, [path.name], _read_generator)[0]
    directory, steps = find(path)
    if step is not None and step not in steps:
        raise CheckpointError(f"no checkpoint of step {step} in {directory}: there is {', '.join(map(str, steps))}")
    return _newest(directory, steps if step is None else [step], _read_generator)[0]


def restore_averages(path, steps: list[int]):
    """Yields the variables of the average in use and of those of config.ema.posthoc, of each of these steps.

    CheckpointError for one that is damaged.
    """
    directory, _ = find(path)
    for step in steps:
        (config, variables, _), _ = _newest(directory, [step], _read_generator)
        yield variables
        if widths := config["ema"].get("posthoc"):
            averages, _ = _newest(directory, [step], lambda path: _read_arrays(path, "posthoc"))
            yield from (averages[f"{width:g}"] for width in widths)


def find(path) -> tuple[epath.Path, list[int]]:
    """The directory of checkpoints that `path` is or has, and their steps, ascending; a CheckpointError for none."""
    path = _absolute(path)
    for directory in (path / "checkpoints", path):
        if steps := sorted(found.step for found in ocp.path.step.standard_name_format().find_all(directory)):
            return directory, steps
    if _is_checkpoint(path):
        return path.parent, [int(path.name)] if path.name.isdecimal() else []
    raise CheckpointError(f"no checkpoint in {path}: no numbered directory in it or in {path / 'checkpoints'}")


def best_step(directory: epath.Path, steps: list[int]) -> tuple[int, str]:
    """The best of the steps by the config.checkpoint.best_metric of their run, and that rule in words.

    Damaged checkpoints are no candidates. Raises CheckpointError if the run rates none.
    """
    read = _newest(directory, steps, _read_config)
    rule = read[0]["checkpoint"]
    keep = _Keep(1, 0, rule["best_metric"], 1.0 if rule["best_mode"] == "max" else -1.0)
    for step in steps:
        with contextlib.suppress(Exception):  # damaged
            keep.rate(step, _read_meta(directory / str(step))["metrics"])
    if not keep.scores:
        raise CheckpointError(
            f"no checkpoint in {directory} is rated: the run's best_metric is {rule['best_metric']!r}"
        )
    return keep.best(steps), f"best of {len(keep.scores)} by {rule['best_metric']} ({rule['best_mode']})"


def all_finite(tree) -> bool:
    """Whether no array of `tree` holds a NaN or an infinity.

    On the host: 12 ms for 60 million floats, where a compiled check costs seconds to half a minute the first time.
    """
    return all(np.isfinite(np.asarray(_one_replica(leaf))).all() for leaf in jax.tree.leaves(tree))


class _Keep:
    """Orbax's preservation policy: which checkpoints stay after a save.

    Its own best-of policy would have orbax keep metrics in files, one damaged byte of which stops the manager from
    opening; these come from `meta`.
    """

    def __init__(self, last: int, every: int, metric: str, sign: float):
        self.last, self.every, self.metric, self.sign = last, every, metric, sign
        self.scores: dict[int, float] = {}  # step: the higher the better

    def rate(self, step: int, metrics: dict[str, float]) -> None:
        score = self.sign * metrics.get(self.metric, math.nan)
        if math.isfinite(score):
            self.scores[step] = score

    def best(self, steps: list[int]) -> int | None:
        """The best of these steps, the later of equals; None if none is rated."""
        rated = [step for step in steps if step in self.scores]
        return max(rated, key=lambda step: (self.scores[step], step), default=None)

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]  # ascending
        keep = {*steps[-self.last :], *(step for step in steps if self.every and step % self.every == 0)}
        if (best := self.best(steps)) is not None:
            keep.add(best)
        return [step in keep for step in steps]


class _WaitForAll(ocp.type_handlers.NumpyHandler):
    """Orbax's reader of arrays, but a failure waits for the other reads.

    Orbax's own closes the event loop under them, and each of them complains on stderr.
    """

    async def deserialize(self, infos, args=None):
        read = super().deserialize
        reads = [read([info], [arg]) for info, arg in zip(infos, args, strict=True)]
        results = await asyncio.gather(*reads, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result[0] for result in results]


def _is_checkpoint(path: epath.Path) -> bool:
    """Whether `path` is one checkpoint rather than a directory of them."""
    return any((path / item).exists() for item in ("ema", "config", "meta"))


def _items(state) -> dict:
    """The state as the items of a checkpoint that hold arrays."""
    items = {"state": state.replace(ema=None), "ema": state.ema}
    if hasattr(state, "posthoc"):
        items |= {"state": items["state"].replace(posthoc=None), "posthoc": state.posthoc}
    return items


def _one_replica(leaf):
    """This process's first copy of a replicated array, without a transfer; host arrays as they are."""
    if not isinstance(leaf, jax.Array):
        return leaf
    replica = leaf.addressable_data(0)
    assert replica.shape == leaf.shape, f"not replicated: a device holds {replica.shape} of {leaf.shape}"
    return replica


def _describe(tree, *functions) -> dict[str, list]:
    """{path of a leaf: [dtype, shape, *functions of it]}."""
    leaves = ((jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree))
    return {name: [str(leaf.dtype), list(leaf.shape), *(f(leaf) for f in functions)] for name, leaf in leaves}


def _crc(data) -> int:
    """CRC-32 of an array's elements in row-major order, or of a JSON object, whatever its order and spacing."""
    if isinstance(data, dict):
        return zlib.crc32(json.dumps(data, sort_keys=True).encode())
    return zlib.crc32(np.ascontiguousarray(data).reshape(-1).view(np.uint8))


def _absolute(path) -> epath.Path:
    path = epath.Path(path)
    return path if "://" in str(path) else path.absolute()  # tensorstore wants one


def _newest(directory: epath.Path, steps: list, read, agree: bool = False, warn: bool = True):
    """(read(path), step) of the newest checkpoint that can be read; None if `steps`, ascending, is empty.

    agree: all processes call this, and what one of them cannot read none of them uses.
    """
    damaged = []
    for step in reversed(steps):
        problem = ""
        try:
            result = read(directory / str(step))
        except (CheckpointError, MemoryError):
            raise
        except Exception as error:  # of whatever kind orbax, tensorstore and json make of damaged files
            problem = _brief(error)
        if agree and jax.process_count() > 1 and multihost_utils.process_allgather(np.array(bool(problem))).any():
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
    meta = ocp.JsonCheckpointHandler().restore(path / "meta")
    if meta.pop("meta") != _crc(meta):
        raise _Damage("meta changed")
    if meta["format"] > FORMAT:
        raise CheckpointError(f"{path} has format {meta['format']}; this jaxgan reads up to {FORMAT}: upgrade it")
    return meta


def _read_config(path: epath.Path) -> dict:
    config = ocp.JsonCheckpointHandler().restore(path / "config")
    if _crc(config) != _read_meta(path)["config"]:
        raise _Damage("config changed")
    return config


def _read_arrays(path: epath.Path, item: str, abstract=None):
    """One item with host arrays: in the structure of `abstract`, otherwise nested dicts and lists."""
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), abstract)
    registry = ocp.type_handlers.create_type_handler_registry((np.ndarray, _WaitForAll()))
    reader = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    tree = reader.restore(path / item, args=ocp.args.PyTreeRestore(abstract, restore_args=as_numpy))
    arrays = _describe({item: tree}, _crc)
    saved = {name: value for name, value in _read_meta(path)["arrays"].items() if name.startswith(f"['{item}']")}
    changed = sorted(name for name in arrays.keys() | saved.keys() if arrays.get(name) != saved.get(name))
    if changed:
        raise _Damage(f"{len(changed)} of {len(saved)} arrays changed, such as {changed[0]}")
    return tree


def _read_state(path: epath.Path, abstract: dict) -> dict:
    """The items of `abstract`; a CheckpointError, which no older checkpoint would mend, if it is of another model."""
    saved = {name: kind for name, (*kind, _) in _read_meta(path)["arrays"].items()}
    wanted = _describe(abstract)
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            there, here = ("{}{}".format(*kinds[name]) if name in kinds else "absent" for kinds in (saved, wanted))
            raise CheckpointError(f"{path} is of another model: {name} is {there} there, {here} in this run")
    _read_config(path)
    return {item: _read_arrays(path, item, tree) for item, tree in abstract.items()}


def _read_generator(path: epath.Path) -> tuple[dict, dict, int]:
    return _read_config(path), jax.device_put(_read_arrays(path, "ema")), _read_meta(path)["step"]


def _brief(error: Exception) -> str:
    """First line of an error's message, without its middle where it gets long."""
    text = str(error) if isinstance(error, _Damage) else f"{type(error).__name__}: {error}"
    line = text.split("\n")[0].split(" [tensorstore_spec=")[0]
    return line if len(line) <= 200 else f"{line[:60]} ... {line[-130:]}"


@contextlib.contextmanager
def _one_line(what: str):
    """Whatever goes wrong in orbax as a CheckpointError that says what was tried."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(f"{what}: {_brief(error)}") from error
