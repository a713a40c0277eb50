"""What an import costs: nothing that a program does not use."""

import re
from pathlib import Path

from test_runtime import python

# Modules that NumPy does not load, and that take longer than nnfast itself.
HEAVY = (
    "asyncio",
    "concurrent.futures",
    "email",
    "http",
    "matplotlib",
    "multiprocessing",
    "numpy.random",
    "numpy.testing",
    "pandas",
    "scipy",
    "sklearn",
    "sqlite3",
    "tqdm",
    "unittest",
    "xml",
    "zipfile",
)


def milliseconds(bytecode: Path, runs: int) -> dict[str, float]:
    """Of NumPy, and of nnfast after it, with what they load: the least of several runs, for machines are shared."""
    times: dict[str, list[float]] = {"numpy": [], "nnfast": []}
    settings = {"PYTHONPYCACHEPREFIX": str(bytecode), "PYTHONDONTWRITEBYTECODE": ""}
    python("import numpy, nnfast", **settings)  # compiles them, as an installation does
    for _ in range(runs):
        result = python("import numpy, nnfast", PYTHONPROFILEIMPORTTIME="1", **settings)
        lines = result.stderr.splitlines()
        for line in lines:
            if found := re.fullmatch(r"import time:\s+\d+ \|\s+(\d+) \| (numpy|nnfast)", line):
                times[found[2]].append(int(found[1]) / 1000)
    return {name: min(values) for name, values in times.items()}


def test_nothing_heavy_is_loaded() -> None:
    code = "import numpy, sys; before = set(sys.modules); import nnfast; print(*set(sys.modules) - before)"
    loaded = python(code).stdout.split()
    assert "nnfast.activations" in loaded
    assert not {"nnfast.nn", "nnfast.optim", "nnfast.init", "nnfast.estimators"} & set(loaded)
    assert not set(HEAVY) & set(loaded)


def test_it_takes_little_beside_numpy(tmp_path: Path) -> None:
    """It was a tenth of NumPy's, 8 milliseconds of 80."""
    for runs in (7, 7, 30):  # where others have the processors, the least of few runs is no measure
        took = milliseconds(tmp_path, runs)
        if took["nnfast"] < max(20, took["numpy"] / 4):
            return
    raise AssertionError(f"import took {took}")
