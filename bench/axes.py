"""Cases of functions along an axis that is not the last, and along short rows."""

from collections.abc import Callable
from typing import Any

import numpy as np

import nnfast as nf
from bench import gating, softmax
from bench.activations import PIECES
from bench.case import Array, Case, Forms
from tests.reference.normalization import EPS

# The name of a layout: how many elements a row has, and how many rows lie beside it; None: all of them.
LAYOUTS = {
    "axis 0": (128, None),
    "axis 1 of 1": (128, 1),
    "axis 1 of 2": (128, 2),
    "axis 1 of 7": (128, 7),
    "axis 1 of 16": (128, 16),
    "axis 1 of 1024": (128, 1024),
    "rows of 16": (16, 1),
}
Plain = Callable[..., Any]


def shape_of(layout: str, n: int) -> tuple[int, int, int]:
    """About n elements, at least a row."""
    length, inner = LAYOUTS[layout]
    if inner is None:
        return 1, length, max(1, n // length)
    inner = min(inner, max(1, n // length))
    return max(1, n // (length * inner)), length, inner


def along(plain: Plain, *arrays: Array) -> Any:
    """What `plain` computes along the last axis, along the middle one."""
    return np.moveaxis(plain(*(np.moveaxis(a, 1, -1) for a in arrays)), -1, 1)


def same_shape(name: str, layout: str, function: Plain, plain: Plain, arrays: int) -> Case:
    """Of a function whose result has the shape of its inputs."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        x = rng.standard_normal((arrays, *shape_of(layout, n)))
        if arrays == 1:
            return {"x": x[0]}
        saved = softmax.log_softmax if name.startswith("log") else softmax.softmax
        return {"dy": x[0], "y": along(saved, x[1])}

    def forms(**given: Array) -> Forms:
        values = tuple(given.values())
        out = np.empty_like(values[0])
        return {
            "out": lambda: function(*values, axis=1, out=out),
            "allocating": lambda: function(*values, axis=1),
        }

    return Case(f"{name} {layout}", inputs, lambda **a: along(plain, *a.values()), forms)


def of_halves(name: str, layout: str) -> Case:
    """A gated linear unit."""
    function, act = getattr(nf, name), gating.PLAIN[gating.GATES[name]]

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        return {"x": rng.standard_normal(shape_of(layout, n))}

    def plain(x: Array) -> Array:
        a, b = np.split(x, 2, axis=1)
        return a * act(b)

    def forms(x: Array) -> Forms:
        out = np.empty((x.shape[0], x.shape[1] // 2, x.shape[2]), x.dtype)
        return {"out": lambda: function(x, 1, out=out), "allocating": lambda: function(x, 1)}

    return Case(f"{name} {layout}", inputs, plain, forms)


def maxout(layout: str) -> Case:
    """Of groups of four."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        return {"x": rng.standard_normal(shape_of(layout, n))}

    def plain(x: Array) -> tuple[Array, Array]:
        groups = x.reshape(len(x), -1, PIECES, x.shape[2])
        return groups.max(axis=2), groups.argmax(axis=2).astype(np.uint8)

    return Case(
        f"maxout {layout}",
        inputs,
        plain,
        lambda x: {"allocating": lambda: nf.maxout(x, PIECES, 1)},
        {"pieces": PIECES},
    )


def logsumexp(layout: str) -> Case:
    """Whose result has one element a row."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        return {"x": rng.standard_normal(shape_of(layout, n))}

    def plain(x: Array) -> Array:
        largest = x.max(axis=1, keepdims=True)
        total = np.log(np.exp(x - largest).sum(axis=1, keepdims=True))
        return (largest + total)[:, 0]

    return Case(
        f"logsumexp {layout}", inputs, plain, lambda x: {"allocating": lambda: nf.logsumexp(x, 1)}
    )


def layer_norm(layout: str) -> Case:
    """Without scale and shift."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        return {"x": rng.normal(1, 2, shape_of(layout, n))}

    def plain(x: Array) -> Array:
        d = x - x.mean(axis=1, keepdims=True)
        return d / np.sqrt((d * d).mean(axis=1, keepdims=True) + EPS)

    def forms(x: Array) -> Forms:
        out = np.empty_like(x)
        return {
            "out": lambda: nf.layer_norm(x, axis=1, eps=EPS, out=out)[0],
            "allocating": lambda: nf.layer_norm(x, axis=1, eps=EPS)[0],
        }

    return Case(f"layer_norm {layout}", inputs, plain, forms)


def cross_entropy(layout: str) -> Case:
    """Of logits and class indices."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        z = rng.standard_normal(shape_of(layout, n))
        return {"z": z, "labels": rng.integers(0, z.shape[1], (z.shape[0], z.shape[2]))}

    def plain(z: Array, labels: Array) -> tuple[Array, Array]:
        log_p = z - z.max(axis=1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
        at = labels[:, np.newaxis]
        dz = np.exp(log_p)
        np.put_along_axis(dz, at, np.take_along_axis(dz, at, 1) - 1, 1)
        return -np.take_along_axis(log_p, at, 1).mean(), dz / labels.size

    def forms(z: Array, labels: Array) -> Forms:
        out = np.empty_like(z)
        return {
            "out": lambda: nf.softmax_cross_entropy(z, labels, axis=1, out=out),
            "allocating": lambda: nf.softmax_cross_entropy(z, labels, axis=1),
        }

    return Case(f"softmax_cross_entropy {layout}", inputs, plain, forms)


def cases_of(layout: str) -> list[Case]:
    """All functions."""
    gradients: dict[str, Plain] = {
        "softmax_backward": lambda dy, y: y * (dy - (dy * y).sum(axis=-1, keepdims=True)),
        "log_softmax_backward": lambda dy, y: dy - np.exp(y) * dy.sum(axis=-1, keepdims=True),
    }
    return [
        same_shape("softmax", layout, nf.softmax, softmax.softmax, 1),
        same_shape("log_softmax", layout, nf.log_softmax, softmax.log_softmax, 1),
        *(
            same_shape(name, layout, getattr(nf, name), plain, 2)
            for name, plain in gradients.items()
        ),
        logsumexp(layout),
        *(of_halves(name, layout) for name in gating.GATES),
        maxout(layout),
        layer_norm(layout),
        cross_entropy(layout),
    ]


CASES = [case for layout in LAYOUTS for case in cases_of(layout)]
