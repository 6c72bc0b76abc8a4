"""Curves that show what they are given."""

import numpy as np
import pytest
from PIL import Image

from jaxgan.training.panels import HeldOut, panels
from jaxgan.training.plots import curves, log_ticks

# matplotlib 3.10 calls pyparsing 3.3 by its old names.
pytestmark = pytest.mark.filterwarnings("ignore:'.*' deprecated - use:DeprecationWarning:matplotlib")


TRAINING = ("loss/d", "loss/g", "logits/real", "logits/fake", "acc/real", "acc/fake")


def history(count, names=TRAINING, level=0.0):
    noise = np.random.default_rng(0).normal(size=(count, len(names)))
    return [{"step": i, "kimg": 6.4 * (i + 1)} | dict(zip(names, level + noise[i], strict=True)) for i in range(count)]


def drawn(tmp_path, records):
    curves(records, tmp_path / "curves.png", title="test")
    return np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)


def near(picture, color):
    """Pixels drawn in a colour, which thin lines blend a little with the ground."""
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return np.abs(picture - rgb).max(axis=-1) < 12


@pytest.mark.parametrize("count", [2, 3000])
def test_curves_show_every_series(tmp_path, count):
    picture = drawn(tmp_path, history(count))
    for color in ("#0072B2", "#D55E00", "#009E73", "#AA4499"):  # D, G, real, fake
        assert near(picture, color).sum() > 100  # more than the legend alone
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_curves_have_panels_only_for_what_there_is(tmp_path):
    three = drawn(tmp_path, history(30))
    more = history(30, (*TRAINING, "eval/modes", "perf/images_per_second"))
    assert drawn(tmp_path, more).shape[0] > three.shape[0] or drawn(tmp_path, more).shape[1] > three.shape[1]
    assert drawn(tmp_path, history(30, (*TRAINING, "penalty/anyone's"))).size > three.size
    curves([{"step": 1, "kimg": 1.0, "lr/g": 0.1}], tmp_path / "none.png", title="nothing to show")
    assert not (tmp_path / "none.png").exists()


def test_rates_and_strength_have_a_panel_where_they_change(tmp_path):
    plain = history(30)
    constant = [record | {"lr/d": 1e-4, "lr/g": 1e-4} for record in plain]
    falling = [record | {"lr/d": 1e-4 / (i + 1)} for i, record in enumerate(constant)]
    adaptive = [record | {"ada/p": 0.01 * i} for i, record in enumerate(falling)]
    sizes = [drawn(tmp_path, records).size for records in (plain, constant, falling, adaptive)]
    assert sizes[0] == sizes[1] < sizes[2] <= sizes[3]
    together = [record | {"lr/g": record["lr/d"]} for record in falling]
    (rates,) = [series for panel, series in panels(together) if panel.title == "Learning rates"]
    assert rates.keys() == {"lr/d"}


def test_a_relativistic_discriminator_has_one_accuracy(tmp_path):
    records = history(30, ("acc/real",), level=0.5)
    both = [record | {"acc/fake": record["acc/real"]} for record in records]
    assert near(drawn(tmp_path, both), "#009E73").sum() > 100
    assert not near(drawn(tmp_path, both), "#AA4499").any()


def test_an_axis_ends_where_the_score_ends(tmp_path):
    """The level part of the line, at 1,000 modes, is at the upper edge; without a bound a margin would be above it."""

    def top(name, scale):
        values = [scale * min(0.9 + 0.02 * i, 1.0) for i in range(30)]
        records = [{"step": i, "kimg": float(i), name: value} for i, value in enumerate(values)]
        return np.flatnonzero(near(drawn(tmp_path, records), "#222222").sum(axis=1) > 100).min()

    assert top("eval/modes", 1000.0) + 5 <= top("eval/is_cifar", 10.0)  # which has no upper bound


@pytest.mark.parametrize(("name", "best"), [("eval/modes", 1000.0), ("eval/fid", 2.0)])
def test_what_held_out_reals_reach_is_a_line_within_the_panel(tmp_path, name, best):
    records = [{"step": i, "kimg": float(i), name: 300.0 + 10.0 * i} for i in range(30)]
    found = []
    for scores in ({"eval/kl": best}, {name: best}):
        held_out = HeldOut(scores, {"held_out": {"images": 1000}})
        curves(records, tmp_path / "curves.png", title="test", held_out=held_out)
        picture = np.asarray(Image.open(tmp_path / "curves.png").convert("L"))
        found.append(((picture < 190).sum(axis=1) > 150).sum())  # rows that are ink for half the width of the panel
    assert found[0] < found[1] <= found[0] + 2


@pytest.mark.parametrize("width", [1.02, 1.5, 3.0, 9.0, 40.0, 1e3, 1e9, 1e40])
@pytest.mark.parametrize("low", [1.3e-6, 0.012, 1.0, 7.9, 2e4])
def test_a_logarithmic_axis_has_at_least_three_ticks(low, width):
    ticks = log_ticks(low, low * width)
    assert 3 <= len(ticks) <= 9
    assert ((low <= ticks) & (ticks <= low * width)).all()
    assert len({f"{tick:g}" for tick in ticks}) == len(ticks)


def test_curves_rise_from_left_to_right(tmp_path):
    records = [{"step": i, "kimg": float(i), "eval/modes": 10.0 * i} for i in range(1, 100)]
    picture = drawn(tmp_path, records)
    rows, columns = np.nonzero(near(picture, "#222222"))
    inside = (columns > 80) & (rows > 90) & (rows < 260)  # the panel, without title, labels and ticks
    rows, columns = rows[inside], columns[inside]
    left, right = np.quantile(columns, [0.2, 0.8])
    assert rows[columns <= left].mean() > rows[columns >= right].mean() + 50


def test_curves_bear_gaps_zeros_and_what_is_not_finite(tmp_path):
    records = history(60, ("norm/grad_g", "norm/grad_d"), level=5.0)
    for i, record in enumerate(records):
        record["penalty/r1"] = 0.0  # nothing positive for a logarithmic axis
        record["norm/grad_g"] = 0.0 if i > 30 else 10.0 ** (8 - i)
        if i % 7 == 0:
            record |= {"norm/grad_d": np.nan, "eval/fid": np.inf}
    assert drawn(tmp_path, records).std() > 0
    assert drawn(tmp_path, records[:1]).std() > 0


def test_curves_do_not_flatten_for_a_spike(tmp_path):
    records = history(1000, ("loss/d",))
    calm = drawn(tmp_path, records)
    records[500]["loss/d"] = 1e6
    spiked = drawn(tmp_path, records)
    assert near(spiked, "#0072B2").any(axis=1).sum() > 0.3 * near(calm, "#0072B2").any(axis=1).sum()
