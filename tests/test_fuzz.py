"""Arguments of any kind: an error or a result, never a crash, a leak or a byte changed that is nobody's business.

The calls are those of tests/fuzz, whose kept inputs a fuzzer found.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from fuzz import corpus, sequences
from fuzz.call import Caller, Violation
from fuzz.leaks import left_behind
from fuzz.sequences import Machine, bytes_of
from fuzz.source import Source
from fuzz.targets import LEFT_OUT, Target, signature, targets

TESTS = Path(__file__).parent


def fuzz(command: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which may crash."""
    path = os.pathsep.join([str(TESTS), *sys.path])
    return subprocess.run(
        [sys.executable, "-m", "fuzz", command],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize("command", ["replay", "leaks"])
def test_the_kept_inputs(command: str) -> None:
    result = fuzz(command)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_public_function_is_called() -> None:
    functions = {name for name in nf.__all__ if callable(getattr(nf, name))}
    assert functions - LEFT_OUT <= set(targets())
    # Enough of the kept calls get as far as the kernel.
    caller = Caller()
    for entry in corpus.kept()[::5]:
        caller.run(*entry)
    assert caller.returned > caller.calls / 4


# ---- what it finds is found ----


def planted(function: Callable[..., Any]) -> Target:
    """A target with a fault."""
    return Target("planted", function, signature(function))


def writes_beyond(x: Any, out: Any) -> None:
    """Past the end of out."""
    ctypes.memset(out.ctypes.data + out.nbytes, 1, 1)


def writes_its_input(x: Any) -> None:
    """Writes to its input."""
    x[...] = 7


def writes_and_fails(x: Any, out: Any) -> None:
    """Before it has checked."""
    out[...] = 7
    raise ValueError


_held: list[Any] = []


def holds_on(x: Any) -> None:
    """To what it was given."""
    _held.append(x)


def breaks_off(x: Any) -> None:
    """With an error that means a broken extension."""
    raise SystemError


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (writes_beyond, "1 bytes changed outside"),
        (writes_its_input, "bytes changed outside of what is written"),
        (writes_and_fails, "bytes changed after an error"),
        (holds_on, "arguments are held on to"),
        (breaks_off, "SystemError"),
    ],
)
def test_a_fault_is_found(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(Violation, match=message):
        Caller().run(planted(function), b"")
    _held.clear()


# ---- and of sequences of calls ----


class Counter(Machine):
    """Counts, as a plain object does."""

    def __init__(self, source: Source, folder: Path, forgets: bool = False) -> None:
        super().__init__(source, folder)
        self.forgets = forgets
        self.shared = np.zeros(1)
        self.pair = [self.shared, self.shared]

    def objects(self) -> Any:
        return self.pair

    def take(self, objects: Any) -> None:
        self.pair = objects

    def state(self) -> dict[str, bytes]:
        return {"count": bytes_of(self.pair[1])}

    def train(self) -> None:
        self.pair[0] += 1

    def do_count(self) -> None:
        self.train()
        if self.forgets:
            raise ValueError("counted all the same")


@pytest.mark.parametrize(
    ("forgets", "data", "message"),
    [
        # By joblib the two arrays become two: the first counts, the second is looked at.
        (False, b"", "after training on after by_joblib count changed"),
        (True, b"", "do_count raised ValueError"),
    ],
)
def test_a_fault_of_a_sequence_is_found(
    forgets: bool, data: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(Violation, match=message):
        Counter(Source(data), tmp_path, forgets).run()


def test_every_machine_and_action_is_among_the_kept_sequences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: set[str] = set()
    run = Machine._done

    def noted(self: Machine, action: Any) -> bool:
        returned = run(self, action)
        if returned:
            done.add(f"{type(self).__name__}.{action.__name__}")
        return returned

    monkeypatch.setattr(Machine, "_done", noted)
    for name, data in corpus.kept_sequences():
        sequences.run(name, data)
    there = {name.partition(".")[0] for name in done}
    assert {name.lower() for name in there} == set(sequences.machines())
    assert len(done) > 40


def test_reading_past_the_memory_is_a_crash() -> None:
    code = (
        "import ctypes, numpy as np; from fuzz.memory import Memory, SIZE; memory = Memory();"
        "end = np.frombuffer(memory.buffer, np.uint8).ctypes.data + SIZE;"
        "print('fine', ctypes.string_at(end - 1, 1), flush=True); ctypes.string_at(end, 1)"
    )
    path = os.pathsep.join([str(TESTS), *sys.path])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert result.stdout.startswith("fine")
    assert result.returncode != 0


def test_a_leak_is_found() -> None:
    kept: list[Any] = []
    # More than what others let go of meanwhile.
    assert left_behind(lambda: kept.extend(object() for _ in range(32)))[0] >= 16
    malloc = ctypes.CDLL(None).malloc
    if hasattr(ctypes.CDLL(None), "mallinfo2"):
        assert left_behind(lambda: malloc(2400))[1] >= 1200
    assert left_behind(lambda: np.ones(100)) == (0, 0)
