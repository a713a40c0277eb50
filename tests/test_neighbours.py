"""What else lives in the process: pools, forks, other libraries and their threads, signals, memory that runs out."""

import sys

import numpy as np
import pytest

import nnfast as nf
from conftest import THREADING
from test_runtime import printed, python

# A function of one number to send elsewhere, and what it gives here.
WORK = """
import sys, numpy as np, nnfast as nf
def work(seed):
    x = np.random.default_rng(seed).standard_normal((400, 300), dtype=np.float32)
    y, saved = nf.batch_norm(nf.dropout(nf.gelu(x), 0.3, rng=seed)[0], training=True)
    return y.tobytes()
"""


# ---- processes ----


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        WORK
        + f"""
import multiprocessing
if __name__ == "__main__":
    nf.set_num_threads(3)
    expected = [work(seed) for seed in range(4)]
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(pool.map(work, range(4)) == expected)
"""
    )
    code = f"import runpy; runpy.run_path({str(tmp_path / 'job.py')!r}, run_name='__main__')"
    assert printed(code).endswith("True")


def test_joblib(tmp_path) -> None:
    (tmp_path / "job.py").write_text(WORK)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from job import work
from joblib import Parallel, delayed
expected = [work(seed) for seed in range(4)]
for backend in ("loky", "threading"):
    print(Parallel(2, backend=backend)(delayed(work)(seed) for seed in range(4)) == expected)
"""
    assert printed(code, PYTHONPATH=":".join([str(tmp_path), *sys.path])).split() == ["True"] * 2


def test_a_worker_of_joblib_uses_the_threads_it_is_given() -> None:
    code = """
from joblib import Parallel, delayed
from nnfast.runtime import get_num_threads
with Parallel(2, backend="loky") as parallel:
    print(parallel(delayed(get_num_threads)() for _ in range(2)))
"""
    assert printed(code, LOKY_MAX_CPU_COUNT="2") == "[1, 1]"


def test_the_process_ends_with_workers_asleep() -> None:
    for threading in THREADING:
        code = """
import numpy as np, nnfast as nf
from nnfast._testing import forced
with forced(threads=4, grain=1):
    nf.tanh(np.ones(5000))
print("done")
"""
        assert printed(code, NNFAST_THREADING=threading) == "done"


def test_threads_end_with_the_pool_that_called() -> None:
    code = """
import os, numpy as np, nnfast as nf
from concurrent.futures import ThreadPoolExecutor
x = np.ones(3_000_000, np.float32)
for _ in range(20):
    with ThreadPoolExecutor(4) as pool:
        assert all((y == 1).all() for y in pool.map(nf.relu, [x] * 8))
print(len(os.listdir("/proc/self/task")) <= 1 + nf.get_num_threads())
"""
    assert printed(code, OPENBLAS_NUM_THREADS="1") == "True"


def test_a_list_may_change_while_a_step_reads_its_arrays() -> None:
    """The gradient that was taken is kept until the step is over, whoever drops it meanwhile."""
    code = """
import threading, numpy as np, nnfast as nf
p = np.zeros(4_000_000, np.float32)
opt = nf.optim.SGD([p], lr=1.0)
grads = [np.full_like(p, -1)]
done = threading.Event()
def steps():
    for _ in range(60):
        opt.step(grads)
    done.set()
thread = threading.Thread(target=steps)
thread.start()
while not done.is_set():
    grads[0] = np.full_like(p, -1)
thread.join()
print((p == 60).all())
"""
    assert printed(code) == "True"


# ---- limits and libraries ----


def test_threadpoolctl_limits_a_build_with_openmp() -> None:
    code = """
import nnfast as nf
from threadpoolctl import threadpool_limits
nf.set_num_threads(3)
found = [nf.get_num_threads()]
with threadpool_limits(limits=1):
    found.append(nf.get_num_threads())
    with nf.num_threads(2):
        found.append(nf.get_num_threads())
