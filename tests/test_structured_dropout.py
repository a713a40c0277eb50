"""Dropout of feature maps, layers and connections: what is kept, masks, gradients, errors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import nnfast as nf
from dropout_data import both_dtypes, every_dtype, floats, numbers, probabilities, seeds, twins
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from tests.reference.philox import inverted_scale, keep, pack, unpack

Array = NDArray[Any]


class Kind(NamedTuple):
    """A function, its gradient, arguments of both, the axes of x, and those that the mask has."""

    forward: Callable[..., tuple[Array, Array]]
    backward: Callable[..., Array]
    keywords: dict[str, Any]
    ndim: int
    apart: tuple[int, ...]

    def maps(self, x: Array) -> tuple[int, ...]:
        """The shape of the mask, as one that broadcasts to x's."""
        apart = [axis % x.ndim for axis in self.apart]
        return tuple(side if axis in apart else 1 for axis, side in enumerate(x.shape))


KINDS = {
    "1d": Kind(nf.dropout1d, nf.dropout1d_backward, {}, 3, (0, 1)),
    "2d": Kind(nf.dropout2d, nf.dropout2d_backward, {}, 4, (0, 1)),
    "3d": Kind(nf.dropout3d, nf.dropout3d_backward, {}, 5, (0, 1)),
    "1d, last": Kind(nf.dropout1d, nf.dropout1d_backward, {"axis": -1}, 3, (0, -1)),
    "2d, last": Kind(nf.dropout2d, nf.dropout2d_backward, {"axis": -1}, 4, (0, -1)),
    "3d, last": Kind(nf.dropout3d, nf.dropout3d_backward, {"axis": -1}, 5, (0, -1)),
    "2d, third": Kind(nf.dropout2d, nf.dropout2d_backward, {"axis": 2}, 4, (0, 2)),
    "rows": Kind(nf.stochastic_depth, nf.stochastic_depth_backward, {}, 3, (0,)),
    "batch": Kind(
        nf.stochastic_depth, nf.stochastic_depth_backward, {"mode": "batch"}, 3, ()
    ),
}  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def sample(kind: Kind, dtype: Any = np.float64, seed: int = 0) -> Array:
    return numbers((5, 7, 3, 4, 2)[: kind.ndim], dtype, seed)


