"""Looks of the monitor: statistics by hand, planted faults found and named, the network untouched."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nnfast as nf
from networks import every_network, everything, inputs, leaves, numbers
from nnfast import nn
from nnfast.monitor import Recorder, look, statistics
from test_examples import examples

Array = NDArray[Any]


def digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), labels


def small() -> nn.Sequential:
    return nn.Sequential(nn.Dense(64, 32, rng=0), nn.ReLU(), nn.Dense(32, 10, rng=1))


# ---- statistics of an array ----


def test_statistics_by_hand() -> None:
    found = statistics(np.array([[0.0, 2.0], [-4.0, 0.0], [6.0, 2.0]], np.float32))
    assert (found.size, found.mean, found.min, found.max) == (6, 1.0, -4.0, 6.0)
    assert found.std == pytest.approx(math.sqrt((1 + 1 + 25 + 1 + 25 + 1) / 6))
    assert found.zeros == pytest.approx(1 / 3)
    assert found.norm == pytest.approx(math.sqrt(60))
    assert (found.nans, found.infinities, found.finite) == (0, 0, True)


def test_histogram_is_numpys() -> None:
    values = np.random.default_rng(0).normal(3, 2, 1000)
    found = statistics(values)
    counts, edges = np.histogram(values, 64)
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_allclose(found.edges, edges)
    assert (found.edges[0], found.edges[-1]) == (values.min(), values.max())


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    found = statistics([np.nan, 1.0, np.inf, 3.0, -np.inf, np.nan, 0.0, 0.0])
    assert (found.size, found.nans, found.infinities, found.finite) == (8, 2, 2, False)
    assert (found.mean, found.min, found.max, found.zeros) == (1.0, 0.0, 3.0, 0.25)
    assert found.counts.sum() == 4
    assert found.norm == pytest.approx(math.sqrt(10))
    nothing = statistics([np.nan])
    assert np.isnan([nothing.mean, nothing.std, nothing.min, nothing.max, nothing.norm]).all()
    assert nothing.counts.sum() == 0


@pytest.mark.parametrize(
    "values",
    [
        [1e308, -1e308],
        [5e-324, 0.0],
        [1.0, 1.0 + 2.3e-16],
        [0.0, 0.0],
        np.array([65504, -65504], np.float16),
        np.array([3e38, -3e38], np.float32),
    ],
)
def test_extremes_have_statistics(values: Any) -> None:
    found, exact = statistics(values), np.asarray(values).astype(np.longdouble)
    assert (found.min, found.max) == (exact.min(), exact.max())
    # The mean of two subnormal numbers may have no bits left.
    np.testing.assert_allclose(found.mean, float(exact.mean()), rtol=1e-15, atol=5e-324)
    assert found.counts.sum() == 2
    assert found.low <= found.min <= found.max <= found.high
    assert np.isfinite(found.edges).all()


# ---- looks ----


def test_activations_and_gradients_of_layers_by_hand() -> None:
    net = nn.Sequential(nn.Dense(2, 2), nn.ReLU(), nn.Dense(2, 1, bias=False))
    net[0].weight[...] = [[1, 0], [0, -1]]
    net[2].weight[...] = [[2], [3]]
    x, t = np.array([[1.0, 2.0], [-3.0, 4.0]]), np.array([[0.0], [0.0]])
    seen = look(net, x, t, loss=nf.mse_loss)
    # z = [[1, -2], [-3, -4]], h = [[1, 0], [0, 0]], y = [[2], [0]]; dy = 2 y / 2
    assert seen.loss == 2.0
    dense, relu, last = seen.layers
    assert [layer.name for layer in seen.layers] == ["0", "1", "2"]
    assert dense.layer == "Dense(2, 2)"
    assert (dense.activation.mean, dense.activation.min, dense.activation.max) == (-2, -4, 1)
    assert (relu.activation.zeros, relu.dead, dense.dead) == (0.75, 0.5, 0.0)
    assert (last.activation.mean, last.activation.std) == (1, 1)
    assert (last.gradient.max, last.gradient.min) == (2, 0)
    assert (relu.gradient.max, relu.gradient.mean) == (6, 2.5)  # dy @ w.T = [[4, 6], [0, 0]]
    assert (dense.gradient.max, dense.gradient.mean) == (4, 1)
    assert seen.first_nonfinite is None


def one_by_one(net: nn.Sequential, x: Array, labels: Array) -> tuple[list[Array], list[Array]]:
    """Every layer's y and the gradient with respect to it, a layer at a time."""
    ys: list[Array] = []
    for layer in leaves(net):
        x = layer.forward(x, training=True)
        ys.append(x.copy())
    _, dy = nf.softmax_cross_entropy(x, labels)
    dys = []
    for layer in reversed(leaves(net)):
        dys.append(dy.copy())
        dy = layer.backward(dy)
    return ys, dys[::-1]


