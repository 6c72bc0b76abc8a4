"""Devices and processes: the only file that calls pmap or shard_map.

State is replicated in its natural shape; a batch has a leading axis of devices. Both back ends take the same per-device
function, in which the axis of devices is named `AXIS`, and give equal results.
"""

import collections

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgan.core import memory
from jaxgan.core.errors import require, summary

AXIS = "batch"


def pmean(tree, axis_name: str | None):
    """Returns the mean of every array over the devices of an axis; the arrays themselves if `axis_name` is None."""
    return tree if axis_name is None else lax.pmean(tree, axis_name)


def all_gather(tree, axis_name: str | None):
    """Returns arrays [b, ...] of all devices joined to [devices * b, ...]; unchanged if `axis_name` is None."""
    return tree if axis_name is None else lax.all_gather(tree, axis_name, tiled=True)


def axis_size(axis_name: str | None) -> int:
    """Returns how many devices share a mapped axis; 1 without one."""
    return 1 if axis_name is None else lax.axis_size(axis_name)


def axis_index(axis_name: str | None):
    """Returns this device's index along an axis; 0 if `axis_name` is None."""
    return 0 if axis_name is None else lax.axis_index(axis_name)


class Devices:
    """Holds the devices of a run, on all processes, and brings functions, batches and state to them.

    Slot i of the batch, examples i*b:(i+1)*b, is on device i. The slots of a process are contiguous.
    """

    def __init__(self, backend: str = "pmap", devices: list | None = None):
        """Orders the devices.

        Args:
          backend: "pmap" or "shard_map".
          devices: all devices of all processes if None.
        """
        require(backend in ("pmap", "shard_map"), "backend", backend, "choose pmap or shard_map")
        devices = jax.devices() if devices is None else devices
        good = isinstance(devices, list | tuple) and all(hasattr(d, "process_index") for d in devices)
        require(good and len(devices) > 0, "devices", devices, "give a list of JAX devices, such as jax.devices()[:2]")
        self.backend = backend
        self.devices = sorted(devices, key=lambda d: (d.process_index, d.id))
        self.mesh = Mesh(np.array(self.devices), (AXIS,))
        local = [i for i, d in enumerate(self.devices) if d.process_index == jax.process_index()]
        self.local_slots = range(local[0], local[-1] + 1)

    def parallelize(self, function):
        """Returns `function(recipe, state, batch, key) -> (state, metrics)`, compiled to run on every device.

        Inside, a batch is one device's share and collectives use the axis `AXIS`; both results must be equal on all
        devices. Outside, recipe, state and key are replicated in their natural shape, a batch has a leading axis of
        devices, and the buffers of `state` are donated.
        """
        if self.backend == "pmap":
            return jax.pmap(
                function,
                axis_name=AXIS,
                in_axes=(None, None, 0, None),
                out_axes=None,
                donate_argnums=1,
                devices=self.devices,
            )

        def per_device(recipe, state, batch, key):
            return function(recipe, state, jax.tree.map(lambda x: x[0], batch), key)

        # check_vma=False: a step averages its gradients itself; with True they would come summed as well.
        specs = (P(), P(), P(AXIS), P())
        mapped = jax.shard_map(per_device, mesh=self.mesh, in_specs=specs, out_specs=P(), check_vma=False)
        return jax.jit(mapped, donate_argnums=1)

    def compile(self, step, *arguments):
        """Returns `step`, as made by `parallelize`, compiled for these arguments.

        Across processes pmap returns `step` as it is, compiled by its first call: ahead of time it would ask for the
        batch of all processes.
        """
        if self.backend == "pmap" and jax.process_count() > 1:
            return step
        compiled = step.lower(*arguments).compile()
        memory.release_freed()
        return compiled

    def put_batch(self, batch):
        """Moves this process's share of a batch, host arrays [local devices, ...], to its devices."""
        if self.backend == "pmap":
            local = Mesh(np.array([self.devices[i] for i in self.local_slots]), (AXIS,))
            return jax.device_put(batch, NamedSharding(local, P(AXIS)))
        sharding = NamedSharding(self.mesh, P(AXIS))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)

    def replicate(self, tree):
        """Copies arrays, on the host or a device and equal on all processes, to every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, P()))


class DeviceMap:
    """Maps `function(variables, block)` over any number of examples, on all devices of this process.

    A block is a tree of arrays [n, ...]. Each device takes `chunk` examples of it, whatever the number of devices, so
    that the result of an example does not depend on that number. A short block is padded with copies of its last
    example, whose results are dropped.
    """

    def __init__(self, function, chunk: int):
        self._devices = jax.local_devices()
        self._mesh = Mesh(np.array(self._devices), (AXIS,))
        self._call = jax.pmap(function, in_axes=(None, 0), devices=self._devices)
        self.block = chunk * len(self._devices)  # the most examples that a block may have

    def __call__(self, variables, blocks):
        """Yields the results for each of `blocks` as host arrays [n, ...]; the devices work one block ahead."""
        variables = jax.device_put(variables, NamedSharding(self._mesh, P()))
        ahead = collections.deque()
        for block in blocks:
            n = len(jax.tree.leaves(block)[0])
            take = np.minimum(np.arange(self.block), n - 1).reshape(len(self._devices), -1)
            ahead.append((self._call(variables, jax.tree.map(lambda x, i=take: x[i], block)), n))
            if len(ahead) > 1:
                yield self._fetch(*ahead.popleft())
        while ahead:
            yield self._fetch(*ahead.popleft())

    def _fetch(self, results, n: int):
        return jax.tree.map(lambda x: np.asarray(x).reshape(self.block, *x.shape[2:])[:n], results)


def first_replica(tree):
    """Returns the copy on this process's first device, as single-device arrays, without a transfer.

    Host arrays stay as they are. Raises an AssertionError for an array that is split over the devices.
    """

    def first(leaf):
        if not isinstance(leaf, jax.Array):
            return leaf
        replica = leaf.addressable_data(0)
        assert replica.shape == leaf.shape, f"not replicated: a device holds {replica.shape} of {leaf.shape}"
        return replica

    return jax.tree.map(first, tree)


def assert_replicated(tree) -> None:
    """Raises an AssertionError if this process's devices hold different bits of what should be one value.

    A forgotten average over the devices is the usual cause.
    """
    if len(jax.local_devices()) == 1:
        return  # nothing to compare, and so nothing to copy to the host
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        first, *others = (np.asarray(s.data) for s in leaf.addressable_shards)
        for other in others:
            if first.tobytes() != other.tobytes():
                raise AssertionError(f"devices disagree on {jax.tree_util.keystr(path)}")


def assert_same_on_processes(number: int, what: str) -> None:
    """Raises an AssertionError on every process if they hold different numbers; all of them must call this together.

    Args:
      number: below 2^32, such as a checksum.
      what: it is of, for the message.
    """
    if jax.process_count() > 1 and len(np.unique(multihost_utils.process_allgather(np.uint32(number)))) > 1:
        raise AssertionError(f"processes disagree on {what}")


def is_primary_process() -> bool:
    """Returns whether this is the process that writes to the console and to files: process 0."""
    return jax.process_index() == 0


def broadcast(values: dict[str, float]) -> dict[str, float]:
    """Returns the primary process's values on all processes, which must call this together.

    Several processes exchange them in single precision.
    """
    if jax.process_count() == 1 or not values:
        return values
    numbers = broadcast_arrays(np.array(list(values.values()), np.float32))
    return dict(zip(values, map(float, numbers)))


def broadcast_arrays(tree):
    """Returns the primary process's arrays on all processes, which must call this together."""
    return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(jax.device_get(tree))


