"""Write piecewise_coefficients.hpp: the tables of piecewise.hpp, computed from the functions they approximate.

    python cpp/simd/piecewise.py > cpp/simd/piecewise_coefficients.hpp

A table is a function of a >= 0, eight intervals and a polynomial on each, or two functions of a = |x|, of x < 0 and of
the others. The interval is the top bits of the float u = start + scale a: `steps` intervals an octave of u, so that
they grow with a as much as the function calms down, or with a negative scale narrow where it falls. Where they begin
and how many an octave has was tried out; the error that is left stands beside every table, a bound that `proved`
finds.

Each polynomial expands about a float at which the function is nearly a float itself, and its slope another, so that
the constant term has no rounding error (the accurate tables of Gal, 1986) and the linear one next to none. The other
coefficients are the closest in the maximum norm (Lawson's iteration of weighted least squares), the first
rounded one after the other, each time with what is left fitted again.
"""

import struct
from collections.abc import Callable
from itertools import pairwise
from multiprocessing import Pool
from typing import Any, NamedTuple

import mpmath as mp
from minimax import gauss as gauss_of_real
from minimax import literal, round_to

mp.mp.prec = 120
Function = Callable[[Any], Any]
INTERVALS = 8


class Table(NamedTuple):
    """What a table approximates, and how.

    f       the function, of a >= 0
    top     where it ends; every larger a is taken for that
    start   u of a = 0, in [1, 2)
    steps   intervals an octave of u
    degree  of the polynomials
    floor   the error is relative to the larger of |f| and this
    step    whether 1 - f is used too
    end     what f counts as from `top` on, where that is a number of its own
    flat    whether f(0) and its slope there are 0, exactly
    odd     whether f(a) = a + o(a), and the first polynomial is of f(a) - a
    other   the table of the same intervals that is meant where x >= 0; this one is where x < 0 then
    lean    where in an interval its polynomial expands: closer to the end where f is small, terms cancel less
    falls   whether f falls ever faster: u goes down, from just below 2, and there are sixteen intervals, of which the
            last eight are half as wide
    """

    f: Function
    top: float
    start: float
    steps: int
    degree: int
    floor: float = 0
    step: bool = False
    end: float | None = None
    flat: bool = False
    odd: bool = False
    other: "Table | None" = None
    lean: float = 0.5
    falls: bool = False


def fit(
    f: Function, size: Function, fixed: list, center: mp.mpf, ends: tuple, degree: int, rounds: int
) -> list:
    """Coefficients in x - center, the fixed ones first, of the polynomial closest to f relative to `size`."""
    count = 4 * (degree + 2)
    first, low, high = len(fixed), *ends
    nodes = [
        (low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * count))
        for k in range(count)
    ]
    radius = max(abs(low - center), abs(high - center))
    sizes = [size(x) for x in nodes]
    rests = [
        (f(x) - mp.polyval(fixed[::-1], x - center) if fixed else f(x)) / s
        for x, s in zip(nodes, sizes, strict=True)
    ]
    rows = [
        [((x - center) / radius) ** k / s for k in range(first, degree + 1)]
        for x, s in zip(nodes, sizes, strict=True)
    ]
    weights = [mp.mpf(1) / count] * count
    best, found = mp.inf, []
    n = degree + 1 - first
    for _ in range(rounds):
        normal = mp.matrix(n, n)
        right = mp.matrix(n, 1)
        for w, row, rest in zip(weights, rows, rests, strict=True):
            for i in range(n):
                right[i] += w * row[i] * rest
                for j in range(i + 1):
                    normal[i, j] += w * row[i] * row[j]
        for i in range(n):
            for j in range(i):
                normal[j, i] = normal[i, j]
        solution = mp.lu_solve(normal, right)
        errors = [abs(mp.fdot(row, solution) - rest) for row, rest in zip(rows, rests, strict=True)]
        if max(errors) < best:
            best, found = max(errors), [solution[i] / radius ** (first + i) for i in range(n)]
        weights = [w * e for w, e in zip(weights, errors, strict=True)]
        total = mp.fsum(weights)
        if not total:
            break
        weights = [w / total for w in weights]
    return [*fixed, *found]