@every_network
def test_a_look_sees_what_every_layer_gives(make: Any, sample: tuple[int, ...]) -> None:
    x, labels = inputs(make(), (50, *sample)), np.arange(50) % 3
    seen = look(make(), x, labels)
    ys, dys = one_by_one(make(), x, labels)
    outer = [layer for layer in seen.layers if "branch" not in layer.name]
    if make is everything:
        assert [layer.name for layer in outer][5:9] == ["5", "6.0", "6.1", "7"]
    for layer, y, dy in zip(outer, ys, dys, strict=True):
        assert layer.activation.mean == pytest.approx(y.mean(), abs=1e-12)
        assert layer.activation.std == pytest.approx(y.std(), rel=1e-9)
        assert layer.dead == np.mean((y == 0).all(axis=0))
        if layer.name != "0" or make is not everything:  # where nothing before it learns
            assert layer.gradient.norm == pytest.approx(np.linalg.norm(dy), rel=1e-9)
        else:
            assert layer.gradient is None
    output = make().forward(x, training=True)
    assert seen.loss == pytest.approx(nf.softmax_cross_entropy(output, labels)[0], rel=1e-12)


def test_a_look_sees_the_inside_of_a_branch() -> None:
    branch = nn.Sequential(nn.Dense(4, 4, rng=0), nn.Tanh())
    net = nn.Sequential(nn.Dense(4, 4, rng=1), nn.StochasticDepth(branch, 0.0), nn.Dense(4, 3))
    x = numbers((6, 4)).astype(np.float32)
    seen = look(net, x, np.arange(6) % 3)
    assert [layer.name for layer in seen.layers] == ["0", "1.branch.0", "1.branch.1", "1", "2"]
    assert [layer.layer for layer in seen.layers[2:4]] == ["Tanh()", "StochasticDepth(...)"]
    h = net[0].forward(x)
    assert seen.layers[2].activation.std == pytest.approx(branch.forward(h).std(), rel=1e-6)
    assert seen.layers[3].activation.std == pytest.approx(net[1].forward(h).std(), rel=1e-6)
    # What is added passes its gradient on as it is.
    assert seen.layers[2].gradient.norm == seen.layers[3].gradient.norm > 0


def test_a_look_at_a_layer_with_its_own_calls() -> None:
    class Shifted(nn.Sequential):
        def forward(self, x: Any, training: bool = False) -> Array:
            return super().forward(x, training) + 1

        def backward(self, dy: Any, *, input_gradient: bool = False) -> Array | None:
            return super().backward(dy, input_gradient=True)

    net = nn.Sequential(nn.Dense(3, 3, rng=0), Shifted(nn.Dense(3, 3, rng=1), nn.ReLU()))
    x = numbers((5, 3))
    seen = look(net, x, np.arange(5) % 3)
    assert [layer.name for layer in seen.layers] == ["0", "1"]
    assert seen.layers[1].activation.min == 1
    alone = look(net[1], x)
    assert [layer.name for layer in alone.layers] == ["net"]


