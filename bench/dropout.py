"""Cases of dropout and its variants. Random masks differ from those of others: what is checked is their rate."""

from collections.abc import Callable

import numpy as np

import nnfast as nf
from bench.bias import COLUMNS
from bench.case import Array, Arrays, Case, Forms, Values, normal, square

P = 0.2
RNG = np.random.default_rng(0)
SELU_LEAST = -1.7580993408473768


def share_is(kept: Array, p: float) -> str | None:
    """Whether a share 1 - p is kept, within five deviations."""
    if abs(kept.mean() - (1 - p)) > 5 * np.sqrt(p * (1 - p) / kept.size):
        return f"keeps {kept.mean():.4f} of the elements"
    return None


def keeps(of: Callable[..., Array]) -> Callable[[Arrays, Values, Array], str | None]:
    """A check: a share 1 - p of `of` (the arrays by name) is kept, scaled by 1 / (1 - p), the rest 0."""

    def accepts(arrays: Arrays, values: Values, y: Array) -> str | None:
        x, p = of(**arrays), values["p"]
        kept = y != 0
        if wrong := share_is(kept[x != 0], p):
            return wrong
        if not np.allclose(y[kept], x[kept] / (1 - p), rtol=1e-5):
            return "elements that are kept are not x / (1 - p)"
        return None

    return accepts


def unpacked(mask: Array, shape: tuple[int, ...]) -> Array:
    """The mask as this package packs it; code that keeps booleans saves the unpacking."""
    return np.unpackbits(mask, count=int(np.prod(shape)), bitorder="little").reshape(shape)


