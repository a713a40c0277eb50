"""The gradient check: right and wrong gradients, kinks, float32, randomness, what it leaves alone, errors."""

from typing import Any

import numpy as np
import pytest

import nnfast as nf
from checks_data import Own, State, dense
from conftest import NO_FMA
from gradients import Array
from networks import Doubled, everything, numbers, of_words
from nnfast import nn
from nnfast.checks import gradient_check

X, LABELS = numbers((12, 6)), np.arange(12) % 3


def weighted(scores: Array, weights: Any) -> tuple[float, Array]:
    """A loss whose gradient is the weights."""
    return float((scores * weights).sum()), np.broadcast_to(weights, scores.shape)


def between(layer: nn.Layer, dtype: Any = np.float64) -> nn.Sequential:
    """The layer between two dense ones."""
    return nn.Sequential(
        nn.Dense(6, 8, dtype=dtype, rng=0), layer, nn.Dense(8, 3, dtype=dtype, rng=1)
    )


# ---- right and wrong ----


def test_correct_gradients_pass() -> None:
    check = gradient_check(everything(), numbers((12, 2, 3)), LABELS)
    assert check.passed
    assert check.wrong == []
    assert check.error < 1e-4
    assert list(check.arrays) == [*everything().named_params(), "X"]


def test_indices_have_no_gradient_to_check() -> None:
    check = gradient_check(of_words(), np.arange(36).reshape(12, 3) % 2, LABELS)
    assert check.passed
    assert list(check.arrays) == list(of_words().named_params())
    words = nn.Sequential(nn.Embedding(5, 3, rng=0), nn.Dense(3, 3, rng=1))
    assert gradient_check(words, np.arange(12) % 5, LABELS).step == 1e-5  # in float32, too


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, lambda: nn.Dropout(0.5, rng=0)])
def test_float32_is_judged_as_float64_is(dtype: Any, activation: Any) -> None:
    check = gradient_check(
        dense(6, 50, 50, 3, activation=activation, dtype=dtype), X.astype(dtype), LABELS
    )
    assert check.passed
    # Differences of losses show an activation's last digits, of which one fewer is right without FMA.
    assert check.error < (2e-5 if nf.cpu_info()["chosen"] == NO_FMA else 1e-5)
    assert (check.tolerance, check.step) == (1e-4, 1e-5)


def test_the_error_is_relative_and_where_it_says() -> None:
    layer = Own(lambda x: x * x, lambda dy, x: dy * x)  # half of it
    check = gradient_check(layer, X[:2, :3], np.ones((2, 3)), loss=weighted)
    found = check.arrays["X"]
    assert check.wrong == ["X"]
    assert found.error == pytest.approx(0.5, abs=1e-6)
    assert found.analytic == X[found.at]
    assert found.numeric == pytest.approx(2 * X[found.at], rel=1e-6)
    assert (found.checked, found.kinks, found.wrong) == (6, 0, 6)


def test_layers_after_a_wrong_one_pass() -> None:
    check = gradient_check(between(Own(np.tanh, lambda dy, x: dy)), X, LABELS)
    assert check.wrong == ["0.weight", "0.bias", "X"]
    assert not check.passed
    assert check.worst in check.wrong
    assert check.arrays["2.weight"].error < 1e-4


def test_one_wrong_coordinate_is_found_among_all() -> None:
    class OneOff(nn.Dense):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.named_grads()["weight"][3, 1] *= 1.001
            return dx

    net = nn.Sequential(OneOff(6, 3, dtype=np.float64, rng=0))
    check = gradient_check(net, X, LABELS, samples=18)
    assert check.wrong == ["0.weight"]
    assert (check.arrays["0.weight"].at, check.arrays["0.weight"].wrong) == ((3, 1), 1)
    assert gradient_check(net, X, LABELS, samples=18, tolerance=0.01).passed


def test_coordinates_are_a_sample() -> None:
    net = dense(6, 8, 3)
    checks = [gradient_check(net, X, LABELS, samples=1, rng=seed) for seed in (0, 0, 1, 2, 3)]
    assert checks[0] == checks[1]
    assert len({check.arrays["0.weight"].at for check in checks}) > 2
    assert all(found.checked == 1 for found in checks[0].arrays.values())
    assert gradient_check(net, X, LABELS).arrays["0.bias"].checked == 8


