"""The statistics of batch-normalized layers over whole data."""

from typing import Any

import numpy as np
import pytest

import nnfast as nf
from averaging_data import FROZEN, Array, assert_stats, exact_stats, kept, three_dtypes
from layouts import assert_same_bits
from nnfast.averaging import BatchNormRecomputer


def data(dtype: type, batches: int, seed: int = 0) -> list[Array]:
    """Batches of unequal sizes, of channels with large and small means."""
    rng = np.random.default_rng(seed)
    mean, std = [0.0, 1e4, -3.0], [1.0, 1.0, 1e-3]
    return [rng.normal(mean, std, (rng.integers(1, 60), 3)).astype(dtype) for _ in range(batches)]


@three_dtypes
@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("batches", [1, 2, 3, 7, 64, 501])
def test_statistics_are_those_of_all_data_at_once(
    dtype: type, correction: int, batches: int
) -> None:
    pieces = data(dtype, batches)
    mean, var = np.zeros((2, 3), kept(dtype))
    layer = BatchNormRecomputer(mean, var, running_var_correction=correction)
    for piece in pieces:
        layer.update(piece)
    layer.finish()
    whole = np.concatenate(pieces)
    assert_stats((mean, var), exact_stats(whole, correction))
    # As batch_norm updates them from all data in one call.
    at_once = np.zeros((2, 3), kept(dtype))
    nf.batch_norm(
        whole, None, None, *at_once, training=True, momentum=1, running_var_correction=correction
    )
    assert_stats((mean, var), tuple(at_once.astype(np.longdouble)))


def test_many_batches_add_no_rounding_and_no_memory() -> None:
    x = np.random.default_rng(0).normal(1e6, 1, (20_000, 2, 1))
    mean, var = np.zeros((2, 1))
    layer = BatchNormRecomputer(mean, var)
    for piece in x:
        layer.update(piece)
        assert len(layer._pieces) <= 15
    layer.finish()
    assert_stats((mean, var), exact_stats(x.reshape(-1, 1), 1))


@pytest.mark.parametrize(("shape", "axis"), [((5, 3, 4, 2), 1), ((5, 4, 2, 3), -1), ((5, 3), 1)])
def test_statistics_along_any_axis(shape: tuple[int, ...], axis: int) -> None:
    x = np.random.default_rng(0).normal(2, 3, shape)
    mean, var = np.zeros((2, 3))
    layer = BatchNormRecomputer(mean, var, axis=axis)
    layer.update(x[:0])
    layer.update(x[:2])
    layer.update(x[2:])
    layer.finish()
    rows = np.moveaxis(x, axis, -1).reshape(-1, 3)
    np.testing.assert_allclose(mean, rows.mean(axis=0), 1e-14)
    np.testing.assert_allclose(var, rows.var(axis=0, ddof=1), 1e-14)


def test_more_batches_may_follow() -> None:
    pieces = data(np.float64, 5)
    mean, var = np.zeros((2, 3))
    layer = BatchNormRecomputer(mean, var)
    for seen, piece in enumerate(pieces, 1):
        layer.update(piece)
        mean[:], var[:] = 5, 5
        layer.finish()
        expected = exact_stats(np.concatenate(pieces[:seen]), 1)
        np.testing.assert_allclose(mean, expected[0].astype(float), 1e-14)
        np.testing.assert_allclose(var, expected[1].astype(float), 1e-12)


def test_too_few_values_write_nothing() -> None:
    mean, var = np.zeros(2), np.ones(2)
    layer = BatchNormRecomputer(mean, var)
    with pytest.raises(ValueError, match="batches must hold at least 2 values a channel, got 0"):
        layer.finish()
    layer.update(np.full((1, 2), 7.0))
    with pytest.raises(ValueError, match="batches must hold at least 2 values a channel, got 1"):
        layer.finish()
    with pytest.raises(ValueError, match="x must have 2 channels, got 3"):
        layer.update(np.ones((1, 3)))
    biased = BatchNormRecomputer(mean, var, running_var_correction=0)
    with pytest.raises(ValueError, match="batches must hold at least 1 values a channel, got 0"):
        biased.finish()
    assert_same_bits(np.array([mean, var]), np.array([[0.0, 0], [1, 1]]))
    var.flags.writeable = False
    layer.update(np.ones((1, 2)))
    with pytest.raises(ValueError, match="running_var must be writeable"):
        layer.finish()
    assert_same_bits(mean, np.zeros(2))
    var.flags.writeable = True
    layer.finish()  # and the batch that did not fit was not counted
    assert_same_bits(np.array([mean, var]), np.array([[4.0, 4], [18, 18]]))


MEMORY = np.ones(5)


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (([0.0], np.ones(1)), {}, TypeError, "running_mean must be a numpy.ndarray of float32 or"),
        ((np.ones(3), np.ones(3, int)), {}, TypeError, "running_var .*, got dtype int64"),
        ((np.ones(3, "e"), np.ones(3)), {}, TypeError, "running_mean .*, got dtype float16"),
        ((np.ones((2, 2)), np.ones(4)), {}, ValueError, r"running_mean must have shape \(4,\)"),
        ((np.ones((3, 1)), np.ones(3)), {}, ValueError, r"running_var must have the shape of run"),
        ((np.ones(3), np.ones(3)), {"convention": "jax"}, ValueError, "convention must be 'torch'"),
        ((np.ones(3), np.ones(4)), {}, ValueError, r"running_var must have shape \(3,\), got \(4"),
        ((FROZEN, np.ones(3)), {}, ValueError, "running_mean must be writeable"),
        ((np.ones(3), FROZEN), {}, ValueError, "running_var must be writeable"),
        ((MEMORY[:3], MEMORY[2:]), {}, ValueError, "running_mean and running_var must not share"),
        ((np.ones(3), np.ones(3)), {"axis": 1.0}, TypeError, "axis must be an int, got float"),
        (
            (np.ones(3), np.ones(3)),
            {"running_var_correction": 2},
            ValueError,
            "running_var_correction must be 0 or 1, got 2",
        ),
    ],
)
def test_running_arrays_are_checked(
    arguments: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BatchNormRecomputer(*arguments, **settings)


def test_running_arrays_of_a_convention_in_its_shape() -> None:
    x = np.random.default_rng(0).standard_normal((4, 50))
    for convention, correction in (("torch", 1), ("keras", 0), ("cs231n", 0)):
        mean, var = np.zeros((4, 1)), np.ones((4, 1))
        layer = BatchNormRecomputer(mean, var, axis=0, convention=convention)
        layer.update(x)
        layer.finish()
        np.testing.assert_allclose(mean, x.mean(axis=1, keepdims=True), rtol=1e-13)
        np.testing.assert_allclose(var, x.var(axis=1, ddof=correction, keepdims=True), rtol=1e-13)
