"""One pool of threads with NumPy's BLAS: what is shared when, and products that keep their bits whatever happens."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import nnfast as nf
from nnfast._load import _core
from nnfast._testing import forced
from test_runtime import printed, python

TESTS = str(Path(__file__).parent)

# What the products of NumPy are, bit for bit; sizes that OpenBLAS gives to all its threads.
PRODUCTS = """
import os, sys, threading, time, warnings, zlib
import numpy as np, nnfast as nf
from nnfast._load import _core
from threadpoolctl import threadpool_limits
# It never begins with more than there are processors.
threadpool_limits(int(os.environ["BLAS_THREADS"]), "blas")
rng = np.random.default_rng(0)
a, b = rng.standard_normal((120, 150)), rng.standard_normal((150, 100))
long, x = rng.standard_normal((500, 300)), rng.standard_normal(300)
square = rng.standard_normal((210, 210)) + 20 * np.eye(210)
f32 = a.astype(np.float32)
def digest(*results):
    return [zlib.crc32(np.ascontiguousarray(result)) for result in results]
def products():
    return digest(a @ b, f32 @ f32.T, long @ x, long.T @ long[:, 0], (a + 1j) @ b, np.dot(long[0], x))
def factorizations():
    return digest(np.linalg.inv(square), np.linalg.solve(square, square[0]), np.linalg.cholesky(square @ square.T),
                  *np.linalg.eigh(a.T @ a), *np.linalg.qr(a))
expected, expected_factors = products(), factorizations()
"""


def shared(code: str, threads: int = 2, **variables: str) -> str:
    """What code prints after PRODUCTS, where OpenBLAS has so many threads."""
    environment = {"BLAS_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(sys.path)}
    return printed(PRODUCTS + code, **environment | variables)


# ---- on and off ----


def test_numpys_blas_is_shared_while_it_is_asked_for() -> None:
    code = """
def states():
    return [library["shares_threads"] for library in nf.cpu_info()["blas"]]
print(states())
sharing = nf.share_blas_threads()
print(states(), bool(sharing), repr(sharing), sharing.reason == "")
with nf.share_blas_threads() as inner:
    print(bool(inner))
print(states(), bool(inner), inner.reason)
sharing.close()
sharing.close()
print(states(), bool(sharing), repr(sharing))
with sharing, sharing:
    print(states(), bool(sharing))
print(states())
"""
    assert shared(code).splitlines() == [
        "[False]",
        "[True] True <BlasSharing: on> True",
        "True",
        "[True] False sharing has ended",
        "[False] False <BlasSharing: sharing has ended>",
        "[True] True",
        "[False]",
    ]


def test_an_error_ends_the_block() -> None:
    code = """
try:
    with nf.share_blas_threads():
        raise KeyError
except KeyError:
    print(nf.cpu_info()["blas"][0]["shares_threads"])
"""
    assert shared(code) == "False"


@pytest.mark.parametrize(("value", "state"), [("1", "True"), ("0", "False"), ("", "False")])
def test_the_environment_asks_for_it(value: str, state: str) -> None:
    code = "import nnfast; print(nnfast.cpu_info()['blas'][0]['shares_threads'])"
    assert printed(code, NNFAST_SHARE_BLAS=value) == state


def test_a_wrong_setting_is_an_error_at_import() -> None:
    result = python("import nnfast", NNFAST_SHARE_BLAS="yes")
    assert result.returncode != 0
    assert "NNFAST_SHARE_BLAS must be 0 or 1, got 'yes'" in result.stderr


def test_what_cannot_be_shared_says_why() -> None:
    code = """
import nnfast as nf
from threadpoolctl import threadpool_limits
threadpool_limits(33, "blas")
with nf.share_blas_threads() as sharing:
    print(bool(sharing), sharing.reason, nf.cpu_info()["blas"][0]["shares_threads"])
"""
    said = printed(code)
    assert "has started 33 threads and uses 33, which is too many of 64" in said
    assert "set OPENBLAS_NUM_THREADS to 32 or less" in said
    assert said.startswith("False")
    assert said.endswith("False")


@pytest.mark.openmp
def test_threads_of_openmp_cannot_be_shared() -> None:
    code = "import nnfast\nwith nnfast.share_blas_threads() as sharing: print(bool(sharing), sharing.reason)"
    openmp = "False nnfast's own threads are those of OpenMP"
    assert printed(code, NNFAST_THREADING="openmp").startswith(openmp)
    result = python("import nnfast", NNFAST_SHARE_BLAS="1", NNFAST_THREADING="openmp")
    assert result.returncode == 0
    assert "NumPy's BLAS keeps its own threads: nnfast's own threads are" in result.stderr


def test_a_limit_that_is_lifted_again_is_forgotten() -> None:
    code = """
