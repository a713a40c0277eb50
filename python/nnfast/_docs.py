"""Docstrings: what several of them share stands here once, and those of a family are made of what its table says."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from inspect import cleandoc, getdoc
from types import FunctionType, MappingProxyType
from typing import Any, TypeVar

from nnfast._links import links
from nnfast._table import GATES, INF, TABLE, Activation

Function = TypeVar("Function", bound=Callable[..., Any])
Example = tuple[str, str]
"""An expression, and what it prints."""


def page(summary: str, sections: dict[str, str], example: Example) -> str:
    """A docstring of numpydoc's sections, each under its title; those without a text are left out."""
    code, result = example
    sections["Examples"] = f">>> import numpy as np, nnfast as nf\n>>> {code}\n{result}"
    found = {title: text.rstrip() for title, text in sections.items() if text}
    parts = [f"{title}\n{'-' * len(title)}\n{text}\n" for title, text in found.items()]
    return "\n".join([f"{summary}\n", *parts])


def documented(doc: Callable[[str], str]) -> Callable[[Function], Function]:
    """A decorator that gives a function the docstring that there is for its name."""

    def give(function: Function) -> Function:
        function.__doc__ = doc(function.__name__)
        return function

    return give


@cache
def _paragraphs(function: Callable[..., Any]) -> dict[str, str]:
    """The entries of arguments, by the first one's name, and the section of errors."""
    found: dict[str, str] = {}
    for block in (getdoc(function) or "").split("\n\n"):
        title, *lines = block.split("\n")
        if title == "Raises":
            found[title] = block
        elif title == "Parameters":
            name = ""
            for line in lines[1:]:
                if line.startswith(" "):
                    found[name] += f"\n{line}"
                else:
                    name = line.partition(" ")[0].rstrip(",")
                    found[name] = line
    return found


def like(other: Callable[..., Any]) -> Callable[[Function], Function]:
    """Copy the entries of arguments, and of errors, that a docstring names in braces from that of another function."""

    def fill(function: Function) -> Function:
        text = cleandoc(function.__doc__ or "").format_map(_paragraphs(other))
        function.__doc__ = f"{text}\n"
        return function

    return fill


# ---- what is not written out: descriptions of entries, and See Also ----

_OF_BACKWARD = {
    "dy": "Gradient of the loss with respect to y.",
    "x": "What {} was given.",
    "y": "What {} returned.",
    "out": "Takes dx.",
}

_AFTER_RETURNS = ("Raises", "See Also", "Notes", "References", "Examples")


def complete(text: str, name: str, entries: Mapping[str, str], see_also: list[str]) -> str:
    """A docstring with a description for entries that have none, and with these lines under See Also."""
    forward = name.removesuffix("_backward")
    # What a gradient takes besides arrays is what the function was given.
    words, given = (entries, "") if forward == name else (_OF_BACKWARD, "As given to {}.")
    places = {title: place for title in _AFTER_RETURNS if (place := _heading(text, title)) >= 0}
    stop = min(places.values(), default=len(text))
    returns = _heading(text, "Returns")
    if returns < 0:
        returns = stop
    head = _described(text[:returns], forward, words, given)
    if returns < stop:
        head += _described(text[returns:stop], forward, words, "")
    if not see_also:
        return head + text[stop:]
    indent = text[stop : len(text) - len(text[stop:].lstrip(" "))]
    if "See Also" in places:
        place = text.index("-\n", places["See Also"]) + 2
        written = text[place:].partition("\n\n")[0]
        lines = [line for line in see_also if line.partition(" :")[0] not in written]
    else:
        after = (places[title] for title in _AFTER_RETURNS[2:] if title in places)
        place, lines = min(after, default=len(text)), ["See Also", "--------", *see_also, ""]
    return "".join((head, text[stop:place], *(f"{indent}{line}\n" for line in lines), text[place:]))


def _heading(text: str, title: str) -> int:
    """Where the line of a heading begins; -1 where there is none."""
    place = text.find(f"{title}\n")
    while place >= 0 and not text[place + len(title) + 1 :].lstrip(" ").startswith("---"):
        place = text.find(f"{title}\n", place + 1)
    return text.rfind("\n", 0, place) + 1 if place >= 0 else -1


