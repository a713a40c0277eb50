"""The error of every elementwise kernel in units in the last place, beside that of other libraries' functions.

float32 against float64: every 1009th of all inputs, or all of them. float64 against MPFR on special, random and
near-hard points. float16, where a kernel has a loop for it, over all its 65,536 values. Functions of two inputs take
the second from a normal distribution, so that every value of the first is seen once.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import nnfast as nf
from bench import activations
from bench.ulp import ulp_error

Array = NDArray[Any]
CHUNK = 2**24
SAMPLE = 1009
BITS = {np.dtype(np.float16): np.uint16, np.dtype(np.float32): np.uint32}
SLOPE, ALPHA = 0.01, 1.0


class Function(NamedTuple):
    """An elementwise kernel.

    kernel   called with arrays of one dtype
    formula  (m, *inputs) with the functions of m: NumPy's on float64, or MPFR's on objects
    valid    which first inputs the kernel is meant for: a forward's results, where it is a backward
    peers    other libraries' functions of the same inputs
    """

    kernel: Callable[..., Array]
    formula: Callable[..., Any]
    inputs: int = 1
    valid: Callable[[Array], Array] = np.isfinite
    peers: dict[str, Callable[..., Any]] = {}  # noqa: RUF012


def peers_of(name: str) -> dict[str, Callable[..., Any]]:
    """NumPy's, SciPy's and PyTorch's functions of that name, where they are installed."""
    found: dict[str, Callable[..., Any]] = {}
    if name == "tanh":
        found["NumPy"] = np.tanh
    if name == "sigmoid":
        found["NumPy"] = lambda x: 1 / (1 + np.exp(-x))
        try:
            from scipy.special import expit

            found["SciPy"] = expit
        except ImportError:
            pass
    if name == "elu":
        found["NumPy"] = lambda x: np.where(x > 0, x, np.expm1(x))
    try:
        import torch
    except ImportError:
        return found
    aten = torch.ops.aten
    of_tensors: dict[str, Callable[..., Any]] = {
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "elu": torch.nn.functional.elu,
        "relu": torch.relu,
        "leaky_relu": torch.nn.functional.leaky_relu,
        "tanh_backward": lambda y, dy: aten.tanh_backward(dy, y),
        "sigmoid_backward": lambda y, dy: aten.sigmoid_backward(dy, y),
        "elu_backward": lambda y, dy: aten.elu_backward(dy, ALPHA, 1, 1, True, y),
        "relu_backward": lambda y, dy: aten.threshold_backward(dy, y, 0),
        "leaky_relu_backward": lambda y, dy: aten.leaky_relu_backward(dy, y, SLOPE, True),
    }
    if name in of_tensors:
        found["PyTorch"] = partial(on_tensors, of_tensors[name])
    return found


def on_tensors(function: Callable[..., Any], *arrays: Array) -> Array:
    """A function of tensors, of arrays."""
    import torch

    return np.asarray(function(*(torch.from_numpy(array) for array in arrays)))


def within(low: float, high: float) -> Callable[[Array], Array]:
    """Inputs of an interval."""
    return lambda y: (y >= low) & (y <= high)


FUNCTIONS = {
    "relu": Function(nf.relu, lambda m, x: np.where(x > 0, x, x * 0)),
    "relu_backward": Function(
        lambda y, dy: nf.relu_backward(dy, y), lambda m, y, dy: np.where(y > 0, dy, dy * 0), 2
    ),
    "leaky_relu": Function(nf.leaky_relu, lambda m, x: np.where(x > 0, x, x * m.float(SLOPE, x))),
    "leaky_relu_backward": Function(
        lambda y, dy: nf.leaky_relu_backward(dy, y),
        lambda m, y, dy: np.where(y > 0, dy, dy * m.float(SLOPE, y)),
        2,
    ),
    "prelu": Function(nf.prelu, lambda m, x, weight: np.where(x > 0, x, x * weight), 2),
    "prelu_backward": Function(
        lambda x, dy: nf.prelu_backward(dy, x, dy),
        lambda m, x, dy: np.where(x > 0, dy, dy * dy),
        2,
    ),
    "elu": Function(nf.elu, lambda m, x: np.where(x > 0, x, m.expm1(np.minimum(x, 0)))),
    "elu_backward": Function(
        lambda y, dy: nf.elu_backward(dy, y),
        lambda m, y, dy: np.where(y > 0, dy, dy * (y + 1)),
        2,
        lambda y: np.isfinite(y) & (y >= -1),
    ),
    "sigmoid": Function(nf.sigmoid, lambda m, x: 1 / (1 + m.exp(-x))),
    "sigmoid_backward": Function(
        lambda y, dy: nf.sigmoid_backward(dy, y), lambda m, y, dy: dy * y * (1 - y), 2, within(0, 1)
    ),
    "tanh": Function(nf.tanh, lambda m, x: m.tanh(x)),
    "tanh_backward": Function(
        lambda y, dy: nf.tanh_backward(dy, y),
        lambda m, y, dy: dy * (1 - y) * (1 + y),
        2,
        within(-1, 1),
    ),
}


