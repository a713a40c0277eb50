"""Instruction sets, thread counts, and how threads behave in the process they live in."""

import dataclasses
import inspect
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from conftest import FMA_ISAS, THREADING
from layouts import assert_same_bits
from nnfast import _core, runtime
from nnfast._testing import forced

BUILT = nf.cpu_info()["built"]
X = np.random.default_rng(0).standard_normal(5000).astype(np.float32)


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, without this one's settings."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY") and not key.startswith("NNFAST_")
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def printed(code: str, **variables: str) -> str:
    """What code prints; it has to succeed."""
    result = python(code, **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# ---- instruction sets ----


def test_cpu_info() -> None:
    info = nf.cpu_info()
    assert set(info["supported"]) <= set(info["built"])
    assert info["chosen"] in info["supported"]


@pytest.mark.parametrize("cap", BUILT)
def test_isa_is_capped(cap: str) -> None:
    chosen = printed("import nnfast; print(nnfast.cpu_info()['chosen'])", NNFAST_ISA=cap)
    at_most = [name for name in nf.cpu_info()["supported"] if BUILT.index(name) <= BUILT.index(cap)]
    assert chosen == at_most[-1]


def test_widest_isa_by_default() -> None:
    assert (
        printed("import nnfast; print(nnfast.cpu_info()['chosen'])")
        == (nf.cpu_info()["supported"][-1])
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NNFAST_ISA", "avx9", "NNFAST_ISA must be one of x86-64-v2, .* got 'avx9'"),
        ("NNFAST_NUM_THREADS", "many", "NNFAST_NUM_THREADS must be a positive integer, got 'many'"),
        ("NNFAST_NUM_THREADS", "0", "NNFAST_NUM_THREADS must be a positive integer"),
        ("NNFAST_THREADING", "tbb", "NNFAST_THREADING must be helpers or openmp, got 'tbb'"),
    ],
)
def test_a_wrong_setting_is_an_error_at_import(name: str, value: str, message: str) -> None:
    result = python("import nnfast", **{name: value})
    assert result.returncode != 0
    assert re.search(message, result.stderr), result.stderr


def test_openmp_is_there_where_it_was_built() -> None:
    result = python("import nnfast; print(nnfast._core.threading())", NNFAST_THREADING="openmp")
    if "openmp" in THREADING:
        assert result.stdout == "openmp\n"
    else:
        said = r"ImportError: NNFAST_THREADING must be helpers, got 'openmp': this build .*NNFAST_OPENMP=OFF"
        assert re.search(said, result.stderr), result.stderr


def test_forced_restores() -> None:
    before = nf.cpu_info()["chosen"], nf.get_num_threads(), _core.threading()
    for isa in nf.cpu_info()["supported"]:
        with forced(isa=isa, threads=3, grain=1, threading=THREADING[-1]):
            assert (nf.cpu_info()["chosen"], nf.get_num_threads()) == (isa, 3)
            assert _core.threading() == THREADING[-1]
    assert (nf.cpu_info()["chosen"], nf.get_num_threads(), _core.threading()) == before
    assert _core._force_grain(0) == 0


# ---- how many threads ----


def test_set_and_get() -> None:
    before = nf.get_num_threads()
    nf.set_num_threads(before + 3)
    try:
        assert nf.get_num_threads() == before + 3
        with nf.num_threads(2):
            assert nf.get_num_threads() == 2
            with nf.num_threads(5):
                assert nf.get_num_threads() == 5
            assert nf.get_num_threads() == 2
            with ThreadPoolExecutor(1) as other:
                assert other.submit(nf.get_num_threads).result() == before + 3
        assert nf.get_num_threads() == before + 3
        with pytest.raises(KeyError), nf.num_threads(1):
            raise KeyError
        assert nf.get_num_threads() == before + 3
    finally:
        nf.set_num_threads(before)


def test_a_context_may_be_entered_again() -> None:
    context = nf.num_threads(3)
    outside = nf.get_num_threads()
    with context, nf.num_threads(4), context:
        assert nf.get_num_threads() == 3
    assert nf.get_num_threads() == outside


@pytest.mark.parametrize("n", [0, -1])
def test_less_than_one_thread_is_refused(n: int) -> None:
    before = nf.get_num_threads()
    with pytest.raises(ValueError, match=f"n must be at least 1, got {n}"):
        nf.set_num_threads(n)
    with pytest.raises(ValueError, match=f"n must be at least 1, got {n}"):
        nf.num_threads(n)
    for call in (nf.set_num_threads, nf.num_threads):
        with pytest.raises(TypeError, match="n must be an int, got float"):
            call(2.0)
    assert nf.get_num_threads() == before


def test_any_number_of_threads_is_survived() -> None:
    with nf.num_threads(2**70):
        assert_same_bits(nf.tanh(X), nf.tanh(X))


COUNT = "import nnfast; print(nnfast.get_num_threads())"


