"""Group and instance normalisation: values, gradients, bits, errors that change nothing."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nnfast as nf
from conftest import FMA_ISAS
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from normalization_data import images
from tests.reference.normalization import group_norm

Array = NDArray[Any]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


GROUPS = [((4, 6), 2), ((3, 12, 7), 4), ((2, 6, 5, 7), 6), ((2, 8, 4, 4), 1), ((1, 3, 2, 2, 3), 3)]


@pytest.mark.parametrize(("shape", "groups"), GROUPS)
@both_dtypes
def test_groups(engine: str, shape: tuple[int, ...], groups: int, dtype: type) -> None:
    x, gamma, beta, dy = images(shape, dtype)
    y, saved = nf.group_norm(x, groups, gamma, beta)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(
        y, group_norm(x.astype(np.longdouble), groups, gamma, beta).astype(float), 8 * eps, 16 * eps
    )
    assert saved.mean.shape == saved.inv_std.shape == (shape[0], groups)
    results = [y, *nf.group_norm_backward(dy, x, gamma, saved)]
    with forced(isa=FMA_ISAS[-1] if engine in FMA_ISAS else engine, threads=1):
        y, saved = nf.group_norm(x, groups, gamma, beta)
        expected = [y, *nf.group_norm_backward(dy, x, gamma, saved)]
    for made, desired in zip(results, expected, strict=True):
        assert_same_bits(made, desired)
    for laid, laid_dy in zip(layouts(x).values(), layouts(dy).values(), strict=True):
        y, saved = nf.group_norm(laid, groups, gamma, beta)
        assert_same_bits(y, results[0])
        for made, desired in zip(
            nf.group_norm_backward(laid_dy, laid, gamma, saved), results[1:], strict=True
        ):
            assert_same_bits(made, desired)
    last, last_saved = nf.group_norm(np.moveaxis(x, 1, -1), groups, gamma, beta, axis=-1)
    assert_same_bits(np.moveaxis(last, -1, 1), results[0])
    dx = nf.group_norm_backward(np.moveaxis(dy, 1, -1), np.moveaxis(x, 1, -1), gamma, last_saved)[0]
    assert_same_bits(np.moveaxis(dx, -1, 1), results[1])


# Groups that fill a line of the cache or share one, fewer than that, one channel each, and all of them.
IMAGES = [
    ((3, 24, 5, 7), 6),
    ((2, 40, 9, 8), 2),
    ((2, 19, 6, 5), 19),
    ((1, 4, 70, 66), 4),
    ((2, 6, 90), 1),
    ((2, 32, 1, 1), 4),
    # Of these the channels are summed by themselves.
    ((3, 24, 24, 22), 6),
    ((2, 160, 23, 23), 2),
    ((2, 70, 12, 11), 70),
]


@pytest.mark.parametrize(("shape", "groups"), IMAGES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_images_whose_channels_come_last_have_the_same_bits(
    shape: tuple[int, ...], groups: int, dtype: type
) -> None:
    x, gamma, beta, dy = images(shape, dtype)
    y, saved = nf.group_norm(x, groups, gamma, beta)
    gradients = nf.group_norm_backward(dy, x, gamma, saved)
    last, last_dy = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, dy))
    for threads in (1, 2, 7):
        with forced(threads=threads, grain=1):
            made, last_saved = nf.group_norm(last, groups, gamma, beta, axis=-1)
            back = nf.group_norm_backward(last_dy, last, gamma, last_saved)
        assert_same_bits(np.moveaxis(made, -1, 1), y)
        assert_same_bits(last_saved.mean, saved.mean)
        assert_same_bits(last_saved.inv_std, saved.inv_std)
        assert_same_bits(np.moveaxis(back[0], -1, 1), gradients[0])
        for parameter, desired in zip(back[1:], gradients[1:], strict=True):
            assert_same_bits(parameter, desired)
    for own, other in ((last.copy(), last_dy), (last, last_dy.copy())):
        in_place = own if own is not last else other
        nf.group_norm_backward(other, own, gamma, last_saved, out=(in_place, None, None))
        assert_same_bits(in_place, back[0])
    nf.group_norm(last, groups, gamma, beta, axis=-1, out=last)
    assert_same_bits(last, made)


@pytest.mark.parametrize(("shape", "groups"), [((2, 4, 3), 2), ((3, 2, 2, 2), 2), ((3, 4), 2)])
def test_group_gradients_numerically(shape: tuple[int, ...], groups: int) -> None:
    x, gamma, beta, dy = images(shape, np.float64)

    def loss(x: Array, gamma: Array, beta: Array) -> float:
        return float((dy * nf.group_norm(x, groups, gamma, beta)[0]).sum())

    _, saved = nf.group_norm(x, groups, gamma, beta)
    dx, dgamma, dbeta = nf.group_norm_backward(dy, x, gamma, saved)
    assert_gradient(dx, lambda v: loss(v, gamma, beta), x)
    assert_gradient(dgamma, lambda v: loss(x, v, beta), gamma)
    assert_gradient(dbeta, lambda v: loss(x, gamma, v), beta)


def test_an_instance_is_a_group_of_one_channel() -> None:
    x, gamma, beta, dy = images((3, 5, 4, 6), np.float32)
    y, saved = nf.instance_norm(x, gamma, beta)
    expected, expected_saved = nf.group_norm(x, 5, gamma, beta)
    assert_same_bits(y, expected)
    for made, desired in zip(
        nf.instance_norm_backward(dy, x, gamma, saved),
        nf.group_norm_backward(dy, x, gamma, expected_saved),
        strict=True,
    ):
        assert_same_bits(made, desired)
    out = np.empty_like(np.moveaxis(x, 1, -1))
    last, _ = nf.instance_norm(np.moveaxis(x, 1, -1), gamma, beta, axis=-1, out=out)
    assert last is out
    assert_same_bits(np.moveaxis(out, -1, 1), y)


def test_constant_groups_and_empty_ones() -> None:
    beta = np.array([1.0, -2, 3, 0.1], np.float32)
    y, _ = nf.group_norm(np.full((2, 4, 9), 1 / 3, np.float32), 2, None, beta)
    assert_same_bits(y, np.broadcast_to(beta[:, None], y.shape).copy())
    empty = np.ones((0, 4, 3))
    y, saved = nf.group_norm(empty, 2)
    assert [a.shape for a in nf.group_norm_backward(y, empty, None, saved)] == [
        (0, 4, 3),
        (4,),
        (4,),
    ]


def test_saved_arrays_may_have_any_layout() -> None:
    dy, x = np.random.default_rng(0).standard_normal((2, 3, 6, 5))
    _, saved = nf.group_norm(x, 2)
    expected = nf.group_norm_backward(dy, x, None, saved)
    for mean, inv_std in zip(
        layouts(saved.mean).values(), layouts(saved.inv_std).values(), strict=True
    ):
        lying = nf.group_norm_backward(dy, x, None, saved._replace(mean=mean, inv_std=inv_std))
        for found, desired in zip(lying, expected, strict=True):
            assert_same_bits(found, desired)
    with pytest.raises(ValueError, match=r"saved.mean must have shape \(N, groups\), got \(6,\)"):
        nf.group_norm_backward(dy, x, None, saved._replace(mean=saved.mean.ravel()))
    memory = np.ones(100)
    overlapping = memory[80:86].reshape(3, 2)
    for name in ("mean", "inv_std"):
        with pytest.raises(ValueError, match=rf"out\[0\] and saved.{name} must not share memory"):
            nf.group_norm_backward(
                dy,
                x,
                None,
                saved._replace(**{name: overlapping}),
                out=(memory[:90].reshape(3, 6, 5), None, None),
            )
    np.testing.assert_array_equal(memory, 1)


def test_group_errors_change_nothing() -> None:
    x = np.arange(24.0).reshape(2, 4, 3)
    out = np.full_like(x, 9)
    frozen = out.copy()
    frozen.flags.writeable = False
    for arguments, keywords, error, message in (
        ((x, 3), {}, ValueError, "num_groups must divide the 4 channels, got 3"),
        ((x, 0), {}, ValueError, "num_groups must divide the 4 channels, got 0"),
        ((x, 2.0), {}, TypeError, "num_groups must be an int, got float"),
        ((x[0, 0], 1), {}, ValueError, "axis must be an axis of x"),
        ((x, 2), {"axis": 0}, ValueError, "axis must not be the first"),
        ((x, 2, np.ones(3)), {}, ValueError, r"gamma must have shape \(4,\), got \(3,\)"),
        ((x, 2), {"eps": -1.0}, ValueError, "eps must be positive, got -1.0"),
        ((x, 2), {"out": out[:1]}, ValueError, "out must have the shape of x"),
        ((x, 2), {"out": frozen}, ValueError, "out must be writeable"),
        ((x * 1j, 2), {}, TypeError, "x must be .* real"),
    ):
        with pytest.raises(error, match=message):
            nf.group_norm(*arguments, **{"out": out, **keywords})
        np.testing.assert_array_equal(out, 9)
    _, saved = nf.group_norm(x, 2)
    for arguments, out_, error, message in (
        ((x[:1], x, None, saved), None, ValueError, "dy must have the shape of x"),
        ((x, x[:1], None, saved), None, ValueError, "dy must have|saved.mean must have shape"),
        ((x, x, None, 3), None, TypeError, "saved must be what group_norm returned, got int"),
        ((x, x, None, saved), out, TypeError, "out must be a tuple of three arrays"),
        ((x, x, None, saved), (out, out[0, 0], None), ValueError, r"out\[1\] must have shape"),
    ):
        with pytest.raises(error, match=message):
            nf.group_norm_backward(*arguments, out=out_)
        np.testing.assert_array_equal(out, 9)


# ---- running statistics of instances ----


def by_running(
    x: Array, mean: Array, var: Array, rate: float, axis: int = 1
) -> tuple[Array, Array]:
    """PyTorch's update: the means over samples of their means and unbiased variances."""
    channels = np.moveaxis(x.astype(np.float64), axis, 1).reshape(len(x), x.shape[axis], -1)
    of_mean, of_var = channels.mean(axis=2).mean(axis=0), channels.var(axis=2, ddof=1).mean(axis=0)
    return (1 - rate) * mean + rate * of_mean, (1 - rate) * var + rate * of_var


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), [((3, 5, 4), 1), ((2, 3, 4, 6), 1), ((4, 3, 2, 5), -1)])
def test_running_statistics_of_instances(dtype: type, shape: tuple[int, ...], axis: int) -> None:
    x = np.random.default_rng(0).normal(3, 2, shape).astype(dtype)
    wide = np.float32 if dtype is np.float16 else dtype
    n = shape[axis]
    gamma, beta = np.linspace(1, 2, n, dtype=wide), np.linspace(-1, 1, n, dtype=wide)
    mean, var = np.zeros(n, wide), np.ones(n, wide)
    expected = np.zeros(n), np.ones(n)
    for rate in (0.1, 0.5, 1.0):
        running = {"running_mean": mean, "running_var": var}
        y, saved = nf.instance_norm(
            x, gamma, beta, **running, training=True, momentum=rate, axis=axis
        )
        plain, plain_saved = nf.instance_norm(x, gamma, beta, axis=axis)
        assert_same_bits(y, plain)
        assert_same_bits(saved.inv_std, plain_saved.inv_std)
        expected = by_running(x, *expected, rate, axis)
        np.testing.assert_allclose(mean, expected[0], rtol=3 * np.finfo(wide).eps)
        np.testing.assert_allclose(var, expected[1], rtol=3e-5 if wide is np.float32 else 1e-12)
    y, saved = nf.instance_norm(
        x, gamma, beta, running_mean=mean, running_var=var, training=False, axis=axis
    )
    theirs, theirs_saved = nf.batch_norm(x, gamma, beta, mean, var, training=False, axis=axis)
    assert_same_bits(y, theirs)
    dy = np.ones_like(x)
    for a, b in zip(
        nf.instance_norm_backward(dy, x, gamma, saved),
        nf.batch_norm_backward(dy, x, gamma, theirs_saved),
        strict=True,
    ):
        assert_same_bits(a, b)