class Numpy:
    """The formulas in float64."""

    exp, expm1, tanh = np.exp, np.expm1, np.tanh

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def float(self, value: float, x: Array) -> Any:
        """A parameter as the kernel has it."""
        return np.float64(self.dtype.type(value))


class Mpfr:
    """The formulas in 150 bits, on arrays of objects."""

    def __init__(self) -> None:
        import gmpy2

        self.gmpy2 = gmpy2
        self.exp, self.expm1, self.tanh = (
            np.frompyfunc(getattr(gmpy2, name), 1, 1) for name in ("exp", "expm1", "tanh")
        )

    def float(self, value: float, x: Array) -> Any:
        """A parameter as the kernel has it."""
        return self.gmpy2.mpfr(value)

    def of(self, formula: Callable[..., Any], inputs: list[Array]) -> NDArray[np.longdouble]:
        """The formula's values, rounded to long double."""
        gmpy2 = self.gmpy2
        with gmpy2.context(
            gmpy2.ieee(64), precision=150, emin=-(2**24), emax=2**24, subnormalize=False
        ):
            exact = formula(self, *(np.frompyfunc(gmpy2.mpfr, 1, 1)(x) for x in inputs))
            high = exact.astype(np.float64)
            low = np.where(np.isfinite(high), exact - high, 0).astype(np.float64)
        return high.astype(np.longdouble) + low


class Error(NamedTuple):
    """Over `points` inputs: the largest error in ulps and where it is, and the sum."""

    largest: float = 0
    at: float = 0
    total: float = 0
    points: int = 0

    def with_(self, other: "Error") -> "Error":
        """Of both sets of inputs."""
        worse = other if other.largest > self.largest else self
        return Error(worse.largest, worse.at, self.total + other.total, self.points + other.points)

    @property
    def mean(self) -> float:
        """Ulps."""
        return self.total / max(self.points, 1)


def error(actual: Array, expected: Array, x: Array, floor: Array | None) -> Error:
    """Of one piece; a gradient's ulp is that of the larger of |dx| and |dy| / 8."""
    scale = expected if floor is None else np.maximum(np.abs(expected), floor)
    found = ulp_error(actual, expected, scale)
    at = int(found.argmax())
    return Error(float(found[at]), float(x[at]), float(found.sum()), x.size)


def candidates(name: str) -> dict[str, Callable[..., Any]]:
    """The kernel and its peers."""
    return {"nnfast": FUNCTIONS[name].kernel} | peers_of(name)


def second_input(function: Function, n: int, seed: int, dtype: Any) -> list[Array]:
    """Normal numbers for a function of two inputs."""
    if function.inputs == 1:
        return []
    return [np.random.default_rng(seed).standard_normal(n).astype(dtype)]


def measure(name: str, inputs: list[Array], expected: Array) -> dict[str, Error]:
    """The errors of all candidates at given inputs."""
    floor = np.abs(inputs[1].astype(expected.dtype)) / 8 if name.endswith("_backward") else None
    found = {}
    with np.errstate(all="ignore"):
        for candidate, function in candidates(name).items():
            actual = np.asarray(function(*inputs))
            found[candidate] = error(actual, expected, inputs[0], floor)
    return found


def narrow_chunk(name: str, dtype: np.dtype[Any], step: int, begin: int) -> dict[str, Error]:
    """Every step-th input from one up to the next chunk, against float64."""
    function = FUNCTIONS[name]
    end = min(begin + CHUNK, 2 ** (8 * dtype.itemsize))
    first = begin + -begin % step
    x = np.arange(first, end, step, dtype=np.uint64).astype(BITS[dtype]).view(dtype)
    with np.errstate(all="ignore"):
        x = x[np.isfinite(x) & function.valid(x)]
        if not x.size:
            return {}
        inputs = [x, *second_input(function, x.size, begin, dtype)]
        expected = function.formula(Numpy(dtype), *(i.astype(np.float64) for i in inputs))
    return measure(name, inputs, expected)


def merged(parts: Iterator[dict[str, Error]]) -> dict[str, Error]:
    """Of all pieces."""
    total: dict[str, Error] = {}
    for part in parts:
        for candidate, found in part.items():
            total[candidate] = total.get(candidate, Error()).with_(found)
    return total


