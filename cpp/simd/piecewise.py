"""Write piecewise_coefficients.hpp: the tables of piecewise.hpp, computed from the functions they approximate.

    python cpp/simd/piecewise.py > cpp/simd/piecewise_coefficients.hpp

A table is a function of a >= 0, eight intervals and a polynomial on each. The interval is the top bits of the float
u = start + scale a: `steps` intervals an octave of u, so that they grow with a as much as the function calms down.
Where they begin and how many an octave has was tried out; the error that is left stands beside every table.

Each polynomial expands about a float at which the function is nearly a float itself, and its slope another, so that
the constant term has no rounding error (the accurate tables of Gal, 1986) and the linear one next to none. The other
coefficients are the closest in the maximum norm (Lawson's iteration of weighted least squares), the first
rounded one after the other, each time with what is left fitted again.
"""

import struct
from collections.abc import Callable
from itertools import pairwise
from multiprocessing import Pool
from typing import NamedTuple

import mpmath as mp
from minimax import gauss, literal, round_to

mp.mp.prec = 120
Function = Callable[[mp.mpf], mp.mpf]
INTERVALS = 8


class Table(NamedTuple):
    """What a table approximates, and how.

    f       the function, of a >= 0
    top     where it ends; every larger a is taken for that
    start   u of a = 0, in [1, 2)
    steps   intervals an octave of u
    degree  of the polynomials
    floor   the error is relative to the larger of |f| and this
    step    whether 1 - f is used too, and f counts as 0 from `top` on
    flat    whether f(0) and its slope there are 0, exactly
    odd     whether f(a) = a + o(a), and the first polynomial is of f(a) - a
    """

    f: Function
    top: float
    start: float
    steps: int
    degree: int
    floor: float = 0
    step: bool = False
    flat: bool = False
    odd: bool = False


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


def near_floats(f: Function, ends: tuple, step: bool) -> tuple[mp.mpf, mp.mpf]:
    """A float near the middle at which f and its slope are nearly floats, and f there."""
    low, high = ends
    middle = round_to((low + high) / 2, 24)
    spacing = max(mp.mpf(2) ** mp.floor(mp.log((high - low) / 2**14, 2)), ulp(middle))

    h = mp.mpf(2) ** -30

    def rounded(value: mp.mpf) -> mp.mpf:
        return on_grid(value) if step else round_to(value, 24)

    def off(x: mp.mpf) -> mp.mpf:
        value = f(x)
        unit = mp.mpf(2) ** -26 if step else ulp(value)
        error = abs(value - rounded(value)) / unit
        if error > 0.1:
            return 1 + error
        slope = (f(x + h) - f(x - h)) / (2 * h)
        return error + abs(slope - round_to(slope, 24)) * (high - low) / 2 / unit

    center = min((middle + spacing * k for k in range(-400, 401)), key=off)
    return center, rounded(f(center))


