"""Docstrings that the functions and layers of a family share, made of what their table says."""

import re
from collections.abc import Callable
from inspect import cleandoc, getdoc
from typing import Any, TypeVar

from nnfast._table import GATES, INF, TABLE, Activation

Function = TypeVar("Function", bound=Callable[..., Any])
Example = tuple[str, str]
"""An expression, and what it prints."""


# The entry of one argument, or of several; or the section of errors.
_PARAGRAPH = re.compile(
    r"^(\w+)(?:(?: :|, ).*(?:\n {4}.+)*|(?<=Raises)\n-+(?:\n.+)*)", re.MULTILINE
)


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


def like(other: Callable[..., Any]) -> Callable[[Function], Function]:
    """Copy the entries of arguments, and of errors, that a docstring names in braces from that of another function."""

    def fill(function: Function) -> Function:
        paragraphs = {match[1]: match[0] for match in _PARAGRAPH.finditer(getdoc(other) or "")}
        function.__doc__ = cleandoc(function.__doc__ or "").format_map(paragraphs)
        return function

    return fill


_DY = "Gradient of the loss with respect to y."
_NO_Y = "y : None\n    No array: the gradient does not follow from y."


def _errors(type_error: str, value_error: str) -> str:
    return f"TypeError\n    If {type_error}.\nValueError\n    If {value_error}.\n"


# ---- activations ----

_KEYWORDS = """out, where, dtype, casting, order, subok
    As for every NumPy ufunc{}."""
_PARAMS = {
    "negative_slope": "Slope below 0",
    "alpha": "Minus the limit at -inf",
    "beta": "Steepness; positive",
    "threshold": "{}",
    "value": "Result where x is not above the threshold",
    "lambd": "What is shrunk away; not negative and finite",
    "b": "Four times the square of the value at 0; positive and finite",
    "min_val": "Smallest result",
    "max_val": "Largest result; above min_val",
}
_SLOPES = """weight : array_like
    The slope; broadcasts by NumPy's rules. One a channel of (N, C, H, W) is
    ``weight[:, None, None]``.{}
"""
_THRESHOLDS = {
    "threshold": "What x is compared with",
    "softplus": "Where ``beta * x`` is above it y is x itself, and the gradient is dy",
}
_OF_BACKWARD = {
    "negative_slope": ", as given to the forward function; not negative, unless x is given: y would not tell its side",
    "alpha": ", as given to the forward function; positive, since y would not tell x's side",
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
    return page(
        f"{row.title}: ``{row.formula}``.",
        {
            "Parameters": x + _parameters(row, backward=False) + _KEYWORDS.format(""),
            "Returns": "y : ndarray or scalar of x's shape and dtype\n"
            f"    {_accuracy(row)}{_interval(row)}{_exact(row)}{note}",
            "Raises": _raises(row),
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
            "Notes": f"The NumPy ufunc below it is ``{row.name}_backward.ufunc``.",
        },
        example,
    )


def backward_ufunc(row: Activation) -> str:
    """The docstring of the ufunc of its gradient, below the function."""
    function = f"nnfast.{row.name.removesuffix('_tanh')}_backward"
    return f"The ufunc below {function}: takes dy, {row.saves} and the parameters by position."


def activation_layer(name: str, layer: str) -> str:
    """The docstring of its layer."""
    row = TABLE[name]
    names = " or ".join(row.params)
    errors = f"{names} is not a real number, or " if names else ""
    range_error = f"ValueError\n    If {names} is out of its range." if names else ""
    kept = {"x": "x, which must not change until then,", "y": "y"}[row.saves]
    params = _parameters(row, backward=False)
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


def _parameters(row: Activation, *, backward: bool) -> str:
    """Entries of the parameters."""
    if row.name == "prelu":
        return _SLOPES.format(" Its own gradient is prelu_weight_backward." * backward)
    if row.name.startswith("gelu"):
        return _APPROXIMATE.format(_TANH)
    return "".join(
        f"{name} : float, default {default:g}\n    "
        f"{_PARAMS[name].format(_THRESHOLDS.get(row.name))}{_OF_BACKWARD.get(name, '') if backward else ''}.\n"
        for name, default in row.params.items()
    )


def _accuracy(row: Activation) -> str:
    """The error bound."""
    if row.ulp == 0:
        return "Exact."
    more = " (1 more on machines without FMA)" if row.ulp > 0.5 else ""
    return f"Within {row.ulp:g} ULP{more}; float16 is the float32 result, rounded."


def _interval(row: Activation) -> str:
    """Bounds that hold for every x."""
    if row.high == INF:
        return f" Never below {row.low:.6g}." if row.low > -INF else ""
    return f" Always in [{row.low:g}, {row.high:g}]."


def _exact(row: Activation) -> str:
    """Points that hold exactly."""
    points = ", ".join(f"{row.name}({x:g}) = {y:g}" for x, y in row.exact)
    return f"\n    Exactly {points}." if points else ""


def _raises(row: Activation, also: str = "") -> str:
    """Errors: those of every ufunc, and of parameters."""
    names = " or ".join(row.params)
    not_real = f", or {names} is not" if names else ""
    out_of_range = f", or {names} is out of its range" if names else ""
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
        },
        example,
    )