def ulp(value: mp.mpf) -> mp.mpf:
    return mp.mpf(2) ** (mp.frexp(abs(value))[1] - 24)


def on_grid(value: mp.mpf) -> mp.mpf:
    """The closest number from which 1 less it is a float too."""
    digits = 24 if value > 0 else 23
    return mp.nint(value * 2**digits) / 2**digits


def near_floats(functions: list[Function], ends: tuple, step: bool, lean: float) -> mp.mpf:
    """A float near that part of an interval at which the functions and their slopes are nearly floats."""
    low, high = ends
    middle = round_to(low + (high - low) * mp.mpf(lean), 24)
    spacing = max(mp.mpf(2) ** mp.floor(mp.log((high - low) / 2**14, 2)), ulp(middle))

    h = mp.mpf(2) ** -30

    def off(x: mp.mpf) -> mp.mpf:
        errors = []
        for f in functions:
            value = f(x)
            unit = mp.mpf(2) ** -26 if step else ulp(value)
            error = abs(value - nearest(value, step)) / unit
            if error > 0.1:
                return 1 + error
            slope = (f(x + h) - f(x - h)) / (2 * h)
            errors.append(error + abs(slope - round_to(slope, 24)) * (high - low) / 2 / unit)
        return max(errors)

    return min((middle + spacing * k for k in range(-400, 401)), key=off)


def nearest(value: mp.mpf, step: bool) -> mp.mpf:
    return on_grid(value) if step else round_to(value, 24)