def packed_room(n: int) -> Array:
    """Memory for the mask, which a pass has to write: one bit per element."""
    return np.empty(-(-n // 8), np.uint8)


def draw(x: Array, shape: tuple[int, ...]) -> Array:
    """True where an element is kept, as it is usually drawn."""
    return RNG.random(shape, dtype=x.dtype) >= P


def masked(*names: str, columns: int | None = None) -> Callable[..., dict[str, Array]]:
    """Inputs, and a mask of the first of them."""

    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        arrays = normal(*names, columns=columns and min(n, columns))(n, rng)
        size = next(iter(arrays.values())).size
        return arrays | {"mask": rng.integers(0, 256, -(-size // 8), np.uint8)}

    return make


def writing(function: Callable[..., object], *given: object, **keywords: object):
    """Forms of a function whose last arguments are given, with `out` and without."""

    def forms(**arrays: Array) -> Forms:
        out = np.empty_like(next(iter(arrays.values())))
        inputs = (*arrays.values(), *given)
        return {
            "out": lambda: function(*inputs, **keywords, out=out),
            "allocating": lambda: function(*inputs, **keywords),
        }

    return forms


# ---- elementwise ----


def dropout(x: Array) -> tuple[Array, Array]:
    return x * draw(x, x.shape) / (1 - P), packed_room(x.size)


def dropout_backward(dy: Array, mask: Array) -> Array:
    return dy * unpacked(mask, dy.shape) / (1 - P)


def dropout_mask(x: Array) -> Array:
    return np.packbits(draw(x, x.shape), bitorder="little")


def mask_forms(x: Array) -> Forms:
    out = packed_room(x.size)
    return {
        "out": lambda: nf.dropout_mask(x.shape, P, rng=RNG, out=out),
        "allocating": lambda: nf.dropout_mask(x.shape, P, rng=RNG),
    }


def mask_is_random(arrays: Arrays, values: Values, mask: Array) -> str | None:
    return share_is(unpacked(mask, arrays["x"].shape), values["p"])


def alpha_scale() -> float:
    return ((1 - P) * (1 + P * SELU_LEAST**2)) ** -0.5


def alpha_dropout(x: Array) -> tuple[Array, Array]:
    a = alpha_scale()
    kept = np.where(draw(x, x.shape), x, SELU_LEAST)
    return a * kept - a * P * SELU_LEAST, packed_room(x.size)


def alpha_is_kept(arrays: Arrays, values: Values, y: Array) -> str | None:
    a = alpha_scale()
    shift = -a * values["p"] * SELU_LEAST
    dropped = np.isclose(y, a * SELU_LEAST + shift, rtol=1e-5)
    if not np.allclose(y[~dropped], (a * arrays["x"] + shift)[~dropped], rtol=1e-4, atol=1e-5):
        return "elements that are kept are not a x + b"
    return share_is(~dropped, values["p"])


def alpha_dropout_backward(dy: Array, mask: Array) -> Array:
    return dy * unpacked(mask, dy.shape) * alpha_scale()


# ---- with a bias ----


def bias_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    return normal("x", columns=min(n, COLUMNS))(n, rng) | {
        "bias": rng.standard_normal(min(n, COLUMNS))
    }


def bias_relu_dropout(x: Array, bias: Array) -> tuple[Array, Array]:
    y = np.maximum(x + bias, 0)
    return y * draw(x, x.shape) / (1 - P), packed_room(x.size)


def bias_relu_dropout_backward(dy: Array, mask: Array) -> tuple[Array, Array]:
    dx = dropout_backward(dy, mask)
    return dx, dx.sum(axis=0)


# ---- structured ----


def maps(dims: int) -> Callable[..., dict[str, Array]]:
    """A batch of 64 feature maps or fewer, of `dims` axes."""

    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        channels = min(64, max(1, n // 512))
        side = max(1, round((n / channels / 4) ** (1 / dims)))
        return {"x": rng.standard_normal((4, channels, *(side,) * dims))}

    return make


def drop_maps(x: Array) -> tuple[Array, Array]:
    kept = draw(x, x.shape[:2]).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
    return x * kept / (1 - P), packed_room(x.shape[0] * x.shape[1])


def rows_kept(arrays: Arrays, values: Values, y: Array) -> str | None:
    """Whether whole maps are kept, as x / (1 - p), and the others 0."""
    x, p = arrays["x"], values["p"]
    kept = y != 0
    if not np.allclose(y[kept], x[kept] / (1 - p), rtol=1e-5):
        return "elements that are kept are not x / (1 - p)"
    axes = tuple(range(2 if x.ndim > 2 else 1, x.ndim))
    if not np.array_equal(kept.all(axis=axes), kept.any(axis=axes)):
        return "a part of a map is kept"
    return None if kept.any() else "keeps nothing"


def map_backward_inputs(dims: int) -> Callable[..., dict[str, Array]]:
    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        dy = maps(dims)(n, rng)["x"]
        return {
            "dy": dy,
            "mask": rng.integers(0, 256, -(-dy.shape[0] * dy.shape[1] // 8), np.uint8),
        }

    return make


def drop_maps_backward(dy: Array, mask: Array) -> Array:
    kept = unpacked(mask, dy.shape[:2]).reshape(*dy.shape[:2], *(1,) * (dy.ndim - 2))
    return dy * kept / (1 - P)


def map_cases(dims: int) -> list[Case]:
    name = f"dropout{dims}d"
    forward, backward = getattr(nf, name), getattr(nf, f"{name}_backward")
    forms = writing(forward, P, rng=RNG)
    return [
        Case(name, maps(dims), drop_maps, forms, {"p": P}, accepts=rows_kept),
        Case(
            f"{name}_backward",
            map_backward_inputs(dims),
            drop_maps_backward,
            writing(backward, P),
            {"p": P},
        ),
    ]


def alpha_maps(x: Array) -> tuple[Array, Array]:
    a = alpha_scale()
    kept = draw(x, x.shape[:2]).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
    return a * np.where(kept, x, SELU_LEAST) - a * P * SELU_LEAST, packed_room(kept.size)


def alpha_maps_backward(dy: Array, mask: Array) -> Array:
    return drop_maps_backward(dy, mask) * (1 - P) * alpha_scale()


def alpha_maps_kept(arrays: Arrays, values: Values, y: Array) -> str | None:
    x = arrays["x"]
    of_maps = {"x": x.reshape(*x.shape[:2], -1)[..., 0]}
    return alpha_is_kept(of_maps, values, y.reshape(*x.shape[:2], -1)[..., 0])


def branch(n: int, rng: np.random.Generator) -> dict[str, Array]:
    return {"x": rng.standard_normal((32, max(1, n // 32)))}


def stochastic_depth(x: Array) -> tuple[Array, Array]:
    return x * draw(x, (len(x), 1)) / (1 - P), packed_room(len(x))


def branch_backward(n: int, rng: np.random.Generator) -> dict[str, Array]:
    return {"dy": branch(n, rng)["x"], "mask": rng.integers(0, 256, 4, np.uint8)}


def stochastic_depth_backward(dy: Array, mask: Array) -> Array:
    return dy * unpacked(mask, (len(dy), 1)) / (1 - P)


def connections(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """A batch of 64 and a square matrix of about n weights."""
    weight = rng.standard_normal(square(n))
    return {
        "x": rng.standard_normal((64, len(weight))),
        "weight": weight,
        "mask": rng.integers(0, 256, -(-weight.size // 8), np.uint8),
    }


def drop_connect(x: Array, weight: Array, mask: Array) -> Array:
    return x @ dropout_backward(weight, mask)


def connect_forms(x: Array, weight: Array, mask: Array) -> Forms:
    out = np.empty_like(x)
    return {
        "out": lambda: nf.drop_connect(x, weight, P, mask=mask, out=out)[0],
        "allocating": lambda: nf.drop_connect(x, weight, P, mask=mask)[0],
    }


def connections_backward(n: int, rng: np.random.Generator) -> dict[str, Array]:
    arrays = connections(n, rng)
    return {"dy": rng.standard_normal(arrays["x"].shape)} | arrays


def drop_connect_backward(dy: Array, x: Array, weight: Array, mask: Array) -> tuple[Array, Array]:
    return dy @ dropout_backward(weight, mask).T, dropout_backward(x.T @ dy, mask)


def connect_backward_forms(dy: Array, x: Array, weight: Array, mask: Array) -> Forms:
    return {"allocating": lambda: nf.drop_connect_backward(dy, x, weight, mask, P)}


def plain_x(x: Array) -> Array:
    return x


def relu_of(x: Array, bias: Array) -> Array:
    return np.maximum(x + bias, 0)


CASES = [
    Case(
        "dropout",
        normal("x"),
        dropout,
        writing(nf.dropout, P, rng=RNG),
        {"p": P},
        accepts=keeps(plain_x),
    ),
    Case(
        "dropout_backward",
        masked("dy"),
        dropout_backward,
        writing(nf.dropout_backward, P),
        {"p": P},
    ),
    Case("dropout_mask", normal("x"), dropout_mask, mask_forms, {"p": P}, accepts=mask_is_random),
    Case(
        "alpha_dropout",
        normal("x"),
        alpha_dropout,
        writing(nf.alpha_dropout, P, rng=RNG),
        {"p": P},
        accepts=alpha_is_kept,
    ),
    Case(
        "alpha_dropout_backward",
        masked("dy"),
        alpha_dropout_backward,
        writing(nf.alpha_dropout_backward, P),
        {"p": P},
    ),
    Case(
        "bias_relu_dropout",
        bias_inputs,
        bias_relu_dropout,
        writing(nf.bias_relu_dropout, P, rng=RNG),
        {"p": P},
        accepts=keeps(relu_of),
    ),
    Case(
        "bias_relu_dropout_backward",
        masked("dy", columns=COLUMNS),
        bias_relu_dropout_backward,
        writing(nf.bias_relu_dropout_backward, P),
        {"p": P},
    ),
    *(case for dims in (1, 2, 3) for case in map_cases(dims)),
    Case(
        "feature_alpha_dropout",
        maps(2),
        alpha_maps,
        writing(nf.feature_alpha_dropout, P, rng=RNG),
        {"p": P},
        accepts=alpha_maps_kept,
    ),
    Case(
        "feature_alpha_dropout_backward",
        map_backward_inputs(2),
        alpha_maps_backward,
        writing(nf.feature_alpha_dropout_backward, P),
        {"p": P},
    ),
    Case(
        "stochastic_depth",
        branch,
        stochastic_depth,
        writing(nf.stochastic_depth, P, rng=RNG),
        {"p": P},
        accepts=rows_kept,
    ),
    Case(
        "stochastic_depth_backward",
        branch_backward,
        stochastic_depth_backward,
        writing(nf.stochastic_depth_backward, P),
        {"p": P},
    ),
    Case("drop_connect", connections, drop_connect, connect_forms, {"p": P}),
    Case(
        "drop_connect_backward",
        connections_backward,
        drop_connect_backward,
        connect_backward_forms,
        {"p": P},
    ),
]