def test_a_wrong_loss_is_found() -> None:
    def loss(scores: Array, y: Any) -> tuple[float, Array]:
        value, dscores = nf.softmax_cross_entropy(scores, y)
        return value, len(y) * dscores  # as if it were no mean

    check = gradient_check(dense(6, 3), X, LABELS, loss=loss)
    assert check.wrong == ["0.weight", "0.bias", "X"]
    assert check.error == pytest.approx(11 / 12, abs=1e-6)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_size_of_the_loss_does_not_matter(factor: float) -> None:
    def loss(scores: Array, y: Any) -> tuple[float, Array]:
        value, dscores = nf.softmax_cross_entropy(scores, y)
        return factor * value, factor * dscores

    assert gradient_check(dense(6, 8, 3), X, LABELS, loss=loss).error < 1e-5
    wrong = between(Own(np.tanh, lambda dy, x: dy))
    assert not gradient_check(wrong, X, LABELS, loss=loss).passed


def test_gradients_of_zero_are_equal() -> None:
    # A bias before a BatchNorm has none; what is left of it is rounding.
    net = nn.Sequential(nn.Dense(6, 8, rng=0), nn.BatchNorm(8), nn.Dense(8, 3, rng=1))
    found = gradient_check(net, X, LABELS).arrays["0.bias"]
    assert abs(found.analytic) < 1e-12
    assert found.wrong == 0


def test_gradients_below_rounding_are_not_errors() -> None:
    for given, wrong in ((1e-18, []), (1e-3, ["X"])):
        layer = Own(np.ones_like, lambda dy, x, given=given: given * dy)
        assert gradient_check(layer, X, np.ones((12, 6)), loss=weighted).wrong == wrong


def test_nan_is_wrong() -> None:
    net = between(Own(np.tanh, lambda dy, x: dy * np.nan))
    check = gradient_check(net, X, LABELS)
    assert "0.weight" in check.wrong
    assert check.error == np.inf


# ---- kinks ----


def at(*values: float) -> Array:
    return np.array([values])


def test_a_kink_at_the_point_is_no_error() -> None:
    check = gradient_check(nn.ReLU(), at(0.0, 1.0, -1.0, 0.0), at(1, 1, 1, -2), loss=weighted)
    assert check.passed
    assert (check.kinks, check.checked, check.error < 1e-4) == (2, 4, True)


def test_a_kink_within_the_step_is_no_error() -> None:
    x = at(5e-6, -5e-6, 5e-7, -5e-7, 2e-5)
    check = gradient_check(nn.ReLU(), x, at(1, 1, 1, 1, 1), loss=weighted)
    assert check.step == 1e-5
    assert check.passed
    assert (check.kinks, check.checked) == (4, 5)


@pytest.mark.parametrize("share", [2.0, 0.5, -1.0])
@pytest.mark.parametrize("x", [5e-6, -5e-6])
def test_a_wrong_slope_near_a_kink_is_an_error(share: float, x: float) -> None:
    layer = Own(lambda x: np.maximum(x, 0), lambda dy, x: share * dy)
    check = gradient_check(layer, at(x), at(1), loss=weighted)
    assert (check.wrong, check.kinks) == (["X"], 0)


def test_many_kinks_at_one_point() -> None:
    # All units are at theirs: 0, which backward gives, need not lie between the slopes to the left and to the right.
    check = gradient_check(dense(6, 50, 3), np.zeros((4, 6)), LABELS[:4], samples=24)
    assert check.passed
    assert check.arrays["X"].kinks > 12


def test_curvature_is_no_kink() -> None:
    layer = Own(lambda x: 1e3 * x * x, lambda dy, x: dy * (2e3 * x + 1e-2))
    check = gradient_check(layer, at(1e-9, 2e-9), at(1, 1), loss=weighted)
    assert (check.wrong, check.kinks) == (["X"], 0)


def test_curvatures_that_differ_to_the_sides_are_no_error() -> None:
    layer = Own(
        lambda x: 1e-6 * x + 1e-2 * x * np.maximum(x, 0),
        lambda dy, x: dy * (1e-6 + 2e-2 * np.maximum(x, 0)),
    )
    check = gradient_check(layer, at(0.0, 3.0, -2.0), at(1, 1, 1), loss=weighted)
    assert check.passed
    assert check.kinks == 1


def test_smooth_functions_have_no_kinks() -> None:
    assert gradient_check(dense(6, 50, 3, activation=nn.Tanh), X, LABELS).kinks == 0


