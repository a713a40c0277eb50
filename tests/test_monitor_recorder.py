"""The Recorder: ratios as NumPy has them, bounded memory, the line, pictures, files."""

import copy
import io
import math
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from nnfast import nn
from nnfast.monitor import Recorder, live
from nnfast.monitor import history as histories
from nnfast.monitor.live import Line
from test_monitor import digits, small


def trained(rec: Recorder, opt: nf.optim.SGD, steps: int = 3) -> None:
    """A few steps on the digits."""
    net, (x, labels) = rec.net, digits()
    for k in range(steps):
        rows = slice(32 * k, 32 * k + 32)
        loss, dz = nf.softmax_cross_entropy(net.forward(x[rows], training=True), labels[rows])
        net.backward(dz)
        rec.step(loss, opt.step(net.grads, stats=True))


# ---- steps and epochs ----


@pytest.mark.parametrize("known", [True, False])
def test_ratios_are_those_of_numpy(known: bool) -> None:
    net = small()
    # In another order than the network's, so that names go by arrays.
    params = net.params[::-1]
    opt = nf.optim.Adam(params, lr=1e-2)
    rec = Recorder(net if known else None, opt)
    x, labels = digits()
    expected, norms, losses = [], [], []
    for k in range(4):
        loss, dz = nf.softmax_cross_entropy(net.forward(x[k::50], training=True), labels[k::50])
        net.backward(dz)
        before = [p.astype(np.float64) for p in params]
        rec.step(loss, opt.step(net.grads[::-1], stats=True))
        norm = np.linalg.norm
        expected.append(
            [norm(p - b) / norm(p.astype(np.float64)) for p, b in zip(params, before, strict=True)]
        )
        norms.append([norm(grad.astype(np.float64)) for grad in net.grads[::-1]])
        losses.append(loss)
    np.testing.assert_allclose(rec.update_ratios, expected, rtol=1e-5)
    np.testing.assert_allclose(rec.grad_norms, norms, rtol=1e-6)
    np.testing.assert_array_equal(rec.losses, losses)
    np.testing.assert_array_equal(rec.stats_steps, [1, 2, 3, 4])
    names = ("2.bias", "2.weight", "0.bias", "0.weight") if known else ("0", "1", "2", "3")
    assert rec.param_names == names


def test_names_of_parameters() -> None:
    net = small()
    assert Recorder(net).param_names == ("0.weight", "0.bias", "2.weight", "2.bias")
    named = nf.optim.SGD({"w": np.ones(2), "v": np.ones(2)})
    assert Recorder(None, named).param_names == ("w", "v")
    rec = Recorder()
    assert rec.param_names == ()
    rec.step(1.0, named.step({"w": np.ones(2), "v": np.ones(2)}, stats=True))
    assert rec.param_names == ("0", "1")


@pytest.mark.parametrize(("bad", "worse"), [(np.nan, np.inf), (np.inf, np.nan)])
def test_a_step_tells_of_gradients(bad: float, worse: float) -> None:
    net = small()
    opt = nf.optim.SGD(net.params, skip_nonfinite=True)
    rec = Recorder(net, opt)
    trained(rec, opt)
    assert rec.first_nonfinite is None
    grads = [np.zeros_like(param) for param in net.params]
    grads[0][0, 0], grads[1][0] = bad, worse
    rec.step(1.0, opt.step(grads, stats=True))
    place = rec.first_nonfinite
    assert (place.step, place.where, place.name) == (4, "gradient", "0.bias")
    assert np.isnan(rec.update_ratios[3]).all()
    # What comes later is not the first.
    rec.step(math.inf)
    assert rec.look(np.full((2, 64), bad)).first_nonfinite.step == 5
    assert rec.first_nonfinite == place


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_step_tells_of_losses(loss: float) -> None:
    rec = Recorder()
    rec.step(1.0)
    rec.step(loss)
    assert (rec.first_nonfinite.step, rec.first_nonfinite.where) == (2, "loss")


def test_stats_may_be_of_some_steps() -> None:
    rec, opt = Recorder(), nf.optim.SGD([np.ones(3)])
    for k in range(1, 11):
        rec.step(1 / k, opt.step([np.ones(3)], stats=k % 5 == 0))
    assert rec.step_count == 10
    np.testing.assert_array_equal(rec.stats_steps, [5, 10])
    assert rec.update_ratios.shape == rec.grad_norms.shape == (2, 1)


