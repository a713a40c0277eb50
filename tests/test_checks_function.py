"""gradient_check of a plain function."""

from typing import Any

import numpy as np
import pytest

import nnfast as nf
from nnfast.checks import gradient_check

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 3))


def two_layers(p: dict[str, Any]) -> float:
    """A network as people write it, with its loss."""
    h = np.maximum(X @ p["w1"] + p["b1"], 0)
    return nf.mse_loss(h @ p["w2"], np.ones((4, 2)))[0]


def gradients(p: dict[str, Any]) -> dict[str, Any]:
    """Of two_layers."""
    h = np.maximum(X @ p["w1"] + p["b1"], 0)
    dz = nf.mse_loss(h @ p["w2"], np.ones((4, 2)))[1]
    dh = (dz @ p["w2"].T) * (h > 0)
    return {"w1": X.T @ dh, "b1": dh.sum(axis=0), "w2": h.T @ dz}


def params(dtype: Any = np.float64) -> dict[str, Any]:
    """First values."""
    rng = np.random.default_rng(1)
    shapes = {"w1": (3, 5), "b1": (5,), "w2": (5, 2)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_network_in_numpy(dtype: Any) -> None:
    p = params(dtype)
    for given in (gradients(p), gradients):
        check = gradient_check(two_layers, p, given, samples=100)
        assert check.passed, check
        assert list(check.arrays) == ["x['w1']", "x['b1']", "x['w2']"]
        assert check.checked + check.kinks >= 30
    wrong = gradients(p)
    wrong["b1"] = wrong["b1"] * 4  # a mean in place of a sum
    check = gradient_check(two_layers, p, wrong, samples=100)
    assert check.wrong == ["x['b1']"]
    assert abs(check.error - 0.75) < 1e-3
    for name, array in params(dtype).items():
        np.testing.assert_array_equal(p[name], array)


@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "softplus"])
def test_a_kernel_by_its_gradient(name: str) -> None:
    forward, backward = getattr(nf, name), getattr(nf, f"{name}_backward")
    dy = RNG.standard_normal(X.shape)
    check = gradient_check(lambda x: (dy * forward(x)).sum(), X, backward(dy, X))
    assert check.passed
    assert check.arrays.keys() == {"x"}
    assert not gradient_check(lambda x: (dy * forward(x)).sum(), X, backward(dy, X) * 1.01).passed


def test_lists_scalars_and_kinks() -> None:
    pair = [X, RNG.standard_normal(3)]
    check = gradient_check(
        lambda p: (p[0] @ p[1]).sum(), pair, [np.tile(pair[1], (4, 1)), X.sum(axis=0)]
    )
    assert check.passed
    assert list(check.arrays) == ["x[0]", "x[1]"]
    assert gradient_check(lambda x: x**2, 3.0, 6.0).passed
    assert not gradient_check(lambda x: x**2, 3.0, 5.0).passed
    assert gradient_check(lambda x: np.abs(x).sum(), np.zeros(3), np.ones(3)).kinks == 3
    # float32 inside leaves fewer digits, of which a larger step makes the best.
    single = gradient_check(
        lambda x: np.square(x.astype(np.float32)).sum(dtype=np.float32) / np.float32(3),
        X,
        X * 2 / 3,
    )
    assert single.passed
    assert single.step > 1e-4


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((lambda x: x, X, X), ValueError, "the function must give a number"),
        ((lambda x: x.sum(), X, X[0]), ValueError, r"gradient of x must have shape \(4, 3\)"),
        ((lambda x: x.sum(), X, [X]), TypeError, "gradient must have the form of x"),
        ((lambda p: 0.0, {"w": X}, {"v": X}), TypeError, "gradient must have the form of x"),
        ((lambda x: np.nan, X, X), ValueError, "must be a finite number"),
        ((lambda x: RNG.random(), X, X), ValueError, "the same number at every evaluation"),
        ((lambda x: 0.0, np.array(["a"]), X), TypeError, "x must be an array of real numbers"),
        ((lambda x: 0.0, np.empty(0), X), ValueError, "x must have an element"),
        (("f", X, X), TypeError, "net must be a Layer"),
    ],
)
def test_errors(arguments: tuple[Any, ...], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        gradient_check(*arguments)


def test_a_function_has_no_loss() -> None:
    with pytest.raises(ValueError, match="loss must be left out"):
        gradient_check(lambda x: x.sum(), X, np.ones_like(X), loss=nf.mse_loss)
