"""The order of images, and batches that depend on (seed, step) only."""

import itertools
import threading
import time
import types

import jax
import numpy as np
import pytest

from jaxgan.core.errors import ConfigError
from jaxgan.data import ArrayDataset, Batches, batch_spec, epoch_positions

# ---- Order


def test_every_image_once_an_epoch():
    stream = epoch_positions(seed=3, start=0, count=3 * 101, n=101).reshape(3, 101)
    assert all(np.array_equal(np.sort(epoch), np.arange(101)) for epoch in stream)
    assert not np.array_equal(stream[0], stream[1])
    assert not np.array_equal(stream[0], epoch_positions(seed=4, start=0, count=101, n=101))


def test_positions_are_slices_of_one_stream():
    stream = epoch_positions(seed=5, start=0, count=100, n=7)
    for start, count in itertools.product(range(30), (1, 6, 7, 8, 30)):
        assert np.array_equal(epoch_positions(5, start, count, 7), stream[start : start + count])


def test_order_never_changes():
    """Otherwise a resumed run would see other batches than it would have seen."""
    assert epoch_positions(0, 0, 8, 10).tolist() == [0, 2, 9, 1, 8, 5, 4, 3]
    assert epoch_positions(1, 6, 8, 10).tolist() == [8, 6, 1, 4, 0, 6, 5, 3]
    assert epoch_positions(-3, 0, 4, 10).tolist() == [0, 2, 5, 3]


# ---- Batches

RECIPE = types.SimpleNamespace(batch_size=8, real_batches_per_step=2, image_shape=(2, 2, 1), num_classes=0)


def share(slots, num_devices, put=lambda batch: batch):
    """Returns the devices of one process, whose batches stay on the host."""
    return types.SimpleNamespace(local_slots=slots, devices=range(num_devices), put_batch=put)


class Counting:
    """Image i is the number i in each of its bytes; its label is i."""

    num_classes, image_shape = 100, (2, 2, 1)
    labels = np.arange(100, dtype=np.int32)

    def __init__(self, delay=0.0, fail_at=None):
        self.delay, self.fail_at, self.calls = delay, fail_at, 0

    def __len__(self):
        return 100

    def get(self, indices):
        self.calls += 1
        if self.calls == self.fail_at:
            raise FileNotFoundError("the disk is gone")
        time.sleep(self.delay)
        return np.broadcast_to(indices[:, None, None, None], (len(indices), 2, 2, 1)).astype(np.uint8), indices


def batches(dataset=None, *, slots=range(4), num_devices=4, last_step=12, **options):
    devices = share(slots, num_devices)
    return Batches(dataset or Counting(), RECIPE, devices, **{"last_step": last_step, **options})


def stream_of_labels(**options):
    """Returns the labels of all steps in the order of the stream, [step, n, global batch] (of the slots asked for)."""
    dispatches = [batch["labels"] for batch in batches(**options)]  # [D, K, n, b] each
    steps = np.concatenate(dispatches, axis=1).transpose(1, 2, 0, 3)
    return steps.reshape(*steps.shape[:2], -1)


def test_batches_are_the_stream_in_order():
    first = next(batches(steps_per_dispatch=3))
    assert first["images"].shape == (4, 3, 2, 2, 2, 2, 1)
    assert np.array_equal(first["images"][..., 0, 0, 0], first["labels"])
    assert np.array_equal(stream_of_labels().ravel(), epoch_positions(0, 0, 12 * 16, 100))
    device_2 = first["labels"][2]  # holds examples 4 and 5 of each global batch of 8
    assert np.array_equal(device_2.ravel(), epoch_positions(0, 0, 48, 100).reshape(6, 8)[:, 4:6].ravel())


def test_batches_are_what_their_spec_says():
    spec = batch_spec(RECIPE, Counting.image_shape, num_devices=4, steps_per_dispatch=3)
    batch = next(batches(steps_per_dispatch=3))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), batch) == jax.tree.map(lambda x: (x.shape, x.dtype), spec)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("num_devices", [4, 8])
def test_processes_share_one_batch(processes, num_devices):
    each = num_devices // processes
    slots = [range(p * each, (p + 1) * each) for p in range(processes)]
    union = np.concatenate([stream_of_labels(slots=s, num_devices=num_devices) for s in slots], axis=-1)
    assert np.array_equal(union, stream_of_labels(slots=range(1), num_devices=1))


@pytest.mark.parametrize(("steps_per_dispatch", "first_step"), [(1, 0), (1, 5), (4, 0), (4, 8), (3, 9)])
def test_resumed_and_larger_dispatches_see_the_same_batches(steps_per_dispatch, first_step):
    resumed = stream_of_labels(steps_per_dispatch=steps_per_dispatch, first_step=first_step)
    assert np.array_equal(resumed, stream_of_labels()[first_step:])


def test_without_devices_an_item_is_one_step():
    rng = np.random.default_rng(0)
    dataset = ArrayDataset(rng.integers(0, 256, (20, 2, 2, 1), np.uint8), np.arange(20))
    endless = Batches(dataset, RECIPE, None, seed=1)
    for step in range(3):
        batch = next(endless)
        indices = epoch_positions(1, step * 16, 16, 20).reshape(2, 8)
        assert all(isinstance(x, jax.Array) for x in batch.values())
        assert np.array_equal(batch["images"], dataset.images[indices])
        assert np.array_equal(batch["labels"], indices)
    endless.close()


