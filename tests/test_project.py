"""What the project's pages and generated files promise."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import nnfast as nf
from nnfast.__main__ import info, main

ROOT = Path(__file__).parents[1]


def test_readme_example_learns() -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names: dict[str, object] = {}
    exec(example[1].replace("print(loss)", ""), names)
    assert names["loss"] < np.log(10) / 2


def test_readme_lists_every_public_function() -> None:
    readme = (ROOT / "README.md").read_text()
    # A module is listed by what is in it.
    names = sorted({*nf.__all__, *nf._LAZY})
    public = [part for name in names for part in getattr(getattr(nf, name), "__all__", [name])]
    missing = [
        name
        for name in public
        if f"`{name}`" not in readme and not name.endswith("_backward") and name != "__version__"
    ]
    assert missing == []


def test_coefficients_are_those_that_minimax_computes() -> None:
    script = ROOT / "cpp/simd/minimax.py"
    computed = subprocess.check_output([sys.executable, script], text=True)
    assert (ROOT / "cpp/simd/coefficients.hpp").read_text() == computed


def test_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert nf.__version__ == project["version"]


def test_info_names_what_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == info()
    for part in (nf.__version__, f"{nf.cpu_info()['chosen']} in use", "by helpers", np.__version__):
        assert part in printed


def test_every_promise_of_the_readme_names_tests_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    table = re.search(r"\| promise \| test \|\n\|---\|---\|\n((?:\|.*\n)+)", readme)[1]
    rows = table.splitlines()
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert re.search(rf"^def {test}\(", (ROOT / "tests" / file).read_text(), re.M), test
    assert len(rows) > 10
