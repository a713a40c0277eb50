"""What the project's pages and generated files promise."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import nnfast as nf
from nnfast import _core
from nnfast.__main__ import info, main

ROOT = Path(__file__).parents[1]


def test_readme_example_learns() -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names: dict[str, object] = {}
    exec(example[1].replace("print(loss)", ""), names)
    assert names["loss"] < np.log(10) / 2


def test_coefficients_are_those_that_minimax_computes() -> None:
    script = ROOT / "cpp/simd/minimax.py"
    computed = subprocess.check_output([sys.executable, script], text=True)
    assert (ROOT / "cpp/simd/coefficients.hpp").read_text() == computed


def test_piecewise_coefficients_are_those_that_piecewise_computes() -> None:
    """Two of the tables, one of each kind: all of them take half a minute."""
    program = "import piecewise as p; print(*p.TABLES, '', p.render('TanhParts') + p.render('GeluSlope'), sep='\\n')"
    computed = subprocess.check_output(
        [sys.executable, "-c", program], text=True, cwd=ROOT / "cpp/simd"
    )
    names, tables = computed.split("\n\n", 1)
    header = (ROOT / "cpp/simd/piecewise_coefficients.hpp").read_text()
    assert re.findall(r"^struct (\w+)", header, re.MULTILINE) == names.split()
    for table in tables.split("// Error")[1:]:
        assert table.strip() in header


PROOF = """
import mpmath as mp
import piecewise as p
table = p.TABLES["TanhParts"]
ends = tuple(p.edges(table)[1][1:3])
center = p.center_of(table, ends, 1)
found = p.polynomial(table, ends, 1, center)
for off in (0, mp.mpf(2) ** -24):
    found[3] += off
    points = [ends[0] + (ends[1] - ends[0]) * mp.mpf(k) / 999 for k in range(1000)]
    seen = max(abs(p.value(found, x - center) / table.f(x) - 1) for x in points)
    print(*(float(error) for error in (seen, *p.proved(table, ends, center, found, False))))
"""


def test_proved_errors_of_tables_are_close_bounds() -> None:
    """Of an interval, and of the same with a coefficient that is a little off."""
    program = [sys.executable, "-c", PROOF]
    computed = subprocess.check_output(program, text=True, cwd=ROOT / "cpp/simd")
    (seen, proved, in_float), (seen_off, proved_off, _) = (
        map(float, line.split()) for line in computed.splitlines()
    )
    assert seen <= proved <= 1.25 * seen
    assert proved < in_float < 2**-22
    assert 2 * seen < seen_off <= proved_off <= 1.25 * seen_off


def test_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert nf.__version__ == project["version"]


def test_info_names_what_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == info()
    for part in (
        nf.__version__,
        f"{nf.cpu_info()['chosen']} in use",
        f"by {os.environ.get('NNFAST_THREADING', 'helpers')}",
        np.__version__,
    ):
        assert part in printed


def blas_line() -> str:
    return next(line for line in info().splitlines() if line.startswith("BLAS"))


def test_info_says_whose_threads_the_blas_has(monkeypatch: pytest.MonkeyPatch) -> None:
    line = blas_line()
    for library in nf.cpu_info()["blas"]:
        assert library["version"].split()[1] in line
        assert f"kernels {library['kernels']}, {library['threads']} threads of " in line
        assert library["path"] not in line
    with nf.share_blas_threads() as sharing:
        if sharing:
            assert "threads of nnfast's" in blas_line()
        else:
            assert sharing.reason.split()[-1] in blas_line()
    monkeypatch.setattr(nf, "cpu_info", lambda: {**_core.cpu_info(), "blas": ()})
    assert blas_line().endswith(", whose threads cannot be shared")


def test_every_promise_names_tests_that_exist() -> None:
    page = (ROOT / "docs/reproducibility.md").read_text()
    table = re.search(r"\| promise \| test \|\n\|---\|---\|\n((?:\|.*\n)+)", page)[1]
    rows = table.splitlines()
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert re.search(rf"^def {test}\(", (ROOT / "tests" / file).read_text(), re.M), test
    assert len(rows) > 10


# ---- where the work is shared, and what it costs ----

COST_FIGURE = re.compile(
    r"""Ns(PerElement)?(\[\])?\s*=\s*\{?\s*\d           # constexpr double kSumsNs = 0.2, kNs[] = {0.1
      | Cost\{\s*"\w+",\s*\d                           # Cost{"relu", 0.1}
      | \bX\([^()]*,\s*\d+\.\d+\)                      # X(Huber, "huber_loss", 0.3)
      | parallel_for\(([^(),;]|\([^()]*\))*,\s*\d*\.?\d  # parallel_for(n, 0.4, ...)
      | \d\.\d+\s*\*\s*static_cast<double>              # 38 + 0.55 * static_cast<double>(classes)
    """,
    re.VERBOSE,
)


def code_of(path: Path) -> str:
    """The text of a C++ file without comments."""
    return re.sub(r"//[^\n]*", "", path.read_text())


def sources(*folders: str) -> list[Path]:
    return sorted(path for name in folders for path in (ROOT / "cpp" / name).glob("*.[ch]pp"))


def test_bindings_leave_the_sharing_of_work_to_ops() -> None:
    found = [path.name for path in sources("bindings") if "parallel_for" in path.read_text()]
    assert found == []


def test_cost_figures_stand_in_one_file() -> None:
    files = [path for path in sources("bindings", "kernels", "ops") if path.name != "costs.hpp"]
    assert len(files) > 30
    found = {path.name: match[0] for path in files if (match := COST_FIGURE.search(code_of(path)))}
    assert found == {}


@pytest.mark.parametrize(
    ("code", "is_cost"),
    [
        ("constexpr double kMaskNs = 0.14, kApplyNs = 0.08;", True),
        ("constexpr double kNsPerElement = 0.5;", True),
        ("constexpr double kElementwiseNs[] = {\n    0.1", True),
        ('Cost{"keep", 0.1, kMemoryBound}', True),
        ('  X(Huber, "huber_loss", 0.3) \\\n', True),
        ("parallel_for(array.size(), 0.4, [&](", True),
        ("30 + 0.4 * static_cast<double>(classes)", True),
        ("parallel_for(runs, kCost.ns * static_cast<double>(run), [&](", False),
        ("const double ns = kGates[i].cost.ns;", False),
        ("enum OptimSum : int { kNaNs, kInfinities };", False),
        ("static_cast<std::uint64_t>(p * 4294967296.0 + 0.5)", False),
    ],
)
def test_a_cost_figure_is_recognised(code: str, is_cost: bool) -> None:
    assert bool(COST_FIGURE.search(code)) == is_cost
