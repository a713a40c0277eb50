"""L-BFGS: minima, the curvature of pairs, the line search, errors that leave the parameters as they were."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from nnfast.optim.curvature import Curvature, Vector
from nnfast.optim.line_search import Point, strong_wolfe
from optim_rules import Array


def rosenbrock(w: Array) -> Callable[[], tuple[float, list[Array]]]:
    def closure() -> tuple[float, list[Array]]:
        x, y = (float(each) for each in w)
        slope = 200 * (y - x * x)
        loss = 100 * (y - x * x) ** 2 + (1 - x) ** 2
        return loss, [np.array([-2 * x * slope - 2 * (1 - x), slope]).astype(w.dtype)]

    return closure


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-5), (np.float32, 1e-2)])
def test_lbfgs_finds_the_minimum(dtype: type, bound: float) -> None:
    w = np.array([-1.0, 1.0], dtype)
    opt = nf.optim.LBFGS([w], max_iter=100)
    assert opt.step(rosenbrock(w)) == pytest.approx(4.0)
    np.testing.assert_allclose(w, 1, atol=bound)
    assert opt.step_count == 1
    assert opt.message


def test_lbfgs_takes_names_and_several_arrays() -> None:
    params = {"a": np.ones((2, 3)), "b": np.ones(()), "c": np.ones(4, np.float32)}
    calls = []

    def closure() -> tuple[float, dict[str, Array]]:
        calls.append(1)
        loss = sum(float(((p - i) ** 2).sum()) for i, p in enumerate(params.values()))
        return loss, {name: 2 * (p - i) for i, (name, p) in enumerate(params.items())}

    opt = nf.optim.LBFGS(params, max_iter=3)
    opt.step(closure)
    for i, p in enumerate(params.values()):
        np.testing.assert_allclose(p, i, atol=1e-5)
    assert 1 < len(calls) <= 5


def test_an_error_leaves_the_parameters() -> None:
    w = np.array([-1.0, 1.0])
    opt, good = nf.optim.LBFGS([w]), rosenbrock(w)
    calls = []

    def fails() -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyError("third")
        return good()

    cases: list[tuple[Any, type[Exception], str]] = [
        (fails, KeyError, "third"),
        (3, TypeError, "closure must be a function, got int"),
        (lambda: 1.0, TypeError, "closure must return the loss and the gradients, got float"),
        (lambda: ("x", [w]), TypeError, "the loss of closure must be a real number"),
        (lambda: (1.0, []), ValueError, "must have one array for each of the 1 parameters, got 0"),
        (lambda: (1.0, [np.ones(3)]), ValueError, r"must have shape \(2,\), got \(3,\)"),
    ]
    for closure, error, message in cases:
        with pytest.raises(error, match=message):
            opt.step(closure)
        np.testing.assert_array_equal(w, [-1, 1])
    assert opt.step_count == 0
    with pytest.raises(ValueError, match="max_iter must be at least 1"):
        nf.optim.LBFGS([w], max_iter=0)
    with pytest.raises(TypeError, match=r"params\[0\] must"):
        nf.optim.LBFGS([[1.0]])  # type: ignore[list-item]


def two_loops(pairs: list[tuple[Array, Array]], gradient: Array) -> Array:
    """The recursion of Nocedal and Wright, algorithm 7.4."""
    q, alphas = gradient.copy(), []
    for s, y in reversed(pairs):
        alphas.append(s @ q / (s @ y))
        q -= alphas[-1] * y
    s, y = pairs[-1]
    q *= s @ y / (y @ y)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q += s * (alpha - y @ q / (s @ y))
    return -q


@pytest.mark.parametrize("size", [1, 7, 3000])
def test_directions_are_those_of_the_two_loops(size: int) -> None:
    rng = np.random.default_rng(size)
    kept = 3
    curvature, hessian = Curvature(size, kept), 1 + rng.random(size)
    pairs: list[tuple[Array, Array]] = []
    gradient, found = rng.standard_normal(size), curvature.vector()

    def vector(values: Array) -> Vector:
        made = curvature.vector()
        made.reshape(-1)[:size] = values
        return made

    curvature.direction(vector(gradient), found)
    np.testing.assert_array_equal(found.reshape(-1)[:size], -gradient)
    for _ in range(8):  # more than are kept
        step = rng.standard_normal(size)
        before, gradient = gradient, gradient + hessian * step
        pairs = [*pairs, (step, hessian * step)][-kept:]
        curvature.add(vector(step), vector(before), vector(gradient), step @ (hessian * step))
        curvature.direction(vector(gradient), found)
        # Of a gradient that steps in all directions have explained, the recursion has roundings of the steps alone.
        bound = 1e-12 * (np.abs(gradient).max() + sum(np.abs(y).max() for _, y in pairs))
        np.testing.assert_allclose(found.reshape(-1)[:size], two_loops(pairs, gradient), atol=bound)
        assert not found.reshape(-1)[size:].any()


LINES: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "short": (lambda t: (t - 300) ** 2, lambda t: 2 * (t - 300)),
    "long": (lambda t: (t - 0.003) ** 2, lambda t: 2 * (t - 0.003)),
    "flat": (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2),
    "steep": (
        lambda t: -np.log(0.01 - t) - 300 * t if t < 0.01 else np.inf,
        lambda t: 1 / (0.01 - t) - 300 if t < 0.01 else np.nan,
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_the_line_search_ends_where_wolfes_conditions_hold(name: str) -> None:
    value, slope = LINES[name]
    start = Point(0.0, value(0.0), slope(0.0), None)
    trials: list[float] = []

    def at(step: float) -> Point:
        trials.append(step)
        return Point(step, value(step), slope(step), None)

    found, measurable = strong_wolfe(at, start, 1.0, 0.0)
    assert measurable
    assert found.loss <= start.loss + 1e-4 * found.step * start.slope
    assert abs(found.slope) <= 0.9 * abs(start.slope)
    assert len(trials) <= 8


def test_a_search_ends_at_the_resolution_of_the_loss() -> None:
    trials: list[float] = []

    def at(step: float) -> Point:
        trials.append(step)
        return Point(step, 1.0, -1e-9, None)

    start = Point(0.0, 1.0, -1e-9, None)
    assert strong_wolfe(at, start, 1.0, 1e-7) == (start, False)
    assert len(trials) == 1


def test_a_bracket_keeps_the_end_to_which_the_loss_sinks() -> None:
    trials: list[float] = []
    losses, slopes = [-0.1, -0.2, -0.3], [2.0, 1.0, 0.0]

    def at(step: float) -> Point:
        trials.append(step)
        return Point(step, losses[len(trials) - 1], slopes[len(trials) - 1], None)

    found, _ = strong_wolfe(at, Point(0.0, 0.0, -1.0, None), 1.0, 0.0)
    assert 1.0 == trials[0] > trials[1] > trials[2] > 0
    assert found.loss == -0.3


def bowl(w: Array) -> Callable[[], tuple[float, list[Array]]]:
    curvature, lowest = np.linspace(1, 100, w.size), np.cos(np.arange(w.size))

    def closure() -> tuple[float, list[Array]]:
        distance = w.astype(np.float64) - lowest
        return 0.5 * float((curvature * distance**2).sum()), [curvature * distance]

    return closure


@pytest.mark.parametrize("history", [1, 3, 100])
def test_lbfgs_minimizes_many_numbers(history: int) -> None:
    w = np.zeros(20001, np.float32)
    opt = nf.optim.LBFGS([w], max_iter=200, history_size=history)
    opt.step(bowl(w))
    np.testing.assert_allclose(w, np.cos(np.arange(w.size)), atol=1e-4)
    assert opt.message == "the loss changes by less than tolerance_change"


def test_lbfgs_steps_back_from_what_is_not_finite() -> None:
    w = np.zeros(5)

    def closure() -> tuple[float, list[Array]]:
        with np.errstate(all="ignore"):
            return float(np.sum(-np.log(1 - w) - 3 * w)), [1 / (1 - w) - 3]

    nf.optim.LBFGS([w]).step(closure)
    np.testing.assert_allclose(w, 2 / 3, atol=1e-4)


def test_lbfgs_of_a_loss_without_a_minimum() -> None:
    w = np.zeros(3)
    nf.optim.LBFGS([w], max_eval=1000).step(lambda: (-float(w.sum()), [-np.ones(3)]))
    assert np.isfinite(w).all()
    assert (w > 1e9).all()


def test_lbfgs_says_why_it_ends() -> None:
    def message(w: Array, closure: Any, **settings: Any) -> str:
        opt = nf.optim.LBFGS([w], **settings)
        opt.step(closure)
        return opt.message

    w = np.zeros(50)
    assert message(w, bowl(w), max_iter=2) == "max_iter was reached"
    w[:] = 0
    assert message(w, bowl(w), max_eval=1, max_iter=9) == "max_eval was reached"
    w[:] = 1
    same = lambda: (1.0, [np.zeros(50)])  # noqa: E731
    assert message(w, same) == "no element of the gradient is larger than tolerance_grad"
    for wrong in (lambda: (np.nan, [w]), lambda: (1.0, [np.full(50, np.nan)])):
        assert message(w, wrong) == "the loss or its gradient is not finite"
        np.testing.assert_array_equal(w, 1)
    # A gradient that points the wrong way.
    uphill = lambda: (float(w @ w), [-2 * w])  # noqa: E731
    assert message(w, uphill) == "the loss changes by less than tolerance_change"
    np.testing.assert_array_equal(w, 1)
    assert message(np.zeros(0), lambda: (1.0, [np.zeros(0)])) == "there are no parameters"


def test_gradients_may_lie_in_the_same_array_each_time() -> None:
    w, own = np.zeros(50), np.zeros(50)
    grad, new, kept = np.empty(50), bowl(w), bowl(own)

    def closure() -> tuple[float, list[Array]]:
        loss, (slope,) = new()
        grad[:] = slope
        return loss, [grad]

    nf.optim.LBFGS([w]).step(closure)
    nf.optim.LBFGS([own]).step(kept)
    np.testing.assert_array_equal(w, own)


BITS = """
import sys
import numpy as np, nnfast as nf
w = np.zeros(30000)
curvature, lowest = np.linspace(1, 100, w.size), np.cos(np.arange(w.size))
def closure():
    distance = w - lowest
    return float((0.5 * curvature * distance**2).sum()), [curvature * distance]
nf.optim.LBFGS([w], max_iter=12, history_size=int(sys.argv[1])).step(closure)
print(w.tobytes().hex()[:200000:97])
"""


@pytest.mark.parametrize("history", [10, 100])
def test_bits_are_those_of_any_number_of_threads_of_the_blas(history: int) -> None:
    def bits(threads: int) -> str:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
        command = [sys.executable, "-c", BITS, str(history)]
        return subprocess.check_output(command, env=environment, text=True)

    assert bits(1) == bits(2)


@pytest.mark.peers
def test_lbfgs_goes_where_pytorchs_goes() -> None:
    import torch

    w, theirs = np.array([-1.0, 1.0]), torch.tensor([-1.0, 1.0], dtype=torch.float64)
    theirs.requires_grad_()
    nf.optim.LBFGS([w], max_iter=100).step(rosenbrock(w))
    other = torch.optim.LBFGS([theirs], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Any:
        other.zero_grad()
        loss = 100 * (theirs[1] - theirs[0] ** 2) ** 2 + (1 - theirs[0]) ** 2
        loss.backward()
        return loss

    other.step(closure)
    np.testing.assert_allclose(w, theirs.detach().numpy(), atol=1e-4)