with threadpool_limits(33, "blas"):
    pass
with nf.share_blas_threads() as sharing:
    print(sharing, products() == expected)
"""
    assert shared(code) == "<BlasSharing: on> True"


def test_it_cannot_be_copied() -> None:
    with nf.share_blas_threads() as sharing:
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="a BlasSharing cannot be copied"):
                copied(sharing)
    _core.unshare_blas()  # once too often
    with nf.share_blas_threads() as sharing, nf.share_blas_threads():
        assert sharing
        _core.unshare_blas()
        assert sharing


def test_a_callback_of_somebody_else_stays() -> None:
    code = """
import ctypes
library = ctypes.CDLL(nf.cpu_info()["blas"][0]["path"])
slot = ctypes.c_void_p.in_dll(library, "openblas_threads_callback_")
slot.value = somebody = 4096
with nf.share_blas_threads() as sharing:
    print(sharing.reason.split(" ", 1)[1], slot.value == somebody)
print(slot.value == somebody)
slot.value = None
with nf.share_blas_threads() as sharing:
    print(bool(sharing), slot.value is not None)
print(slot.value)
"""
    assert shared(code).splitlines() == [
        "has its threads from somebody else True",
        "True",
        "True True",
        "None",
    ]


def test_a_blas_that_is_no_openblas_is_said_to_be_none() -> None:
    assert _core.blas_reason(sys.executable) == "it is no OpenBLAS whose threads can be supplied"
    assert _core.blas_reason("/no/such/object") == _core.blas_reason(sys.executable)


IMITATION = """
extern "C" {
const char* openblas_get_config() { return "OpenBLAS 0.3.99 MAX_THREADS=8"; }
const char* openblas_get_corename() { return "Imitation"; }
int openblas_get_num_threads() { return 2; }
#ifndef OLD
void* openblas_threads_callback_;
int openblas_get_parallel() { return PARALLEL; }
int blas_num_threads = 2;
void exec_blas_async(long, void*) {}
#endif
#ifdef COMPLETE
void exec_blas_async_wait(long, void*) {}
#endif
}
"""


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("-DOLD", "takes no threads from others, as OpenBLAS does from version 0.3.28 on"),
        ("-DPARALLEL=0 -DCOMPLETE", "is built without threads"),
        ("-DPARALLEL=2 -DCOMPLETE", "is built over OpenMP, whose threads it uses"),
        ("-DPARALLEL=1", "does not say what has to be known of its threads"),
        ("-DPARALLEL=1 -DCOMPLETE", None),
    ],
)
def test_other_builds_of_openblas(options: str, reason: str | None, tmp_path: Path) -> None:
    (tmp_path / "imitation.cpp").write_text(IMITATION)
    library = tmp_path / "libopenblas.so"
    compiler = [os.environ.get("CXX", "c++"), *options.split(), "-shared", "-fPIC", "-o", library]
    subprocess.run([*compiler, tmp_path / "imitation.cpp"], check=True)
    code = f"""
import _ctypes, ctypes, nnfast as nf
from nnfast._load import _core
library = ctypes.CDLL({str(library)!r})
with nf.share_blas_threads() as sharing:
    print(_core.blas_reason({str(library)!r}))
    print([blas["shares_threads"] for blas in nf.cpu_info()["blas"] if blas["kernels"] == "Imitation"])
_ctypes.dlclose(library._handle)
print({str(library)!r} in open("/proc/self/maps").read())  # what we use is not unloaded
"""
    said, states, loaded = printed(code).rsplit("\n", 2) if reason else ["", *printed(code).split()]
    assert said == (f"{library} {reason}" if reason else "")
    assert states == str([reason is None])
    assert loaded == str(reason is None)


def test_scipys_is_shared_too_from_the_next_call_on() -> None:
    code = """
def states():
    return sorted(library["shares_threads"] for library in nf.cpu_info()["blas"])
first = nf.share_blas_threads()
import scipy.linalg
lu = digest(*scipy.linalg.lu(square), *scipy.linalg.schur(square))
print(states())
second = nf.share_blas_threads()
print(states(), digest(*scipy.linalg.lu(square), *scipy.linalg.schur(square)) == lu)
first.close()
print(states())
second.close()
print(states())
"""
    pytest.importorskip("scipy")
    assert shared(code).splitlines() == [
        "[False, True]",
        "[True, True] True",
        "[True, True]",
        "[False, False]",
    ]


# ---- products ----


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_products_keep_their_bits(threads: int) -> None:
    code = """
