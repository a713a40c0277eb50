"""Write coefficients.hpp: the constants of math.hpp, computed from their definitions.

    python cpp/simd/minimax.py > cpp/simd/coefficients.hpp

The polynomials are minimax approximations found by the Remez exchange in 200-bit arithmetic (mpmath), then rounded
to the type. Degrees are the smallest whose error stays far under the type's rounding error.
"""

from collections.abc import Callable

import mpmath as mp

mp.mp.prec = 200
GRID = 1000
TANH_NEAR = 134 / 128  # the series reaches that far


def remez(f: Callable, low: mp.mpf, high: mp.mpf, degree: int, rounds: int = 12) -> list:
    """Coefficients, lowest first, of the polynomial closest to f on [low, high]."""
    count = degree + 2
    middle, radius = (low + high) / 2, (high - low) / 2
    grid = [low + (high - low) * mp.mpf(k) / GRID for k in range(GRID + 1)]
    values = [f(x) for x in grid]
    nodes = [middle - radius * mp.cos(mp.pi * k / (count - 1)) for k in range(count)]
    for _ in range(rounds):
        system = mp.matrix(count, count)
        for row, x in enumerate(nodes):
            for power in range(degree + 1):
                system[row, power] = x**power
            system[row, degree + 1] = (-1) ** row
        solution = mp.lu_solve(system, mp.matrix([f(x) for x in nodes]))
        coefficients = [solution[k] for k in range(degree + 1)]
        error = [mp.polyval(coefficients[::-1], x) - y for x, y in zip(grid, values, strict=True)]
        nodes = [grid[k] for k in alternation(error, count)]
    return coefficients


def alternation(error: list, count: int) -> list[int]:
    """Indices of `count` extrema of the error, of alternating sign."""
    peaks: list[int] = []
    for k, value in enumerate(error):
        if any(abs(error[n]) > abs(value) for n in (k - 1, k + 1) if 0 <= n <= GRID):
            continue
        if peaks and mp.sign(error[peaks[-1]]) == mp.sign(value):
            if abs(value) > abs(error[peaks[-1]]):
                peaks[-1] = k
        else:
            peaks.append(k)
    while len(peaks) > count:
        peaks.pop(0 if abs(error[peaks[0]]) < abs(error[peaks[-1]]) else -1)
    return peaks


def round_to(value: mp.mpf, bits: int) -> mp.mpf:
    with mp.workprec(bits):
        return +value


def exp_tail(r: mp.mpf) -> mp.mpf:
    """(e^r - 1 - r) / r^2"""
    if abs(r) < mp.mpf(2) ** -60:
        return mp.mpf(1) / 2 + r / 6
    return (mp.expm1(r) - r) / r**2


def log_tail(z: mp.mpf) -> mp.mpf:
    """(2 artanh(s) - 2s) / (s z) with z = s^2"""
    if z < mp.mpf(2) ** -60:
        return mp.mpf(2) / 3 + 2 * z / 5
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) - 2 * s) / (s * z)


def gauss(a: mp.mpf) -> mp.mpf:
    """Phi(-a) e^(a^2/2)"""
    return mp.erfc(a / mp.sqrt(2)) * mp.exp(a**2 / 2) / 2


def gauss_bend(degree: int, middle: int, a_max: int) -> list:
    """Of gauss(a) (a + middle) as a polynomial in q = (a - middle) / (a + middle)."""

    def h(q: mp.mpf) -> mp.mpf:
        a = middle * (1 + q) / (1 - q)
        return gauss(a) * (a + middle)

    return remez(h, mp.mpf(-1), mp.mpf(a_max - middle) / (a_max + middle), degree)


def tanh_bend(z: mp.mpf) -> mp.mpf:
    """((x - tanh x) / x^3 - 1/3) / x^2 with z = x^2"""
    if z < mp.mpf(2) ** -60:
        return -mp.mpf(2) / 15 + 17 * z / 315
    x = mp.sqrt(z)
    return ((x - mp.tanh(x)) / x**3 - mp.mpf(1) / 3) / z


def tanh_fraction() -> tuple[list, list]:
    """tanh_bend as a quotient for z up to 1: numerator and denominator, of degree 2 and 3.

    It meets the function in Chebyshev's nodes, and is off by less than 2^-55 of (x - tanh x) / x^3.
    """
    top, bottom = 2, 3
    count = top + bottom + 1
    nodes = [(1 - mp.cos(mp.pi * (2 * k + 1) / (2 * count))) / 2 for k in range(count)]
    system, right = mp.matrix(count, count), mp.matrix(count, 1)
    for row, z in enumerate(nodes):
        right[row] = tanh_bend(z)
        for power in range(top + 1):
            system[row, power] = z**power
        for power in range(1, bottom + 1):
            system[row, top + power] = -right[row] * z**power
    solution = list(mp.lu_solve(system, right))
    return solution[: top + 1], [mp.mpf(1), *solution[top + 1 :]]


