"""Gradients from x or from y: which they take, by position and by keyword, and the ufuncs below them."""

import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray

import nnfast as nf
from layouts import assert_same_bits
from nnfast.activations import TABLE

Array = NDArray[Any]
ELEMENTWISE = [name for name in TABLE if name != "gelu_tanh"]
WITHOUT_PARAMETERS = [name for name in ELEMENTWISE if TABLE[name].ufunc == name]
every_activation = pytest.mark.parametrize("name", ELEMENTWISE)

X = np.random.default_rng(0).normal(0, 2, (6, 8)).astype(np.float32)
DY = np.random.default_rng(1).standard_normal((6, 8)).astype(np.float32)
BIAS = np.linspace(-1, 1, 8, dtype=np.float32)


def documented() -> dict[str, tuple[list[str], list[str]]]:
    """What docs/activations.md says that each gradient takes, by position and by keyword."""
    text = (Path(__file__).parents[1] / "docs/activations.md").read_text()
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| `")]
    words = [[re.findall(r"`(\w+)`", cell) for cell in row] for row in rows]
    others: dict[str, tuple[list[str], list[str]]] = {
        f"{name}_backward": (["x"], []) for name in ELEMENTWISE
    }
    return others | {name: (taken, other) for names, taken, other in words for name in names}


def arguments(name: str) -> tuple[dict[str, Any], Any]:
    """What the function of that name is given, and what it returns."""
    given: dict[str, Any] = {"x": X}
    if name.startswith("bias_"):
        given["bias"] = BIAS
    elif name.startswith("prelu"):
        given["weight"] = BIAS
    return given, getattr(nf, name.removesuffix("_weight"))(*given.values())


def each(results: Any) -> tuple[Array, ...]:
    """One array, or several."""
    return results if isinstance(results, tuple) else (results,)


FROM_X_OR_Y = [name for name, (taken, _) in documented().items() if taken[0] in "xy"]


def test_the_documented_table_is_complete() -> None:
    assert documented().keys() == {name for name in nf.__all__ if name.endswith("_backward")}
    for name in ELEMENTWISE:
        taken, other = documented()[f"{name}_backward"]
        assert (taken[0], *other) == TABLE[name].takes


@pytest.mark.parametrize(
    "gradient", [n for n in FROM_X_OR_Y if not re.search("_norm|drop|conv|rrelu", n)]
)
def test_the_documented_table_is_true(gradient: str) -> None:
    """What it says can be given gives the gradient, and nothing else."""
    function = getattr(nf, gradient)
    name = gradient.removesuffix("_backward")
    taken, other = documented()[gradient]
    given, y = arguments(name)
    everything = {**given, "y": y}
    dy = {"logsumexp": DY[:, 0]}.get(name, DY[:, : np.shape(y)[-1]])
    expected = function(dy, *(everything[key] for key in taken))
    by_keyword = function(dy, **{key: everything[key] for key in taken})
    for found, same in zip(each(expected), each(by_keyword), strict=True):
        assert_same_bits(found, same)
    if other:
        found = function(dy, **{key: everything[key] for key in other})
        tolerance = 2e-5 if "y" in other else 0
        for one, desired in zip(each(found), each(expected), strict=True):
            np.testing.assert_allclose(one, desired, rtol=tolerance, atol=tolerance * 1e-2)
    wanted = re.escape(gradient) + r" must be given (x|y) \(what "
    if gradient in ("prelu_weight_backward", "masked_softmax_backward"):
        wanted = gradient  # Python's own errors
    for wrong in ({}, {"x": given["x"], "y": y}, {"y": y} if taken[0] == "x" and not other else {}):
        rest = {key: value for key, value in given.items() if key != "x" and "x" in wrong}
        with pytest.raises(TypeError, match=wanted):
            function(dy, **wrong, **rest)


def test_errors_say_what_to_give() -> None:
    for call, message in (
        (
            lambda: nf.silu_backward(DY, y=X),
            r"silu_backward must be given x \(what silu was given\), got y",
        ),
        (lambda: nf.silu_backward(DY, X, y=X), r"must be given x \(.*\), got x and y"),
        (
            lambda: nf.tanh_backward(DY),
            r"must be given y \(what tanh returned\) or x \(.*\), got neither",
        ),
        (lambda: nf.tanh_backward(DY, X, x=X), "got y and x"),
        (lambda: nf.prelu_backward(DY, X), "prelu_backward must be given weight"),
        (lambda: nf.bias_relu_backward(DY, x=X), "must be given x and bias together, got x"),
        (lambda: nf.bias_silu_backward(DY, X), "must be given x and bias together, got x"),
        (lambda: nf.bias_tanh_backward(DY, X, bias=BIAS), "x and bias together, got bias"),
        (lambda: nf.relu_backward(DY, X, slope=1), "unexpected keyword argument 'slope'"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


# ---- from x where y is kept, and from y where x is ----


@every_activation
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(name: str, dtype: type) -> None:
    gradient, row = getattr(nf, f"{name}_backward"), TABLE[name]
    x, dy = X.astype(dtype), DY.astype(dtype)
    more = (dtype(0.25),) if name == "prelu" else ()
    y = getattr(nf, name)(x, *more)
    expected = gradient(dy, {"x": x, "y": y}[row.saves], *more)
    weight = {"weight": dtype(0.25)} if name == "prelu" else {}
    assert_same_bits(gradient(dy, x=x, **weight), expected)
    if row.slope_of_y:
        found = gradient(dy, y=y)
        assert found.dtype == dtype
        # An error of half an ULP of y is one of 1 - abs(y) and its like.
        slack = 4 * np.finfo(dtype).eps * np.abs(dy.astype(float))
        assert np.all(np.abs(found.astype(float) - expected) <= slack)


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if TABLE[name].slope_of_y])
def test_the_slope_by_y_is_exact_where_y_is(name: str) -> None:
    """In float64, over the tails, and at the limits."""
    x = np.concatenate([np.linspace(-30, 30, 601), [-np.inf, np.inf, np.nan]])
    if name == "softsign":
        x = x[np.abs(x) < 4]
    y = getattr(nf, name)(x)
    gradient = getattr(nf, f"{name}_backward")
    with np.errstate(all="raise", under="ignore"):
        found = gradient(1.0, y=y)
    np.testing.assert_allclose(found, gradient(1.0, x), rtol=1e-14)


def test_any_slope_and_bound_from_x() -> None:
    """x tells the side of a kink where y of a negative slope does not."""
    dx = nf.leaky_relu_backward(DY, x=X, negative_slope=-0.5)
    assert_same_bits(dx, np.where(X > 0, DY, np.float32(-0.5) * DY))
    assert_same_bits(
        nf.hardtanh_backward(DY, x=X, max_val=0.5), np.where((X > -1) & (X < 0.5), DY, 0)
    )
    with pytest.raises(ValueError, match="negative_slope must not be negative"):
        nf.leaky_relu_backward(DY, X, -0.5)


@pytest.mark.parametrize("name", ["tanh", "elu", "softplus", "hardsigmoid", "silu", "relu"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_arrays_of_others_keep_their_kind_and_dtype(name: str, dtype: type) -> None:
    x = X.astype(dtype)
    expected = nf.derivative(name, x)
    gradient = getattr(nf, f"{name}_backward")
    for lazy in (da.from_array(x, chunks=3), xr.DataArray(x, dims=("a", "b")), pd.DataFrame(x)):
        found = [nf.derivative(name, lazy), gradient(lazy, x=lazy)]
        if "y" in TABLE[name].takes:
            found.append(gradient(lazy, y=getattr(nf, name)(lazy)))
        for result in found:
            assert type(result) is type(lazy)
            assert np.asarray(result).dtype == dtype
        assert_same_bits(np.asarray(found[0]), expected)
    masked = np.ma.masked_array(x, x > 0)
    np.testing.assert_array_equal(gradient(masked, x=masked).mask, masked.mask)


# ---- the ufunc below ----


class Override:
    """Shows what a ufunc gives to those who override it."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return ufunc, len(inputs), kwargs


@pytest.mark.parametrize("name", WITHOUT_PARAMETERS)
def test_keywords_are_those_of_the_ufunc(name: str) -> None:
    gradient = getattr(nf, f"{name}_backward")
    mine, where = Override(), X > 0
    for kwargs in (
        {},
        {"out": None},
        {"where": where},
        {"dtype": np.float64},
        {"out": np.empty_like(X), "where": where},
        {"out": (np.empty_like(X),), "dtype": np.float32},
    ):
        assert str(gradient(mine, mine, **kwargs)) == str(gradient.ufunc(mine, mine, **kwargs))
        assert str(gradient(DY, mine, **kwargs)) == str(gradient.ufunc(DY, mine, **kwargs))
    for kwargs in (
        {"dtype": np.float64, "where": where, "out": np.zeros(X.shape)},
        {"dtype": np.float32, "casting": "unsafe"},
        {"order": "F"},
        {"subok": False},
    ):
        found, expected = gradient(DY, X, **kwargs), gradient.ufunc(DY, X, **kwargs)
        assert found.flags.f_contiguous == expected.flags.f_contiguous
        assert_same_bits(found, expected)
    out = np.empty_like(X)
    assert gradient(DY, X, out) is out
    assert gradient(DY, X, out=(out,)) is out
    assert_same_bits(out, gradient.ufunc(DY, X))
    with pytest.raises(TypeError, match="Cannot cast"):
        gradient(DY, X, dtype=np.float16, casting="safe")
    matrix = X.view(np.matrix)
    assert type(gradient(matrix, matrix, subok=False)) is np.ndarray
    assert type(gradient(matrix, matrix)) is np.matrix
    assert list(inspect.signature(gradient).parameters)[:3] == ["dy", TABLE[name].saves, "out"]


def test_layers_call_the_ufunc() -> None:
    for layer in (nf.nn.ReLU, nf.nn.SiLU, nf.nn.Tanh):
        assert isinstance(layer._derivative, np.ufunc)


@pytest.mark.parametrize("gradient", [f"{name}_backward" for name in ELEMENTWISE])
def test_functions_and_ufuncs_pickle(gradient: str) -> None:
    function = getattr(nf, gradient)
    for value in (function, function.ufunc):
        assert pickle.loads(pickle.dumps(value)) is value
    # As version 0.1 named it, whose gradients were ufuncs.
    for module in ("nnfast", "nnfast.activations"):
        assert pickle.loads(f"c{module}\n{gradient}\n.".encode()) is function
    lower = f"cnnfast.activations\n_{gradient}\n.".encode()
    if TABLE[gradient.removesuffix("_backward")].params:
        assert pickle.loads(lower) is function.ufunc


# ---- the derivative alone ----


@every_activation
def test_derivative(name: str) -> None:
    more = {"weight": np.float32(-0.5)} if name == "prelu" else {}
    desired = getattr(nf, f"{name}_backward")(np.ones_like(X), x=X, **more)
    found = nf.derivative(name, X, **more)
    assert_same_bits(found, desired)
    out = X.copy()
    assert nf.derivative(name, out, out=out, **more) is out
    assert_same_bits(out, desired)
    assert isinstance(nf.derivative(name, 1.5, **more), np.floating)
    some = nf.derivative(name, X, where=X > 0, out=np.full_like(X, 9), **more)
    assert_same_bits(some, np.where(X > 0, desired, 9))


def test_derivative_takes_the_parameters() -> None:
    x = X.astype(float)
    h = 1e-6
    for name, parameters in (
        ("elu", {"alpha": 0.3}),
        ("celu", {"alpha": 0.3}),
        ("softplus", {"beta": 2.0}),
        ("squareplus", {"b": 0.3}),
        ("threshold", {"threshold": 0.3, "value": -2.0}),
        ("hardshrink", {"lambd": 0.3}),
        ("softshrink", {"lambd": 0.3}),
        ("leaky_relu", {"negative_slope": -0.2}),
        ("hardtanh", {"min_val": -0.5, "max_val": 2.0}),
        ("gelu", {"approximate": "tanh"}),
    ):
        function = getattr(nf, name)
        slope = (function(x + h, **parameters) - function(x - h, **parameters)) / (2 * h)
        np.testing.assert_allclose(nf.derivative(name, x, **parameters), slope, atol=1e-8)


def test_derivative_errors() -> None:
    for call, error, message in (
        (
            lambda: nf.derivative("swish", X),
            ValueError,
            "activation, such as .*silu.*, got 'swish'",
        ),
        (lambda: nf.derivative("LeakyReLU", X), ValueError, "such as leaky_relu"),
        (lambda: nf.derivative("softmax", X), ValueError, "name must be an elementwise activation"),
        (lambda: nf.derivative("qqq", X), ValueError, "such as relu, .* gelu, got 'qqq'"),
        (lambda: nf.derivative(nf.silu, X), TypeError, "name must be a str, got ufunc"),
        (lambda: nf.derivative(["silu"], X), TypeError, "name must be a str, got list"),
        (lambda: nf.derivative("silu", X, alpha=1), TypeError, "keyword argument 'alpha'"),
        (lambda: nf.derivative("elu", X, alpha=-1), ValueError, "alpha must be positive"),
        (lambda: nf.derivative("prelu", X), TypeError, "must be given weight"),
        (lambda: nf.derivative("squareplus", X, b=0), ValueError, "b must be positive"),
        (lambda: nf.derivative("squareplus", X, b=np.inf), ValueError, "b must be finite"),
        (lambda: nf.derivative("softshrink", X, lambd=-1), ValueError, "lambd must not be negat"),
        (lambda: nf.derivative("hardshrink", X, lambd=np.nan), ValueError, "lambd must be finite"),
        (lambda: nf.threshold(X, np.nan), ValueError, "threshold must be a number, got nan"),
        (lambda: nf.softplus(X, threshold="1"), TypeError, "threshold must be a real number"),
        (
            lambda: nf.softplus_backward(DY, y=X, threshold=20.0),
            ValueError,
            "threshold must be inf where y is given, got 20.0",
        ),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("bound", [0.1, 0.3, 0.7, 0.9, 1e5])
def test_hardtanh_knows_its_bounds_in_the_dtype_of_y(dtype: type, bound: float) -> None:
    x = np.array([5, -5, 0.05], dtype)
    y = nf.hardtanh(x, -bound, bound)
    expected = (np.abs(x.astype(float)) < bound).astype(float)
    for dy in (np.ones(3, dtype), np.ones(3, np.float32), np.ones(3)):
        np.testing.assert_array_equal(nf.hardtanh_backward(dy, y, -bound, bound), expected)
        np.testing.assert_array_equal(
            nf.hardtanh_backward(dy, x=x, min_val=-bound, max_val=bound), expected
        )


@pytest.mark.parametrize("name", [row.name for row in TABLE.values() if row.slope_of_y])
@pytest.mark.parametrize("y", [np.array([0, 1]), np.array([0.5j]), np.array([0.5], object)])
def test_y_is_of_floats(name: str, y: Array) -> None:
    with pytest.raises(TypeError, match="y must be of float16, float32 or float64, got"):
        getattr(nf, f"{name}_backward")(1.0, y=y)
