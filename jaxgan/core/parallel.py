"""Devices and processes: the only file that calls pmap.

The state is replicated in its natural shape; a batch has a leading axis of devices. Both back ends take the same
per-device function with the axis name `AXIS` and give equal results.
"""

import collections
import glob

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgan.core import memory
from jaxgan.core.errors import ConfigError, RunFailed

AXIS = "batch"


def start_processes(coordinator: str = "", num_processes: int = 0, process_id: int = -1) -> None:
    """Join the other processes of a run: as told, or as a TPU pod's environment says.

    Must come before anything else touches the devices.
    """
    if coordinator or num_processes or process_id >= 0:
        if not (":" in coordinator and num_processes > 0 and 0 <= process_id < num_processes):
            raise ConfigError(
                f"--coordinator={coordinator!r} --num_processes={num_processes} --process_id={process_id}: give all "
                "three, host:port, a count, and an index below the count"
            )
        try:
            jax.distributed.initialize(coordinator, num_processes, process_id)
        except RuntimeError as error:
            raise RunFailed(f"--coordinator={coordinator}: {error}") from error
    elif glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"):  # a TPU VM: JAX asks it for its other hosts
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            print(f"training on this host alone: {str(error).splitlines()[0]}")


class Devices:
    """The devices of a run, of all processes, and how a step, a batch and a state get there.

    Slot i of the batch, examples i*b:(i+1)*b, is on device i; a process's devices are neighbours.
    """

    def __init__(self, backend: str = "pmap", devices: list | None = None):
        self.backend = backend
        self.devices = sorted(devices or jax.devices(), key=lambda d: (d.process_index, d.id))
        self.mesh = Mesh(np.array(self.devices), (AXIS,))
        local = [i for i, d in enumerate(self.devices) if d.process_index == jax.process_index()]
        self.local_slots = range(local[0], local[-1] + 1)

    def parallelize(self, step):
        """`step(state, batch, key) -> (state, metrics)` on every device, compiled, the state's buffers donated.

        Outside, state and key are replicated in their natural shape and a batch has a leading axis of devices.
        """
        if self.backend == "pmap":
            return jax.pmap(
                step,
                axis_name=AXIS,
                in_axes=(None, 0, None),
                out_axes=None,
                donate_argnums=0,
                devices=self.devices,
            )

        def per_device(state, batch, key):
            return step(state, jax.tree.map(lambda x: x[0], batch), key)

        # check_vma=False: the step averages its gradients itself; with True they would come summed as well.
        mapped = jax.shard_map(per_device, mesh=self.mesh, in_specs=(P(), P(AXIS), P()), out_specs=P(), check_vma=False)
        return jax.jit(mapped, donate_argnums=0)

    def compile(self, step, *arguments):
        """`step`, as `parallelize` made it, compiled for these arguments; pmap across processes at its first call."""
        if self.backend == "pmap" and jax.process_count() > 1:  # ahead of time it would want the batch of all processes
            return step
        compiled = step.lower(*arguments).compile()
        memory.give_back_freed()
        return compiled

    def put_batch(self, batch):
        """This process's share of a batch, host arrays [local devices, ...], to its devices."""
        if self.backend == "pmap":
            local = Mesh(np.array([self.devices[i] for i in self.local_slots]), (AXIS,))
            return jax.device_put(batch, NamedSharding(local, P(AXIS)))
        sharding = NamedSharding(self.mesh, P(AXIS))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)

    def replicate(self, tree):
        """Host arrays, equal on all processes, to every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, P()))


class LocalMap:
    """`function(variables, block)` of any number of examples, on all devices of this process.

    A block is a tree of arrays [n, ...]; each device takes `chunk` examples of it, whatever the number of devices, so
    that an example's result does not depend on that number. The last block is padded with copies of its last example,
    whose results are dropped.
    """

    def __init__(self, function, chunk: int):
        self._devices = jax.local_devices()
        self._mesh = Mesh(np.array(self._devices), (AXIS,))
        self._call = jax.pmap(function, in_axes=(None, 0), devices=self._devices)
        self.block = chunk * len(self._devices)  # examples that a block may have at most

    def __call__(self, variables, blocks):
        """Yields the results for each of `blocks` as host arrays [n, ...]; the devices are one block ahead."""
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
    """The copy on this process's first device, as single-device arrays, without a transfer."""
    return jax.tree.map(lambda x: x.addressable_shards[0].data, tree)


def agreed(values: dict[str, float]) -> dict[str, float]:
    """Process 0's values on all processes, which must call this together; with several, in single precision."""
    if jax.process_count() == 1 or not values:
        return values
    numbers = multihost_utils.broadcast_one_to_all(np.array(list(values.values()), np.float32))
    return dict(zip(values, map(float, numbers)))


def assert_replicated(tree) -> None:
    """Raise if this process's devices hold different bits of what should be one value (a forgotten average)."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        first, *others = (np.asarray(s.data) for s in leaf.addressable_shards)
        for other in others:
            if first.tobytes() != other.tobytes():
                raise AssertionError(f"devices disagree on {jax.tree_util.keystr(path)}")