def edges(table: Table) -> tuple[mp.mpf, list]:
    """The scale, and where the intervals begin and end."""
    if table.falls:
        bounds = [2 - mp.mpf(k) / 8 for k in range(INTERVALS)]
        bounds += [u / 2 for u in bounds] + [mp.mpf(1) / 2]
        scale = round_to(-mp.mpf(3) / 2 / mp.mpf(table.top) * (1 - mp.mpf(2) ** -20), 24)
        return scale, [(u - 2) / scale for u in bounds]
    octaves = [
        mp.mpf(2) ** (k // table.steps) * (1 + mp.mpf(k % table.steps) / table.steps)
        for k in range(64)
    ]
    first = max(k for k, u in enumerate(octaves) if u <= table.start)
    bounds = octaves[first + 1 : first + 1 + INTERVALS]
    scale = round_to((bounds[-1] - table.start) / mp.mpf(table.top) * (1 - mp.mpf(2) ** -20), 24)
    return scale, [mp.mpf(0), *[(u - table.start) / scale for u in bounds]]


def center_of(table: Table, ends: tuple, at: int) -> mp.mpf:
    """The point of expansion of an interval."""
    if at == 0 and (table.odd or table.flat):
        return mp.mpf(0)
    if at == INTERVALS - 1 and table.end is not None:
        return mp.mpf(table.top)
    functions = [table.f, table.other.f] if table.other else [table.f]
    return near_floats(functions, ends, table.step, table.lean)


def polynomial(table: Table, ends: tuple, at: int, center: mp.mpf) -> list:
    """The coefficients of an interval."""

    def size(x: mp.mpf) -> mp.mpf:
        return max(abs(table.f(x)), mp.mpf(table.floor))

    f, fixed = table.f, [nearest(table.f(center), table.step)]
    if at == 0 and (table.odd or table.flat):
        fixed = [mp.mpf(0), mp.mpf(0)]
    elif at == INTERVALS - 1 and table.end is not None:
        fixed = [mp.mpf(table.end)]
    if at == 0 and table.odd:

        def f(x: mp.mpf) -> mp.mpf:
            return table.f(x) - x

    for count in range(len(fixed), 4):
        fixed.append(round_to(fit(f, size, fixed, center, ends, table.degree, 4)[count], 24))
    return [round_to(c, 24) for c in fit(f, size, fixed, center, ends, table.degree, 16)]


# ---- what is proved ----


class Disc:
    """All complex numbers so close to a real one."""

    def __init__(self, center: Any, radius: Any = 0) -> None:
        self.center, self.radius = mp.mpf(center), mp.mpf(radius)

    def __add__(self, other: Any) -> "Disc":
        other = disc(other)
        return Disc(self.center + other.center, self.radius + other.radius)

    def __mul__(self, other: Any) -> "Disc":
        other = disc(other)
        radius = abs(self.center) * other.radius + self.radius * (abs(other.center) + other.radius)
        return Disc(self.center * other.center, radius)

    def __neg__(self) -> "Disc":
        return Disc(-self.center, self.radius)

    def __sub__(self, other: Any) -> "Disc":
        return self + -disc(other)

    def __rsub__(self, other: Any) -> "Disc":
        return disc(other) - self

    def __rtruediv__(self, other: Any) -> "Disc":
        if self.least == 0:
            raise ZeroDivisionError
        return Disc(1 / self.center, self.radius / (abs(self.center) * self.least)) * other

    def __truediv__(self, other: Any) -> "Disc":
        return self * (1 / other)

    __radd__, __rmul__ = __add__, __mul__

    @property
    def least(self) -> mp.mpf:
        """The smallest absolute value."""
        return max(mp.mpf(0), abs(self.center) - self.radius)

    @property
    def most(self) -> mp.mpf:
        """The largest absolute value."""
        return abs(self.center) + self.radius


def disc(x: Any) -> Disc:
    return x if isinstance(x, Disc) else Disc(x)


def exp(x: Any) -> Any:
    if isinstance(x, Disc):
        return Disc(mp.exp(x.center), mp.exp(x.center) * mp.expm1(x.radius))
    return mp.exp(x)


def gauss(a: Any) -> Any:
    """Phi(-a) e^(a^2/2), a Laplace transform: its slope is nowhere larger than at the real part of a."""
    if isinstance(a, Disc):
        nearest_0 = a.center - a.radius
        slope = 1 / mp.sqrt(2 * mp.pi) - nearest_0 * gauss_of_real(nearest_0)
        return Disc(gauss_of_real(a.center), a.radius * slope)
    return gauss_of_real(a)


def log1p_ratio(w: Any) -> Any:
    """log(1 + w) / w: the mean of 1 / (1 + t w), t in [0, 1], whose slope is at most 1/2 for Re w >= 0."""
    if isinstance(w, Disc):
        if w.center < w.radius:
            raise ZeroDivisionError
        return Disc(log1p_ratio(w.center), w.radius / 2)
    return mp.log1p(w) / w


def value(coefficients: list, y: Any) -> Any:
    total = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = total * y + c
    return total


def rounding(coefficients: list, y: Disc, exact: bool) -> tuple[mp.mpf, mp.mpf]:
    """Bounds of what rounding does to the slope in Horner's scheme, and of what that of y does to the value."""
    lost, total = mp.mpf(0), disc(coefficients[-1])
    for c in coefficients[-2:0:-1]:
        total = total * y + c
        lost = lost * y.most + UNIT * total.most
    return lost, mp.mpf(0) if exact else UNIT * y.most * total.most


# A function that is at most M in a disc of four times the radius of a piece is so close to a polynomial of this degree
# there (Trefethen, "Approximation theory and approximation practice", theorem 8.2, of the largest ellipse in the disc),
# and a polynomial cannot rise much between so many Chebyshev nodes (Ehlich, Zeller 1964).
DEGREE, NODES = 12, 96
ELLIPSE = 4 + mp.sqrt(15)
FROM_POLYNOMIAL = 2 * ELLIPSE**-DEGREE / (ELLIPSE - 1)
BETWEEN_NODES = 1 / mp.cos(mp.pi * DEGREE / (2 * NODES))
UNIT = mp.mpf(2) ** -24


def proved(
    table: Table, ends: tuple, center: mp.mpf, coefficients: list, from_0: bool
) -> tuple[mp.mpf, mp.mpf]:
    """Bounds of the error of an interval's polynomial, and of its value in float before the last rounding.

    Both are relative, as `fit` has them. The interval is halved until the bounds of its pieces are close. from_0: it is
    the first of an odd table, where both the error and f, which is concave there, are divided by a.
    """
    exact = center == 0 or (2 * ends[0] >= center and ends[1] <= 2 * center)  # Sterbenz
    steepest = table.f(ends[1]) / ends[1]
    polynomial = [coefficients[0], coefficients[1] + from_0, *coefficients[2:]]

    def error(x: Any) -> Any:
        return value(polynomial, x - center) - table.f(x)

    def piece(low: mp.mpf, high: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
        middle, radius = (low + high) / 2, (high - low) / 2
        near = Disc(middle, radius)
        try:
            f = table.f(near)
            size = steepest if from_0 else max(f.least, mp.mpf(table.floor))
            rest = error(Disc(middle, 4 * radius)).most * FROM_POLYNOMIAL
            if from_0:  # the largest value of what is analytic in a disc is on its circle
                rest /= abs(middle - 4 * radius)
        except ZeroDivisionError:
            size, rest = mp.mpf(0), mp.inf
        if rest < size * UNIT / 64 and (from_0 or size > 0.9 * max(f.most, table.floor)):
            nodes = (mp.cos(mp.pi * (2 * k + 1) / (2 * NODES)) for k in range(NODES))
            points = [middle + radius * node for node in nodes]
            most = max(abs(error(x)) / (x if from_0 else 1) for x in points)
            bound = (most + rest) * BETWEEN_NODES + rest
            y = near - center
            slope, shift = rounding(coefficients, y, exact)
            lost = slope * (1 if from_0 else y.most) + shift
            return bound / size, (bound + lost) / size
        halves = [piece(low, middle), piece(middle, high)]
        return max(a for a, _ in halves), max(b for _, b in halves)

    return piece(*ends)


def bits(value: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def in_order(parts: list, turn: int, falls: bool) -> list[list]:
    """What belongs to the intervals, by eights, in the order of the low bits of their keys.

    These need not begin with the first interval.
    """
    if falls:
        return [parts[: INTERVALS - 1 : -1], parts[INTERVALS - 1 :: -1]]
    return [[parts[(k - turn) % INTERVALS] for k in range(INTERVALS)]]


def render(name: str) -> str:
    table = TABLES[name]
    scale, bounds = edges(table)
    shift = 23 - (table.steps - 1).bit_length()
    turn = (bits(table.start) >> shift) % INTERVALS
    spans = list(enumerate(pairwise(bounds)))
    points = [center_of(table, ends, at) for at, ends in spans]
    first_top = bounds[INTERVALS] * (1 - mp.mpf(2) ** -20)  # where the first eight certainly reach
    halves, errors = [table.other, table] if table.other else [table], []
    ordered = []
    for half in halves:
        parts = [polynomial(half, ends, at, points[at]) for at, ends in spans]
        ordered += in_order(parts, turn, table.falls)
        errors += [
            proved(half, ends, points[at], parts[at], half.odd and at == 0) for at, ends in spans
        ]
    worst, before_rounding = (max(column) for column in zip(*errors, strict=True))

    def row(halves: list) -> str:
        parts = ["{" + ", ".join(literal(c, 24) for c in half) + "}" for half in halves]
        return parts[0] if len(parts) == 1 else "{" + ", ".join(parts) + "}"

    centers = in_order(points, turn, table.falls)
    rows = ",\n      ".join(
        row([[found[power] for found in half] for half in ordered])
        for power in range(table.degree + 1)
    )
    power, in_float = float(mp.log(worst, 2)), float(before_rounding / UNIT)
    first = (
        f"\n  static constexpr float first_top = {literal(first_top, 24)};" if table.falls else ""
    )
    return f"""// Error 2^{power:.1f}; in float, before the last rounding, {in_float:.2f} 2^-24.
struct {name} {{
  static constexpr float top = {literal(mp.mpf(table.top), 24)};{first}
  static constexpr float start = {literal(mp.mpf(table.start), 24)};
  static constexpr float scale = {literal(scale, 24)};
  static constexpr int shift = {shift};
  static constexpr float centers{"[2]" * table.falls}[{INTERVALS}] = {row(centers)};
  static constexpr float coefficients[]{"[2]" * (len(ordered) - 1)}[{INTERVALS}] = {{
      {rows}}};
}};
"""


# ---- the functions ----


def sigmoid(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def gelu_slope(x: Any) -> Any:
    return exp(-x * x / 2) * (gauss(-x) + x / mp.sqrt(2 * mp.pi))


def gelu_tanh_slope(x: Any) -> Any:
    linear = 2 * mp.sqrt(2 / mp.pi)
    cubic = linear * mp.mpf("0.044715")
    s = sigmoid(linear * x + cubic * x * x * x)
    return s + x * (linear + 3 * cubic * x * x) * s * (1 - s)


def silu_slope(x: Any) -> Any:
    return sigmoid(x) + x * sigmoid(x) * sigmoid(-x)


def tanh(x: Any) -> Any:
    return 2 * sigmoid(2 * x) - 1


def mish_gate(x: Any) -> Any:
    """tanh(log(1 + e^x))"""
    e = exp(x)
    return 1 / (1 + 2 / (e * (e + 2)))


def mish_slope(x: Any) -> Any:
    gate = mish_gate(x)
    return gate + x * sigmoid(x) * (1 - gate * gate)


# A gradient's error is relative to the larger of |dx| and |dy| / 8.
STEP = {"floor": 0.125, "step": True, "end": 0}
BELOW_2 = 2 - 2**-23
MISH_GATE = Table(mish_gate, 9.125, 1.0625, 8, 8)
MISH_SLOPE = Table(mish_slope, 22, 1, 2, 8, floor=0.125, end=1)
TABLES = {
    "GeluSlope": Table(lambda a: gelu_slope(-a), 6.5, 1.3125, 8, 7, **STEP),
    "GeluTanhSlope": Table(lambda a: gelu_tanh_slope(-a), 6.25, 1.1875, 8, 8, **STEP),
    "SiluSlope": Table(lambda a: silu_slope(-a), 22, 1, 2, 8, **STEP),
    "LogisticStep": Table(lambda a: sigmoid(-a), 19, 1, 2, 7, **STEP),
    "SigmoidSlope": Table(lambda a: sigmoid(a) * sigmoid(-a), 19, 1, 2, 8, floor=0.125),
    "TanhshrinkSlope": Table(lambda a: tanh(a) * tanh(a), 10, 1, 2, 8, floor=0.125, flat=True),
    "GaussTail": Table(gauss, 14.5, 1.25, 4, 8),
    "GaussBelow": Table(
        lambda a: exp(-a * a / 2) * gauss(a), 5.625, BELOW_2, 8, 7, lean=0.7, falls=True
    ),
    "LogisticBelow": Table(lambda a: sigmoid(-a), 8, 1.0625, 8, 7),
    "Log1pFactor": Table(lambda a: log1p_ratio(exp(-a)), 18, 1.25, 4, 7),
    "MishGate": MISH_GATE._replace(f=lambda a: mish_gate(-a), other=MISH_GATE),
    "MishSlope": MISH_SLOPE._replace(f=lambda a: mish_slope(-a), end=0, other=MISH_SLOPE),
    "TanhParts": Table(tanh, 9.125, 1, 2, 7, odd=True),
}

HEADER = """// Generated by piecewise.py, which says what each table is. Do not edit.
#pragma once

namespace nnfast {
namespace {

// clang-format off"""

if __name__ == "__main__":
    with Pool() as pool:
        print(HEADER)
        for text in pool.map(render, TABLES, chunksize=1):
            print("\n" + text, end="")
        print("// clang-format on\n\n}  // namespace\n}  // namespace nnfast")
