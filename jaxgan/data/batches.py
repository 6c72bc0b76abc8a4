"""The order of the images, and the batches made of them.

The order depends on the seed alone, one permutation an epoch, and a batch on its step, so that there is no
position to save: a resumed run, or one with another number of processes or devices, sees exactly the
batches it would have seen.
"""

import collections
import concurrent.futures
import functools
import itertools
import math

import jax
import numpy as np

from jaxgan.core.errors import is_whole, require, require_whole
from jaxgan.core.memory import require_memory
from jaxgan.core.parallel import Devices
from jaxgan.data.spec import Dataset, read, require_members

READ_AT_ONCE = 1024  # images


@functools.lru_cache(maxsize=2)  # a batch touches two epochs at most, unless the set is tiny
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """Returns a permutation of range(n), the order of raw bits: numpy guarantees their stream, not its permutations."""
    bits = np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64)).random_raw(n)
    order = np.argsort(bits, kind="stable")
    order.setflags(write=False)
    return order


def epoch_positions(seed: int, start: int, count: int, n: int) -> np.ndarray:
    """Returns indices into a set of `n` images at the positions [start, start + count) of an endless stream, [count].

    Epoch e is positions e * n to (e + 1) * n: every image once, in an order given by (seed, e).
    """
    stop = start + count
    epochs = range(start // n, -(-stop // n))
    return np.concatenate([_permutation(seed, e, n)[max(start - e * n, 0) : stop - e * n] for e in epochs])


def batch_spec(
    recipe, image_shape: tuple[int, int, int], num_devices: int = 1, steps_per_dispatch: int = 1
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes and types of what one dispatch of the training step takes, on all devices together.

    This is the home of the order of a batch's axes:

        images  uint8 [D, K, n, b, H, W, C]
        labels  int32 [D, K, n, b]

        D  devices; device d holds the examples d * b to (d + 1) * b of every global batch
        K  training steps in one dispatch, `steps_per_dispatch`
        n  global batches in one training step, `recipe.real_batches_per_step`: one for each D step, and G's if it
           looks at reals
        b  examples of a global batch on one device, `recipe.batch_size` / D

    Args:
      recipe: anything with `batch_size` (global) and `real_batches_per_step`, such as a `Recipe`.
      image_shape: H, W, C.
      num_devices: of all processes.

    Raises:
      ConfigError: the global batch cannot be divided among the devices.
    """
    right = f"must be a multiple of the {num_devices} devices"
    require(recipe.batch_size % num_devices == 0, "batch_size", recipe.batch_size, right)
    axes = (num_devices, steps_per_dispatch, recipe.real_batches_per_step, recipe.batch_size // num_devices)
    return {
        "images": jax.ShapeDtypeStruct((*axes, *image_shape), np.uint8),
        "labels": jax.ShapeDtypeStruct(axes, np.int32),
    }


def require_memory_of_batches(steps_per_dispatch: int, recipe, items: int, root: str = "config.") -> None:
    """Raises a ConfigError unless so many items of `Batches` fit into the memory of this machine.

    Args:
      root: of the setting that the error names.
    """
    images = steps_per_dispatch * recipe.real_batches_per_step * recipe.batch_size
    count = items * images * math.prod(recipe.image_shape) // jax.process_count()
    names = {"batch_size": recipe.batch_size, "steps_per_dispatch": steps_per_dispatch}
    key = max(names, key=names.get)
    require_memory(f"{root}{key}", names[key], count, "the batches of images")


class Batches:
    """Iterator over the batches of a training run, each made on a thread while the devices are at work.

    A training step takes the next `recipe.real_batches_per_step` global batches of the stream; a dispatch takes
    `steps_per_dispatch` steps. Each item is {"images": ..., "labels": ...} with the axes of `batch_spec`, on the
    devices. An exception on the thread is raised by `next` as it is.

    Args:
      dataset: any `Dataset`.
      recipe (Recipe): anything with `batch_size` (global), `real_batches_per_step`, `image_shape` and `num_classes`,
        such as a `Recipe`.
      devices: the `Devices` that the step runs on; of several processes each makes the share of its own devices.
        None: for a step without axes of devices and dispatch, such as `jax.jit(train_step)`; each item is then of one
        step, images uint8 [n, b, H, W, C] and labels int32 [n, b], on the default device.
      seed: what the order of the images depends on.
      first_step: the step to begin with, where a run is resumed.
      last_step: ends before this step; None: never ends.
      steps_per_dispatch: training steps in one item.
      depth: items made ahead.

    Raises:
      ConfigError: batch or steps cannot be divided, or images or classes are not those of the recipe.

    Example:
      batches = Batches(dataset, recipe, devices=None)
      state, metrics = jax.jit(train_step)(recipe, state, next(batches), key)
    """

    def __init__(
        self,
        dataset: Dataset,
        recipe,
        devices: Devices | None,
        *,
        seed: int = 0,
        first_step: int = 0,
        last_step: int | None = None,
        steps_per_dispatch: int = 1,
        depth: int = 2,
    ):
        require_members(dataset)
        right = "give a Recipe, such as recipe_from_config(config)"
        require(hasattr(recipe, "real_batches_per_step"), "recipe", type(recipe), right)
        right = f"must be that of the recipe, {recipe.image_shape}"
        require(tuple(dataset.image_shape) == recipe.image_shape, "dataset.image_shape", dataset.image_shape, right)
        same = recipe.num_classes in (0, dataset.num_classes)  # without classes, nets ignore the labels
        right = f"must be that of the recipe's nets, {recipe.num_classes}"
        require(same, "dataset.num_classes", dataset.num_classes, right)
        require_whole("steps_per_dispatch", steps_per_dispatch, 1)
        require_whole("first_step", first_step)
        require(is_whole(seed, -math.inf), "seed", seed, "must be a whole number")
        require_whole("depth", depth, 1)
        if devices is None:
            require(steps_per_dispatch == 1, "steps_per_dispatch", steps_per_dispatch, "must be 1 where devices=None")
        right = "give jaxgan.core.parallel.Devices(devices=[...]), as parallelize(recipe).devices is, or None"
        require(devices is None or hasattr(devices, "put_batch"), "devices", devices, right)
        num_devices = 1 if devices is None else len(devices.devices)
        self._axes = batch_spec(recipe, dataset.image_shape, num_devices, steps_per_dispatch)["labels"].shape
        if last_step is not None:
            require_whole("last_step", last_step, first_step)
            right = f"must divide the steps from {first_step} to {last_step}"
            require((last_step - first_step) % steps_per_dispatch == 0, "steps_per_dispatch", steps_per_dispatch, right)
        require_memory_of_batches(steps_per_dispatch, recipe, depth + 1, "")
        self._dataset, self._seed, self._devices = dataset, seed, devices
        steps = itertools.count(first_step, steps_per_dispatch)
        self._steps = steps if last_step is None else iter(range(first_step, last_step, steps_per_dispatch))
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead, self._closed = collections.deque(), False
        for _ in range(depth):
            self._submit()

    def _submit(self):
        step = next(self._steps, None)
        if step is not None:
            self._ahead.append(self._thread.submit(self._make, step))

    def _make(self, step: int):
        devices, steps, n, b = self._axes
        images_per_step = n * devices * b
        indices = np.empty((steps, images_per_step), np.int64)
        for i in range(steps):
            self._end_if_closed()
            start = (step + i) * images_per_step
            indices[i] = epoch_positions(self._seed, start, images_per_step, len(self._dataset))
        # Put the indices, not the images, into the final order: [K, n, D, b] -> [D, K, n, b].
        indices = indices.reshape(steps, n, devices, b).transpose(2, 0, 1, 3)
        indices = indices[0, 0] if self._devices is None else indices[self._devices.local_slots]
        images, labels = self._read(indices.ravel())
        batch = {
            "images": images.reshape(*indices.shape, *self._dataset.image_shape),
            "labels": np.asarray(labels, np.int32).reshape(indices.shape),
        }
        self._end_if_closed()
        return jax.device_put(batch) if self._devices is None else self._devices.put_batch(batch)

    def _read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels, read in parts so that a large batch can be given up."""
        if len(indices) <= READ_AT_ONCE:
            return read(self._dataset, indices)
        images = np.empty((len(indices), *self._dataset.image_shape), np.uint8)
        labels = np.empty(len(indices), np.int32)
        for start in range(0, len(indices), READ_AT_ONCE):
            self._end_if_closed()
            part = slice(start, start + READ_AT_ONCE)
            images[part], labels[part] = read(self._dataset, indices[part])
        return images, labels

    def _end_if_closed(self) -> None:
        if self._closed:
            raise concurrent.futures.CancelledError

    def __iter__(self):
        return self

    def __next__(self):
        if not self._ahead:
            raise StopIteration
        try:
            batch = self._ahead.popleft().result()
        except BaseException:
            self.close()  # the items already under way must not be taken for the one that failed
            raise
        self._submit()
        return batch

    def close(self):
        """Stops the thread, once it has read the images that it is reading, for which nobody waits."""
        self._closed = True
        self._steps = iter(())
        self._ahead.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)