def tanh_series(bits: int, degree: int) -> list:
    """Coefficients of (x - tanh x) / x^3 in z = x^2, up to TANH_NEAR.

    The first two are rounded before the others are found, which make up for it where that counts: below z = 1/4 the
    whole is small beside x.
    """
    fixed = [round_to(mp.mpf(1) / 3, bits)]

    def rest(z: mp.mpf) -> mp.mpf:
        value = tanh_bend(z) + (mp.mpf(1) / 3 - fixed[0]) / z
        for coefficient in fixed[1:]:
            value = (value - coefficient) / z
        return value

    found: list = []
    while len(fixed) < 3:
        found = remez(rest, mp.mpf(1) / 4, mp.mpf(TANH_NEAR) ** 2, degree - len(fixed))
        fixed.append(round_to(found[0], bits))
    return [*fixed, *found[1:]]


def sin_tail(z: mp.mpf) -> mp.mpf:
    """(sin a - a) / a^3 with z = a^2"""
    if z < mp.mpf(2) ** -40:
        return -mp.mpf(1) / 6 + z / 120 - z**2 / 5040
    a = mp.sqrt(z)
    return (mp.sin(a) - a) / a**3


def cos_tail(z: mp.mpf) -> mp.mpf:
    """(cos a - 1 + z/2) / z^2 with z = a^2"""
    if z < mp.mpf(2) ** -30:
        return mp.mpf(1) / 24 - z / 720 + z**2 / 40320
    return (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2


def pair(name: str, value: mp.mpf, bits: int, cpp_type: str) -> str:
    """A constant as an unevaluated sum."""
    hi = round_to(value, bits)
    return (
        f"  static constexpr {cpp_type} {name}_hi = {literal(hi, bits)};\n"
        f"  static constexpr {cpp_type} {name}_lo = {literal(value - hi, bits)};"
    )


def literal(value: mp.mpf, bits: int) -> str:
    number = float(round_to(value, bits))
    return number.hex() + ("f" if bits == 24 else "")


def constants(
    cpp_type: str,
    bits: int,
    exponent_bits: int,
    step_bits: int,
    exp_degree: int,
    long_degree: int,
    log_degree: int,
    gauss_degree: int,
    sin_degree: int,
) -> str:
    # n * ln2_hi must be exact for every exponent n, also without FMA, and steps * ln2_short for every step of e^x.
    ln2_hi = round_to(mp.log(2), bits - exponent_bits)
    ln2_short = round_to(mp.log(2), bits - exponent_bits - 1 - step_bits)
    half_step = mp.log(2) / 2 ** (step_bits + 1) * mp.mpf("1.0001")
    steps = [mp.mpf(2) ** (mp.mpf(k) / 2**step_bits) for k in range(2**step_bits)]
    exp_steps = [round_to(step, bits) for step in steps]
    exp_rests = [exact / step - 1 for exact, step in zip(steps, exp_steps, strict=True)]
    s_max = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)
    exp_coefficients = remez(exp_tail, -half_step, half_step, exp_degree)
    long_coefficients = remez(
        exp_tail, -half_step * 2**step_bits, half_step * 2**step_bits, long_degree
    )
    log_coefficients = remez(log_tail, mp.mpf(0), s_max**2 * mp.mpf("1.0001"), log_degree)
    # No argument further out changes a result: e^x is under half the smallest subnormal, 1 - e^x rounds to 1.
    exp_min = -mp.ceil(mp.log(2) * {24: 150, 53: 1075}[bits] * 16) / 16
    expm1_min = -mp.ceil(mp.log(2) * (bits + 2))
    # x e^x is under half the smallest subnormal, as are x Phi(x) and its tanh form.
    product_min, gauss_max, gelu_max = {24: (-112, 15, 12), 53: (-756, 39, 23)}[bits]
    # From here on 1 / (1 + e^-x), Phi(x) and its tanh form round to 1.
    logistic_one, gauss_one, gelu_one = {24: (18, 6, 6), 53: (38, 9, 9)}[bits]
    largest = (2 - mp.mpf(2) ** (1 - bits)) * mp.mpf(2) ** (2 ** (exponent_bits - 1) - 1)
    middle = 4
    gauss_coefficients = gauss_bend(gauss_degree, middle, gauss_max)
    angle_max = (mp.pi / 4) ** 2 * mp.mpf("1.0001")
    sin_coefficients = remez(sin_tail, mp.mpf(0), angle_max, sin_degree)
    cos_coefficients = remez(cos_tail, mp.mpf(0), angle_max, sin_degree)
    selu_lambda = mp.mpf("1.0507009873554804934193349852946")
    selu_alpha = mp.mpf("1.6732632423543772848170429916717")
    gelu_linear = 2 * mp.sqrt(2 / mp.pi)
    pairs = "\n".join(
        pair(name, value, bits, cpp_type)
        for name, value in {
            "third": mp.mpf(1) / 3,
            "sixth": mp.mpf(1) / 6,
            "inv_sqrt_two_pi": 1 / mp.sqrt(2 * mp.pi),
            "selu_lambda": selu_lambda,
            "selu_lambda_alpha": selu_lambda * selu_alpha,
            "gauss_level": gauss_coefficients[0],
            "gauss_slope": gauss_coefficients[1],
            "gelu_linear": gelu_linear,
            "gelu_cubic": gelu_linear * mp.mpf("0.044715"),
        }.items()
    )

    def numbers(values: list) -> str:
        return ",\n      ".join(literal(v, bits) for v in values)

    # The series are short enough to be of use in float alone.
    if bits == 24:
        series = remez(tanh_bend, mp.mpf(0), mp.mpf(1), 6)
        tanh = (
            f"  static constexpr float tanh_bend[] = {{\n      {numbers(series)}}};\n"
            f"  static constexpr float tanh_near = {literal(mp.mpf(TANH_NEAR), 24)};\n"
            f"  static constexpr float tanh_series[] = {{\n      {numbers(tanh_series(24, 8))}}};\n"
        )
    else:
        tanh = "".join(
            f"  static constexpr double tanh_bend_{part}[] = {{\n      {numbers(values)}}};\n"
            for part, values in zip(("top", "bottom"), tanh_fraction(), strict=True)
        )
    return f"""template <>
struct Constants<{cpp_type}> {{
  static constexpr {cpp_type} log2e = {literal(1 / mp.log(2), bits)};
  static constexpr {cpp_type} ln2_hi = {literal(ln2_hi, bits)};
  static constexpr {cpp_type} ln2_lo = {literal(mp.log(2) - ln2_hi, bits)};
  static constexpr {cpp_type} ln2_short = {literal(ln2_short, bits)};
  static constexpr {cpp_type} ln2_rest = {literal(mp.log(2) - ln2_short, bits)};
  static constexpr int step_bits = {step_bits};
  static constexpr {cpp_type} step_magic = {literal(mp.mpf(3) * 2 ** (bits - 2 - step_bits), bits)};
  static constexpr {cpp_type} exp_min = {literal(exp_min, bits)};
  static constexpr {cpp_type} expm1_min = {literal(expm1_min, bits)};
  static constexpr {cpp_type} largest = {literal(largest, bits)};
  static constexpr {cpp_type} product_min = {literal(mp.mpf(product_min), bits)};
  static constexpr {cpp_type} logistic_one = {literal(mp.mpf(logistic_one), bits)};
  static constexpr {cpp_type} gauss_max = {literal(mp.mpf(gauss_max), bits)};
  static constexpr {cpp_type} gauss_one = {literal(mp.mpf(gauss_one), bits)};
  static constexpr {cpp_type} gauss_middle = {literal(mp.mpf(middle), bits)};
  static constexpr {cpp_type} gelu_max = {literal(mp.mpf(gelu_max), bits)};
  static constexpr {cpp_type} gelu_one = {literal(mp.mpf(gelu_one), bits)};
{pairs}
  static constexpr {cpp_type} gauss_bend[] = {{
      {numbers(gauss_coefficients[2:])}}};
{tanh}  static constexpr {cpp_type} exp_steps[] = {{
      {numbers(exp_steps)}}};
  static constexpr {cpp_type} exp_rests[] = {{
      {numbers(exp_rests)}}};
  static constexpr {cpp_type} exp_tail[] = {{
      {numbers(exp_coefficients)}}};
  static constexpr {cpp_type} exp_long_tail[] = {{
      {numbers(long_coefficients)}}};
  static constexpr {cpp_type} log_tail[] = {{
      {numbers(log_coefficients)}}};
  static constexpr {cpp_type} half_pi = {literal(mp.pi / 2, bits)};
  static constexpr {cpp_type} integer_magic = {literal(mp.mpf(3) * 2 ** (bits - 2), bits)};
  static constexpr {cpp_type} sin_tail[] = {{
      {numbers(sin_coefficients)}}};
  static constexpr {cpp_type} cos_tail[] = {{
      {numbers(cos_coefficients)}}};
}};
"""


HEADER = """// Generated by minimax.py, which says what each constant is. Do not edit.
#pragma once

namespace nnfast {
namespace {

// clang-format off
template <class T>
struct Constants;
"""

if __name__ == "__main__":
    print(HEADER)
    print(
        constants(
            "float",
            24,
            8,
            3,
            exp_degree=2,
            long_degree=5,
            log_degree=3,
            gauss_degree=10,
            sin_degree=2,
        )
    )
    print(
        constants(
            "double",
            53,
            11,
            2,
            exp_degree=7,
            long_degree=10,
            log_degree=7,
            gauss_degree=24,
            sin_degree=5,
        )
    )
    print("// clang-format on\n}  // namespace\n}  // namespace nnfast")