def test_averages_over_all_batches_of_instances() -> None:
    batches = np.random.default_rng(0).normal(2, 3, (4, 3, 2, 7))
    mean, var, count = np.full(2, 9.0), np.full(2, 9.0), np.zeros((), np.int64)
    running = {"running_mean": mean, "running_var": var, "num_batches_tracked": count}
    for batch in batches:
        nf.instance_norm(batch, **running, training=True, momentum=None)
    assert count == 4
    np.testing.assert_allclose(mean, batches.mean(axis=(0, 1, 3)), rtol=1e-13)
    np.testing.assert_allclose(var, batches.var(axis=3, ddof=1).mean(axis=(0, 1)), rtol=1e-12)
    before = mean.copy()
    nf.instance_norm(np.ones((0, 2, 7)), running_mean=mean, running_var=var, training=True)
    assert_same_bits(mean, before)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e3, 1e12])
def test_running_variances_of_any_size(scale: float) -> None:
    """They come from 1 / sqrt(var + eps), beside which a smaller error is nothing."""
    x = np.random.default_rng(0).normal(0, scale, (3, 2, 50))
    mean, var = np.zeros(2), np.zeros(2)
    nf.instance_norm(x, running_mean=mean, running_var=var, training=True, momentum=1)
    exact = x.var(axis=2, ddof=1).mean(axis=0)
    assert (np.abs(var - exact) <= 1e-12 * (exact + 1e-5)).all()


