"""The derivative of any elementwise activation, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from nnfast import _arrays
from nnfast._table import TABLE
from nnfast.activations import parametric, plain

__all__ = [
    "derivative",
]


def derivative(name: str, x: ArrayLike, *, out: Any = None, **kwargs: Any) -> Any:
    """Derivative f'(x) of an elementwise activation, given by its name: the gradient where that of the loss is 1.

    Parameters
    ----------
    name : str
        Of the function: ``"silu"`` for ``nnfast.silu``.
    x : array_like of float16, float32 or float64, any shape
        What the function is given, also where its gradient takes y.
    out : ndarray of x's shape, optional
        ``out=x`` is allowed.
    **kwargs
        The parameters of the function, and ``where``, ``dtype``, ``casting``, ``order``, ``subok`` as for every NumPy
        ufunc.

    Returns
    -------
    dydx : ndarray or scalar of x's shape and dtype
        The bits of ``nf.<name>_backward(1.0, x=x)``; at a kink its value there, so 0 for relu at 0.

    Raises
    ------
    TypeError
        If name is no str, x is not of real numbers, or a keyword is none of the function's.
    ValueError
        If there is no elementwise activation of that name (the message lists close ones), or a parameter is out of its
        range.

    See Also
    --------
    relu_backward

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.derivative("tanh", np.array([0.0, np.inf]))
    array([1., 0.])
    >>> nf.derivative("leaky_relu", np.array([-2.0, 3.0]), negative_slope=0.5)
    array([0.5, 1. ])
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    if name not in _GRADIENTS:
        from difflib import get_close_matches  # not loaded by every import of nnfast

        close = get_close_matches(name.lower(), _GRADIENTS, n=5, cutoff=0.4) or list(_GRADIENTS)
        raise ValueError(
            f"name must be an elementwise activation, such as {', '.join(close)}, got {name!r}"
        )
    return _GRADIENTS[name](_arrays.operand_for(1.0, x), x=x, out=out, **kwargs)


_GRADIENTS: dict[str, Callable[..., Any]] = {
    name: getattr(module, f"{name}_backward")
    for module in (plain, parametric)
    for name in TABLE
    if name in module.__all__
}