def test_environment() -> None:
    assert printed(COUNT, NNFAST_NUM_THREADS="3", OMP_NUM_THREADS="5") == "3"
    assert printed(COUNT, OMP_NUM_THREADS="5") == "5"
    assert printed(COUNT, OMP_NUM_THREADS="4,2") == "4"
    shown = "import os; print(os.environ['OMP_NUM_THREADS'])"
    for wrong in ("what", "²", " ", ""):
        assert (
            printed(f"{COUNT}; {shown}", OMP_NUM_THREADS=wrong)
            == f"{printed(COUNT)}\n{wrong}".strip()
        )


@pytest.mark.parametrize("variable", ["NNFAST_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("number", ["2147483648", "9" * 5000], ids=["int", "digits"])
def test_huge_thread_counts_are_capped(variable: str, number: str) -> None:
    assert printed(COUNT, **{variable: number}) == str(2**16)


def test_affinity() -> None:
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    assert printed(one + COUNT) == "1"


def quota_of(root: Path, cgroup: str, files: dict[str, str]) -> int | None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return runtime._cgroup_quota(str(root))


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "100000 100000"}, 1),
        ("0::/hidden\n", {"cpu.max": "400000 100000"}, 4),
        (
            "5:cpu,cpuacct:/x\n1:memory:/y\n",
            {"cpu/x/cpu.cfs_quota_us": "200000", "cpu/x/cpu.cfs_period_us": "100000"},
            2,
        ),
        (
            "5:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
    ],
)
def test_cgroup_quota(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: int | None
) -> None:
    assert quota_of(tmp_path, cgroup, files) == expected


def test_no_cgroup(tmp_path: Path) -> None:
    assert runtime._cgroup_quota(str(tmp_path)) is None


# ---- threads in a process ----


@pytest.mark.parametrize("name", THREADING)
@pytest.mark.parametrize("threads", [2, 7, 40])
def test_both_threading_runtimes_give_the_same_bits(name: str, threads: int) -> None:
    expected = nf.tanh(X)
    with forced(threads=threads, grain=1, threading=name):
        for _ in range(20):
            assert_same_bits(nf.tanh(X), expected)


@pytest.mark.alone
def test_threads_of_ours_take_part() -> None:
    """The test of every test that forces a grain: without helpers it would prove nothing."""
    code = """
import os, numpy as np, nnfast as nf
from nnfast._testing import forced
before = len(os.listdir("/proc/self/task"))
with forced(threads=3, grain=1):
    nf.tanh(np.zeros(5000))
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert printed(code, OPENBLAS_NUM_THREADS="1") == "2"


def test_import_starts_no_thread_and_leaves_the_environment() -> None:
    code = """
import os, numpy
before = len(os.listdir("/proc/self/task")), dict(os.environ)
import nnfast, nnfast.optim
nnfast.relu(numpy.zeros(1000))
print((len(os.listdir("/proc/self/task")), dict(os.environ)) == before)
"""
    for threading_name in THREADING:
        assert printed(code, NNFAST_THREADING=threading_name) == "True"
        assert printed(code, NNFAST_THREADING=threading_name, OMP_WAIT_POLICY="active") == "True"


@pytest.mark.openmp
def test_openmp_workers_sleep_where_openmp_is_chosen() -> None:
    """GCC's and LLVM's OpenMP say on request how long their workers spin, as they read it when they were loaded."""
    spins = {}
    for threading_name in THREADING:
        variables = {"NNFAST_THREADING": threading_name, "OMP_DISPLAY_ENV": "verbose"}
        said = python("import nnfast", **variables).stderr
        spins[threading_name] = int(re.search(r"(?:SPINCOUNT|BLOCKTIME) ?= ?'(\d+)", said)[1])
    assert spins["openmp"] == 0
    assert spins["helpers"] > 0  # left as everybody else expects it


# OpenMP's threads do not survive a fork and cannot be started again: the child computes alone.
@pytest.mark.parametrize(
    ("name", "threads_in_child"),
    [("helpers", 3), pytest.param("openmp", 1, marks=pytest.mark.openmp)],
)
def test_a_forked_child_computes(name: str, threads_in_child: int) -> None:
    code = f"""
import os, numpy as np, nnfast as nf
from nnfast._testing import forced
x = np.linspace(-3, 3, 5000)
with forced(threads=3, grain=1, threading={name!r}):
    expected = nf.tanh(x)
    child = os.fork()
    if child == 0:
        same = all(np.array_equal(nf.tanh(x), expected) for _ in range(50))
        threads = len(os.listdir("/proc/self/task"))
        os._exit(0 if same and threads == {threads_in_child} else 1)
    for _ in range(50):
        nf.tanh(x)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert printed(code, OPENBLAS_NUM_THREADS="1") == "0"


@pytest.mark.parametrize("name", THREADING)
def test_many_threads_may_call_at_once(name: str) -> None:
    expected = nf.tanh(X), nf.dropout(X, 0.5, rng=1)[0]
    wrong = []

    def call() -> None:
        with nf.num_threads(3):
            for _ in range(100):
                if not np.array_equal(nf.tanh(X), expected[0]):
                    wrong.append("tanh")
                if not np.array_equal(nf.dropout(X, 0.5, rng=1)[0], expected[1]):
                    wrong.append("dropout")

    with forced(grain=1, threading=name):
        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert wrong == []