def _described(text: str, forward: str, words: Mapping[str, str], otherwise: str) -> str:
    """Entries with the descriptions of these words where they have none."""
    lines = text.split("\n")
    for i in range(len(lines) - 2, -1, -1):
        names, colon, _ = lines[i].partition(" : ")
        if not colon:
            continue
        indent = names[: len(names) - len(names.lstrip(" "))]
        if lines[i + 1].startswith(f"{indent} "):
            continue
        names = names[len(indent) :]
        found = words.get(names) or _gradients(names) or otherwise
        if found:
            more = found.format(forward).split("\n")
            lines[i + 1 : i + 1] = [f"{indent}    {line}" for line in more]
    return "\n".join(lines)


def _gradients(names: str) -> str:
    """What dx, or dgamma and dbeta, are."""
    each = names.split(", ")
    if not all(name[0] == "d" and name[1:].isalpha() for name in each):
        return ""
    word = "Gradient" if len(each) == 1 else "Gradients"
    return f"{word} of the loss with respect to {' and '.join(name[1:] for name in each)}."


def entries(text: str | None, *, heads: bool = False) -> dict[str, str]:
    """The descriptions of the entries that a docstring lists without a section, or the whole entries."""
    found = re.finditer(r"^(\w+) : .*\n((?: {4}.*\n)+)", text or "", re.MULTILINE)
    return {match[1]: match[0] if heads else cleandoc(match[2]) for match in found}


