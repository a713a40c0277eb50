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
from bench.ulp import ulp_error
from nnfast.activations import TABLE, Activation
from tests.reference.activations import FORMULAS, SLOPES, Float64, Mpfr

Array = NDArray[Any]
CHUNK = 2**24  # inputs of a task
BLOCK = 2**14  # inputs at a time, whose arrays stay in the cache
SAMPLE = 1009
BITS = {np.dtype(np.float16): np.uint16, np.dtype(np.float32): np.uint32}


class Function(NamedTuple):
    """An elementwise kernel: an activation of the table, or its gradient."""

    name: str
    row: Activation
    gradient: bool

    def values(self, dtype: np.dtype[Any]) -> tuple[float, ...]:
        """Its parameters as the kernel has them; those of float16 are float32."""
        wide = np.promote_types(dtype, np.float32).type
        return tuple(float(wide(value)) for value in self.row.params.values())

    @property
    def inputs(self) -> int:
        """How many arrays it takes: the saved one first, then dy or prelu's weight."""
        return 1 + self.gradient + (self.row.name == "prelu")

    def kernel(self, *arrays: Array) -> Array:
        """Called with what is saved or x, then dy, then prelu's weight."""
        function = getattr(nf, self.name.replace("gelu_tanh", "gelu"))
        form = {"approximate": "tanh"} if "gelu_tanh" in self.name else {}
        if self.gradient:
            saved, dy, *weight = arrays
            return np.asarray(function(dy, saved, *weight, **form))
        return np.asarray(function(*arrays, **form))

    def exact(self, m: Any, *arrays: Any) -> Any:
        """The same by the formula; parameters come last."""
        if not self.gradient:
            return FORMULAS[self.row.name](m, *arrays)
        saved, dy, *rest = arrays
        return dy * SLOPES[self.row.name](m, saved, *rest)

    def valid(self, x: Array) -> Array:
        """Which first inputs it is meant for: a gradient with respect to y is given what the function returns."""
        finite = np.isfinite(x)
        if self.gradient and self.row.saves == "y":
            return finite & (x >= self.row.low) & (x <= self.row.high)
        return finite


FUNCTIONS = {
    function.name: function
    for row in TABLE.values()
    for function in (Function(row.name, row, False), Function(f"{row.name}_backward", row, True))
}


def peers_of(name: str) -> dict[str, Callable[..., Any]]:
    """NumPy's, SciPy's and PyTorch's functions of that name, where they are installed."""
    found: dict[str, Callable[..., Any]] = {}
    if name == "tanh":
        found["NumPy"] = np.tanh
    if name == "sigmoid":
        found["NumPy"] = lambda x: 1 / (1 + np.exp(-x))
        found |= scipys("expit")
    if name == "logsigmoid":
        found |= scipys("log_expit")
    if name in TABLE:
        found |= pytorchs(name)
    return found


def scipys(name: str) -> dict[str, Callable[..., Any]]:
    """A special function of SciPy's."""
    try:
        from scipy import special
    except ImportError:
        return {}
    return {"SciPy": getattr(special, name)}


def pytorchs(name: str) -> dict[str, Callable[..., Any]]:
    """PyTorch's function of our name, if it has one."""
    try:
        import torch
    except ImportError:
        return {}
    if name == "prelu":
        return {}
    form: dict[str, Any] = {"approximate": "tanh"} if name == "gelu_tanh" else {}
    if name == "threshold":  # without defaults there
        form = dict(TABLE[name].params)
    function = getattr(torch.nn.functional, name.replace("gelu_tanh", "gelu"), None)
    if function is None:
        return {}
    return {"PyTorch": lambda x: np.asarray(function(torch.from_numpy(x), **form))}


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


def other_inputs(function: Function, n: int, seed: int, dtype: Any) -> list[Array]:
    """Normal numbers for a function of several inputs."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(n).astype(dtype) for _ in range(function.inputs - 1)]


def measure(name: str, inputs: list[Array], expected: Array) -> dict[str, Error]:
    """The errors of all candidates at given inputs."""
    floor = np.abs(inputs[1].astype(expected.dtype)) / 8 if name.endswith("_backward") else None
    found = {}
    with np.errstate(all="ignore"):
        for candidate, function in candidates(name).items():
            actual = np.asarray(function(*inputs))
            found[candidate] = error(actual, expected, inputs[0], floor)
    return found


def narrow_block(
    function: Function, dtype: np.dtype[Any], inputs: range, others: list[Array]
) -> dict[str, Error]:
    """Some first inputs, as bits of a dtype, against float64."""
    x = np.arange(inputs.start, inputs.stop, inputs.step).astype(BITS[dtype]).view(dtype)
    with np.errstate(all="ignore"):
        x = x[np.isfinite(x) & function.valid(x)]
        if not x.size:
            return {}
        arrays = [x, *(other[: x.size] for other in others)]
        wide = (a.astype(np.float64) for a in arrays)
        expected = function.exact(Float64, *wide, *function.values(dtype))
    return measure(function.name, arrays, expected)


def narrow_chunk(name: str, dtype: np.dtype[Any], step: int, begin: int) -> dict[str, Error]:
    """Every step-th input from one up to the next chunk, a block at a time."""
    function = FUNCTIONS[name]
    end = min(begin + CHUNK, 2 ** (8 * dtype.itemsize))
    inputs = range(begin + -begin % step, end, step)
    others = other_inputs(function, BLOCK, begin, dtype)
    blocks = (inputs[k : k + BLOCK] for k in range(0, len(inputs), BLOCK))
    with nf.num_threads(1):
        return merged(narrow_block(function, dtype, block, others) for block in blocks)


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
    if function.gradient and function.row.saves == "y":
        x = np.concatenate([x, np.random.default_rng(1).uniform(-1, 1, 20_000)])
    x = x[function.valid(x)]
    inputs = [x, *other_inputs(function, x.size, 0, np.float64)]
    values = function.values(np.dtype(np.float64))
    with np.errstate(all="ignore"):
        expected = Mpfr().of(function.exact, *inputs, *values)
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
TITLE = f"""# Accuracy

Written by `python -m bench accuracy` on {{isa}}. Errors in units in the last place; a gradient's are of the
larger of |dx| and |dy| / 8. float32 over every {SAMPLE}th input, or over all that are finite, where their number says
so; float64 against MPFR.

"""


def with_rows_of(page: str, lines: list[str]) -> list[str]:
    """The rows of a page, those of the same kernel and dtype as new ones replaced, and the others of the new ones."""

    def subject(row: str) -> str:
        return row[: row.index("|", row.index("|", 1) + 1)]

    old = {subject(row): row for row in page.splitlines() if row.startswith("| `")}
    return list((old | {subject(row): row for row in lines}).values())


def main(only: list[str] | None = None, every: bool = False, output: Path | None = None) -> None:
    """Print the table, and write it where asked to: rows of some kernels take their place in one that is there."""
    unknown = set(only or []) - set(FUNCTIONS)
    if unknown:
        raise LookupError(f"no elementwise kernel is called {', '.join(sorted(unknown))}")
    print(HEAD, flush=True)
    lines = []
    for row in rows(only or list(FUNCTIONS), every):
        lines.append(line(*row))
        print(lines[-1], flush=True)
    if output is not None:
        title = TITLE.format(isa=nf.cpu_info()["chosen"])
        if only and output.exists():
            page = output.read_text()
            if not page.startswith(title):
                raise SystemExit(f"{output} is of another instruction set: {page.splitlines()[2]}")
            lines = with_rows_of(page, lines)
        output.write_text(title + HEAD + "\n" + "\n".join(lines) + "\n")
