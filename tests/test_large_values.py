"""float64 values whose squares overflow: what float64 can hold is right, the rest is infinite with NumPy's warning."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nnfast as nf
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from nnfast.preprocessing import PCA, StandardScaler, Whitening

Array = NDArray[Any]
EPS = 1e-300  # nothing beside the variances here
SCALES = (1e154, 1e200, 1e300)
SHAPES = ((8, 5), (3, 4, 70), (300, 3), (2, 4099))


def forward(x: Array) -> dict[str, Array]:
    with np.errstate(over="ignore"):
        return {
            "batch_norm": nf.batch_norm(x, training=True, eps=EPS)[0],
            "layer_norm": nf.layer_norm(x, eps=EPS)[0],
            "rms_norm": nf.rms_norm(x, eps=EPS)[0],
            "group_norm": nf.group_norm(x, 1, eps=EPS)[0],
        }


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_norms_do_not_depend_on_the_scale(isa: str, shape: tuple[int, ...], scale: float) -> None:
    x = np.random.default_rng(0).standard_normal(shape) + 0.5
    expected = forward(x)
    for name, y in forward(scale * x).items():
        np.testing.assert_allclose(y, expected[name], 1e-12, 1e-13, err_msg=name)


@pytest.mark.parametrize("scale", SCALES)
def test_statistics_and_gradients(isa: str, scale: float) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 64, 9))
    y, saved = nf.batch_norm(x, training=True, eps=EPS)
    _, scaled = nf.batch_norm(scale * x, training=True, eps=EPS)
    np.testing.assert_allclose(scaled.mean / scale, saved.mean, 1e-14, 1e-15)
    np.testing.assert_allclose(scaled.inv_std, saved.inv_std / scale, 1e-14)
    dx, dgamma, _ = nf.batch_norm_backward(dy, scale * x, None, scaled)
    assert np.isfinite(dx).all()
    np.testing.assert_allclose(dgamma, (dy * y).sum(axis=0), 1e-12, 1e-12)
    for norm, backward in (
        (nf.layer_norm, nf.layer_norm_backward),
        (nf.rms_norm, nf.rms_norm_backward),
    ):
        y, saved = norm(scale * x, eps=EPS)
        gradients = backward(dy, scale * x, None, saved)
        assert all(np.isfinite(gradient).all() for gradient in gradients)
        np.testing.assert_allclose(gradients[1], (dy * y).sum(axis=0), 1e-12, 1e-12)


def test_the_largest_numbers() -> None:
    x = np.full((7, 3), np.finfo(float).max)
    assert_same_bits(nf.batch_norm(x, training=True)[0], np.zeros((7, 3)))
    x[::2] /= 2
    y, saved = nf.batch_norm(x, training=True)
    small = x * 2.0**-600
    np.testing.assert_allclose(saved.mean, 2.0**600 * small.mean(axis=0), 1e-15)
    np.testing.assert_allclose(y, (small - small.mean(axis=0)) / small.std(axis=0), 1e-14)
    np.testing.assert_allclose(nf.rms_norm(np.full((2, 5), -np.finfo(float).max))[0], -1, 1e-15)


def test_bits_at_large_values() -> None:
    x = 1e200 * np.random.default_rng(0).standard_normal((130, 40))
    expected = forward(x)
    for threads in (1, 2, 7):
        with forced(threads=threads, grain=1):
            for name, y in forward(x).items():
                assert_same_bits(y, expected[name])
    for laid in layouts(x).values():
        for name, y in forward(laid).items():
            assert_same_bits(y, expected[name])


def test_infinite_values_stay_in_their_channel_and_row(isa: str) -> None:
    x = np.random.default_rng(0).standard_normal((6, 5)) * 1e200
    x[2, 3] = np.inf
    with np.errstate(over="ignore"):
        y = nf.batch_norm(x, training=True)[0]
        assert np.isnan(y[:, 3]).all()
        assert_same_bits(y[:, :3], nf.batch_norm(x[:, :3], training=True)[0])
    for norm in (nf.layer_norm, nf.rms_norm):
        finite = np.isfinite(norm(x)[0])
        assert finite[[0, 1, 3, 4, 5]].all()
        assert not finite[2].all()


# ---- what float64 or float32 cannot hold ----


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e30), (np.float64, 1e200)])
def test_a_running_variance_that_overflows_is_infinite(dtype: type, scale: float) -> None:
    x = (scale * np.random.default_rng(0).standard_normal((8, 3))).astype(dtype)
    mean, var = np.zeros(3, dtype), np.ones(3, dtype)
    with pytest.warns(RuntimeWarning, match="overflow encountered in batch_norm"):
        y, _ = nf.batch_norm(x, None, None, mean, var, training=True)
    assert np.isfinite(y).all()
    assert np.isfinite(mean).all()
    assert np.isposinf(var).all()
    # Infinite before, it overflows no more.
    nf.batch_norm(x, None, None, mean, var, training=True)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="batch_norm"):
        nf.batch_norm(x, None, None, mean, np.ones(3, dtype), training=True)


def test_statistics_of_pieces_overflow_to_infinity() -> None:
    x = 1e200 * np.random.default_rng(0).standard_normal((8, 3))
    with pytest.warns(RuntimeWarning, match="overflow encountered in batch_norm_stats"):
        stats = nf.batch_norm_stats(x)
    np.testing.assert_allclose(stats.mean, x.mean(axis=0), 1e-14)
    with np.errstate(over="ignore"):
        merged = nf.merge_stats(stats, stats)
    np.testing.assert_allclose(merged.mean, x.mean(axis=0), 1e-14)
    assert np.isposinf(stats.m2).all()
    assert np.isposinf(merged.m2).all()


@pytest.mark.parametrize("transformer", [StandardScaler(), PCA(2), Whitening()])
def test_transformers_say_that_the_variance_overflows(transformer: Any) -> None:
    x = 1e200 * np.random.default_rng(0).standard_normal((20, 3))
    with pytest.raises(ValueError, match="X must have a variance that float64 can hold"):
        transformer.fit(x)


@pytest.mark.parametrize("axis", [0, 1, (0, 1)])
@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e30), (np.float64, 1e200)])
def test_max_norm_of_large_weights(axis: Any, dtype: type, scale: float) -> None:
    w = (np.random.default_rng(0).standard_normal((6, 4)) * scale).astype(dtype)
    expected = (w / scale) / np.sqrt(np.square(w / scale).sum(axis=axis, keepdims=True))
    nf.penalties.max_norm_(w, 1.0, axis=axis)
    np.testing.assert_allclose(w, expected, 4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("each", [False, True])
def test_gradients_are_clipped_by_their_norm(isa: str, scale: float, each: bool) -> None:
    rng = np.random.default_rng(0)
    grads = [rng.standard_normal(5000), rng.standard_normal((7, 3)).T]
    options: dict[str, Any] = {"clip_norm" if each else "clip_global_norm": 2.0}
    ends = []
    for factor in (1.0, scale):
        params = [np.zeros_like(grad) for grad in grads]
        opt = nf.optim.SGD(params, lr=1, **options)
        stats = opt.step([factor * grad for grad in grads], stats=True)
        assert stats is not None
        norms = [factor * np.linalg.norm(grad) for grad in grads]
        np.testing.assert_allclose(stats.grad_norm, norms, 1e-12)
        np.testing.assert_allclose(
            stats.global_grad_norm / factor, np.hypot(*norms) / factor, 1e-12
        )
        ends.append(params)
    for small, large in zip(*ends, strict=True):
        np.testing.assert_allclose(large, small, 1e-6)


def test_norms_of_gradients_that_are_no_numbers_say_so() -> None:
    for value in (np.nan, np.inf):
        opt = nf.optim.SGD([np.zeros(3), np.zeros(2)], lr=1, skip_nonfinite=True)
        stats = opt.step([np.array([1.0, value, 2.0]), np.ones(2)], stats=True)
        assert stats is not None
        assert stats.skipped
        np.testing.assert_array_equal(stats.grad_norm, [value, np.sqrt(2)])
        np.testing.assert_equal(stats.global_grad_norm, value)