@pytest.mark.peers
@pytest.mark.parametrize("training", [True, False])
@both_dtypes
def test_running_statistics_are_pytorchs(training: bool, dtype: type) -> None:
    import torch

    x = np.random.default_rng(0).normal(1, 2, (4, 3, 5, 6)).astype(dtype)
    for momentum in (0.1, None):
        ours = nf.nn.InstanceNorm(3, track_running_stats=True, momentum=momentum, dtype=dtype)
        theirs = torch.nn.InstanceNorm2d(
            3, affine=True, track_running_stats=True, momentum=momentum or 0.25
        ).to(torch.from_numpy(x).dtype)
        for k in range(1, 4):
            batch = x * k
            if momentum is None:
                theirs.momentum = 1 / k
            y = ours.forward(batch, training=True)
            expected = theirs.train()(torch.from_numpy(batch))
            np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ours.running_mean, theirs.running_mean.numpy(), rtol=1e-5)
        np.testing.assert_allclose(ours.running_var, theirs.running_var.numpy(), rtol=1e-5)
        if not training:
            y, expected = ours.forward(x), theirs.eval()(torch.from_numpy(x))
            np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_layer_that_keeps_running_statistics(tmp_path: Any) -> None:
    x = np.random.default_rng(0).normal(3, 2, (4, 2, 9)).astype(np.float32)
    plain, layer = nf.nn.InstanceNorm(2), nf.nn.InstanceNorm(2, track_running_stats=True)
    assert_same_bits(layer.forward(x, training=True).copy(), plain.forward(x, training=True))
    assert plain.running_mean is plain.running_var is plain.num_batches_tracked is None
    assert repr(layer) == "InstanceNorm(2, track_running_stats=True)"
    mean, var = by_running(x, np.zeros(2), np.ones(2), 0.1)
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(layer.running_var, var, rtol=1e-4)
    expected = (x - layer.running_mean[:, None]) / np.sqrt(layer.running_var[:, None] + 1e-5)
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-5, atol=1e-6)
    net = nf.nn.Sequential(layer, nf.nn.Flatten(), nf.nn.Dense(18, 2, rng=0))
    net.save(tmp_path / "net.npz")
    again = nf.nn.Sequential(
        nf.nn.InstanceNorm(2, track_running_stats=True), nf.nn.Flatten(), nf.nn.Dense(18, 2, rng=1)
    )
    again.load(tmp_path / "net.npz")
    assert_same_bits(again.forward(x), net.forward(x))
    layer.running_mean = [1.0, 2.0]
    np.testing.assert_array_equal(layer.running_mean, [1, 2])
    with pytest.raises(ValueError, match="running_mean must be None, as the layer keeps none, got"):
        plain.running_mean = np.zeros(2)
    plain.running_mean = None
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\], got 2"):
        nf.nn.InstanceNorm(2, momentum=2)


