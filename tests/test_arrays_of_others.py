"""Dask's, xarray's and pandas' arrays in, the same type out, labels kept, Dask's lazily."""

from collections.abc import Callable
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
ELEMENTWISE = [name for name in TABLE if name not in ("prelu", "gelu_tanh")]
every_activation = pytest.mark.parametrize("name", ELEMENTWISE)


def inputs() -> tuple[Array, Array]:
    """dy and x (or y: positive enough for any gradient), in float32."""
    rng = np.random.default_rng(0)
    dy, x = rng.standard_normal((2, 12, 10)).astype(np.float32)
    return dy, x


def both(name: str) -> list[tuple[Callable[..., Any], int]]:
    """A function and its gradient, with how many arrays they take."""
    return [(getattr(nf, name), 1), (getattr(nf, f"{name}_backward"), 2)]


class Touched(Exception):
    """Raised when a lazy array is computed too early."""


def lazy(x: Array, chunks: Any) -> da.Array:
    """A Dask array whose first block cannot be computed."""

    def fail(block: Array, block_info: Any = None) -> Array:
        raise Touched

    return da.from_array(x, chunks=chunks).map_blocks(fail, dtype=x.dtype)


@every_activation
def test_dask(name: str) -> None:
    for function, count in both(name):
        arrays = inputs()[-count:]
        expected = function(*arrays)
        for chunks in ((5, 4), (12, 10), (1, 10)):
            result = function(*(da.from_array(a, chunks=chunks) for a in arrays))
            assert isinstance(result, da.Array)
            assert result.dtype == np.float32
            assert_same_bits(result.compute(scheduler="sync"), expected)
        untouched = function(*(lazy(a, (5, 4)) for a in arrays))
        with pytest.raises(Touched):
            untouched.compute(scheduler="sync")


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_dask_along_an_axis(name: str) -> None:
    _, x = inputs()
    function = getattr(nf, name)
    result = function(da.from_array(x, chunks=(5, 10)))
    assert isinstance(result, da.Array)
    assert_same_bits(result.compute(scheduler="sync"), function(x))
    with pytest.raises(ValueError, match="Core dimension|core dimension"):
        function(da.from_array(x, chunks=(5, 4)))


@pytest.mark.parametrize("name", ["glu", "geglu", "swiglu"])
def test_dask_gates(name: str) -> None:
    dy, x = inputs()
    function, gradient = getattr(nf, name), getattr(nf, f"{name}_backward")
    lazy_x, lazy_dy = da.from_array(x, chunks=(5, 4)), da.from_array(dy[:, :5], chunks=(5, 4))
    y, dx = function(lazy_x), gradient(lazy_dy, lazy_x)
    assert isinstance(y, da.Array)
    assert isinstance(dx, da.Array)
    assert_same_bits(y.compute(scheduler="sync"), function(x))
    assert_same_bits(dx.compute(scheduler="sync"), gradient(dy[:, :5], x))


@pytest.mark.parametrize("name", ["bias_relu", "bias_gelu", "bias_silu", "bias_tanh"])
def test_dask_bias(name: str) -> None:
    _, x = inputs()
    result = getattr(nf, name)(da.from_array(x, chunks=(5, 4)), x[0])
    assert isinstance(result, da.Array)
    assert_same_bits(result.compute(scheduler="sync"), getattr(nf, name)(x, x[0]))


@every_activation
def test_xarray_keeps_labels(name: str) -> None:
    for function, count in both(name):
        arrays = inputs()[-count:]
        labelled = [
            xr.DataArray(a, dims=("batch", "unit"), coords={"unit": np.arange(10) * 3}, name="z")
            for a in arrays
        ]
        result = function(*labelled)
        assert isinstance(result, xr.DataArray)
        assert result.dims == ("batch", "unit")
        np.testing.assert_array_equal(result.coords["unit"], np.arange(10) * 3)
        assert_same_bits(result.values, function(*arrays))


def test_xarray_along_an_axis() -> None:
    _, x = inputs()
    labelled = xr.DataArray(x, dims=("batch", "unit"))
    along = {"input_core_dims": [["unit"]], "output_core_dims": [["unit"]]}
    result = xr.apply_ufunc(nf.softmax, labelled, **along)
    assert_same_bits(result.values, nf.softmax(x))
    assert result.dims == ("batch", "unit")


@every_activation
def test_pandas_keeps_labels(name: str) -> None:
    for function, count in both(name):
        arrays = inputs()[-count:]
        expected = function(*arrays)
        frames = [pd.DataFrame(a, columns=list("abcdefghij")) for a in arrays]
        frame = function(*frames)
        assert isinstance(frame, pd.DataFrame)
        assert list(frame.columns) == list("abcdefghij")
        assert_same_bits(frame.to_numpy(), expected)
        series = function(*(f["c"] for f in frames))
        assert isinstance(series, pd.Series)
        assert series.name == "c"
        assert_same_bits(series.to_numpy(), expected[:, 2])