def test_a_look_without_a_loss() -> None:
    seen = look(small(), digits()[0][:20])
    assert math.isnan(seen.loss)
    assert all(layer.gradient is None for layer in seen.layers)


def state_of(net: nn.Sequential) -> bytes:
    """All of a network but memory that it uses again: arrays, generators, what its layers keep for backward."""
    return pickle.dumps(net)


def test_a_look_changes_nothing() -> None:
    net, x, labels = everything(), numbers((50, 2, 3)), np.arange(50) % 3
    y = net.forward(x[:40], training=True)
    net.backward(np.ones_like(y))
    held, grads = (y, net.grads), [grad.copy() for grad in net.grads]
    before, bits = state_of(net), [array.copy() for array in (y, x)]
    rec = Recorder(net)
    rec.look(x, labels)
    assert state_of(net) == before
    for array, old in zip((held[0], x), bits, strict=True):
        np.testing.assert_array_equal(array, old)
    # The step that was under way goes on, and so does the next, with the same masks.
    other = everything()
    other.forward(x[:40], training=True)
    for one in (net, other):
        one.backward(np.full_like(y, 2))
    np.testing.assert_array_equal(net.grads[0], other.grads[0])
    assert not np.array_equal(net.grads[0], grads[0])
    assert net.grads[0] is held[1][0]
    np.testing.assert_array_equal(net.forward(x, training=True), other.forward(x, training=True))


def test_the_gradient_of_the_loss_is_not_overwritten() -> None:
    dz = np.ones((9, 10), np.float32)
    net = nn.Sequential(nn.Dense(64, 10, rng=0), nn.ReLU())
    seen = look(net, digits()[0][:9], dz, loss=lambda z, dz: (1.0, dz))
    assert 0 < seen.layers[0].gradient.norm < seen.layers[1].gradient.norm
    np.testing.assert_array_equal(dz, 1)


def test_dead_units_are_found() -> None:
    x, labels = digits()
    net = small()
    net[0].bias[:24] = -1000
    seen = look(net, x[:200], labels[:200])
    assert seen.layers[0].dead < 0.1
    assert 0.75 <= seen.layers[1].dead < 0.9
    assert seen.layers[1].activation.zeros > seen.layers[1].dead
    net[0].bias[...] = -1000
    assert look(net, x[:200]).layers[1].dead == 1


def test_a_unit_is_a_place_in_a_sample() -> None:
    y = np.zeros((3, 2, 2))
    y[:, 0, 0] = [0, 0, 1]
    y[1, 1, 1] = np.nan
    assert Recorder().look_at({"y": y}).layers[0].dead == 0.5
    assert Recorder().look_at({"y": np.array([0.0, 0.0, 1.0])}).layers[0].dead == 0


@pytest.mark.parametrize(
    ("layer", "edge"),
    # Where the slope is 0.05 of the steepest: of tanh 1 - y², of sigmoid y (1 - y), of softsign (1 - |y|)².
    [
        (nn.Tanh(), math.atanh(math.sqrt(0.95))),
        (nn.Sigmoid(), 2 * math.atanh(math.sqrt(0.95))),
        (nn.Softsign(), 1 / math.sqrt(0.05) - 1),
        (nn.Hardtanh(), 1.0),
        (nn.Hardtanh(-5.0, 5.0), 5.0),
        (nn.Hardsigmoid(), 3.0),
    ],
    ids=repr,
)
def test_saturated_elements_are_found(layer: nn.Layer, edge: float) -> None:
    x = edge * np.array([[-30.0, -1.01, -0.99, 0.0], [0.99, 1.01, 2.0, np.nan]])
    assert look(nn.Sequential(layer), x).layers[0].saturated == 0.5


def test_saturation_is_of_bounded_activations() -> None:
    net = nn.Sequential(nn.Dense(64, 8, rng=0), nn.ReLU(), nn.ReLU6(), nn.Tanh(), nn.GELU())
    shares = [layer.saturated for layer in look(net, digits()[0][:20]).layers]
    assert np.isnan(shares).tolist() == [True, True, True, False, True]


