"""L-BFGS, by SciPy: minima, errors that leave the parameters as they were."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nnfast as nf
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
    pytest.importorskip("scipy")
    w = np.array([-1.0, 1.0], dtype)
    opt = nf.optim.LBFGS([w], max_iter=100)
    assert opt.step(rosenbrock(w)) == pytest.approx(4.0)
    np.testing.assert_allclose(w, 1, atol=bound)
    assert opt.step_count == 1
    assert opt.message


def test_lbfgs_takes_names_and_several_arrays() -> None:
    pytest.importorskip("scipy")
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
    pytest.importorskip("scipy")
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


@pytest.mark.peers
def test_lbfgs_goes_where_pytorchs_goes() -> None:
    import torch

    pytest.importorskip("scipy")
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