def test_nothing_is_left_of_a_finished_run():
    assert list(batches(first_step=12)) == []


def test_two_items_ahead_and_no_further():
    dataset = Counting()
    iterator = batches(dataset, depth=2)
    for expected in (2, 3, 4):
        deadline = time.monotonic() + 10
        while dataset.calls < expected and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)  # enough for a call that should not be made
        assert dataset.calls == expected
        next(iterator)
    iterator.close()


def test_batches_are_put_on_the_devices_by_the_thread():
    seen = []

    def put(batch):
        seen.append(threading.current_thread())
        return batch["labels"].sum()

    sums = Batches(Counting(), RECIPE, share(range(4), 4, put), last_step=12)
    assert [int(x) for x in sums] == stream_of_labels().sum(axis=(1, 2)).tolist()
    assert threading.current_thread() not in seen


def test_an_exception_names_the_data_set_and_stops_the_iterator():
    iterator = batches(Counting(fail_at=3))
    next(iterator)
    next(iterator)
    with pytest.raises(
        OSError, match=r"^dataset=Counting: get\(\[32, .*\]\) raises FileNotFoundError: the disk is gone$"
    ):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


@pytest.mark.parametrize(("delay", "options"), [(0.1, {"depth": 30}), (0.0, {"steps_per_dispatch": 2_000_000})])
def test_close_is_prompt_and_ends_the_thread(delay, options):
    before = set(threading.enumerate())
    iterator = batches(Counting(delay), last_step=None, **options)
    time.sleep(0.1)
    begin = time.monotonic()
    iterator.close()
    assert time.monotonic() - begin < 0.1  # nobody waits for it
    for thread in set(threading.enumerate()) - before:
        thread.join(1.5)  # the item under way, not the 29 behind it
        assert not thread.is_alive()
    assert list(iterator) == []


def test_batches_that_memory_does_not_hold():
    words = r"^steps_per_dispatch=1000000000000: the batches of images take 175 TiB of memory"
    with pytest.raises(ConfigError, match=words):
        batches(last_step=None, steps_per_dispatch=10**12)


def test_impossible_divisions_are_refused():
    with pytest.raises(ConfigError, match="batch_size=8: must be a multiple of the 3 devices"):
        batches(num_devices=3)
    with pytest.raises(ConfigError, match="steps_per_dispatch=5: must divide the steps from 0 to 12"):
        batches(steps_per_dispatch=5)
    with pytest.raises(ConfigError, match=r"devices=\[.*\]: give jaxgan\.core\.parallel\.Devices"):
        Batches(Counting(), RECIPE, jax.devices())
    with pytest.raises(ConfigError, match="steps_per_dispatch=2: must be 1 where devices=None"):
        Batches(Counting(), RECIPE, None, steps_per_dispatch=2)


def test_a_large_batch_is_given_up_when_the_run_stops():
    class Slow:
        image_shape, num_classes, labels = (8, 8, 3), 0, np.zeros(40, np.int32)
        reads = 0

        def __len__(self):
            return 40

        def get(self, indices):
            self.reads += 1
            time.sleep(0.05)
            return np.zeros((len(indices), 8, 8, 3), np.uint8), np.zeros(len(indices), np.int32)

    recipe = dict(batch_size=1024 * 100, real_batches_per_step=1, image_shape=Slow.image_shape, num_classes=0)
    dataset = Slow()
    Batches(dataset, types.SimpleNamespace(**recipe), None).close()
    assert dataset.reads <= 2


def of(**changes):
    return types.SimpleNamespace(**(vars(RECIPE) | changes))


@pytest.mark.parametrize(
    ("dataset", "recipe", "options", "words"),
    [
        (np.zeros((9, 2, 2, 1), np.uint8), RECIPE, {}, r"^dataset=ndarray: lacks get, labels, image_shape"),
        (Counting(), {}, {}, r"^recipe=<class 'dict'>: give a Recipe"),
        (Counting(), of(image_shape=(4, 4, 1)), {}, r"^dataset\.image_shape=\(2, 2, 1\): must be that of the recipe"),
        (Counting(), of(num_classes=2), {}, r"^dataset\.num_classes=100: must be that of the recipe's nets, 2$"),
        (Counting(), RECIPE, {"seed": "a"}, r"^seed='a': must be a whole number"),
        (Counting(), RECIPE, {"last_step": "3"}, r"^last_step='3': must be a whole number, 0 or above"),
        (Counting(), RECIPE, {"last_step": -3}, r"^last_step=-3: must be a whole number, 0 or above"),
        (Counting(), RECIPE, {"first_step": 5, "last_step": 3}, r"^last_step=3: must be a whole number, 5 or above"),
    ],
)
def test_what_makes_no_batches(dataset, recipe, options, words):
    with pytest.raises(ConfigError, match=words):
        Batches(dataset, recipe, None, **options)
