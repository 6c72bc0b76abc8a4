"""The order of the images, and the batches made of them.

The order depends on the seed alone, one permutation an epoch, and a batch on its step, so that there is no
position to save: a resumed run, or one with another number of processes or devices, sees exactly the
batches it would have seen.
"""

import collections
import concurrent.futures
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np


class Dataset(Protocol):
    """Images that any number of threads may read in any order."""

    num_classes: int  # 0: unlabelled
    image_shape: tuple[int, int, int]  # H, W, C
    labels: np.ndarray  # int32 [N], zeros where unlabelled

    def __len__(self) -> int: ...

    def get(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fresh arrays: images uint8 [n, H, W, C] and labels int32 [n] (zeros where unlabelled)."""


@functools.lru_cache(maxsize=2)  # a batch touches two epochs at most, unless the set is tiny
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """A permutation of range(n). Sorts raw bits, whose stream numpy guarantees, unlike that of `permutation`."""
    bits = np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64)).random_raw(n)
    order = np.argsort(bits, kind="stable")
    order.setflags(write=False)
    return order


def epoch_positions(seed: int, start: int, count: int, n: int) -> np.ndarray:
    """Indices into a set of `n` images at the positions [start, start + count) of an endless stream, [count].

    Epoch e is positions e * n to (e + 1) * n: every image once, in an order given by (seed, e).
    """
    stop = start + count
    epochs = range(start // n, -(-stop // n))
    return np.concatenate([_permutation(seed, e, n)[max(start - e * n, 0) : stop - e * n] for e in epochs])


class Batches:
    """Iterator over what each call of the update step needs, made `depth` calls ahead on a thread.

    Step s takes the next `n` global batches of `global_batch` images, where (n, global_batch) = `per_step`;
    a call takes `steps_per_call` = K steps, from `first_step` up to, not including, `last_step`. Each item
    is {"images": uint8 [D, K, n, b, H, W, C], "labels": int32 [D, K, n, b]} after `put` (host pytree ->
    device pytree, called on the thread). D counts this process's `device_slots` out of `num_devices`: the
    device of slot d holds examples d * b to (d + 1) * b of every global batch, b = global_batch / num_devices.

    The arrays given to `put` are fresh in every call, so it may keep them without a copy. An exception on
    the thread is raised by `next` as it is.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        per_step: tuple[int, int],
        steps_per_call: int,
        first_step: int,
        last_step: int,
        device_slots: Sequence[int],
        num_devices: int,
        put: Callable[[dict[str, np.ndarray]], Any],
        depth: int = 2,
    ):
        if per_step[1] % num_devices:
            raise ValueError(f"a global batch of {per_step[1]} cannot be divided among {num_devices} devices")
        if (last_step - first_step) % steps_per_call:
            raise ValueError(f"steps {first_step} to {last_step} are not whole calls of {steps_per_call} steps")
        self._dataset, self._seed, self._put = dataset, seed, put
        self._per_step, self._steps_per_call = per_step, steps_per_call
        self._slots, self._num_devices = list(device_slots), num_devices
        self._calls = iter(range(first_step, last_step, steps_per_call))
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead = collections.deque()
        for _ in range(depth):
            self._submit()

    def _submit(self):
        step = next(self._calls, None)
        if step is not None:
            self._ahead.append(self._thread.submit(self._make, step))

    def _make(self, step: int):
        steps, (n, global_batch) = self._steps_per_call, self._per_step
        a_step = n * global_batch
        indices = epoch_positions(self._seed, step * a_step, steps * a_step, len(self._dataset))
        # Put the indices, not the images, into the final order: [K, n, device, b] -> [D, K, n, b].
        indices = indices.reshape(steps, n, self._num_devices, -1)[:, :, self._slots].transpose(2, 0, 1, 3)
        images, labels = self._dataset.get(indices.ravel())
        images = images.reshape(*indices.shape, *self._dataset.image_shape)
        return self._put({"images": images, "labels": labels.reshape(indices.shape)})

    def __iter__(self):
        return self

    def __next__(self):
        if not self._ahead:
            raise StopIteration
        try:
            batch = self._ahead.popleft().result()
        except BaseException:
            self.close()  # the calls already under way must not be taken for the one that failed
            raise
        self._submit()
        return batch

    def close(self):
        """Stop the thread; returns when the batch it is making is done."""
        self._calls = iter(())
        self._ahead.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)
