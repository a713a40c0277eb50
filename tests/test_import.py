"""What an import costs: nothing that a program does not use."""

import re

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


def milliseconds() -> dict[str, float]:
    """Of NumPy, and of nnfast after it, with what they load: the least of several runs, for machines are shared."""
    times: dict[str, list[float]] = {"numpy": [], "nnfast": []}
    for _ in range(7):
        lines = python("import numpy, nnfast", PYTHONPROFILEIMPORTTIME="1").stderr.splitlines()
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


def test_it_takes_little_beside_numpy() -> None:
    took = milliseconds()
    assert took["nnfast"] < max(20, took["numpy"] / 2)
