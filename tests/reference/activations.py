"""What each activation and its gradient compute, once for float64 arrays and for MPFR in arrays of objects.

``FORMULAS[name]`` is (m, x, *parameters) -> y, ``SLOPES[name]`` is (m, saved, *parameters) -> dy/dx, with the
elementary functions of m. They are references: written for accuracy over the whole range in float64, not for speed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Formula = Callable[..., Any]

SELU_SCALE, SELU_ALPHA = "1.0507009873554804934193349852946", "1.6732632423543772848170429916717"


class Float64:
    """The elementary functions of NumPy and SciPy's erfc; constants in float64."""

    exp, expm1, log1p, tanh, sqrt = np.exp, np.expm1, np.log1p, np.tanh, np.sqrt
    pi = np.pi

    @staticmethod
    def erfc(x: Array) -> Array:
        from scipy.special import erfc

        return erfc(x)

    @staticmethod
    def number(text: str) -> float:
        """A decimal constant."""
        return float(text)


class Mpfr:
    """MPFR with 200 bits, on arrays of objects."""

    def __init__(self) -> None:
        import gmpy2

        self.context = gmpy2.context(precision=200, emin=-(2**24), emax=2**24)
        self.mpfr = gmpy2.mpfr
        for name in ("exp", "expm1", "log1p", "tanh", "sqrt", "erfc"):
            setattr(self, name, np.frompyfunc(getattr(gmpy2, name), 1, 1))
        with self.context:
            self.pi = gmpy2.const_pi()

    def number(self, text: str) -> Any:
        """A decimal constant."""
        return self.mpfr(text)

    def of(self, formula: Formula, *inputs: Array | float) -> NDArray[np.longdouble]:
        """The formula's values, rounded to long double: scalars are constants as float64 has them."""
        with self.context:
            objects = [
                np.frompyfunc(self.mpfr, 1, 1)(i) if isinstance(i, np.ndarray) else self.mpfr(i)
                for i in inputs
            ]
            exact = np.asarray(formula(self, *objects))
            high = exact.astype(np.float64)
            low = np.where(np.isfinite(high), exact - high, 0).astype(np.float64)
        return high.astype(np.longdouble) + low


def where(condition: Any, yes: Any, no: Any) -> Any:
    """np.where for a condition on arrays of objects too."""
    return np.where(np.asarray(condition, bool), yes, no)


def below(x: Any) -> Any:
    """x where it is negative, else 0, so that the side not taken does not overflow."""
    return where(x < 0, x, 0 * x)


def size(x: Any) -> Any:
    return where(x < 0, -x, x)


def logistic(m: Any, x: Any) -> Any:
    """1 / (1 + e^-x), without the power that overflows where the result is still a number."""
    e = m.exp(-size(x))
    return where(x < 0, e, e - e + 1) / (1 + e)


def log_one_plus_exp(m: Any, x: Any) -> Any:
    return (x - below(x)) + m.log1p(m.exp(-size(x)))


def gauss_tail(m: Any, x: Any) -> Any:
    """Phi(x)"""
    return m.erfc(-x / m.sqrt(m.number("2"))) / 2


def gauss_density(m: Any, x: Any) -> Any:
    return m.exp(-x * x / 2) / m.sqrt(2 * m.pi)


def gelu_argument(m: Any, x: Any) -> Any:
    return 2 * m.sqrt(2 / m.pi) * (x + m.number("0.044715") * x * x * x)


def gelu_tanh_slope(m: Any, x: Any) -> Any:
    s, complement = (logistic(m, sign * gelu_argument(m, x)) for sign in (1, -1))
    bend = 2 * m.sqrt(2 / m.pi) * (1 + 3 * m.number("0.044715") * x * x)
    return s + where(size(x) > 40, 0 * s, x) * s * complement * bend


def tanhshrink(m: Any, x: Any) -> Any:
    """A series where the difference has lost float64's digits."""
    square = x * x
    series = x * square * (1 / (3 + 0 * x) - square * 2 / 15 + square * square * 17 / 315)
    few = 1e-2 if m is Float64 else 1e-10
    return where(size(x) < few, series, x - m.tanh(x))


def silu_slope(m: Any, x: Any) -> Any:
    s, complement = logistic(m, x), logistic(m, -x)
    return s + where(size(x) > 1000, 0 * x, x) * s * complement


def mish(m: Any, x: Any) -> Any:
    return x * m.tanh(log_one_plus_exp(m, x))


def mish_slope(m: Any, x: Any) -> Any:
    t = m.tanh(log_one_plus_exp(m, x))
    e = m.exp(-size(x))
    # 1 - t^2 by the formula of the quotient, which keeps its digits
    u, w = 1 + e, where(x < 0, 1 + 0 * e, e)
    steep = 4 * (u * w) ** 2 / (u * u + w * w) ** 2
    return t + where(size(x) > 1000, 0 * x, x) * logistic(m, x) * steep


def selu(m: Any, x: Any) -> Any:
    scale, alpha = m.number(SELU_SCALE), m.number(SELU_ALPHA)
    return scale * where(x > 0, x, alpha * m.expm1(below(x)))


