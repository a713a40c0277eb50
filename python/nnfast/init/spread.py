"""What the spread of weights follows from: the activation behind them, and the fans."""

from __future__ import annotations

import math
from typing import Literal

from nnfast import _arrays, _checks
from nnfast.init.arguments import check_axes

__all__ = ["fans", "gain"]

Activation = Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
Layout = Literal["dense", "conv"]
Mode = Literal["fan_in", "fan_out", "fan_avg"]

_GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": math.nan,  # follows from its slope
    "selu": 3 / 4,
}


def gain(activation: Activation, *, negative_slope: float | None = None) -> float:
    """By how much weights of variance 1 / fan_in are to be scaled so that what follows the layer keeps its spread.

    Parameters
    ----------
    activation : str
        ============== ==============================
        activation     gain
        ============== ==============================
        ``linear``     1
        ``sigmoid``    1
        ``tanh``       5 / 3
        ``relu``       sqrt(2)
        ``leaky_relu`` sqrt(2 / (1 + negative_slope**2))
        ``selu``       3 / 4
        ============== ==============================
    negative_slope : float, optional
        Of leaky_relu, 0.01 if it is not given; of PReLU its first weight.

    Returns
    -------
    gain : float
        As ``torch.nn.init.calculate_gain``. Those of ReLU and leaky ReLU follow from their second moments. That of tanh
        is a convention, and that of SELU was found by experiment; weights that make SELUs normalize themselves are
        those of lecun_normal. For others, such as GELU, there is no agreed one; people take ReLU's.

    Raises
    ------
    TypeError
        If negative_slope is no real number.
    ValueError
        If the activation is not one of these, or negative_slope is not finite or not of this activation.

    References
    ----------
    He et al., "Delving deep into rectifiers", 2015; PyTorch, ``torch.nn.init.calculate_gain``.

    Examples
    --------
    >>> import nnfast as nf
    >>> nf.init.gain("relu"), nf.init.gain("leaky_relu", negative_slope=1)
    (1.4142135623730951, 1.0)
    """
    found = _GAINS[_checks.one_of(activation, _GAINS, "activation")]
    if activation != "leaky_relu":
        if negative_slope is not None:
            raise ValueError(f"negative_slope must be None for {activation}, got {negative_slope}")
        return found
    slope = _checks.finite(0.01 if negative_slope is None else negative_slope, "negative_slope")
    return math.sqrt(2) / math.hypot(1, slope)


def fans(shape: int | tuple[int, ...], layout: Layout | None = None) -> tuple[int, int]:
    """How many inputs a unit of a layer sums up, and how many outputs an input goes to, by the weights' shape.

    Parameters
    ----------
    shape : tuple of ints
        (in, out) of dense weights, (out, in, ...) of convolution weights with any number of kernel axes.
    layout : "dense", "conv" or None
        None says dense for two axes and conv for more. "conv" for two axes is also that of ``torch.nn.Linear``,
        (out, in).

    Returns
    -------
    fan_in, fan_out : int
        (in, out), or both times the size of the kernel: (in kh kw, out kh kw).

    Raises
    ------
    TypeError
        If shape is no tuple of ints.
    ValueError
        If shape is negative or has less than two axes, more than two axes are called dense, or layout is unknown.

    Examples
    --------
    >>> import nnfast as nf
    >>> nf.init.fans((784, 512)), nf.init.fans((64, 32, 3, 3))
    ((784, 512), (288, 576))
    """
    sides = _arrays.sides_of(shape)
    check_axes(sides)
    if layout is None:
        layout = "dense" if len(sides) == 2 else "conv"
    first, second, *kernel = sides
    if _checks.one_of(layout, ("dense", "conv"), "layout") == "conv":
        size = math.prod(kernel)
        return second * size, first * size
    if kernel:
        raise ValueError(f"shape must have two axes with layout 'dense', got {shape}")
    return first, second


def deviation(shape: tuple[int, ...], layout: Layout | None, mode: Mode, gain: float) -> float:
    """The standard deviation of weights."""
    gain = _checks.finite_not_negative(gain, "gain")
    fan_in, fan_out = fans(shape, layout)
    by_mode = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    fan = by_mode[_checks.one_of(mode, by_mode, "mode")]
    # A fan of 0 is that of an array without elements.
    return gain / math.sqrt(fan or 1)
