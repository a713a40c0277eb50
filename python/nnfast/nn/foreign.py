"""Checks that user-defined layers return the same arrays at every call, as nnfast.nn.Layer demands."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from collections.abc import Iterator
from typing import Any

from nnfast.nn.layer import Array, Layer


class Held:
    """The parameters and gradients that a layer had when a network, or a check, first asked for them."""

    def __init__(self, layer: Layer, place: str) -> None:
        self._layer, self._place = layer, place
        self._params, self._grads = layer.named_params(), layer.named_grads()

    def check(self) -> None:
        """A ValueError if the layer now has other arrays, which an optimizer would not know."""
        self._compare("named_params", self._params, self._layer.named_params(), "weight")
        self._compare("named_grads", self._grads, self._layer.named_grads(), "dweight")

    def _compare(
        self, method: str, then: dict[str, Array], now: dict[str, Array], example: str
    ) -> None:
        if then.keys() != now.keys():
            names = sorted(then.keys() ^ now.keys())
            raise ValueError(
                f"{self._place}: {method} must have the same arrays at every call, but {names[0]!r} came "
                "or went: make all of them in __init__"
            )
        for name, array in now.items():
            if not _is_same(array, then[name]):
                raise ValueError(
                    f"{self._place}: {method} must have the same arrays at every call, but {name!r} is a new one: "
                    f"write into the array that is there, as in self.{example}[...] = value"
                )


def foreign_of(layers: tuple[Layer, ...]) -> list[Held]:
    """The user-defined layers of a network, at any depth."""
    return [Held(layer, place) for layer, place in _placed(layers, "") if _is_foreign(layer)]


def _placed(layers: tuple[Layer, ...], before: str) -> Iterator[tuple[Layer, str]]:
    for i, layer in enumerate(layers):
        yield layer, f"layers[{before}{i}], {type(layer).__name__}"
        yield from _placed(layer._children(), f"{before}{i}.")


def _is_foreign(layer: Layer) -> bool:
    return not type(layer).__module__.startswith("nnfast.")


def _is_same(a: Any, b: Any) -> bool:
    """Whether both are one array, or the same view of one."""
    return a is b or (
        (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype)
        and a.ctypes.data == b.ctypes.data
    )
