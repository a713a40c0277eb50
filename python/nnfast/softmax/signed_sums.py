"""Logarithms of sums of exponentials with factors of either sign, and of the sums' sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast import _arrays
from nnfast._load import _core
from nnfast.softmax.axes import Axis, axes_of, flattened, into_out, restored, without_axes

# Elements that logsumexp with factors takes together.
_BLOCK = 1 << 14


def signed_logsumexp(
    x: Any,
    b: Any,
    axis: Axis,
    keepdims: bool,
    return_sign: bool,
    out: Any,
    kwargs: Mapping[str, Any],
) -> Any:
    """logsumexp with factors of either sign, or with the sign of the sum."""
    with np.errstate(all="ignore"):
        factored = _Factored(x, b, axis, kwargs)
        values, factors = factored.values, factored.factors
        single = factored.dtype == values.dtype == factors.dtype == np.float32
        if not single:  # float16, too: its results are rounded once
            values, factors = values.astype(np.float64), factors.astype(np.float64)
        logs, signs = _core.signed_logsumexp(values, factors, 1, False, True)
        if not return_sign:
            logs[signs < 0] = np.nan
        y = into_out(factored.reduced(logs, keepdims), out, kwargs)
    return (y, factored.reduced(signs, keepdims)) if return_sign else y


def signed_logsumexp_backward(
    dy: Any, x: Any, b: Any, axis: Axis, keepdims: bool, out: Any, kwargs: Mapping[str, Any]
) -> Any:
    with np.errstate(all="ignore"):
        factored = _Factored(x, b, axis, kwargs)
        shape, axes = factored.shape, factored.axes
        up = without_axes(_arrays.plain(dy, "dy"), np.broadcast_to(0.0, shape), axes, keepdims)
        rest = tuple(n for d, n in enumerate(shape) if d not in axes)
        up = np.broadcast_to(up, rest).reshape(len(factored.values), 1)
        flat = np.empty(factored.values.shape)
        for some, terms in factored.blocks():
            flat[some] = np.where(terms.terms == 0, 0, up[some] * terms.terms / terms.sum)
        flat = flat.reshape(*rest, flat.shape[1])
        dx = _arrays.summed_to(restored(flat, shape, axes), np.shape(x))
        return into_out(dx.astype(factored.dtype), out, kwargs)


class _Factored:
    """x and factors b of its exponentials, broadcast to one shape: as rows along the axes."""

    def __init__(self, x: Any, b: Any, axis: Axis, kwargs: Mapping[str, Any]) -> None:
        if not kwargs.keys() <= {"dtype", "casting"}:
            raise TypeError("only dtype and casting may be given beside b and return_sign")
        values = _arrays.floating(x, "x", float16=True)
        given = _arrays.plain(1.0 if b is None else b, "b")
        factors = _arrays.floating(given, "b", float16=True)
        try:
            self.shape = np.broadcast_shapes(values.shape, factors.shape)
        except ValueError:
            message = f"b must broadcast with x of shape {values.shape}, got {factors.shape}"
            raise ValueError(message) from None
        weak = given.dtype.kind != "f" or b is None or isinstance(b, float)
        dtype = values.dtype if weak else np.result_type(values, factors)
        self.dtype = np.dtype(kwargs.get("dtype") or dtype)
        values, factors = np.broadcast_to(values, self.shape), np.broadcast_to(factors, self.shape)
        self.axes = axes_of(axis, values, "x")
        n = prod(self.shape[d] for d in self.axes)
        rows = prod(side for d, side in enumerate(self.shape) if d not in self.axes)
        self.values = flattened(values, self.axes).reshape(rows, n)
        self.factors = flattened(factors, self.axes).reshape(rows, n)

    def blocks(self) -> Iterator[tuple[slice, _SignedTerms]]:
        """Some rows after the other, whose numbers stay in the cache."""
        rows, n = self.values.shape
        step = max(1, _BLOCK // max(1, n))
        for first in range(0, rows, step):
            some = slice(first, first + step)
            yield some, _SignedTerms(self.values[some], self.factors[some])

    def reduced(self, values: NDArray[np.float64], keepdims: bool) -> Any:
        """A number for each row, in the shape of the result."""
        kept = [1 if d in self.axes else n for d, n in enumerate(self.shape)]
        shape = kept if keepdims else [n for d, n in enumerate(self.shape) if d not in self.axes]
        return values.reshape(shape).astype(self.dtype)[()]


class _SignedTerms:
    """``b * exp(x - shift)`` of rows, and their sums, in float64: of the gradient, for the logarithm is a kernel."""

    def __init__(self, x: NDArray[Any], b: NDArray[Any]) -> None:
        # Contiguous, so that the order of the sums does not depend on the layout.
        values = x.astype(np.float64, order="C")
        none = b == 0
        if none.any():
            values[none] = -np.inf
        largest = values.max(axis=-1, keepdims=True, initial=-np.inf)
        values -= np.where(np.isfinite(largest), largest, 0)
        # The largest terms apart: their factors enter the sum exactly.
        top = np.divmod(np.flatnonzero(values == 0), values.shape[1])
        factors = b[top].astype(np.float64)
        most = np.bincount(top[0], factors, len(values))
        self.terms = np.exp(values, out=values)
        self.terms *= b
        self.terms[top] = 0
        others = self.terms.sum(axis=-1, keepdims=True)
        self.terms[top] = factors
        self.sum = most[:, np.newaxis] + others