def narrow(name: str, dtype: Any, step: int) -> dict[str, Error]:
    """Over every step-th value of a dtype of at most 32 bits, on all cores."""
    dtype = np.dtype(dtype)
    begins = range(0, 2 ** (8 * dtype.itemsize), CHUNK)
    work = partial(narrow_chunk, name, dtype, step)
    if step > 1 or dtype.itemsize < 4:
        return merged(map(work, begins))
    with ProcessPoolExecutor() as pool:
        return merged(pool.map(work, begins))


def hard_points() -> Array:
    """float64 inputs where kernels change what they do: around multiples of ln 2 / 2, powers of two, and the tails."""
    centres = np.concatenate(
        [
            np.arange(1, 2200) * (np.log(2) / 2),
            np.ldexp(1.0, np.arange(-60, 11)),
            [36.7368, 37.4299, 708.3964, 709.7827, 744.4401, 745.1332, 18.7149, 19.0616, 22.0],
        ]
    )
    steps = np.arange(-3, 4)[:, None] * np.spacing(centres)
    return (centres + steps).ravel()


def wide_points(seed: int = 0, n: int = 20_000) -> Array:
    """float64 inputs: special, of every exponent, where functions bend, and near-hard."""
    rng = np.random.default_rng(seed)
    special = np.array([0.0, 5e-324, 2.2250738585072014e-308, 1.0, 0.5, 1.7976931348623157e308])
    exponents = np.ldexp(rng.uniform(1, 2, n), rng.integers(-1074, 1023, n))
    positive = np.concatenate([special, exponents, rng.uniform(0, 800, n), hard_points()])
    bends = rng.normal(0, 4, n)
    return np.concatenate([positive, -positive, bends])


def wide(name: str) -> dict[str, Error]:
    """float64 against MPFR."""
    function = FUNCTIONS[name]
    x = wide_points()
    if name.endswith("_backward"):
        x = np.concatenate([x, np.random.default_rng(1).uniform(-1, 1, 40_000)])
    x = x[function.valid(x)]
    inputs = [x, *second_input(function, x.size, 0, np.float64)]
    with np.errstate(all="ignore"):
        expected = Mpfr().of(function.formula, inputs)
    return measure(name, inputs, expected)


def rows(names: list[str], every: bool) -> Iterator[tuple[str, str, dict[str, Error]]]:
    """Kernel, dtype and errors."""
    for name in names:
        one = np.ones(1, np.float16)
        arguments = [one] * FUNCTIONS[name].inputs
        if FUNCTIONS[name].kernel(*arguments).dtype == np.float16:
            yield name, "float16", narrow(name, np.float16, 1)
        yield name, "float32", narrow(name, np.float32, 1 if every else SAMPLE)
        try:
            yield name, "float64", wide(name)
        except ImportError:
            print("left out: float64 (needs gmpy2)")


def line(name: str, dtype: str, found: dict[str, Error]) -> str:
    """A row of the table."""
    ours = found["nnfast"]
    others = [
        f"{found[peer].largest:.3g}" if peer in found else ""
        for peer in ("NumPy", "SciPy", "PyTorch")
    ]
    return (
        f"| `{name}` | {dtype} | {ours.points:,} | {ours.largest:.3f} | {ours.mean:.3f} | {ours.at:.9g} | "
        + " | ".join(others)
        + " |"
    )


HEAD = (
    "| kernel | dtype | points | max ULP | mean ULP | at | NumPy max | SciPy max | PyTorch max |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|---:|"
)
TITLE = """# Accuracy

Written by `python -m bench accuracy{arguments}` on {isa}. Errors in units in the last place; a gradient's are of the
larger of |dx| and |dy| / 8. {coverage}

"""


def check_complete() -> None:
    """No elementwise kernel goes without a row.

    Raises
    ------
    LookupError
        If one does.
    """
    elementwise = {case.kernel for case in activations.CASES if case.elementwise}
    if missing := elementwise - set(FUNCTIONS):
        raise LookupError(f"elementwise kernels without a formula: {', '.join(sorted(missing))}")


def main(only: list[str] | None = None, every: bool = False, output: Path | None = None) -> None:
    """Print the table, and write it where asked to."""
    check_complete()
    unknown = set(only or []) - set(FUNCTIONS)
    if unknown:
        raise LookupError(f"no elementwise kernel is called {', '.join(sorted(unknown))}")
    print(HEAD, flush=True)
    lines = []
    for row in rows(only or list(FUNCTIONS), every):
        lines.append(line(*row))
        print(lines[-1], flush=True)
    if output is not None:
        title = TITLE.format(
            arguments=" --all" if every else "",
            isa=nf.cpu_info()["chosen"],
            coverage="float32 over all inputs that are finite, float64 against MPFR."
            if every
            else f"float32 over every {SAMPLE}th input, float64 against MPFR.",
        )
        output.write_text(title + HEAD + "\n" + "\n".join(lines) + "\n")
