"""The order of images, and batches that depend on (seed, step) only."""

import itertools
import threading
import time

import numpy as np
import pytest

from jaxgan import data
from jaxgan.data import epoch_positions

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


class Counting:
    """Image i is the number i in each of its bytes; its label is i."""

    num_classes = 0
    image_shape = (2, 2, 1)

    def __init__(self, n=100):
        self.n, self.delay, self.fail_at, self.calls = n, 0.0, None, 0

    def __len__(self):
        return self.n

    def get(self, indices):
        self.calls += 1
        if self.calls == self.fail_at:
            raise FileNotFoundError("the disk is gone")
        time.sleep(self.delay)
        return np.broadcast_to(indices[:, None, None, None], (len(indices), 2, 2, 1)).astype(np.uint8), indices


def batches(dataset=None, **changes):
    settings = dict(
        seed=0, per_step=(2, 8), steps_per_call=1, first_step=0, last_step=12, device_slots=range(4), num_devices=4
    )
    return data.Batches(dataset or Counting(), **{**settings, "put": lambda batch: batch, **changes})


def labels(**changes):
    """Labels of all steps in the order of the stream, [step, n, global batch] (of the slots asked for)."""
    calls = [batch["labels"] for batch in batches(**changes)]  # [D, K, n, b] each
    steps = np.concatenate(calls, axis=1).transpose(1, 2, 0, 3)
    return steps.reshape(*steps.shape[:2], -1)


def test_batches_are_the_stream_in_order():
    first = next(batches(steps_per_call=3))
    assert first["images"].shape == (4, 3, 2, 2, 2, 2, 1)
    assert first["images"].dtype == np.uint8
    assert first["labels"].shape == (4, 3, 2, 2)
    assert np.array_equal(first["images"][..., 0, 0, 0], first["labels"])
    assert np.array_equal(labels().ravel(), epoch_positions(0, 0, 12 * 16, 100))
    device_2 = first["labels"][2]  # holds examples 4 and 5 of each global batch of 8
    assert np.array_equal(device_2.ravel(), epoch_positions(0, 0, 48, 100).reshape(6, 8)[:, 4:6].ravel())


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("num_devices", [4, 8])
def test_processes_share_one_batch(processes, num_devices):
    each = num_devices // processes
    slots = [range(p * each, (p + 1) * each) for p in range(processes)]
    union = np.concatenate([labels(device_slots=s, num_devices=num_devices) for s in slots], axis=-1)
    assert np.array_equal(union, labels(device_slots=range(1), num_devices=1))


@pytest.mark.parametrize(("steps_per_call", "first_step"), [(1, 0), (1, 5), (4, 0), (4, 8), (3, 9)])
def test_resumed_and_larger_calls_see_the_same_batches(steps_per_call, first_step):
    resumed = labels(steps_per_call=steps_per_call, first_step=first_step)
    assert np.array_equal(resumed, labels()[first_step:])


def test_nothing_is_left_of_a_finished_run():
    assert list(batches(first_step=12)) == []


def test_two_calls_ahead_and_no_further():
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


def test_put_is_called_on_the_thread():
    seen = []

    def put(batch):
        seen.append(threading.current_thread())
        return batch["labels"].sum()

    assert [int(x) for x in batches(put=put)] == labels().sum(axis=(1, 2)).tolist()
    assert threading.current_thread() not in seen


def test_an_exception_keeps_its_type_and_stops_the_iterator():
    dataset = Counting()
    dataset.fail_at = 3
    iterator = batches(dataset)
    next(iterator)
    next(iterator)
    with pytest.raises(FileNotFoundError, match="the disk is gone"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def test_close_is_prompt_and_ends_the_thread():
    dataset = Counting()
    dataset.delay = 0.1
    before = set(threading.enumerate())
    iterator = batches(dataset, last_step=1000, depth=30)
    begin = time.monotonic()
    iterator.close()
    assert time.monotonic() - begin < 1.5  # the call under way, not the 29 behind it
    assert not set(threading.enumerate()) - before
    assert list(iterator) == []


def test_impossible_divisions_are_refused():
    with pytest.raises(ValueError, match="8 cannot be divided among 3"):
        batches(num_devices=3)
    with pytest.raises(ValueError, match="0 to 12 are not whole calls of 5"):
        batches(steps_per_call=5)