def _approximate(name: str, formula: str = ", as given to the forward function") -> str:
    return _APPROXIMATE.format(formula) if name == "gelu" else ""


def biased_backward(name: str, saves: str, example: Example) -> str:
    """The docstring of bias_<name>_backward, which takes y, or x and the bias."""
    x_and_bias = f"""x : array_like, shape (..., n){{0}}
bias : array_like, shape (n,){{0}}
    What bias_{name} was given"""
    if saves == "y":
        saved = f"y : array_like, shape (..., n)\n    What bias_{name} returned.\n"
        saved += f"{x_and_bias.format(', optional')}, by keyword in place of y, which is computed again.\n"
        wrong = "both or neither of x and y are given, or x without bias"
    else:
        saved = x_and_bias.format("") + f".\n{_NO_Y}\n"
        wrong = "y is given, or x or bias is not"
    return page(
        f"Gradients of bias_{name} with respect to x and to the bias, from one pass.",
        {
            "Parameters": f"""dy : array_like of float16, float32 or float64, shape (..., n)
    {_DY}
{saved}{_approximate(name)}out : ndarray of dy's shape and dtype, or a pair of arrays, optional
    For dx, which may be dy; the second of a pair, of shape (n,), takes dbias.""",
            "Returns": f"""dx : ndarray, shape (..., n)
    ``nf.{name}_backward(dy, {"y" if saves == "y" else "x + bias"})``, the same bits.
dbias : ndarray, shape (n,)
    The sum of dx over all axes but the last, in float64 and in an order that only the shape decides.""",
            "Raises": _errors(
                f"{wrong}, or an array is not of real numbers or out has another dtype",
                "shapes do not match, or out is read-only or overlaps an input without being dy",
            ),
        },
        example,
    )


# ---- along an axis ----

_AXIS = "axis : int, default -1\n"


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
out : ndarray of x's dtype, shape (..., 2 * n, ...), optional""",
                "Returns": "dx : ndarray, shape (..., 2 * n, ...)",
                "Raises": _errors(
                    "y is given or x is not, an array is not of real numbers or is masked, or out has another dtype",
                    "shapes do not match, or out is read-only or overlaps an input",
                ),
            },
            (f"nf.{name}(np.array([2.0]), np.array([3.0, 0.0]))", f"array({row.gradient})"),
        )
    return page(
        f"{row.title}: ``a * {row.act}(b)``, a and b the first and the second half of an axis.",
        {
            "Parameters": f"""x : array_like of float16, float32 or float64, shape (..., 2 * n, ...)
    Other types are converted as NumPy's ufuncs do. A Dask array gives a lazy one, a DataArray one without coordinates
    along the axis, and pandas' arrays, whose labels fit no half, an ndarray.
{_AXIS}out : ndarray of x's dtype, shape (..., n, ...), optional""",
            "Returns": f"y : ndarray, shape (..., n, ...)\n    One rounding more than ``{row.act}``.",
            "Raises": _errors(
                "x is not of real numbers or a masked array, or out has another dtype",
                "the axis has an odd length, or out has another shape, is read-only or overlaps x",
            ),
            "References": f'{row.authors}, "{row.paper}", {row.year}.',
        },
        (f"nf.{name}(np.array([3.0, 4.0, 0.0, 50.0]))", f"array({row.example})"),
    )


def axis_layer(name: str, layer: str, title: str) -> str:
    """The docstring of the layer of a function along an axis."""
    row = GATES.get(name)
    if row is not None:
        title = f"{row.title} ({row.authors}, {row.year})"
    axis = "It is halved: ``a * act(b)``." if row else "Along which it sums up."
    odd = " or it has an odd length there" if row else ""
    return page(
        f"{title}, the layer of ``nnfast.{name}``.",
        {
            "Parameters": f"{_AXIS}    {axis}",
            "Raises": f"TypeError\n    If axis is no int.\nValueError\n    From forward, if x has no such axis{odd}.",
        },
        _layer_example(name, layer),
    )