@pytest.mark.parametrize("scale", [1e-2, 1e-4, 1e-6])
def test_small_inputs_are_near_many_kinks(scale: float) -> None:
    net = dense(6, 100, 3)
    check = gradient_check(net, scale * X, LABELS, samples=40)
    assert check.passed
    assert check.tolerance == 1e-4
    net = between(Own(lambda x: np.maximum(x, 0), lambda dy, x: 1.1 * dy * (x > 0)))
    assert "0.weight" in gradient_check(net, scale * X, LABELS).wrong


# ---- float32 all the same ----


class Single(Own):
    """Works in float32, whatever it is given."""

    def forward(self, x: Any, training: bool = False) -> Array:
        return super().forward(np.asarray(x, np.float32), training)


class SingleOnly(Single):
    """Takes nothing but float32."""

    def forward(self, x: Any, training: bool = False) -> Array:
        if x.dtype != np.float32:
            raise RuntimeError("what is that?")
        return super().forward(x, training)


class SingleOnlyBackward(Single):
    """Takes nothing but float32, in the backward pass alone."""

    def backward(self, dy: Any) -> Array:
        if dy.dtype != np.float32:
            raise TypeError("what is that?")
        return super().backward(dy)


@pytest.mark.parametrize("kind", [Single, SingleOnly, SingleOnlyBackward])
def test_layers_that_are_float32_are_judged_fairly(kind: Any) -> None:
    right = between(kind(np.tanh, lambda dy, x: dy * (1 - np.tanh(x) ** 2)), np.float32)
    check = gradient_check(right, X.astype(np.float32), LABELS, samples=50)
    assert check.passed
    assert 1e-3 < check.step < 1e-2
    wrong = between(kind(np.tanh, lambda dy, x: dy * (1 - np.tanh(x))), np.float32)
    assert gradient_check(wrong, X.astype(np.float32), LABELS).wrong == ["0.weight", "0.bias", "X"]


def test_in_float32_the_step_is_long_and_so_is_the_tolerance() -> None:
    bent = Single(lambda x: np.sin(20 * x), lambda dy, x: 20 * dy * np.cos(20 * x))
    check = gradient_check(between(bent, np.float32), X.astype(np.float32), LABELS, samples=50)
    assert check.passed
    assert check.error > 1e-3
    assert check.tolerance == 10 * check.step


def test_memory_that_holds_anything_is_copied() -> None:
    layer = nn.DropConnect(6, 3, rng=0)
    # Signalling NaN, as unwritten memory may be.
    layer.memory = np.full(3, 0x7FA00000, np.uint32).view(np.float32)
    assert gradient_check(layer, X, LABELS).step == 1e-5


def test_arrays_held_by_a_layer_become_float64() -> None:
    class Keeps(nn.Layer):
        def __init__(self) -> None:
            self.w, self.dw = np.ones(8, np.float32), np.zeros(8, np.float32)
            self.kept = [self.w, np.float32(2), np.float32, np.dtype(np.float32), lambda: seen]
            self.integers = np.arange(3, dtype=np.int32)

        def forward(self, x: Any, training: bool = False) -> Array:
            same, scalar, kind, dtype, note = self.kept
            assert same is self.w
            note().append((self.w.dtype, scalar.dtype, kind, dtype, self.integers.dtype))
            self.x = x
            return x * self.w * scalar

        def backward(self, dy: Any) -> Array:
            self.dw[...] = 2 * (dy * self.x).sum(axis=0)
            return 2 * dy * self.w

        def named_params(self) -> dict[str, Array]:
            return {"w": self.w}

        def named_grads(self) -> dict[str, Array]:
            return {"w": self.dw}

    seen: list[Any] = []
    assert gradient_check(between(Keeps(), np.float32), X, LABELS).error < 1e-5
    double, integer = np.dtype(np.float64), np.dtype(np.int32)
    assert set(seen) == {(double, double, np.float64, double, integer)}


# ---- the same state at every evaluation ----


def test_a_dropout_that_forgets_its_mask_is_found() -> None:
    class Forgets(nn.Dropout):
        def backward(self, dy: Any) -> Array:
            return 2 * dy

    assert gradient_check(between(nn.Dropout(0.5, rng=0)), X, LABELS).passed
    assert not gradient_check(between(Forgets(0.5, rng=0)), X, LABELS).passed


