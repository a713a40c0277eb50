"""Penalties and the constraint on norms: values, slopes, bits, errors that change nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from conftest import SAME_BITS_ISAS
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from nnfast.penalties import elastic_net, l1, l2, max_norm_

Array = NDArray[Any]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def weights(dtype: type, *shapes: tuple[int, ...], seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def reference(params: list[Array], a: float, b: float) -> tuple[float, list[Array]]:
    """Value and slopes in long double."""
    wide = [p.astype(np.longdouble) for p in params]
    value = sum(a * np.abs(p).sum() + b / 2 * (p * p).sum() for p in wide)
    return float(value), [a * np.sign(p) + b * p for p in wide]


@both_dtypes
@settings(max_examples=15)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 15, 17, 4095, 4096, 9000]), max_size=4),
    seed=st.integers(0, 1000),
)
def test_values_and_slopes(engine: str, dtype: type, sizes: list[int], seed: int) -> None:
    params = weights(dtype, *((n,) for n in sizes), seed=seed)
    eps = np.finfo(dtype).eps
    for a, b in ((0.3, 0.0), (0.0, 0.7), (0.3, 0.7)):
        grads = weights(dtype, *((n,) for n in sizes), seed=seed + 1)
        before = [g.astype(np.longdouble) for g in grads]
        value = elastic_net(params, a, b, grads)
        _, slopes = reference(params, dtype(a), dtype(b))
        # The strength itself is not rounded for the value.
        assert value == pytest.approx(reference(params, a, b)[0], rel=1e-13)
        for made, old, slope in zip(grads, before, slopes, strict=True):
            np.testing.assert_allclose(made, (old + slope).astype(float), 0, 4 * eps)


@both_dtypes
def test_one_family(dtype: type) -> None:
    params = weights(dtype, (40, 30), (7,))
    for single, strengths in ((l1, (0.4, 0.0)), (l2, (0.0, 0.4))):
        made, expected = ([np.ones_like(p) for p in params] for _ in range(2))
        assert single(params, 0.4, made) == elastic_net(params, *strengths, expected)
        for a, b in zip(made, expected, strict=True):
            assert_same_bits(a, b)
        assert single(params, 0.4) == single(params, 0.4, made)
    named = {"w": params[0], "b": params[1]}
    slopes = {"b": np.zeros_like(params[1]), "w": np.zeros_like(params[0])}
    assert l2(named, 0.4, slopes) == l2(params, 0.4)
    np.testing.assert_allclose(slopes["b"], 0.4 * params[1], 1e-6)


def test_slopes_numerically() -> None:
    (w,) = weights(np.float64, (4, 5))
    for penalty in (
        lambda v, g=None: l1([v], 0.3, g),
        lambda v, g=None: l2([v], 0.3, g),
        lambda v, g=None: elastic_net([v], 0.3, 0.2, g),
    ):
        slope = np.zeros_like(w)
        penalty(w, [slope])
        assert_gradient(slope, lambda v, penalty=penalty: penalty(v), w)


@both_dtypes
def test_same_bits(dtype: type) -> None:
    """For any number of threads and FMA instruction set, and any company in the list."""
    params = weights(dtype, (130, 97), (1,), (20_000,))

    def everything() -> tuple[float, list[Array]]:
        grads = [np.ones_like(p) for p in params]
        return elastic_net(params, 0.1, 0.2, grads), grads

    value, slopes = everything()
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                again, made = everything()
            assert again == value
            for a, b in zip(made, slopes, strict=True):
                assert_same_bits(a, b)
    for param, slope in zip(params, slopes, strict=True):
        alone = np.ones_like(param)
        elastic_net([param], 0.1, 0.2, [alone])
        assert_same_bits(alone, slope)


@both_dtypes
def test_strides(dtype: type) -> None:
    (w,) = weights(dtype, (9, 14))
    expected = np.ones_like(w)
    value = elastic_net([w], 0.1, 0.2, [expected])
    for laid, slope in zip(layouts(w).values(), layouts(np.ones_like(w)).values(), strict=True):
        assert elastic_net([laid], 0.1, 0.2, [slope]) == pytest.approx(value, rel=1e-13)
        assert_same_bits(slope, expected)


@both_dtypes
def test_exact_points(isa: str, dtype: type) -> None:
    w = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 2.0], dtype)
    slope = np.zeros_like(w)
    with np.errstate(all="raise"):
        assert np.isnan(l1([w], 0.5, [slope]))
    np.testing.assert_array_equal(slope, [0, 0, np.nan, 0.5, -0.5, 0.5])
    assert l1([np.array([np.inf], dtype)], 0.5) == np.inf
    # A strength of 0 takes nothing from infinite weights.
    assert l1([np.array([-np.inf], dtype)], 0.0) == 0
    assert l2([], 0.5) == 0


FROZEN = np.ones(3)
FROZEN.flags.writeable = False


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones(3), 0.1), TypeError, "params must be a sequence or mapping of arrays, got nda"),
        (([np.ones(3)], -0.1), ValueError, "strength must not be negative, got -0.1"),
        (([np.ones(3)], np.nan), ValueError, "strength must not be negative, got nan"),
        (([np.ones(3)], "x"), TypeError, "strength must be a real number, got str"),
        (([[1.0]], 0.1), TypeError, r"params\[0\] must be a numpy.ndarray, got list"),
        (([np.ones(3, int)], 0.1), TypeError, r"params\[0\] must have dtype float32 or float64"),
        (([np.ones(3), np.ones(2)], 0.1, [np.ones(3)]), ValueError, "grads must have one array"),
        (([np.ones(3)], 0.1, [np.ones(2)]), ValueError, r"grads\[0\] must have shape \(3,\)"),
        (([np.ones(3)], 0.1, [np.ones(3, "f")]), TypeError, r"grads\[0\] must have dtype float64"),
        (([np.ones(3)], 0.1, [FROZEN]), ValueError, r"grads\[0\] must be writeable"),
        (([FROZEN], 0.1, [FROZEN]), ValueError, r"grads\[0\] must be writeable"),
        (({"a": np.ones(3)}, 0.1, [np.ones(3)]), TypeError, "grads must be a mapping"),
        (({"a": np.ones(3)}, 0.1, {"b": np.ones(3)}), ValueError, "grads must have the names"),
    ],
)
@pytest.mark.parametrize("penalty", [l1, l2])
def test_errors(
    penalty: Callable[..., float],
    arguments: tuple[Any, ...],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        penalty(*arguments)


def test_errors_change_nothing() -> None:
    params, grads = [np.ones(3), np.ones(4)], [np.ones(3), np.ones(5)]
    with pytest.raises(ValueError, match=r"grads\[1\] must have shape"):
        l2(params, 0.5, grads)
    np.testing.assert_array_equal(grads[0], 1)
    w = np.ones(3)
    with pytest.raises(ValueError, match=r"grads\[0\] and params\[0\] must not share memory"):
        l2([w], 0.5, [w])
    for name in ("l1_strength", "l2_strength"):
        strengths = {"l1_strength": 0.1, "l2_strength": 0.1, name: -1}
        with pytest.raises(ValueError, match=f"{name} must not be negative"):
            elastic_net([w], **strengths)
    np.testing.assert_array_equal(w, 1)


# ---- norms ----


@both_dtypes
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 1), (1, 2, 3), (0, 2)])
def test_max_norm(dtype: type, axis: Any) -> None:
    shape = (12, 5, 3, 4) if axis in ((1, 2, 3), (0, 2)) else (12, 20)
    for laid in layouts(weights(dtype, shape)[0]).values():
        before = laid.copy()
        norms = np.sqrt((before.astype(np.longdouble) ** 2).sum(axis=axis, keepdims=True))
        limit = float(np.median(norms)) if norms.size > 1 else 1.0
        assert max_norm_(laid, limit, axis=axis) is laid
        expected = np.where(norms > limit, before * (limit / norms), before).astype(float)
        np.testing.assert_allclose(laid, expected, 4 * np.finfo(dtype).eps)
        within = np.broadcast_to(norms <= limit, shape)
        assert_same_bits(laid[within], before[within])


@both_dtypes
@pytest.mark.parametrize(("shape", "axis"), [((300, 70), 0), ((70, 300), 1), ((9, 20, 30), (0, 2))])
def test_max_norm_bits(dtype: type, shape: tuple[int, ...], axis: Any) -> None:
    w = weights(dtype, shape)[0]
    expected = max_norm_(w.copy(), 2.0, axis=axis)
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_bits(max_norm_(w.copy(), 2.0, axis=axis), expected)
    for laid in layouts(w).values():
        assert_same_bits(max_norm_(laid, 2.0, axis=axis), expected)


@both_dtypes
def test_max_norm_of_infinities_and_nan(dtype: type) -> None:
    w = np.array([[np.nan, 3, 3e-3], [1, 4, 4e-3]], dtype)
    with np.errstate(all="raise"):
        max_norm_(w, 1.0)
    expected = np.array([[np.nan, 0.6, 3e-3], [1, 0.8, 4e-3]], dtype)
    np.testing.assert_allclose(w, expected, 4 * np.finfo(dtype).eps)


def test_max_norm_of_nothing_and_of_zeros() -> None:
    for shape in ((0, 3), (3, 0), (4,)):
        w = np.zeros(shape)
        assert_same_bits(max_norm_(w, 1.0), np.zeros(shape))


def test_max_norm_errors() -> None:
    w = np.ones((2, 3))
    for arguments, keywords, error, message in (
        (([[1.0]], 1.0), {}, TypeError, "weight must be a numpy.ndarray of float32 .* got list"),
        ((w.astype(int), 1.0), {}, TypeError, "weight must be .* got dtype int64"),
        ((FROZEN, 1.0), {}, ValueError, "weight must be writeable"),
        ((w, 0.0), {}, ValueError, "max_norm must be positive, got 0.0"),
        ((w, "x"), {}, TypeError, "max_norm must be a real number"),
        ((w, 0.5), {"axis": 2}, ValueError, "axis must be an axis of weight"),
    ):
        with pytest.raises(error, match=message):
            max_norm_(*arguments, **keywords)
    np.testing.assert_array_equal(w, 1)


def test_penalties_are_reached_by_name() -> None:
    assert nf.penalties.l2 is l2