def finish(
    module: str,
    entries: Mapping[str, str],
    options: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Complete the docstrings of what a module exports that is not loaded with nnfast.

    These options become the section of other parameters where one has the parameter ``**options``, and take the places
    of lines that are their names in braces.
    """
    others = "".join(("Other Parameters\n----------------\n", *options.values(), "\n"))
    namespace = vars(sys.modules[module])
    prefix = module.partition(".")[2]
    known = frozenset(namespace["__all__"])
    for name in known:
        value = namespace.get(name)
        if type(value) is FunctionType or isinstance(value, type):
            if not (text := value.__doc__):
                continue
            if options:
                text = cleandoc(text) + "\n"
                if "**options\n" in text:
                    text = text.replace("\nRaises\n", f"\n{others}Raises\n", 1)
                for option, entry in options.items():
                    text = text.replace(f"\n{{{option}}}\n", f"\n{entry}")
            value.__doc__ = complete(text, name, entries, links(prefix, name, known))
        if isinstance(value, type):
            for key, method in vars(value).items():
                if type(method) is FunctionType and not key.startswith("_") and method.__doc__:
                    method.__doc__ = complete(method.__doc__, key, entries, [])


_DY = "Gradient of the loss with respect to y."
_NO_Y = "y : None\n    No array: the gradient does not follow from y."


def see_also(name: str) -> str:
    """The section See Also of a function that has a gradient, or of the gradient."""
    forward = name.removesuffix("_backward")
    return "\n".join(links("", name, (forward, f"{forward}_backward")))


def _errors(type_error: str, value_error: str) -> str:
    return f"TypeError\n    If {type_error}.\nValueError\n    If {value_error}.\n"


# ---- activations ----

_KEYWORDS = """out, where, dtype, casting, order, subok
    As for every NumPy ufunc{}."""
_KEYWORDS_OF_UFUNC = """out, where, casting, order, dtype, subok, signature
    As for every NumPy ufunc."""
_PARAMS = {
    "negative_slope": "Slope below 0",
    "alpha": "Minus the limit at -inf",
    "beta": "Steepness",
    "threshold": "{}",
    "value": "Result where x is not above the threshold",
    "lambd": "What is shrunk away",
    "b": "Four times the square of the value at 0",
    "min_val": "Smallest result",
    "max_val": "Largest result",
}
_SLOPES = """weight : array_like
    The slope; broadcasts by NumPy's rules. One a channel of (N, C, H, W) is
    ``weight[:, None, None]``.{}
"""
_THRESHOLDS = {
    "threshold": "What x is compared with",
    "softplus": "Where ``beta * x`` is above it y is x itself, and the gradient is dy",
}
# Of the parameters of the function; its gradient, and so its layer, may take fewer.
_RANGES = {
    "celu": {"alpha": "; positive"},
    "softplus": {"beta": "; positive"},
    "hardtanh": {"max_val": "; above min_val"},
    "hardshrink": {"lambd": "; not negative and finite"},
    "softshrink": {"lambd": "; not negative and finite"},
    "squareplus": {"b": "; positive and finite"},
}
_RANGES_OF_BACKWARD = {
    "lambd": ", as given to the forward function; not negative and finite",
    "b": ", as given to the forward function; positive and finite",
    "negative_slope": ", as given to the forward function; not negative, unless x is given: y would not tell its side",
    "alpha": ", as given to the forward function; positive, since y would not tell x's side",
    "beta": ", as given to the forward function; positive",
    "min_val": ", as given to the forward function",
    "max_val": ", as given to the forward function; above min_val",
}
_RANGES_OF_LAYER = {
    "negative_slope": "; not negative",
    "alpha": "; positive",
    "beta": "; positive",
    "max_val": "; above min_val",
    "lambd": "; not negative and finite",
    "b": "; positive and finite",
}
_APPROXIMATE = """approximate : {{"none", "tanh"}}, default "none"
    The function itself, or its tanh approximation{}.
"""
_TANH = ": ``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``"


def activation(row: Activation, example: Example) -> str:
    """The docstring of an activation."""
    x = """x : array_like of float16, float32 or float64, any shape
    NaN gives NaN. Other types are converted as NumPy's ufuncs do.
"""
    note = f"\n    {row.note}" if row.note else ""
    keywords = _KEYWORDS_OF_UFUNC if row.ufunc == row.name else _KEYWORDS.format("")
    return page(
        f"{row.title}: ``{row.formula}``.",
        {
            "Parameters": x + _parameters(row, backward=False) + keywords,
            "Returns": "y : ndarray or scalar of x's shape and dtype\n"
            f"    {_accuracy(row)}{_interval(row)}{_exact(row)}{note}",
            "Raises": _raises(row),
            "See Also": see_also(row.name),
            "References": f"{row.source}.",
        },
        example,
    )


def activation_backward(row: Activation, example: Example) -> str:
    """The docstring of its gradient."""
    given, returned = f"What {row.name} was given", f"What {row.name} returned"
    if row.saves == "y":
        saved = f"y : array_like\n    {returned}.\n"
        other = f"x : array_like, optional\n    {given}, by keyword in place of y, which follows from it."
    elif row.slope_of_y:
        saved = f"x : array_like\n    {given}.\n"
        other = f"""y : array_like, optional
    {returned}, by keyword in place of x. The gradient is ``dy * ({row.slope_of_y})`` then: as exact as y, in which
    digits of x may be lost."""
    else:
        saved = f"x : array_like\n    {given}.\n"
        other = _NO_Y
    either = len(row.takes) > 1
    wrong = "both or neither of x and y are given" if either else "y is given, or x is not"
    return page(
        f"Gradient of {row.name}: ``{row.gradient}``.",
        {
            "Parameters": f"dy : array_like of float16, float32 or float64\n    {_DY}\n{saved}"
            + _parameters(row, backward=True)
            + _KEYWORDS.format("; ``out=dy`` is allowed")
            + f"\n{other}",
            "Returns": "dx : ndarray or scalar of the broadcast shape and dtype\n"
            "    Within 2 ULP of the larger of ``|dx|`` and ``|dy| / 8``.",
            "Raises": _raises(row, f"{wrong}, or "),
            "See Also": see_also(f"{row.name}_backward"),
            "Notes": f"The NumPy ufunc below it is ``{row.name}_backward.ufunc``.",
        },
        example,
    )


def backward_ufunc(row: Activation) -> str:
    """The docstring of the ufunc of its gradient, below the function."""
    function = f"nnfast.{row.name.removesuffix('_tanh')}_backward"
    names = "dy", row.saves, *(("weight",) if row.name == "prelu" else row.params)
    takes = ", ".join(f"x{i} is {name}" for i, name in enumerate(names, 1))
    return f"The ufunc below {function}: {takes}."


def activation_layer(name: str, layer: str) -> str:
    """The docstring of its layer."""
    row = TABLE[name]
    names = " or ".join(row.params)
    errors = f"{names} is not a real number, or " if names else ""
    range_error = f"ValueError\n    If {names} is out of its range." if names else ""
    if name == "gelu":
        range_error = "ValueError\n    If approximate is unknown."
    kept = {"x": "x, which must not change until then,", "y": "y"}[row.saves]
    params = _parameters(row, backward=False, layer=True)
    return page(
        f"{row.title}: ``{row.formula}``, the layer of ``nnfast.{name}``.",
        {
            "Parameters": params if name != "gelu" else _APPROXIMATE.format(""),
            "Raises": f"TypeError\n    If {errors}x is not of real numbers.\n{range_error}",
            "Notes": f"Keeps {kept} for the backward pass.",
            "References": f"{row.source}.",
        },
        _layer_example(name, layer),
    )


def _layer_example(name: str, layer: str) -> Example:
    equal = f"np.array_equal(nf.nn.{layer}().forward(x), nf.{name}(x))"
    return f"x = np.array([[-1.5, 0.5]])\n>>> {equal}", "True"


def _parameters(row: Activation, *, backward: bool, layer: bool = False) -> str:
    """Entries of the parameters."""
    ranges = (
        _RANGES_OF_BACKWARD
        if backward
        else _RANGES_OF_LAYER
        if layer
        else _RANGES.get(row.name, {})
    )
    if row.name == "prelu":
        return _SLOPES.format(" Its own gradient is prelu_weight_backward." * backward)
    if row.name.startswith("gelu"):
        return _APPROXIMATE.format(_TANH)
    return "".join(
        f"{name} : float, default {default:g}\n    "
        f"{_PARAMS[name].format(_THRESHOLDS.get(row.name))}{ranges.get(name, '')}.\n"
        for name, default in row.params.items()
    )


def _accuracy(row: Activation) -> str:
    """The error bound."""
    if row.ulp == 0:
        return "Exact."
    more = " (1 more on machines without FMA)" if row.ulp > 0.5 else ""
    return f"Within {row.ulp:g} ULP{more}; float16 is the float32 result, rounded."


def _interval(row: Activation) -> str:
    """Bounds that hold for every x, and for all parameters."""
    low = row.lowest or (f"{row.low:.6g}" if row.low > -INF else "")
    high = row.highest or (f"{row.high:g}" if row.high < INF else "")
    if not high:
        return f" Never below {low}." if low else ""
    return f" Always in [{low}, {high}]." if low else f" Never above {high}."


def _exact(row: Activation) -> str:
    """Points that hold exactly."""
    points = ", ".join(f"{row.name}({x:g}) = {y:g}" for x, y in row.exact)
    exactly = "By default exactly" if row.params else "Exactly"
    return f"\n    {exactly} {points}." if points else ""


def _raises(row: Activation, also: str = "") -> str:
    """Errors: those of every ufunc, and of parameters."""
    names = " or ".join(row.params)
    not_real = f", or {names} is not" if names else ""
    out_of_range = (
        f", or {names} is out of its range" if (also and names) or row.name in _RANGES else ""
    )
    if row.name.startswith("gelu"):
        out_of_range = ", or approximate is unknown"
    return _errors(
        f"{also}an array is not of real numbers{not_real}, or out cannot take the dtype",
        f"shapes do not broadcast, or out is read-only or too small{out_of_range}",
    )


# ---- activations of x + bias ----


def biased(name: str, example: Example) -> str:
    """The docstring of bias_<name>."""
    return page(
        f"{name}(x + bias), in one pass.",
        {
            "Parameters": f"""x : array_like of float16, float32 or float64, shape (..., n)
    Usually a matrix product. Other types are converted as NumPy's ufuncs do; lazy and labelled arrays (Dask, xarray)
    are given to a ufunc and come back as what they are.
bias : array_like, shape (n,)
    Converted to x's dtype.
{_approximate(name, _TANH)}out : ndarray of x's shape and dtype, optional
    May be x.""",
            "Returns": "y : ndarray of x's shape and dtype\n"
            f"    The same bits as ``nf.{name}(x + bias)`` gives for float32 and float64; of float16 the sum is not "
            "rounded.",
            "Raises": _errors(
                "x is not of real numbers or out has another dtype",
                "shapes do not match, or out is read-only or overlaps x without being x, or overlaps bias",
            ),
            "See Also": see_also(f"bias_{name}"),
        },
        example,
    )


def _approximate(name: str, formula: str = ", as given to the forward function") -> str:
    return _APPROXIMATE.format(formula) if name == "gelu" else ""


def biased_backward(name: str, saves: str, example: Example) -> str:
    """The docstring of bias_<name>_backward, which takes y, or x and the bias."""
    x_and_bias = f"""x : array_like, shape (..., n){{0}}
    What bias_{name} was given.
bias : array_like, shape (n,){{0}}
    What bias_{name} was given"""
    if saves == "y":
        saved = f"y : array_like, shape (..., n)\n    What bias_{name} returned.\n"
        saved += f"{x_and_bias.format(', optional')}, by keyword in place of y, which is computed again.\n"
        wrong = "both or neither of x and y are given, or x without bias"
    else:
        saved = x_and_bias.format("") + ".\n"
        wrong = "y is given, or x or bias is not"
    no_y = f"{_NO_Y}\n" if saves == "x" else ""
    return page(
        f"Gradients of bias_{name} with respect to x and to the bias, from one pass.",
        {
            "Parameters": f"""dy : array_like of float16, float32 or float64, shape (..., n)
    {_DY}
{saved}{_approximate(name)}{no_y}out : ndarray of dy's shape and dtype, or a pair of arrays, optional
    For dx, which may be dy; the second of a pair, of shape (n,), takes dbias.""",
            "Returns": f"""dx : ndarray, shape (..., n)
    ``nf.{name}_backward(dy, {"y" if saves == "y" else "x + bias"})``, the same bits.
dbias : ndarray, shape (n,)
    The sum of dx over all axes but the last, in float64 and in an order that only the shape decides.""",
            "Raises": _errors(
                f"{wrong}, or an array is not of real numbers or out has another dtype",
                "shapes do not match, or out is read-only or overlaps an input without being dy",
            ),
            "See Also": see_also(f"bias_{name}_backward"),
        },
        example,
    )


# ---- along an axis ----

_AXIS = "axis : int, default -1\n    The axis that is halved.\n"


def gate(name: str) -> str:
    """The docstring of a gated linear unit, or of the gradient of one."""
    backward = name.endswith("_backward")
    row = GATES[name.removesuffix("_backward")]
    if backward:
        return page(
            f"Gradient of {row.name}: ``dy * {row.act}(b)`` in the axis's first half, ``dy * a * {row.act}'(b)`` in "
            "the second.",
            {
                "Parameters": f"""dy : array_like of float16, float32 or float64, shape (..., n, ...)
    {_DY}
x : array_like, shape (..., 2 * n, ...)
    What {row.name} was given.
{_AXIS}{_NO_Y}
out : ndarray of x's dtype, shape (..., 2 * n, ...), optional
    Takes dx.""",
                "Returns": "dx : ndarray, shape (..., 2 * n, ...)\n    Gradient of the loss with respect to x.",
                "Raises": _errors(
                    "y is given or x is not, an array is not of real numbers or is masked, or out has another dtype",
                    "shapes do not match, or out is read-only or overlaps an input",
                ),
                "See Also": see_also(name),
            },
            (f"nf.{name}(np.array([2.0]), np.array([3.0, 0.0]))", f"array({row.gradient})"),
        )
    return page(
        f"{row.title}: ``a * {row.act}(b)``, a and b the first and the second half of an axis.",
        {
            "Parameters": f"""x : array_like of float16, float32 or float64, shape (..., 2 * n, ...)
    Other types are converted as NumPy's ufuncs do. A Dask array gives a lazy one, a DataArray one without coordinates
    along the axis, and pandas' arrays, whose labels fit no half, an ndarray.
{_AXIS}out : ndarray of x's dtype, shape (..., n, ...), optional
    Takes y.""",
            "Returns": f"y : ndarray, shape (..., n, ...)\n    One rounding more than ``{row.act}``.",
            "Raises": _errors(
                "x is not of real numbers or a masked array, or out has another dtype",
                "the axis has an odd length, or out has another shape, is read-only or overlaps x",
            ),
            "See Also": see_also(name),
            "References": f'{row.authors}, "{row.paper}", {row.year}.',
        },
        (f"nf.{name}(np.array([3.0, 4.0, 0.0, 50.0]))", f"array({row.example})"),
    )


def axis_layer(name: str, layer: str, title: str) -> str:
    """The docstring of the layer of a function along an axis."""
    row = GATES.get(name)
    if row is not None:
        title = f"{row.title} ({row.authors}, {row.year})"
    axis = _AXIS if row else "axis : int, default -1\n    The axis of the sum.\n"
    odd = " or it has an odd length there" if row else ""
    return page(
        f"{title}, the layer of ``nnfast.{name}``.",
        {
            "Parameters": axis,
            "Raises": f"TypeError\n    If axis is no int.\nValueError\n    From forward, if x has no such axis{odd}.",
        },
        _layer_example(name, layer),
    )
