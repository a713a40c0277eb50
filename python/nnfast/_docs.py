"""Docstrings of the activations, made of what the table says; and of functions that share arguments."""

import re
from collections.abc import Callable
from inspect import cleandoc, getdoc
from typing import Any, TypeVar

from nnfast._table import INF, Activation

F = TypeVar("F", bound=Callable[..., Any])

# The entry of one argument, or of several; or the section of errors.
PARAGRAPH = re.compile(r"^(\w+)(?:(?: :|, ).*(?:\n {4}.+)*|(?<=Raises)\n-+(?:\n.+)*)", re.MULTILINE)

KEYWORDS = """out, where, dtype, casting, order, subok
    As for every NumPy ufunc{more}."""

FORWARD = """{title}: ``{formula}``.

Parameters
----------
x : array_like of float16, float32 or float64, any shape
    NaN gives NaN. Other types are converted as NumPy's ufuncs do.
{params}{keywords}

Returns
-------
y : ndarray or scalar of x's shape and dtype
    {accuracy}{range}{exact}{note}

{raises}References
----------
{source}.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> {example}
{result}
"""

BACKWARD = """Gradient of {name}: ``{gradient}``.

Parameters
----------
dy : array_like of float16, float32 or float64
    Gradient of the loss with respect to y.
{saves} : array_like
    {saved}
{params}{keywords}

Returns
-------
dx : ndarray or scalar of the broadcast shape and dtype
    Within 2 ULP of the larger of ``|dx|`` and ``|dy| / 8``.

{raises}Examples
--------
>>> import numpy as np, nnfast as nf
>>> {example}
{result}
"""

SAVED = {"x": "What {name} was given.", "y": "What {name} returned."}

PARAMS = {
    "negative_slope": "Slope below 0{backward}.",
    "alpha": "Minus the limit at -inf{backward}.",
    "beta": "Steepness; positive.",
    "min_val": "Smallest result.",
    "max_val": "Largest result; above min_val.",
    "weight": "The slope; broadcasts by NumPy's rules. One a channel of (N, C, H, W) is\n    "
    "``weight[:, None, None]``.{backward}",
}
BACKWARD_PARAMS = {
    "negative_slope": ", as given to the forward function; not negative, since y would not tell x's side",
    "alpha": ", as given to the forward function; positive, since y would not tell x's side",
    "weight": " Its own gradient is prelu_weight_backward.",
}


def forward(row: Activation, example: str, result: str) -> str:
    """The docstring of an activation."""
    return FORWARD.format(
        title=row.title,
        formula=row.formula,
        params=parameters(row, backward=False),
        keywords=KEYWORDS.format(more=""),
        accuracy=accuracy(row),
        range=interval(row),
        exact=exact(row),
        note=f"\n    {row.note}" if row.note else "",
        raises=raises(row),
        source=row.source,
        example=example,
        result=result,
    )


def backward(row: Activation, example: str, result: str) -> str:
    """The docstring of its gradient."""
    return BACKWARD.format(
        name=row.name,
        gradient=row.gradient,
        saves=row.saves,
        saved=SAVED[row.saves].format(name=row.name),
        params=parameters(row, backward=True),
        keywords=KEYWORDS.format(more="; ``out=dy`` is allowed"),
        raises=raises(row),
        example=example,
        result=result,
    )


def parameters(row: Activation, *, backward: bool) -> str:
    """Entries of the parameters."""
    named = {"weight": None} if row.name == "prelu" else row.params
    return "".join(
        f"{name} : {'array_like' if default is None else f'float, default {default:g}'}\n    "
        + PARAMS[name].format(backward=BACKWARD_PARAMS.get(name, "") if backward else "")
        + "\n"
        for name, default in named.items()
    )


def accuracy(row: Activation) -> str:
    """What is promised."""
    if row.ulp == 0:
        return "Exact."
    more = " (1 more on machines without FMA)" if row.ulp > 0.5 else ""
    return f"Within {row.ulp:g} ULP{more}; float16 is the float32 result, rounded."


def interval(row: Activation) -> str:
    """Bounds that hold for every x."""
    if row.low == -INF and row.high == INF:
        return ""
    if row.high == INF:
        return f" Never below {row.low:.6g}."
    return f" Always in [{row.low:g}, {row.high:g}]."


def exact(row: Activation) -> str:
    """Points that hold exactly."""
    if not row.exact:
        return ""
    points = ", ".join(f"{row.name}({x:g}) = {y:g}" for x, y in row.exact)
    return f"\n    Exactly {points}."


def raises(row: Activation) -> str:
    """Errors: those of every ufunc, and of parameters."""
    names = " or ".join(row.params)
    not_real = f", or {names} is not" if names else ""
    out_of_range = f", or {names} is out of its range" if names else ""
    return (
        f"Raises\n------\nTypeError\n    If an array is not of real numbers{not_real}, or out cannot take the dtype.\n"
        f"ValueError\n    If shapes do not broadcast, or out is read-only or too small{out_of_range}.\n\n"
    )


def like(other: Callable[..., Any]) -> Callable[[F], F]:
    """Copy the entries of arguments, and of errors, that a docstring names in braces from that of another function."""

    def fill(function: F) -> F:
        paragraphs = {match[1]: match[0] for match in PARAGRAPH.finditer(getdoc(other) or "")}
        function.__doc__ = cleandoc(function.__doc__ or "").format_map(paragraphs)
        return function

    return fill