def test_epochs_by_name() -> None:
    rec = Recorder()
    rec.epoch(train_accuracy=0.5)
    rec.step(2.0)
    rec.step(1.0)
    rec.epoch(train_accuracy=np.float32(0.75), validation_accuracy=0.5, self=3)
    rec.epoch(validation_accuracy=0.25)
    nan = math.nan
    assert list(rec.epochs) == ["train_accuracy", "validation_accuracy", "self"]
    np.testing.assert_array_equal(rec.epochs["train_accuracy"], [0.5, 0.75, nan])
    np.testing.assert_array_equal(rec.epochs["validation_accuracy"], [nan, 0.5, 0.25])
    np.testing.assert_array_equal(rec.epochs["self"], [nan, 3, nan])
    np.testing.assert_array_equal(rec.gap("accuracy"), [nan, 0.25, nan])
    np.testing.assert_array_equal(rec.epoch_steps, [0, 2, 2])


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "MOST_ROWS", 8)
    rec, params = Recorder(), [np.ones(100) for _ in range(5)]
    opt = nf.optim.SGD(params, lr=1e-3)
    for k in range(1, 101):
        rec.step(0.0, opt.step([p * k for p in params], stats=True))
        assert len(rec.stats_steps) <= 8
    # Rows are evenly spaced, and those of the steps they say.
    np.testing.assert_array_equal(rec.stats_steps, [1, 17, 33, 49, 65, 81, 97])
    expected = [opt_norm(k) for k in rec.stats_steps]
    np.testing.assert_allclose(rec.grad_norms[:, 0], expected, rtol=1e-9)


def opt_norm(k: int) -> float:
    """Of the gradient k p of 100 parameters that begin with 1 and lose 1e-3 of it at each step."""
    return 10 * k * math.prod(1 - 1e-3 * j for j in range(1, k))


def test_a_loss_takes_eight_bytes() -> None:
    rec = Recorder()
    rec.step(0.0)
    tracemalloc.start()
    try:
        for _ in range(100_000):
            rec.step(1.0)
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 1.3e6  # with what an array has in reserve


# ---- the line ----


