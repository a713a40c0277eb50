"""The examples of docs/examples in plain NumPy and over nnfast: lines changed, and the time of a step.

An example is loaded with its matrix products, ``@`` and ``np.matmul``, replaced by products that are timed. A step
lasts from its first product to the first of the next step.
"""

import ast
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from time import perf_counter_ns
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from bench.timing import settle

FOLDER = Path(__file__).parents[1] / "docs/examples"
# By name, the steps of a run.
EXAMPLES = {
    "sample_at_a_time": 100,
    "functions_with_caches": 60,
    "layers_in_a_dict": 60,
    "update_functions": 60,
    "char_rnn": 30,
    "gpt": 8,
}
ROUNDS, WARM_UP = 5, 3  # runs of each candidate, in turn; first steps of a run that are not counted

Spans = list[tuple[int, int]]


class Timed(ast.NodeTransformer):
    """Replaces matrix products by calls of ``_product``."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """``a @ b``"""
        self.generic_visit(node)
        if not isinstance(node.op, ast.MatMult):
            return node
        call = ast.Call(ast.Name("_product", ast.Load()), [node.left, node.right], [])
        return ast.copy_location(call, node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """``np.matmul``"""
        if ast.unparse(node) != "np.matmul":
            return self.generic_visit(node)
        return ast.copy_location(ast.Name("_product", ast.Load()), node)


def load(file: str, spans: Spans | None = None) -> ModuleType:
    """An example as a module, which appends start and end of every product, in nanoseconds, to spans."""
    path = FOLDER / f"{file}.py"
    module = ModuleType(file)
    module.__file__ = str(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if spans is not None:
        tree = ast.fix_missing_locations(Timed().visit(tree))

        def product(*args: Any, **kwargs: Any) -> Any:
            begin = perf_counter_ns()
            result = np.matmul(*args, **kwargs)
            spans.append((begin, perf_counter_ns()))
            return result

        module.__dict__["_product"] = product
    exec(compile(tree, path, "exec"), module.__dict__)
    return module


def step_times(file: str, dtype: str, steps: int) -> np.ndarray:
    """Nanoseconds of every step, and those outside of products, shape (2, steps)."""
    spans: Spans = []
    load(file, spans).main(np.dtype(dtype).type, steps + WARM_UP + 1)
    begin, end = np.array(spans).reshape(steps + WARM_UP + 1, -1, 2).transpose(2, 0, 1)
    whole = np.diff(begin[:, 0])
    return np.array([whole, whole - (end - begin).sum(axis=1)[:-1]])[:, WARM_UP:]


def code(file: str) -> list[str]:
    """The lines of an example that are neither blank nor comments nor docstrings."""
    text = (FOLDER / f"{file}.py").read_text(encoding="utf-8")
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return [
        line
        for i, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#") and i not in docstrings
    ]


class Lines(NamedTuple):
    """Lines of code: of both files, and how many the port takes out and puts in."""

    plain: int
    port: int
    removed: int
    added: int


def lines(name: str) -> Lines:
    """Those of an example."""
    plain, port = code(name), code(f"{name}_nnfast")
    blocks = SequenceMatcher(None, plain, port, autojunk=False).get_matching_blocks()
    same = sum(block.size for block in blocks)
    return Lines(len(plain), len(port), len(plain) - same, len(port) - same)


class Row(NamedTuple):
    """An example in a dtype: medians in microseconds, in plain NumPy and over nnfast."""

    name: str
    dtype: str
    step: tuple[float, float]
    outside: tuple[float, float]


def measure(name: str, steps: int) -> Iterator[Row]:
    """Both versions in turn."""
    files = name, f"{name}_nnfast"
    for dtype in ("float32", "float64"):
        found: dict[str, list[np.ndarray]] = {file: [] for file in files}
        for _ in range(ROUNDS):
            for file in files:
                found[file].append(step_times(file, dtype, steps))
                settle()
        medians = [np.median(np.concatenate(found[file], axis=1), axis=1) / 1e3 for file in files]
        step, outside = np.transpose(medians).tolist()
        yield Row(name, dtype, tuple(step), tuple(outside))


def main(only: list[str]) -> None:
    """A line for each example and dtype.

    Raises
    ------
    LookupError
        If there is no example of a name.
    """
    if unknown := set(only) - EXAMPLES.keys():
        raise LookupError(f"no example is called {', '.join(sorted(unknown))}")
    print(f"{'':23}{'lines':>14}{'':9}{'step, µs':>17}{'':8}{'outside products, µs':>25}")
    for name, steps in EXAMPLES.items():
        if only and name not in only:
            continue
        count = lines(name)
        change = f"{count.plain} -{count.removed} +{count.added}"
        for row in measure(name, steps):
            print(f"{name:23}{change:>14}{row.dtype:>9}", end="")
            for plain, port in (row.step, row.outside):
                print(f"{plain:10.0f}{port:8.0f}{plain / port:7.2f}", end="")
            print(flush=True)