with nf.share_blas_threads() as sharing:
    assert sharing
    print(products() == expected, factorizations() == expected_factors)
    with nf.num_threads(1):
        print(products() == expected)
print(products() == expected)
"""
    assert shared(code, threads).split() == ["True"] * 4


@pytest.mark.alone
def test_products_run_on_our_threads() -> None:
    code = """
def threads():
    return len(os.listdir("/proc/self/task"))
before = threads()
with nf.share_blas_threads():
    products()
    print(threads() - before)
"""
    assert shared(code, 4) == "3"  # and the caller


def test_kernels_and_products_of_many_threads() -> None:
    """The numbers of jobs pick buffers of OpenBLAS: with the same at once, matrix-vector products go wrong."""
    code = """
y = nf.tanh(long)
wrong = []
def run(check):
    for _ in range(20):
        if not check():
            wrong.append(check)
checks = [lambda: products() == expected, lambda: digest(np.linalg.inv(square)) == expected_factors[:1],
          lambda: np.array_equal(nf.tanh(long), y), lambda: digest(long @ x) == expected[2:3]]
with nf.share_blas_threads():
    callers = [threading.Thread(target=run, args=(check,)) for check in checks * 2]
    for caller in callers: caller.start()
    for caller in callers: caller.join()
print(wrong)
"""
    assert shared(code) == "[]"


def test_on_and_off_while_products_run() -> None:
    code = """
wrong, end = [], time.monotonic() + 1.5
def run():
    while time.monotonic() < end:
        if digest(long @ x) != expected[2:3] or digest(a @ b) != expected[:1]:
            wrong.append(1)
callers = [threading.Thread(target=run) for _ in range(3)]
for caller in callers: caller.start()
switched = 0
while time.monotonic() < end:
    with nf.share_blas_threads():
        time.sleep(0.002)
    time.sleep(0.002)
    switched += 1
for caller in callers: caller.join()
print(wrong, switched > 20)
"""
    assert shared(code) == "[] True"


def test_limits_of_threadpoolctl() -> None:
    code = """
with nf.share_blas_threads() as sharing:
    for limit in (1, 2, 4):
        with threadpool_limits(limit, "blas"):
            under_limit = products()
        sharing.close()
        with threadpool_limits(limit, "blas"):
            print(products() == under_limit)
        sharing.__enter__()
    # More than can be shared: its own threads do it.
    with threadpool_limits(33, "blas"):
        under_limit = digest(long @ x)
    sharing.close()
    with threadpool_limits(33, "blas"):
        print(digest(long @ x) == under_limit)
"""
    assert shared(code, 2).split() == ["True"] * 4


def test_a_thread_that_cannot_be_started_is_done_without() -> None:
    """OpenBLAS's own threads do the work then."""
    code = """
import resource
sharing = nf.share_blas_threads()
before = len(os.listdir("/proc/self/task"))
# No address space is left for the stacks of more threads.
resource.setrlimit(resource.RLIMIT_STACK, (2**40, resource.RLIM_INFINITY))
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, resource.RLIM_INFINITY))
print(products() == expected, len(os.listdir("/proc/self/task")) == before, bool(sharing))
"""
    # The size of stacks is read when the process begins.
    limited = f"""
import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_STACK, (2**31, resource.getrlimit(resource.RLIMIT_STACK)[1]))
print(subprocess.run([sys.executable, "-c", {PRODUCTS + code!r}], capture_output=True, text=True, timeout=50))
"""
    said = printed(limited, BLAS_THREADS="4", PYTHONPATH=os.pathsep.join(sys.path))
    assert "stdout='True True True\\n'" in said, said


# ---- forks, signals, the end ----


def test_children_multiply() -> None:
    code = """
with nf.share_blas_threads():
    products()
    ends = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            same = products() == expected and factorizations() == expected_factors
            y = nf.tanh(long)
            os._exit(0 if same and nf.cpu_info()["blas"][0]["shares_threads"] else 1)
        ends.append(products() == expected)
        ends.append(os.waitpid(child, 0)[1] == 0)
    time.sleep(0.35)  # until forks are forgotten
    ends.append(products() == expected)
    print(ends)
print(products() == expected)
"""
    assert shared(code).splitlines() == [str([True] * 7), "True"]


def test_multiprocessing() -> None:
    code = """
import multiprocessing
def work(i):
    return products() == expected
sharing = nf.share_blas_threads()
with multiprocessing.get_context("fork").Pool(3) as pool:
    print(all(pool.map(work, range(6))), products() == expected)
"""
    assert shared(code) == "True True"