class Clock:
    """One that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(live, "monotonic", clock)
    return clock


def test_the_line_says_what_is_going_on(clock: Clock) -> None:
    stream, net = io.StringIO(), small()
    opt = nf.optim.SGD(net.params, lr=0.1)
    with Recorder(net, opt, live=True, stream=stream) as rec:
        trained(rec, opt, 1)
        weights = rec.update_ratios[0, [0, 2]]
        assert stream.getvalue() == (
            f"\rstep 1  loss {rec.losses[0]:.4g}  update/weight {np.median(weights):.1e}"
        )
        rec.step(3.0)
        rec.step(5.0)
        assert stream.getvalue().count("\r") == 1  # not yet
        clock.now += 1
        rec.epoch(train_accuracy=0.98765, lr=0.1)
        last = stream.getvalue().rpartition("\r")[2]
        assert last.startswith("step 3  loss 4  update/weight")
        assert last.rstrip().endswith("epoch 1  train_accuracy 0.9877  lr 0.1")
        clock.now += 1
        rec.step(7.0)
        assert "step 4  loss 7  " in stream.getvalue()
        clock.now += 1
        rec.epoch(lr=math.nan)
        assert stream.getvalue().rstrip().endswith("  epoch 2  lr nan")
    assert stream.getvalue().endswith("\n")
    assert stream.getvalue().count("\n") == 1


def test_the_line_covers_the_last_one(clock: Clock) -> None:
    stream = io.StringIO()
    line = Line(stream, True)
    line.write("a long text")
    line.write("short")
    line.write("text", end="\n")
    line.write("ab")
    assert stream.getvalue() == "\ra long text\rshort      \rtext \n\rab"


def test_nan_is_told_at_once(clock: Clock) -> None:
    stream = io.StringIO()
    rec = Recorder(live=True, stream=stream)
    rec.step(1.0)
    rec.step(math.nan)
    rec.step(math.nan)
    assert stream.getvalue().count("not finite") == 1
    assert stream.getvalue().endswith("\rstep 2: not finite: loss\n")
    clock.now += 1
    rec.step(math.nan)
    assert stream.getvalue().rpartition("\r")[2].startswith("step 4  loss nan")


def test_after_loading_the_line_tells_of_what_is_new(clock: Clock, tmp_path: Path) -> None:
    rec, stream = Recorder(), io.StringIO()
    rec.step(9.0)
    rec.step(7.0)
    rec.save(tmp_path / "run.npz")
    rec = Recorder(live=True, stream=stream)
    rec.step(5.0, nf.optim.SGD([np.ones(2)]).step([np.ones(2)], stats=True))
    rec.load(tmp_path / "run.npz")
    rec.close()
    clock.now += 1
    rec.step(1.0)
    lines = [line.rstrip() for line in stream.getvalue().split("\r")]
    assert lines[-2:] == ["step 2  loss 7", "step 3  loss 1"]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("live", [None, True, False])
def test_the_line_is_for_terminals(
    terminal: bool, live: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with Recorder(live=live) as rec:
        rec.step(1.0)
        rec.epoch(accuracy=1.0)
        rec.step(math.nan)
    assert bool(stream.getvalue()) == (terminal if live is None else live)


@pytest.mark.parametrize("expected", [None, True])
def test_without_a_console_there_is_no_line(
    expected: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Recorder(live=expected) as rec:
        rec.step(1.0)
    assert rec.step_count == 1


@pytest.mark.parametrize(("columns", "shown"), [(10, "abcdefghi"), (0, "abcdefghijkl")])
def test_the_line_is_cut_where_the_terminal_ends(
    columns: int, shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    size = lambda fd=1: os.terminal_size((columns, 24))  # noqa: E731
    monkeypatch.setattr("os.get_terminal_size", size)
    with open(tmp_path / "terminal", "w+", newline="") as stream:
        Line(stream, True).write("abcdefghijkl")
        stream.seek(0)
        assert stream.read() == f"\r{shown}"


# ---- pictures ----


def recorded(looks: int = 2) -> Recorder:
    net = small()
    opt = nf.optim.Adam(net.params, lr=1e-2)
    rec, (x, labels) = Recorder(net, opt), digits()
    for k in range(looks):
        rec.look(x[:100], labels[:100])
        trained(rec, opt, 30)
        rec.epoch(train_accuracy=0.5 + k / 10, validation_accuracy=0.4, validation_loss=0.5, lr=0.1)
    return rec


def colours(picture: Any) -> int:
    """How many there are in it: a blank page has one."""
    from PIL import Image

    with Image.open(picture) as image:
        assert min(image.size) > 100
        return len(image.convert("RGB").getcolors(1 << 20))


def test_pictures_are_drawn_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # of another test
    rec = recorded()
    for name, draw in {"curves": rec.save_picture, "bars": rec.save_histograms}.items():
        path = tmp_path / f"{name}.png"
        draw(path)
        assert colours(path) > 20
        draw(buffer := io.BytesIO())
        assert colours(buffer) > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.png", "curves.png"]
    assert "matplotlib.pyplot" not in sys.modules


def panels(rec: Recorder) -> dict[str, Any]:
    figure = nf.monitor.pictures.curves(rec._history)
    return {ax.get_title(): ax for ax in figure.axes if ax.get_title()}


def lines(ax: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in ax.lines}


def test_data_of_the_curves() -> None:
    rec = recorded()
    found = panels(rec)
    assert list(found) == [
        "loss",
        "accuracy",
        "lr",
        "norm of update / norm of weight",
        "deviation of activations",
        "norm of gradients with respect to activations",
        "dead units, saturated elements",
    ]
    loss = lines(found["loss"])
    np.testing.assert_array_equal(loss["steps"].get_ydata(), rec.losses)
    np.testing.assert_array_equal(loss["steps"].get_xdata(), np.arange(1, 61))
    assert loss["average"].get_ydata().mean() == pytest.approx(rec.losses.mean(), rel=0.05)
    np.testing.assert_array_equal(loss["validation_loss"].get_xdata(), [30, 60])
    assert found["loss"].get_yscale() == "log"
    accuracy = lines(found["accuracy"])
    np.testing.assert_array_equal(accuracy["train_accuracy"].get_ydata(), [0.5, 0.6])
    assert "gap 0.2" in [text.get_text() for text in found["accuracy"].get_legend().texts]
    ratios = lines(found["norm of update / norm of weight"])
    np.testing.assert_array_equal(ratios["0.weight"].get_ydata(), rec.update_ratios[:, 0])
    assert {"0.weight", "2.weight"} < set(ratios)
    assert not {"0.bias", "2.bias"} & set(ratios)
    assert any(set(line.get_ydata()) == {1e-3} for line in ratios.values())
    deviations = lines(found["deviation of activations"])
    expected = [[layer.activation.std for layer in seen.layers] for seen in rec.looks]
    np.testing.assert_array_equal(deviations["step 0"].get_ydata(), expected[0])
    np.testing.assert_array_equal(deviations["step 30"].get_ydata(), expected[1])
    gradients = lines(found["norm of gradients with respect to activations"])["step 30"].get_ydata()
    np.testing.assert_array_equal(gradients, [seen.gradient.norm for seen in rec.looks[1].layers])
    dead = found["dead units, saturated elements"].containers[0]
    assert [bar.get_height() for bar in dead] == [seen.dead for seen in rec.looks[1].layers]


def test_data_of_the_histograms() -> None:
    rec = recorded()
    figure = nf.monitor.pictures.histograms(rec._history)
    drawn = [ax.patches[0].get_data() for ax in figure.axes]
    seen = [part for layer in rec.looks[-1].layers for part in (layer.activation, layer.gradient)]
    for (counts, edges, _), found in zip(drawn, seen, strict=True):
        np.testing.assert_array_equal(counts, found.counts)
        np.testing.assert_array_equal(edges, found.edges)
    assert figure.axes[0].get_ylabel() == "0 Dense"
    assert f"{seen[2].zeros:.0%} zeros" in figure.axes[2].texts[0].get_text()


def test_a_long_curve_keeps_its_extremes() -> None:
    rec = Recorder()
    losses = 1 + np.random.default_rng(0).random(20_000)
    losses[[777, 15_000]] = 0.5, 3.0
    losses[5000:5010] = np.nan
    for loss in losses:
        rec.step(loss)
    found = lines(panels(rec)["loss"])
    x, y = found["steps"].get_data()
    assert len(x) <= 1000
    assert (y.min(), y.max()) == (0.5, 3.0)
    assert abs(x[y.argmax()] - 15_001) <= 40
    np.testing.assert_allclose(found["average"].get_ydata(), 1.5, atol=0.06)
    assert set(found["not finite: loss"].get_xdata()) == {5001}


def test_pictures_of_what_there_is() -> None:
    rec = Recorder()
    rec.step(-1.0)
    assert list(panels(rec)) == ["loss"]
    assert panels(rec)["loss"].get_yscale() == "linear"
    rec = Recorder()
    rec.epoch(validation_loss=1.0)
    assert list(panels(rec)) == ["loss"]
    rec = Recorder()
    rec.step(math.nan)
    rec.save_picture(buffer := io.BytesIO())
    assert colours(buffer) > 20
    rec = Recorder(small())
    rec.look(digits()[0][:9])
    assert list(panels(rec)) == ["deviation of activations", "dead units, saturated elements"]
    rec.step(1.0)
    rec.look_at({"h": [[0.0]]}, {"h": [[np.nan]]})
    deviations = lines(panels(rec)["deviation of activations"])
    assert list(deviations) == ["step 1"]  # that of other layers is left out
    rec.save_picture(io.BytesIO())
    rec.save_histograms(buffer := io.BytesIO())
    assert colours(buffer) > 20


def test_only_some_looks_are_drawn() -> None:
    rec = Recorder()
    for _ in range(50):
        rec.look_at({"h": [1.0]})
        rec.step(1.0)
    names = list(lines(panels(rec)["deviation of activations"]))
    assert len(names) == 6
    assert (names[0], names[-1]) == ("step 0", "step 49")


def test_pictures_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to draw before the first step, epoch or look"):
        Recorder().save_picture(io.BytesIO())
    with pytest.raises(ValueError, match="no histograms before the first look"):
        Recorder().save_histograms(io.BytesIO())


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    rec = recorded(1)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (rec.save_picture, rec.save_histograms):
        with pytest.raises(ImportError, match=r"need matplotlib: pip install 'nnfast\[demo\]'"):
            draw(io.BytesIO())


# ---- files ----


def assert_same_record(one: Recorder, other: Recorder) -> None:
    for name in ("losses", "stats_steps", "update_ratios", "grad_norms", "epoch_steps"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
    assert one.param_names == other.param_names
    assert one.first_nonfinite == other.first_nonfinite
    np.testing.assert_equal(one.epochs, other.epochs)
    assert len(one.looks) == len(other.looks)
    for a, b in zip(one.looks, other.looks, strict=True):
        assert (a.step, a.first_nonfinite, str(a)) == (b.step, b.first_nonfinite, str(b))
        np.testing.assert_equal(vars_of(a), vars_of(b))


def vars_of(seen: Any) -> Any:
    """All the way down."""
    if isinstance(seen, tuple):
        return [vars_of(part) for part in seen]
    return (
        {name: vars_of(v) for name, v in vars(seen).items()} if hasattr(seen, "__dict__") else seen
    )


def test_a_record_comes_back(tmp_path: Path) -> None:
    rec = recorded()
    rec.look(digits()[0][:9])
    rec.look_at({"a": [1.0], "b": [np.nan]}, {"b": [2.0]})
    rec.step(math.nan)
    rec.save(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz", allow_pickle=False) as file:
        assert {"losses", "epochs.train_accuracy"} <= set(file.files)
    net = small()
    for later in (Recorder(), Recorder(net, nf.optim.SGD(net.params))):
        later.load(tmp_path / "run.npz")
        assert_same_record(rec, later)
        # The run goes on.
        for recorder in (rec, later):
            again = copy.deepcopy(recorder)
            again.step(1.0)
            again.epoch(train_accuracy=0.5)
            assert (again.step_count, len(again.epochs["train_accuracy"])) == (62, 3)
        assert_same_picture(rec, later)


def assert_same_picture(one: Recorder, other: Recorder) -> None:
    for a, b in zip(panels(one).items(), panels(other).items(), strict=True):
        assert a[0] == b[0]
        for line, copied in zip(a[1].lines, b[1].lines, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), copied.get_ydata())


def test_thinning_goes_on_after_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "MOST_ROWS", 4)
    opt = nf.optim.SGD([np.ones(1)])

    def steps(rec: Recorder, count: int) -> None:
        for _ in range(count):
            rec.step(1.0, opt.step([np.ones(1)], stats=True))

    rec, whole = Recorder(), Recorder()
    steps(rec, 7)
    rec.save(tmp_path / "run.npz")
    later = Recorder()
    later.load(tmp_path / "run.npz")
    steps(later, 13)
    steps(whole, 20)
    np.testing.assert_array_equal(later.stats_steps, whole.stats_steps)


def test_an_empty_record_comes_back(tmp_path: Path) -> None:
    net = small()
    Recorder().save(tmp_path / "run.npz")
    rec = Recorder(net)
    rec.step(1.0)
    rec.load(tmp_path / "run.npz")
    assert (rec.step_count, rec.looks, rec.epochs, rec.first_nonfinite) == (0, [], {}, None)
    assert rec.param_names == tuple(net.named_params())


def test_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    net = small()
    net.save(tmp_path / "net.npz")
    other = nn.Sequential(nn.Dense(2, 2))
    Recorder(other).save(tmp_path / "other.npz")
    (tmp_path / "text").write_text("text")
    rec = Recorder(net)
    rec.step(1.0)
    messages = {
        "net.npz": "net.npz' is no file of a Recorder",
        "other.npz": r"must have the parameters \['0.weight', .*\], got \['0.weight', '0.bias'\]",
        "text": "pickle",
    }
    for name, message in messages.items():
        with pytest.raises(ValueError, match=message):
            rec.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        rec.load(tmp_path / "nothing")
    np.testing.assert_array_equal(rec.losses, [1.0])
