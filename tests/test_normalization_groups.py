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