def test_forks_while_others_multiply() -> None:
    """OpenBLAS alone hangs or goes wrong where a fork ends its threads in the middle of a product."""
    assert printed(
        f"import sys; sys.path.insert(0, {TESTS!r})\n"
        "from stress_blas import stress\nprint(stress(3, threads=4, forks=True))"
    ).endswith("[]")


def test_an_interrupt_ends_a_loop_of_products() -> None:
    code = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the parent ignores it
main = threading.get_native_id()
with nf.share_blas_threads():
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        while True:
            a @ b
            nf.tanh(a)
    except KeyboardInterrupt:
        pass
    print(products() == expected)
"""
    assert shared(code) == "True"


def test_the_process_ends_in_the_middle_of_a_product() -> None:
    code = """
sharing = nf.share_blas_threads()
long = np.tile(long, (4, 5))
def forever():
    while True:
        long.T @ long
        nf.tanh(long)
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.1)
print("ends")
"""
    for _ in range(3):
        assert shared(code) == "ends"


HANDLER = """
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
typedef void Product(int, int, int, long, long, long, double, const double*, long, const double*, long, double, double*,
                     long);
static double a[200 * 200], c[200 * 200];
static Product* product;
static void last(void) {
  int end = 1;
  pid_t child = fork();
  if (!child) _exit(0);
  waitpid(child, &end, 0);
  for (int i = 0; i < 200 * 200; ++i) a[i] = 1;
  product(101, 111, 111, 200, 200, 200, 1, a, 200, a, 200, 0, c, 200);
  if (end == 0 && c[7] == 200) write(1, "right\\n", 6);
}
void at_exit(void* dgemm) { product = (Product*)dgemm; atexit(last); }
"""


def test_handlers_of_others_may_multiply_and_fork_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "handler.c").write_text(HANDLER)
    library = tmp_path / "handler.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "handler.c"], check=True)
    code = f"""
import ctypes
blas = ctypes.CDLL(nf.cpu_info()["blas"][0]["path"])
handler = ctypes.CDLL({str(library)!r})
handler.at_exit(ctypes.cast(blas.scipy_cblas_dgemm64_, ctypes.c_void_p))
sharing = nf.share_blas_threads()
print(products() == expected, flush=True)
"""
    assert shared(code).split() == ["True", "right"]


def test_helpers_sleep_when_the_work_is_done() -> None:
    code = """
with nf.share_blas_threads():
    for _ in range(50):
        products()
        nf.tanh(long)
    time.sleep(0.5)
    before = time.process_time()
    time.sleep(1)
    print(time.process_time() - before)
"""
    assert float(shared(code)) < 0.02


# ---- how many are woken ----


def woken(elements: int) -> int:
    """Helpers that one call wakes, of up to 31, when all sleep."""
    code = f"""
import time, numpy as np, nnfast as nf
from nnfast._load import _core
x = np.zeros({elements}, np.float32)
nf.set_num_threads(32)
_core._force_processors(32)
for _ in range(8):
    nf.tanh(np.zeros(2**21, np.float32))  # all are started
time.sleep(0.5)
before = _core._helpers_woken()
nf.tanh(x)
time.sleep(0.2)
print(_core._helpers_woken() - before)
"""
    return int(printed(code, OPENBLAS_NUM_THREADS="1"))


@pytest.mark.alone
def test_helpers_are_woken_in_proportion_to_the_work() -> None:
    cost, _ = _core._costs()["tanh"]
    for elements in (10_000, 1_000_000):
        worth = int(elements * cost / 25e3) - 1
        assert 0 <= woken(elements) <= max(worth, 0)
    # All of them are, one by another, where there is enough to do.
    assert woken(2**23) > 20


def test_more_threads_than_processors_are_of_no_use() -> None:
    code = """
import os, numpy as np, nnfast as nf
nf.set_num_threads(64)
before = len(os.listdir("/proc/self/task"))
for _ in range(5):
    nf.tanh(np.zeros(2**22, np.float32))
print(len(os.listdir("/proc/self/task")) - before, len(os.sched_getaffinity(0)) - 1)
"""
    started, most = printed(code, OPENBLAS_NUM_THREADS="1").split()
    assert int(started) <= int(most)


def test_a_call_under_force_uses_as_many_as_it_is_told() -> None:
    before = _core._force_processors(1)
    try:
        with forced(threads=3, grain=1):
            assert nf.get_num_threads() == 3
    finally:
        _core._force_processors(before)