def selu_slope(m: Any, y: Any) -> Any:
    scale, alpha = m.number(SELU_SCALE), m.number(SELU_ALPHA)
    return where(y > 0, scale + 0 * y, y + scale * alpha)


def squareplus(m: Any, x: Any, b: Any) -> Any:
    """Where x is negative by the root's reciprocal, as the sum loses its digits; far out the root is |x|."""
    far = size(x) > 1e100
    near = where(far, 0 * x, x)
    root = where(far, size(x), m.sqrt(near * near + b))
    return where(x < 0, b / 4 / (root / 2 + size(x) / 2), x / 2 + root / 2)


def squareplus_slope(m: Any, y: Any, b: Any) -> Any:
    near = where(y > 1e100, 0 * y + 1e100, y)
    return near * near / (near * near + b / 4)


def clip(x: Any, low: Any, high: Any) -> Any:
    return where(x < low, low + 0 * x, where(x > high, high + 0 * x, x))


FORMULAS: dict[str, Formula] = {
    "relu": lambda m, x: where(x > 0, x, 0 * x),
    "relu6": lambda m, x: clip(x, 0, 6),
    "hardtanh": lambda m, x, low, high: clip(x, low, high),
    "leaky_relu": lambda m, x, slope: where(x > 0, x, x * slope),
    "prelu": lambda m, x, weight: where(x > 0, x, x * weight),
    "threshold": lambda m, x, limit, value: where(x > limit, x, value + 0 * x),
    "hardshrink": lambda m, x, lambd: where(size(x) > lambd, x, 0 * x),
    "softshrink": lambda m, x, lambd: where(
        size(x) > lambd, where(x < 0, x + lambd, x - lambd), 0 * x
    ),
    "relu_squared": lambda m, x: (x - below(x)) * (x - below(x)),
    "hardsigmoid": lambda m, x: clip(x + 3, 0, 6) / 6,
    "hardswish": lambda m, x: where(x > 3, x, x * clip(x + 3, 0, 6) / 6),
    "elu": lambda m, x, alpha: where(x > 0, x, alpha * m.expm1(below(x))),
    "celu": lambda m, x, alpha: where(x > 0, x, alpha * m.expm1(below(x) / alpha)),
    "selu": selu,
    "sigmoid": logistic,
    "logsigmoid": lambda m, x: -log_one_plus_exp(m, -x),
    "softplus": lambda m, x, beta, limit: where(
        beta * x > limit, x, log_one_plus_exp(m, beta * x) / beta
    ),
    "tanh": lambda m, x: m.tanh(x),
    "tanhshrink": tanhshrink,
    "silu": lambda m, x: x * logistic(m, x),
    "mish": mish,
    "softsign": lambda m, x: x / (1 + size(x)),
    "squareplus": squareplus,
    "gelu": lambda m, x: x * gauss_tail(m, x),
    "gelu_tanh": lambda m, x: x / (1 + m.exp(-gelu_argument(m, x))),
}

SLOPES: dict[str, Formula] = {
    "relu": lambda m, y: where(y > 0, 1 + 0 * y, 0 * y),
    "relu6": lambda m, y: where((y > 0) & (y < 6), 1 + 0 * y, 0 * y),
    "hardtanh": lambda m, y, low, high: where((y > low) & (y < high), 1 + 0 * y, 0 * y),
    "leaky_relu": lambda m, y, slope: where(y > 0, 1 + 0 * y, slope + 0 * y),
    "prelu": lambda m, x, weight: where(x > 0, 1 + 0 * x, weight + 0 * x),
    "threshold": lambda m, x, limit, value: where(x > limit, 1 + 0 * x, 0 * x),
    "hardshrink": lambda m, y, lambd: where(size(y) > lambd, 1 + 0 * y, 0 * y),
    "softshrink": lambda m, y, lambd: where(y != 0, 1 + 0 * y, 0 * y),
    "relu_squared": lambda m, x: 2 * (x - below(x)),
    "hardsigmoid": lambda m, x: where(size(x) < 3, 1 + 0 * x, 0 * x) / 6,
    "hardswish": lambda m, x: where(
        x >= 3, 1 + 0 * x, where(x > -3, clip(x, -3, 3) / 3 + m.number("0.5"), 0 * x)
    ),
    "elu": lambda m, y, alpha: where(y > 0, 1 + 0 * y, y + alpha),
    "celu": lambda m, y, alpha: where(y > 0, 1 + 0 * y, (y + alpha) / alpha),
    "selu": selu_slope,
    "sigmoid": lambda m, y: y * (1 - y),
    "logsigmoid": lambda m, x: logistic(m, -x),
    "softplus": lambda m, x, beta, limit: where(beta * x > limit, 1 + 0 * x, logistic(m, beta * x)),
    "tanh": lambda m, y: (1 - y) * (1 + y),
    "tanhshrink": lambda m, x: m.tanh(x) ** 2,
    "silu": silu_slope,
    "mish": mish_slope,
    "softsign": lambda m, x: 1 / (1 + size(x)) ** 2,
    "squareplus": squareplus_slope,
    "gelu": lambda m, x: gauss_tail(m, x) + x * gauss_density(m, x),
    "gelu_tanh": gelu_tanh_slope,
}