def test_statistics_do_not_drift() -> None:
    class Counted(Own):
        def forward(self, x: Any, training: bool = False) -> Array:
            self.calls = getattr(self, "calls", 0) + 1
            return super().forward(self.calls * x)

    layer = Counted(np.tanh, lambda dy, x: dy / np.cosh(x) ** 2)
    assert gradient_check(between(layer), X, LABELS).passed


def test_state_shared_by_copies_is_an_error() -> None:
    stream = np.random.default_rng(0)
    layer = Own(lambda x: x * stream.random(x.shape), lambda dy, x: dy)
    with pytest.raises(ValueError, match="same at every evaluation"):
        gradient_check(between(layer), X, LABELS)


def test_nothing_is_changed() -> None:
    net, x, labels = everything(), numbers((12, 2, 3)), LABELS.copy()
    net.forward(x, training=True)
    net.backward(numbers((12, 3), 1))
    state = State(net, x, labels)
    gradient_check(net, x, labels)
    state.assert_same()


# ---- what it takes ----


def test_one_layer_and_integers() -> None:
    assert list(gradient_check(Doubled(), X, X, loss=nf.mse_loss).arrays) == ["factor", "X"]
    net = nn.Sequential(nn.Dense(6, 3, rng=0))
    check = gradient_check(net, np.arange(72).reshape(12, 6) % 5, LABELS)
    assert check.passed
    assert list(check.arrays) == ["0.weight", "0.bias"]


def test_a_layer_without_input_gradient() -> None:
    class Ends(Doubled):
        def backward(self, dy: Any) -> Any:
            super().backward(dy)

    assert list(gradient_check(Ends(), X, X, loss=nf.mse_loss).arrays) == ["factor"]


def test_the_table() -> None:
    net = between(Own(np.tanh, lambda dy, x: dy))
    lines = str(gradient_check(net, X, LABELS)).splitlines()
    assert lines[0] == (
        "gradient check FAILED in 0.weight, 0.bias, X (tolerance 1e-04, step 1e-05)"
    )
    assert lines[1].split() == [
        *("worst", "error", "at", "analytic", "numeric", "checked", "kinks", "wrong")
    ]
    assert [line.split()[0] for line in lines[2:]] == [*net.named_params(), "X"]
    assert len({len(line) for line in lines[1:]}) == 1
    passed = str(gradient_check(nn.ReLU(), at(0.0), at(1), loss=weighted))
    assert passed.startswith("gradient check passed")
    assert passed.split()[-8:] == ["X", "0.0e+00", "()", "nan", "nan", "1", "1", "0"]


class Lacks(Doubled):
    def named_grads(self) -> dict[str, Array]:
        return {}


class Misshapen(Doubled):
    def named_grads(self) -> dict[str, Array]:
        return {"factor": np.zeros(2)}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"net": "net"}, TypeError, "net must be a Layer, got str"),
        ({"loss": 1}, TypeError, "loss must be a function, got int"),
        (
            {"X": X.astype(complex)},
            TypeError,
            "X must be an array of real numbers, got dtype compl",
        ),
        ({"y": LABELS[1:]}, ValueError, r"X and y must have as many rows .* \(12, 6\) and \(11,\)"),
        ({"X": X[:0], "y": LABELS[:0]}, ValueError, "one at least"),
        ({"X": 1.0}, ValueError, "as many rows"),
        ({"y": 1}, ValueError, "as many rows"),
        ({"samples": 0}, ValueError, "samples must be at least 1"),
        ({"samples": 1.5}, TypeError, "samples must be an int"),
        ({"tolerance": 0}, ValueError, "tolerance must be positive"),
        ({"rng": "0"}, TypeError, "rng must be"),
        ({"y": LABELS + 1}, ValueError, "labels"),
        ({"X": X * np.nan}, ValueError, "the loss must be a finite number, got nan"),
        ({"net": Lacks(), "y": X, "loss": nf.mse_loss}, ValueError, "has none for 'factor'"),
        (
            {"net": Misshapen(), "y": X, "loss": nf.mse_loss},
            ValueError,
            r"shape \(1,\) for 'factor', got \(2,\)",
        ),
        (
            {"net": nn.Tanh(), "X": np.ones((12, 3), int)},
            ValueError,
            "nothing to check",
        ),
    ],
)
def test_errors(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"net": dense(6, 3), "X": X, "y": LABELS, **changes}
    with pytest.raises(error, match=message):
        gradient_check(**given)