def spread(mask: Array, maps: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The mask of maps as one of their elements."""
    kept = unpack(mask, int(np.prod(maps))).reshape(maps).astype(bool)
    return np.ascontiguousarray(np.broadcast_to(kept, shape))


@every_dtype
@settings(max_examples=30)
@given(data=st.data(), p=probabilities, seed=seeds)
def test_feature_alpha_dropout_is_that_of_a_mask_of_maps(
    isa: str, dtype: type, data: Any, p: float, seed: int
) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=5, min_side=0, max_side=4))
    axis = data.draw(st.integers(1, len(shape) - 1))
    x = data.draw(floats(dtype, shape))
    maps = tuple(side if d in (0, axis) else 1 for d, side in enumerate(shape))
    channels = shape[0], shape[axis]
    with np.errstate(all="ignore"):
        y, mask = nf.feature_alpha_dropout(x, p, rng=seed, axis=axis - len(shape))
        assert_same_bits(mask, nf.dropout_mask(channels, p, rng=seed))
        kept = spread(mask, maps, shape)
        assert_same_bits(y, nf.alpha_dropout(x, p, mask=kept)[0])
        dx = nf.feature_alpha_dropout_backward(x, mask, p, axis=axis)
        assert_same_bits(dx, nf.alpha_dropout_backward(x, kept, p))
        own = x.copy()
        assert nf.feature_alpha_dropout(own, p, mask=mask, axis=axis, out=own)[0] is own
        assert_same_bits(own, y)
        again, as_bool = nf.feature_alpha_dropout(x, p, rng=seed, axis=axis, mask_as="bool")
        assert as_bool.shape == channels
        assert_same_bits(again, y)


def test_feature_alpha_dropout_by_hand() -> None:
    x = numbers((2, 3, 2, 2))
    kept = np.array([[True, False, True], [False, True, True]])
    least = -1.7580993408473768
    a = (0.75 * (1 + 0.25 * least**2)) ** -0.5
    expected = a * np.where(kept[:, :, None, None], x, least) - a * 0.25 * least
    np.testing.assert_allclose(nf.feature_alpha_dropout(x, 0.25, mask=kept)[0], expected)
    assert_same_bits(nf.feature_alpha_dropout(x, training=False)[0], x)
    assert nf.feature_alpha_dropout(x, training=False)[1] is None
    many = numbers((200, 500))
    y = nf.feature_alpha_dropout(many, 0.3, rng=1)[0]
    assert abs(y.mean()) < 0.02
    assert abs(y.std() - 1) < 0.02


@pytest.mark.peers
@pytest.mark.parametrize("shape", [(8, 6), (5, 7, 3), (4, 6, 3, 2)])
@both_dtypes
def test_feature_alpha_dropout_is_pytorchs(shape: tuple[int, ...], dtype: type) -> None:
    """By the mask that PyTorch's result shows."""
    import torch

    x = numbers(shape, dtype)
    theirs = torch.nn.functional.feature_alpha_dropout(
        torch.from_numpy(x), 0.4, training=True
    ).numpy()
    least = -1.7580993408473768
    a = (0.6 * (1 + 0.4 * least**2)) ** -0.5
    kept = ~np.isclose(theirs, a * least * 0.6)
    maps = kept.reshape(*shape[:2], -1)
    assert (maps == maps[..., :1]).all()
    assert 0 < maps.mean() < 1
    ours = nf.feature_alpha_dropout(x, 0.4, mask=maps[..., 0])[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_errors_of_feature_alpha_dropout_change_nothing() -> None:
    x, out = numbers((3, 4, 2)), np.full((3, 4, 2), 9.0)
    rng = np.random.default_rng(1)
    for given_, keywords, error, message in (
        (x, {"p": 1.5}, ValueError, r"p must be in \[0, 1\], got 1.5"),
        (x[0, 0], {}, ValueError, r"x must have shape \(N, C, ...\), got \(2,\)"),
        (x, {"axis": 0}, ValueError, "axis must not be that of the samples, 0, got 0"),
        (x, {"axis": 3}, ValueError, "axis must be an axis of x"),
        (x, {"mask_as": "bit"}, ValueError, "mask_as must be 'bits' or 'bool'"),
        (x, {"mask": np.ones((4, 3), bool)}, ValueError, r"mask must have shape \(3, 4\)"),
        (x, {"out": out[:1]}, ValueError, "out must have"),
        (x, {"out": out.astype("f")}, TypeError, "out must have"),
        (x * 1j, {}, TypeError, "x must be an array of real numbers"),
    ):
        with pytest.raises(error, match=message):
            nf.feature_alpha_dropout(given_, **{"rng": rng, "out": out, **keywords})
    assert rng.bit_generator.state == np.random.default_rng(1).bit_generator.state
    for keywords, message in (
        ({"mask": np.ones((4, 3), bool)}, "mask must have shape"),
        ({"p": -1}, "p must be in"),
        ({"out": out[:1]}, "out must have"),
    ):
        with pytest.raises(ValueError, match=message):
            nf.feature_alpha_dropout_backward(
                x, **{"mask": np.ones((3, 4), bool), "out": out, **keywords}
            )
    np.testing.assert_array_equal(out, 9)


def test_gradient_of_feature_alpha_dropout_numerically() -> None:
    x, dy = numbers((3, 4, 2)), numbers((3, 4, 2), seed=1)
    _, mask = nf.feature_alpha_dropout(x, 0.3, rng=5)
    assert_gradient(
        nf.feature_alpha_dropout_backward(dy, mask, 0.3),
        lambda v: float((dy * nf.feature_alpha_dropout(v, 0.3, mask=mask)[0]).sum()),
        x,
    )


# ---- values ----


@every_kind
@every_dtype
@settings(max_examples=8)
@given(data=st.data(), p=probabilities, seed=seeds)
def test_whole_maps_are_dropped(
    isa: str, kind: Kind, dtype: type, data: Any, p: float, seed: int
) -> None:
    shape = data.draw(
        hnp.array_shapes(min_dims=kind.ndim, max_dims=kind.ndim, min_side=0, max_side=5)
    )
    x = data.draw(floats(dtype, shape))
    maps = kind.maps(x)
    mask = nf.dropout_mask(maps, p, rng=seed)
    kept = unpack(mask, int(np.prod(maps))).reshape(maps)
    with np.errstate(over="ignore"):
        y, used = kind.forward(x, p, rng=seed, **kind.keywords)
        dx = kind.backward(x, used, p, **kind.keywords)
    assert_same_bits(used, mask)
    assert_same_bits(y, keep(x, kept, inverted_scale(p)))
    assert_same_bits(dx, y)


@every_kind
@every_dtype
def test_dropped_nan_and_infinity_are_zero(isa: str, kind: Kind, dtype: type) -> None:
    shape = sample(kind).shape
    for value in (np.nan, np.inf, -np.inf):
        x = np.full(shape, value, dtype)
        with np.errstate(all="raise"):
            y, mask = kind.forward(x, 0.5, rng=3, **kind.keywords)
        maps = kind.maps(x)
        kept = unpack(mask, int(np.prod(maps))).reshape(maps)
        assert_same_bits(y, np.where(kept, x, dtype(0)))
        nothing = np.zeros_like(mask)
        assert_same_bits(kind.forward(x, mask=nothing, **kind.keywords)[0], np.zeros_like(x))
        assert_same_bits(kind.backward(x, nothing, **kind.keywords), np.zeros_like(x))


@every_kind
@every_dtype
def test_zero_and_one_are_exact(kind: Kind, dtype: type) -> None:
    x = sample(kind, dtype)
    x.flat[:4] = 0.0, -0.0, np.nan, np.inf
    y, mask = kind.forward(x, 0, rng=1, **kind.keywords)
    assert_same_bits(y, x)
    assert_same_bits(kind.backward(x, mask, 0, **kind.keywords), x)
    y, mask = kind.forward(x, 1, rng=1, **kind.keywords)
    assert_same_bits(y, np.zeros_like(x))
    assert_same_bits(kind.backward(x, mask, 1, **kind.keywords), np.zeros_like(x))


@pytest.mark.parametrize("dims", [1, 2, 3])
@every_dtype
def test_channels_last_is_the_same_moved(dims: int, dtype: type) -> None:
    function = getattr(nf, f"dropout{dims}d")
    x = sample(KINDS[f"{dims}d"], dtype)
    y, mask = function(x, 0.4, rng=6)
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    y_last, mask_last = function(last, 0.4, rng=6, axis=-1)
    assert_same_bits(mask_last, mask)
    assert_same_bits(np.moveaxis(y_last, -1, 1), y)
    backward = getattr(nf, f"dropout{dims}d_backward")
    dx = np.moveaxis(backward(last, mask, 0.4, axis=-1), -1, 1)
    assert_same_bits(dx, backward(x, mask, 0.4))


@pytest.mark.parametrize("channels", [1, 3, 24, 255, 300])
@pytest.mark.parametrize("threads", [1, 7])
def test_scales_hold_for_the_pixels_of_their_sample(channels: int, threads: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, channels, 41, 37), dtype=np.float32)
    with forced(threads=threads, grain=1):
        y, _ = nf.dropout2d(x, 0.4, rng=6)
        last, _ = nf.dropout2d(np.ascontiguousarray(np.moveaxis(x, 1, -1)), 0.4, rng=6, axis=-1)
    assert_same_bits(np.moveaxis(last, -1, 1), y)


@every_kind
@every_dtype
def test_layouts_and_out(kind: Kind, dtype: type) -> None:
    x = sample(kind, dtype)
    y, mask = kind.forward(x, 0.3, rng=9, **kind.keywords)
    for laid in layouts(x).values():
        again, again_mask = kind.forward(laid, 0.3, rng=9, **kind.keywords)
        assert_same_bits(again, y)
        assert_same_bits(again_mask, mask)
        out = layouts(np.zeros_like(x))["reversed inner"]
        assert kind.forward(laid, 0.3, rng=9, out=out, **kind.keywords)[0] is out
        assert_same_bits(out, y)
        assert kind.backward(laid, mask, 0.3, out=laid, **kind.keywords) is laid
        assert_same_bits(laid, y)
    for laid in layouts(x).values():
        assert kind.forward(laid, 0.3, rng=9, out=laid, **kind.keywords)[0] is laid
        assert_same_bits(laid, y)


@every_kind
def test_given_masks_are_used_and_returned(kind: Kind) -> None:
    x = sample(kind)
    maps = kind.maps(x)
    kept = np.arange(np.prod(maps)).reshape(maps) % 3 == 0
    mask = pack(kept)
    mask[-1] |= 0x80 if kept.size % 8 else 0  # bits past the end mean nothing
    y, used = kind.forward(x, 0.25, mask=mask, **kind.keywords)
    assert used is mask
    assert_same_bits(y, keep(x, kept, 1 / 0.75))


@every_kind
@every_dtype
def test_inference(kind: Kind, dtype: type) -> None:
    x = sample(kind, dtype)
    y, mask = kind.forward(x, 0.25, training=False, **kind.keywords)
    assert mask is None
    assert y is not x
    assert_same_bits(y, x)
    assert kind.forward(x, 0.25, training=False, out=x, **kind.keywords)[0] is x
    assert_same_bits(x, y)


@every_kind
def test_other_input_types(kind: Kind) -> None:
    x = np.ones((1,) * kind.ndim, np.int64)
    assert kind.forward(x.tolist(), rng=0, **kind.keywords)[0].dtype == np.float64
    assert kind.forward(x, rng=0, **kind.keywords)[0].dtype == np.float64
    assert kind.forward(x.astype(np.int16), rng=0, **kind.keywords)[0].dtype == np.float32


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rates_and_means(p: float) -> None:
    """Within five standard deviations; the mean of y is that of x, whose values are 1."""
    n = 200_000
    bound = 5 * np.sqrt(n * p * (1 - p))
    for x, function in (
        (np.ones((n // 500, 500, 2)), nf.dropout1d),
        (np.ones((n, 3)), nf.stochastic_depth),
    ):
        y, _ = function(x, p, rng=4)
        assert abs(np.count_nonzero(y[..., 0]) - n * (1 - p)) < bound
        assert abs(y[..., 0].sum() - n) < bound / (1 - p)
    kept = [nf.stochastic_depth(np.ones(2), p, mode="batch", rng=i)[0] for i in range(2000)]
    assert all(a == b for a, b in kept)
    bound = 5 * np.sqrt(2000 * p * (1 - p))
    assert abs(np.count_nonzero(kept) / 2 - 2000 * (1 - p)) < bound


@every_kind
def test_gradient_numerically(kind: Kind) -> None:
    x, dy = sample(kind), sample(kind, seed=1)
    _, mask = kind.forward(x, 0.3, rng=5, **kind.keywords)
    assert_gradient(
        kind.backward(dy, mask, 0.3, **kind.keywords),
        lambda v: float((dy * kind.forward(v, 0.3, mask=mask, **kind.keywords)[0]).sum()),
        x,
    )


# ---- connections ----


def product(dtype: Any = np.float64, lead: tuple[int, ...] = (6,)) -> tuple[Array, Array]:
    """x and weight."""
    return numbers((*lead, 11), dtype, seed=7), numbers((11, 9), dtype, seed=8)


@both_dtypes
@pytest.mark.parametrize("p", [0, 0.3, 1])
@pytest.mark.parametrize("lead", [(), (6,), (2, 3), (0,)])
def test_drop_connect_is_a_product_with_dropout(
    dtype: type, p: float, lead: tuple[int, ...]
) -> None:
    x, weight = product(dtype, lead)
    dropped, mask = nf.dropout(weight, p, rng=8)
    kept = unpack(mask, 99).reshape(11, 9)
    y, used = nf.drop_connect(x, weight, p, rng=8)
    assert_same_bits(used, mask)
    assert_same_bits(used, nf.dropout_mask((11, 9), p, rng=8))
    assert_same_bits(dropped, keep(weight, kept, inverted_scale(p)))
    assert_same_bits(y, x @ dropped)
    dy = numbers(y.shape, dtype, seed=9)
    dx, dweight = nf.drop_connect_backward(dy, x, weight, mask, p)
    assert_same_bits(dx, dy @ dropped.T)
    of_all = x.reshape(-1, 11).T @ dy.reshape(-1, 9)
    assert_same_bits(dweight, keep(of_all, kept, inverted_scale(p)))


def test_dropped_weights_may_be_nan() -> None:
    x, weight = product()
    mask = np.zeros(13, np.uint8)
    weight[:] = np.nan
    assert not nf.drop_connect(x, weight, mask=mask)[0].any()
    dx, dweight = nf.drop_connect_backward(np.ones((6, 9)), x, weight, mask)
    assert not dx.any()
    assert not dweight.any()
    with np.errstate(invalid="ignore"):
        assert not nf.drop_connect_backward(np.full((6, 9), np.inf), x, weight, mask)[1].any()


@both_dtypes
def test_drop_connect_layouts_and_out(dtype: type) -> None:
    """Up to the order in which BLAS sums: within n eps of the sum of magnitudes."""
    x, weight = product(dtype)
    dropped, mask = nf.dropout(weight, 0.3, rng=8)
    bound = 11 * np.finfo(dtype).eps * (np.abs(x) @ np.abs(dropped))
    for laid_x, laid_weight in zip(layouts(x).values(), layouts(weight).values(), strict=True):
        before = laid_weight.copy()
        out = layouts(np.zeros((6, 9), dtype))["spaced"]
        y, used = nf.drop_connect(laid_x, laid_weight, 0.3, rng=8, out=out)
        assert y is out
        assert_same_bits(used, mask)
        assert np.all(np.abs(out - x @ dropped) <= bound)
        assert_same_bits(laid_weight, before)


def test_drop_connect_in_inference() -> None:
    x, weight = product()
    out = np.empty((6, 9))
    y, mask = nf.drop_connect(x, weight, training=False, out=out)
    assert y is out
    assert mask is None
    assert_same_bits(y, x @ weight)


def test_drop_connect_takes_a_mask() -> None:
    x, weight = product()
    kept = np.arange(99).reshape(11, 9) % 2 == 0
    mask = pack(kept)
    y, used = nf.drop_connect(x, weight, 0.2, mask=mask)
    assert used is mask
    assert_same_bits(y, x @ keep(weight, kept, 1 / 0.8))


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_both_gradients_of_drop_connect_numerically(lead: tuple[int, ...]) -> None:
    x, weight = product(lead=lead)
    dy = numbers((*lead, 9), seed=1)
    _, mask = nf.drop_connect(x, weight, 0.3, rng=5)
    dx, dweight = nf.drop_connect_backward(dy, x, weight, mask, 0.3)
    assert_gradient(
        dx, lambda v: float((dy * nf.drop_connect(v, weight, 0.3, mask=mask)[0]).sum()), x
    )
    assert_gradient(
        dweight, lambda w: float((dy * nf.drop_connect(x, w, 0.3, mask=mask)[0]).sum()), weight
    )


@pytest.mark.parametrize(("n_in", "n_out"), [(0, 3), (3, 0), (0, 0)])
def test_products_without_weights(n_in: int, n_out: int) -> None:
    x, weight, dy = np.ones((2, n_in)), np.ones((n_in, n_out)), np.ones((2, n_out))
    y, mask = nf.drop_connect(x, weight, rng=0)
    assert_same_bits(y, np.zeros((2, n_out)))
    dx, dweight = nf.drop_connect_backward(dy, x, weight, mask)
    assert_same_bits(dx, np.zeros((2, n_in)))
    assert dweight.shape == (n_in, n_out)


def test_drop_connect_has_one_dtype() -> None:
    x, weight = product(np.float32)
    assert nf.drop_connect(x, weight.astype(np.float64), rng=0)[0].dtype == np.float32
    assert nf.drop_connect(x.astype(np.float16), weight, rng=0)[0].dtype == np.float32
    assert nf.drop_connect([[1, 2]], [[1], [2]], 0, rng=0)[0].tolist() == [[5.0]]


# ---- generators ----

CALLS: dict[str, Callable[..., Any]] = {
    **{
        name: lambda kind=kind, **keywords: kind.forward(
            sample(kind), **{**kind.keywords, **keywords}
        )
        for name, kind in KINDS.items()
    },
    "connections": lambda **keywords: nf.drop_connect(*product(), **keywords),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
def test_a_generator_is_advanced_once(call: Callable[..., Any]) -> None:
    rng, twin = twins()
    _, mask = call(rng=rng)
    seed = int(twin.bit_generator.random_raw())
    assert rng.bit_generator.state == twin.bit_generator.state
    assert_same_bits(call(rng=seed)[1], mask)
    call(rng=rng, mask=mask)
    call(rng=rng, training=False)
    for wrong in ({"p": 2}, {"out": np.empty(1)}, {"out": np.empty(1, "f")}, {"mask": mask[:0]}):
        with pytest.raises((TypeError, ValueError)):
            call(rng=rng, **wrong)
    assert rng.bit_generator.state == twin.bit_generator.state


# ---- errors ----

X = np.ones((2, 3, 4, 5))
FROZEN = np.ones(X.shape)
FROZEN.flags.writeable = False
MASK = np.zeros(1, np.uint8)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"x": X * 1j}, TypeError, "x must be .* real .* complex128"),
        ({"x": X[0]}, ValueError, r"x must have shape \(N, C, H, W\), got \(3, 4, 5\)"),
        ({"p": -0.1}, ValueError, r"p must be in \[0, 1\], got -0.1"),
        ({"p": np.nan}, ValueError, "p must be in"),
        ({"p": "0.5"}, TypeError, "p must be a real number, got str"),
        ({"p": [0.5] * 3}, TypeError, "p must be a real number, got list"),
        ({"axis": 0}, ValueError, "axis must not be that of the samples, 0"),
        ({"axis": -4}, ValueError, "axis must not be that of the samples, 0"),
        ({"axis": 4}, ValueError, r"axis must be an axis of .* \(2, 3, 4, 5\), got 4"),
        ({"axis": 1.0}, TypeError, "axis must be an int, got float"),
        ({"rng": True}, TypeError, "rng must be an int, .* got bool"),
        ({"rng": -1}, ValueError, "rng must be in"),
        ({"mask": [0]}, TypeError, "mask must be an array of bool .* bits, got .*list"),
        ({"mask": MASK.astype(bool)}, ValueError, r"mask must have shape \(.*\), got \(\d+,\)"),
        (
            {"mask": np.zeros(15, np.uint8)},
            ValueError,
            r"mask must have shape .*, or \(1,\) as packed bits, got \(15,\)",
        ),
        ({"out": np.ones(X.shape, "f")}, TypeError, "out must have dtype float64, got float32"),
        ({"out": np.ones((5, 4))}, ValueError, "out must have the shape of"),
        ({"out": FROZEN}, ValueError, "out must be writeable"),
        ({"out": [1]}, TypeError, "out must be a numpy.ndarray"),
    ],
)
def test_errors_change_nothing(
    keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {"x": X, "out": np.full(X.shape, 9.0), "rng": 0, **keywords}
    before = np.array(arguments["out"])
    with pytest.raises(error, match=message):
        nf.dropout2d(**arguments)
    np.testing.assert_array_equal(arguments["out"], before)
    if "rng" not in keywords:
        del arguments["rng"]
        arguments = {"dy": arguments.pop("x"), "mask": MASK, **arguments}
        with pytest.raises(error, match=message.replace("x must", "dy must")):
            nf.dropout2d_backward(**arguments)
        np.testing.assert_array_equal(arguments["out"], before)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"mode": "rows"}, ValueError, "mode must be 'row' or 'batch', got 'rows'"),
        ({"x": np.ones(())}, ValueError, "must have at least one axis, got a scalar"),
        ({"x": X * 1j}, TypeError, "must be an array of real numbers"),
        ({"p": 1.5}, ValueError, "p must be in"),
        (
            {"mask": np.zeros(3, np.uint8)},
            ValueError,
            r"mask must have shape .*, or \(1,\) as packed bits, got \(3,\)",
        ),
        ({"out": np.ones(3)}, ValueError, "out must have the shape of"),
    ],
)
def test_errors_of_stochastic_depth(
    keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {"x": X, "out": np.full(X.shape, 9.0), "mask": MASK, **keywords}
    before = np.array(arguments["out"])
    with pytest.raises(error, match=message):
        nf.stochastic_depth(**arguments)
    arguments["dy"] = arguments.pop("x")
    with pytest.raises(error, match=message):
        nf.stochastic_depth_backward(**arguments)
    np.testing.assert_array_equal(arguments["out"], before)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"x": np.ones(())}, ValueError, r"x must have shape \(..., 4\) .* got \(\)"),
        ({"x": np.ones((2, 3))}, ValueError, r"x must have shape \(..., 4\) for weight"),
        ({"x": np.ones((2, 4), complex)}, TypeError, "x must be an array of real numbers"),
        ({"weight": np.ones(4)}, ValueError, r"weight must have shape \(n_in, n_out\), got \(4,\)"),
        ({"weight": np.ones((4, 3), "O")}, TypeError, "weight must be an array of real numbers"),
        ({"p": 1.5}, ValueError, "p must be in"),
        ({"rng": 1.5}, TypeError, "rng must be an int"),
        (
            {"mask": np.zeros(3, np.uint8)},
            ValueError,
            r"mask must have shape .*, or \(2,\) as packed bits, got \(3,\)",
        ),
        ({"out": np.full((2, 4), 9.0)}, ValueError, r"out must have shape \(2, 3\), got \(2, 4\)"),
        ({"out": np.full((2, 3), 9, "f")}, TypeError, "out must have dtype float64, got float32"),
        ({"out": [9.0]}, TypeError, "out must be a numpy.ndarray, got list"),
    ],
)
def test_errors_of_drop_connect(
    keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {"x": np.ones((2, 4)), "weight": np.ones((4, 3)), "out": np.full((2, 3), 9.0)}
    arguments = {**arguments, "rng": 0, **keywords}
    with pytest.raises(error, match=message):
        nf.drop_connect(**arguments)
    np.testing.assert_array_equal(arguments["out"], 9)


def test_errors_of_drop_connect_backward() -> None:
    x, weight = product()
    dy, mask = np.ones((6, 9)), np.zeros(13, np.uint8)
    with pytest.raises(ValueError, match=r"dy must have shape \(6, 9\), got \(6, 8\)"):
        nf.drop_connect_backward(dy[:, :8], x, weight, mask)
    with pytest.raises(TypeError, match="mask must be an array of bool .* bits, got NoneType"):
        nf.drop_connect_backward(dy, x, weight, None)
    with pytest.raises(
        ValueError, match=r"mask must have shape .*, or \(13,\) as packed bits, got \(12,\)"
    ):
        nf.drop_connect_backward(dy, x, weight, mask[:12])
    with pytest.raises(ValueError, match="p must be in"):
        nf.drop_connect_backward(dy, x, weight, mask, 2)


def test_overlaps_are_refused() -> None:
    memory = np.arange(60.0)
    bits = memory.view(np.uint8)
    x = memory[:40].reshape(2, 10, 2)
    for refused in (
        lambda: nf.dropout1d(x, rng=0, out=memory[5:45].reshape(x.shape)),
        lambda: nf.dropout1d(x, mask=bits[9:12], out=x),
        lambda: nf.dropout1d_backward(x, bits[9:12], out=x),
        lambda: nf.stochastic_depth(x, mask=bits[9:10], out=x),
        lambda: nf.stochastic_depth_backward(x, bits[9:10], out=x),
        lambda: nf.drop_connect(np.ones((2, 9)), np.ones((9, 2)), mask=bits[:3], out=memory[:4].reshape(2, 2)),
        lambda: nf.drop_connect(memory[:4].reshape(2, 2), np.ones((2, 2)), rng=0, out=memory[2:6].reshape(2, 2)),
        lambda: nf.drop_connect(np.ones((2, 2)), memory[:4].reshape(2, 2), rng=0, out=memory[2:6].reshape(2, 2)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="share .*memory"):
            refused()
        np.testing.assert_array_equal(memory, np.arange(60.0))