def test_errors_of_running_statistics_change_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    mean, var, out = np.full(3, 7.0), np.full(3, 8.0), np.full_like(x, 9)
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    base = {"running_mean": mean, "running_var": var, "training": True, "out": out}
    for keywords, error, message in (
        ({"running_var": None}, ValueError, "running_var must be given where the other"),
        ({"running_mean": None}, ValueError, "running_mean must be given where the other"),
        ({"training": None}, TypeError, "training must be given with running_mean"),
        ({"running_mean": [0.0] * 3}, TypeError, "running_mean must be a numpy.ndarray of"),
        ({"running_var": np.ones(3, "f")}, TypeError, "running_var must have dtype float64, got"),
        ({"running_mean": np.ones(4)}, ValueError, r"running_mean must have shape \(3,\), got"),
        ({"running_mean": frozen}, ValueError, "running_mean must be writeable"),
        ({"running_var": mean}, ValueError, "running_mean and running_var must not share memory"),
        ({"running_mean": out[0, :, 0]}, ValueError, "running_mean and out must not share memory"),
        ({"momentum": 1.5}, ValueError, r"momentum must be in \[0, 1\], got 1.5"),
        ({"momentum": None}, ValueError, "num_batches_tracked must be given when momentum is N"),
        ({"num_batches_tracked": 3}, TypeError, "num_batches_tracked must be an ndarray of int"),
        ({"eps": -1.0}, ValueError, "eps must be positive, got -1.0"),
        ({"axis": 0}, ValueError, "running_mean must have shape|axis must not be the first"),
        ({"axis": 0, "training": False}, ValueError, "axis must not be the first"),
        ({"training": False, "running_var": -var}, ValueError, "running_var must not be negative"),
    ):
        with pytest.raises(error, match=message):
            nf.instance_norm(x, **{**base, **keywords})
        assert (mean == 7).all()
        assert (var == 8).all()
        assert (out == 9).all()
    with pytest.raises(ValueError, match="x must have two values a channel or more where running_"):
        nf.instance_norm(x[:, :, :1], running_mean=mean, running_var=var, training=True)