def test_the_callers_floating_point_mode_reaches_every_thread() -> None:
    """A caller that flushes subnormals gets flushed results from all threads alike."""
    code = """
import ctypes, mmap, numpy as np, nnfast as nf
from nnfast._testing import forced
# stmxcsr [rsp-4]; or dword [rsp-4], 0x8040; ldmxcsr [rsp-4]; ret
machine = bytes.fromhex("0fae5c24fc814c24fc408000000fae5424fcc3")
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(machine)
flush = ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
x = np.full(5000, -1e-38, np.float32)
slope = 0.5
with forced(threads=3, grain=1):
    kept = nf.leaky_relu(x, slope)
    flush()
    flushed = nf.leaky_relu(x, slope)
# Looked at as integers: this thread's own comparisons now take subnormals for zero.
print((kept.view(np.uint32) << 1 != 0).all(), (flushed.view(np.uint32) << 1 == 0).all())
"""
    assert printed(code) == "True True"


def test_a_spinning_openmp_of_somebody_else_does_not_matter() -> None:
    """libgomp loaded before us keeps its spinning workers; ours are not among them."""
    code = """
import ctypes
ctypes.CDLL("libgomp.so.1")
from bench import neighbours
from bench.registry import call
rows = [neighbours.measure(call("tanh", 2**20), rounds=10) for _ in range(3)]
print(any(row.kernel_ratio < 2 and row.product_ratio < 1.5 for row in rows), rows)
"""
    root = Path(__file__).parents[1]
    assert printed(f"import sys; sys.path.insert(0, {str(root)!r})\n{code}").startswith("True")


# ---- the package ----


def test_modules_are_lazy_and_reachable() -> None:
    code = """
import sys, nnfast
names = ["optim", "augmentation", "init", "preprocessing"]
lazy = [f"nnfast.{name}" in sys.modules for name in names]
nnfast.optim.Adam, nnfast.augmentation.random_flip, nnfast.init.zeros, nnfast.preprocessing.PCA
print(lazy, set(names) <= set(dir(nnfast)))
"""
    assert printed(code) == "[False, False, False, False] True"
    with pytest.raises(AttributeError, match="module 'nnfast' has no attribute 'nothing'"):
        nf.nothing  # noqa: B018


NO_ERRORS = {
    "Schedule",
    "Layer",
    "cpu_info",
    "get_num_threads",
    "BlasSharing",
    "share_blas_threads",
}
SECTIONS = ("Parameters", "Returns", "Raises", "Examples")


def missing_sections(documented: Any) -> set[str]:
    """Of the docstring of a public function, class or method."""
    text = inspect.getdoc(documented) or ""
    found = {section for section in SECTIONS if f"{section}\n{'-' * len(section)}" in text}
    missing = set(SECTIONS) - found
    if "which see" in text or documented.__name__ in NO_ERRORS:
        missing -= {"Raises"}
    if inspect.isclass(documented):
        missing -= {"Parameters", "Returns"}
        if dataclasses.is_dataclass(documented) or issubclass(documented, tuple):
            missing -= {"Raises", "Examples"}  # a record, shown by what returns it
            missing |= set() if len(text) > 20 else {"summary"}
    elif not isinstance(documented, np.ufunc):
        signature = inspect.signature(documented)
        if not signature.parameters:
            missing -= {"Parameters"}
        if signature.return_annotation in (None, "None"):
            missing -= {"Returns"}
    return missing


# What needs an extra is no part of __all__, so that `from nnfast import *` does without.
@pytest.mark.parametrize("name", sorted({*nf.__all__, *nf._LAZY} - {"__version__"}))
def test_every_public_name_is_documented_with_an_example(name: str) -> None:
    value = getattr(nf, name)
    names = getattr(value, "__all__", None)  # a module's
    for documented in [getattr(value, part) for part in names] if names else [value]:
        assert missing_sections(documented) == set(), documented


def test_machine_has_what_these_tests_are_about() -> None:
    assert len(FMA_ISAS) >= 1


AFFINITY = """
import os, numpy as np
before = set(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else None
import nnfast as nf
from nnfast._testing import forced
x = np.ones(100_000, np.float32)
with forced(threads=2, grain=1000, threading="helpers"):
    for _ in range(20):
        nf.relu(x)
own = os.sched_getaffinity(0)
helpers = [os.sched_getaffinity(int(task)) for task in set(os.listdir("/proc/self/task")) - before]
print(len(own), [len(own - helper) for helper in helpers], os.sched_getaffinity(0) == own)
"""


def test_helpers_keep_off_the_callers_processor() -> None:
    processors, *rest = printed(AFFINITY, OPENBLAS_NUM_THREADS="1").split()
    assert rest == [str([min(int(processors) - 1, 1)]), "True"]
