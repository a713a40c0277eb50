"""The keywords of a ufunc, where functions hand them on as ``**kwargs``: their types, and how signatures show them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Function = TypeVar("Function", bound=Callable[..., Any])


if TYPE_CHECKING:

    class GufuncKeywords(TypedDict, total=False):
        """What a function takes that has an ``out`` of its own."""

        dtype: DTypeLike | None
        casting: Any
        order: Any
        subok: bool

    class UfuncKeywords(GufuncKeywords, total=False):
        """What every ufunc takes."""

        out: Any
        where: Any

else:  # to make the types takes longer than all signatures here
    GufuncKeywords = UfuncKeywords = dict


def _keywords(**defaults: Any) -> list[Parameter]:
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default)
        for name, default in defaults.items()
    ]


_OF_GUFUNC = _keywords(dtype=None, casting="same_kind", order="K", subok=True)
_OF_UFUNC = [*_keywords(out=None, where=True), *_OF_GUFUNC]


def shown(function: Function) -> Function:
    """Show the keywords in the signature: before the function's own, or after them where ``out`` is one of these."""
    own = list(signature(function).parameters.values())[:-1]  # without **kwargs
    if any(each.name == "out" for each in own):
        parameters = [*own, *_OF_GUFUNC]
    else:
        named = [each for each in own if each.kind is Parameter.KEYWORD_ONLY]
        parameters = [*own[: len(own) - len(named)], *_OF_UFUNC, *named]
    function.__signature__ = Signature(  # type: ignore[attr-defined]
        parameters, return_annotation="Any", __validate_parameters__=False
    )
    return function