def edges(table: Table) -> tuple[mp.mpf, list]:
    """The scale, and where the intervals begin and end."""
    octaves = [
        mp.mpf(2) ** (k // table.steps) * (1 + mp.mpf(k % table.steps) / table.steps)
        for k in range(64)
    ]
    first = max(k for k, u in enumerate(octaves) if u <= table.start)
    bounds = octaves[first + 1 : first + 1 + INTERVALS]
    scale = round_to((bounds[-1] - table.start) / mp.mpf(table.top) * (1 - mp.mpf(2) ** -20), 24)
    return scale, [mp.mpf(0), *[(u - table.start) / scale for u in bounds]]


def polynomial(table: Table, ends: tuple, at: int) -> tuple[mp.mpf, list, mp.mpf]:
    """Point of expansion, coefficients, and the error of an interval."""

    def size(x: mp.mpf) -> mp.mpf:
        return max(abs(table.f(x)), mp.mpf(table.floor))

    f = table.f
    if at == 0 and table.odd:
        center, fixed = mp.mpf(0), [mp.mpf(0), mp.mpf(0)]

        def f(x: mp.mpf) -> mp.mpf:
            return table.f(x) - x
    elif at == 0 and table.flat:
        center, fixed = mp.mpf(0), [mp.mpf(0), mp.mpf(0)]
    elif table.step and at == INTERVALS - 1:
        center, fixed = mp.mpf(table.top), [mp.mpf(0)]
    else:
        center, constant = near_floats(f, ends, table.step)
        fixed = [constant]
    for count in range(len(fixed), 4):
        fixed.append(round_to(fit(f, size, fixed, center, ends, table.degree, 4)[count], 24))
    fixed = [round_to(c, 24) for c in fit(f, size, fixed, center, ends, table.degree, 16)]
    low, high = ends
    points = [low + (high - low) * (mp.mpf(k) + mp.mpf("0.5")) / 400 for k in range(400)]
    error = max(abs(mp.polyval(fixed[::-1], x - center) - f(x)) / size(x) for x in points)
    return center, fixed, error


def bits(value: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def render(name: str) -> str:
    table = TABLES[name]
    scale, bounds = edges(table)
    shift = 23 - (table.steps - 1).bit_length()
    parts = [polynomial(table, ends, at) for at, ends in enumerate(pairwise(bounds))]
    # In the order of the low bits of the keys, which need not begin with the first interval.
    turn = (bits(table.start) >> shift) % INTERVALS
    ordered = [parts[(k - turn) % INTERVALS] for k in range(INTERVALS)]
    centers = ", ".join(literal(center, 24) for center, _, _ in ordered)
    rows = ",\n      ".join(
        "{" + ", ".join(literal(found[power], 24) for _, found, _ in ordered) + "}"
        for power in range(table.degree + 1)
    )
    worst = float(mp.log(max(error for _, _, error in parts), 2))
    return f"""// Error 2^{worst:.1f}.
struct {name} {{
  static constexpr float top = {literal(mp.mpf(table.top), 24)};
  static constexpr float start = {literal(mp.mpf(table.start), 24)};
  static constexpr float scale = {literal(scale, 24)};
  static constexpr int shift = {shift};
  static constexpr float centers[] = {{{centers}}};
  static constexpr float coefficients[][{INTERVALS}] = {{
      {rows}}};
}};
"""


# ---- the functions ----


def sigmoid(x: mp.mpf) -> mp.mpf:
    return 1 / (1 + mp.exp(-x))


def normal(x: mp.mpf) -> mp.mpf:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def gelu_slope(x: mp.mpf) -> mp.mpf:
    return normal(x) + x * mp.npdf(x)


def gelu_tanh_slope(x: mp.mpf) -> mp.mpf:
    linear = 2 * mp.sqrt(2 / mp.pi)
    cubic = linear * mp.mpf("0.044715")
    s = sigmoid(linear * x + cubic * x**3)
    return s + x * (linear + 3 * cubic * x**2) * s * (1 - s)


def silu_slope(x: mp.mpf) -> mp.mpf:
    return sigmoid(x) + x * sigmoid(x) * sigmoid(-x)


# A gradient's error is relative to the larger of |dx| and |dy| / 8.
STEP = {"floor": 0.125, "step": True}
TABLES = {
    "GeluSlope": Table(lambda a: gelu_slope(-a), 6.5, 1.3125, 8, 7, **STEP),
    "GeluTanhSlope": Table(lambda a: gelu_tanh_slope(-a), 6.25, 1.1875, 8, 8, **STEP),
    "SiluSlope": Table(lambda a: silu_slope(-a), 22, 1, 2, 8, **STEP),
    "LogisticStep": Table(lambda a: sigmoid(-a), 19, 1, 2, 7, **STEP),
    "SigmoidSlope": Table(lambda a: sigmoid(a) * sigmoid(-a), 19, 1, 2, 8, floor=0.125),
    "TanhshrinkSlope": Table(lambda a: mp.tanh(a) ** 2, 10, 1, 2, 8, floor=0.125, flat=True),
    "GaussTail": Table(gauss, 14.5, 1.25, 4, 8),
    "LogisticBelow": Table(lambda a: sigmoid(-a), 8, 1.0625, 8, 7),
    "Log1pFactor": Table(lambda a: mp.log1p(mp.exp(-a)) * mp.exp(a), 18, 1.25, 4, 7),
    "TanhParts": Table(mp.tanh, 9.125, 1, 2, 7, odd=True),
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