def test_planted_saturation_shows_up_by_layer() -> None:
    x, labels = digits()
    layers = [
        layer for i in range(4) for layer in (nn.Dense(64, 64, rng=i, init="xavier"), nn.Tanh())
    ]
    net = nn.Sequential(*layers)
    net[4].weight[...] *= 100
    shares = [seen.saturated for seen in look(net, x[:100], labels[:100]).layers[1::2]]
    assert shares[2] > 0.8
    assert max(shares[0], shares[1], shares[3]) < 0.2


# ---- values that are not finite ----


class Poison(nn.Layer):
    """A layer that gives a NaN on one of its ways."""

    def __init__(self, way: str) -> None:
        self.way = way

    def forward(self, x: Any, training: bool = False) -> Array:
        return self._poisoned(x, "forward")

    def backward(self, dy: Any) -> Array:
        return self._poisoned(dy, "backward")

    def _poisoned(self, x: Array, way: str) -> Array:
        y = np.array(x)
        if way == self.way:
            y[0, 0] = np.nan
        return y


@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_layer_where_nan_begins_is_named(way: str, k: int) -> None:
    layers: list[nn.Layer] = [
        nn.Dense(64, 10, rng=0),
        nn.ReLU(),
        nn.Dense(10, 10, rng=1),
        nn.ReLU(),
    ]
    layers.insert(k, Poison(way))
    x, labels = digits()
    rec = Recorder(nn.Sequential(*layers))
    seen = rec.look(x[:30], labels[:30])
    place = seen.first_nonfinite
    assert (place.where, place.name, place.step) == (way, str(k), 0)
    assert rec.first_nonfinite == place
    assert f"{way} of layer {k}" in str(seen)
    if way == "backward":
        counts = [layer.gradient.nans for layer in seen.layers]
        assert counts[k] == 0
        assert counts[k - 1] == 1
    else:
        assert [layer.activation.nans for layer in seen.layers[: k + 1]] == [0] * k + [1]


def test_nan_in_a_branch_is_named() -> None:
    branch = nn.Sequential(nn.Dense(64, 64, rng=0), Poison("backward"), nn.Tanh())
    net = nn.Sequential(nn.Dense(64, 64), nn.StochasticDepth(branch, 0.0), nn.Dense(64, 10))
    x, labels = digits()
    assert look(net, x[:30], labels[:30]).first_nonfinite.name == "1.branch.1"


def test_input_that_is_not_finite_is_named() -> None:
    x, labels = digits()
    net = small()
    net[2].weight[3, 3] = np.inf
    place = look(net, x[:9], labels[:9], step=7).first_nonfinite
    assert (place.where, place.name, place.step) == ("parameter", "2.weight", 7)
    bad = x[:9].copy()
    bad[0, 0] = np.nan
    assert look(net, bad).first_nonfinite.where == "input"
    for loss in (lambda z, y: (math.nan, z), lambda z, y: (1.0, z / 0)):
        assert look(small(), x[:9], labels[:9], loss=loss).first_nonfinite.where == "loss"


def test_overflow_is_named_as_the_layer_that_overflows() -> None:
    net = small()
    net[0].weight[...] = 1e37
    net[2].weight[...] = 1e37
    x, labels = digits()
    place = look(net, x[:9], labels[:9]).first_nonfinite
    assert (place.where, place.name) == ("forward", "2")


# ---- looks at arrays ----