found.append(nf.get_num_threads())
print(found)
"""
    # Through OpenMP, where the build has it.
    limited = 1 if "openmp" in THREADING else 3
    assert printed(code, OMP_NUM_THREADS="4") == f"[3, {limited}, 2, 3]"


@pytest.mark.parametrize("first", ["nnfast", "other"])
@pytest.mark.parametrize(
    "other", ["sklearn.neural_network", pytest.param("torch", marks=pytest.mark.peers)]
)
def test_libraries_with_threads_of_their_own(other: str, first: str) -> None:
    imports = ["import nnfast as nf", f"import {other}"]
    use = {
        "torch": "torch.ones(300, 300) @ torch.ones(300, 300)",
        "sklearn.neural_network": "sklearn.neural_network.MLPClassifier(max_iter=1).fit(x[:99, :9], x[:99, 0] > 0)",
    }
    lines = imports if first == "nnfast" else imports[::-1]
    code = "\n".join(
        [
            "import warnings, numpy as np",
            'warnings.simplefilter("ignore")',
            *lines,
            "x = np.random.default_rng(0).standard_normal((2000, 1000))",
            "expected = nf.tanh(x[:1, :1])",
            "for _ in range(3):",
            f"    {use[other]}",
            "    assert nf.tanh(x)[0, 0] == expected[0, 0]",
            'print("both")',
        ]
    )
    assert printed(code) == "both"


def test_a_subinterpreter_is_refused() -> None:
    code = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import nnfast
number = interpreters.create()
source = '''
try:
    import nnfast
except ImportError as error:
    print("refused")
'''
try:
    failed = interpreters.run_string(number, source)
    print(failed or "", flush=True)
except Exception as error:
    print("refused", error)
"""
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert "refused" in result.stdout


# ---- signals and memory ----


def test_an_interrupt_reaches_a_training_loop() -> None:
    code = """
import os, signal, threading, numpy as np, nnfast as nf
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
x = np.ones(1_000_000, np.float32)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        nf.tanh(x, out=x)
except KeyboardInterrupt:
    print("interrupted", nf.relu(np.ones(1))[0])
"""
    assert printed(code) == "interrupted 1.0"


def test_signals_are_for_the_threads_of_others() -> None:
    """A helper that took one would be kept from its work, and handlers of C may expect the main thread."""
    code = """
import os, signal, numpy as np, nnfast as nf
from nnfast._testing import forced
with forced(threads=3, grain=1):
    nf.tanh(np.ones(5000))
for task in set(os.listdir("/proc/self/task")) - {str(os.getpid())}:
    with open(f"/proc/self/task/{task}/status") as file:
        blocked = [int(line.split()[1], 16) for line in file if line.startswith("SigBlk")]
    print(all(blocked[0] >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)))
"""
    assert printed(code, OPENBLAS_NUM_THREADS="1").split() == ["True"] * 2


def test_an_interrupt_leaves_a_step_complete() -> None:
    """The signal comes while the step is under way; it is raised after all of its arrays have been written."""
    code = """
import os, signal, threading, numpy as np, nnfast as nf
p = np.zeros(4_000_000, np.float32)
opt = nf.optim.SGD([p], lr=1.0, momentum=0.0)
one = np.full_like(p, -1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        opt.step([one])
except KeyboardInterrupt:
    print(p[0] > 0, (p == p[0]).all())
"""
    assert printed(code) == "True True"


NO_MEMORY = """
import resource, numpy as np, nnfast as nf
x = np.ones(60_000_000, np.float32)
labels = np.zeros(1, np.int64)
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, hard))
matrix = x.reshape(1, -1)
mean, var = np.zeros(2, np.float32), np.ones(2, np.float32)
calls = {
    "relu": lambda: nf.relu(x),
    "dropout": lambda: nf.dropout(x, rng=0),
    "softmax": lambda: nf.softmax(matrix),
    "bias_relu": lambda: nf.bias_relu(matrix, x),
    "layer_norm": lambda: nf.layer_norm(matrix),
    "batch_norm": lambda: nf.batch_norm(x.reshape(-1, 2), None, None, mean, var, training=True),
    "softmax_cross_entropy": lambda: nf.softmax_cross_entropy(matrix, labels),
    "Adam": lambda: nf.optim.Adam([x]),
}
for name, call in calls.items():
    try:
        call()
    except MemoryError:
        print(name)
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
print((x == 1).all(), mean, var)
"""


def test_memory_that_runs_out_is_an_error_that_changes_nothing() -> None:
    *names, unchanged = printed(NO_MEMORY).splitlines()
    assert names == [
        "relu",
        "dropout",
        "softmax",
        "bias_relu",
        "layer_norm",
        "batch_norm",
        "softmax_cross_entropy",
        "Adam",
    ]
    assert unchanged == "True [0. 0.] [1. 1.]"


def test_a_failed_call_leaves_nothing_behind() -> None:
    x = np.ones(3, np.float32)
    before = sys.getrefcount(x)
    for _ in range(100):
        with pytest.raises(TypeError):  # NumPy's own
            nf.relu("x")
        with pytest.raises(ValueError, match="at least 2 axes"):
            nf.batch_norm(x, x, x)
    assert sys.getrefcount(x) == before