def any_process(flag: bool) -> bool:
    """Returns whether `flag` is set on any process; all of them must call this together."""
    return bool(flag) if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(flag)).any())


class Agreed(RuntimeError):
    """Says that work failed on one of several processes, and that all of them know."""


def agree(work):
    """Returns `work()`; where it fails on one process it fails on all of them, which must call this together.

    Otherwise the others would wait for the one that failed wherever they exchange something next. With several
    processes the failure is `Agreed`: anything else that they meet in an exchange is the loss of a process.
    """
    if jax.process_count() == 1:
        return work()
    result = error = None
    try:
        result = work()
    except Exception as raised:
        error = raised
    if any_process(error is not None):
        raise Agreed(summary(error) if error else "another process failed") from error
    return result


def is_shared(directory) -> bool:
    """Returns whether all processes, which must call this together, see the primary process's `directory`.

    Args:
      directory: a path that exists on every process, of pathlib or etils.epath.
    """
    if jax.process_count() == 1:
        return True
    number = np.int32(np.random.default_rng().integers(2**31))
    if is_primary_process():
        (directory / f".{number}").touch()
    file = directory / f".{multihost_utils.broadcast_one_to_all(number)}"
    seen = multihost_utils.process_allgather(np.array(file.exists()))
    if is_primary_process():
        file.unlink()
    return bool(seen.all())