def test_look_at_arrays_of_ones_own() -> None:
    rec = Recorder()
    rec.step(1.0)
    h1, h2 = np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 1.0]])
    seen = rec.look_at({"h1": h1, "h2": h2}, {"h2": -h2})
    assert [layer.name for layer in seen.layers] == ["h1", "h2"]
    assert (seen.layers[0].dead, seen.layers[1].dead, seen.step) == (0.5, 0.0, 1)
    assert (seen.layers[0].gradient, seen.layers[1].gradient.min) == (None, -2.0)
    assert math.isnan(seen.layers[0].saturated)
    assert rec.looks == [seen]
    assert rec.first_nonfinite is None
    assert rec.look_at({"a": [1, 2], "b": [np.nan, 1]}).first_nonfinite.where == "forward"
    bad = {"a": [np.inf], "b": [np.nan], "c": [0.0]}
    place = rec.look_at({name: [1.0] for name in bad}, bad).first_nonfinite
    assert (place.where, place.name) == ("gradient", "b")
    assert str(place) == "step 1: not finite: gradient with respect to b"


# ---- errors, examples ----


def test_arguments_are_checked() -> None:
    for arguments, message in (
        ((nn,), "net must be a nnfast.nn.Layer, got module"),
        ((None, small()), "opt must be an optimizer of nnfast.optim, got Sequential"),
    ):
        with pytest.raises(TypeError, match=message):
            Recorder(*arguments)
    with pytest.raises(TypeError, match="net must be a nnfast.nn.Layer, got list"):
        look([nn.ReLU()], [1.0])
    with pytest.raises(ValueError, match="step must be at least 0"):
        look(small(), np.ones((2, 64)), step=-1)
    with pytest.raises(TypeError, match="values must be an array of real numbers"):
        statistics(["a"])
    with pytest.raises(ValueError, match="values must hold at least one number"):
        statistics([])


def test_errors_record_nothing() -> None:
    net = nn.Sequential(nn.Dense(4, 3, rng=0), nn.BatchNorm(3))
    rec, alone = Recorder(net), Recorder()
    stats = nf.optim.SGD([np.ones(1)]).step([np.ones(1)], stats=True)
    x = np.ones((2, 4))
    for call, error, message in (
        (lambda: rec.step("1"), TypeError, "loss must be a real number, got str"),
        (lambda: rec.step(1.0, 2.0), TypeError, "stats must be a StepStats, got float"),
        (lambda: rec.step("1", stats), TypeError, "loss must be a real number"),
        (lambda: rec.step(1.0, stats), ValueError, "stats must have 4 parameters, got 1"),
        (lambda: rec.epoch(a=1, b=[1]), TypeError, "b must be a real number, got list"),
        (lambda: rec.gap("loss"), ValueError, "quantity must have been given as train_loss"),
        (lambda: rec.look(np.ones((2, 5))), ValueError, r"layers\[0\], Dense: x must have shape"),
        (lambda: rec.look(x[:0]), ValueError, "x must hold at least one number"),
        (lambda: rec.look(x[:1]), ValueError, "two values a channel"),
        (lambda: rec.look(["a"]), TypeError, "x must be an array of real numbers"),
        (lambda: rec.look(x, [0, 3]), ValueError, "labels"),
        (lambda: alone.look(x), ValueError, "net must be given to a Recorder that is to look"),
        (lambda: rec.look_at({}), ValueError, "activations must hold at least one array"),
        (lambda: rec.look_at({"a": []}), ValueError, r"activations\['a'\] must hold at least one"),
        (lambda: rec.look_at({"a": ["b"]}), TypeError, r"activations\['a'\] must be an array"),
        (lambda: rec.look_at({"a": [1]}, {"a": []}), ValueError, r"gradients\['a'\] must hold"),
        (lambda: rec.look_at({"a": [1]}, {"b": [1]}), ValueError, "of activations, got 'b'"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert (rec.step_count, rec.epochs, rec.looks, rec.first_nonfinite) == (0, {}, [], None)
    assert rec.update_ratios.shape == (0, 4)


def test_everything_public_has_an_example() -> None:
    named = {test.name.removeprefix("nnfast.monitor.") for test in examples()}
    ends = {name.rpartition(".")[2] for name in named}
    assert set(nf.monitor.__all__) <= ends
    classes = Recorder.__mro__[:2]
    methods = {name for cls in classes for name, value in vars(cls).items() if callable(value)}
    assert {name for name in methods if not name.startswith("_")} <= ends
