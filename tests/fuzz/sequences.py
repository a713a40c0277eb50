"""Sequences of calls on objects that keep state, grown from bytes.

A call returns, or raises an error of an expected kind and has changed nothing. Now and then all objects take a round
trip, through a pickle, a file or a copy; after it they are trained beside those that did not, to the same bits.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.call import Violation
from fuzz.source import Source

EXPECTED = (TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError)
STEPS = 12
"""Calls of a sequence, at most."""


class Interrupted(Exception):
    """What a user's own code raises in the middle of a call."""


class Machine:
    """Objects that belong together, and what may be done with them.

    What a method whose name begins with "do_" changes is undone by nothing, unless it raises: then it must have changed
    nothing. Those that begin with "break_" are called with what raises in the middle, and may have changed what they
    promise to.
    """

    def __init__(self, source: Source, folder: Path) -> None:
        self.source, self.folder = source, folder

    def objects(self) -> Any:
        """All that takes a round trip, as one object."""
        raise NotImplementedError

    def take(self, objects: Any) -> None:
        """Go on with these."""
        raise NotImplementedError

    def state(self) -> dict[str, bytes]:
        """All that may not change by an error, in comparable form."""
        raise NotImplementedError

    def train(self) -> None:
        """A few steps, which depend on nothing but the objects."""
        raise NotImplementedError

    def actions(self) -> list[Callable[[], Any]]:
        """What may be done, each by a few bytes of the source."""
        names = [name for name in dir(self) if name.startswith(("do_", "break_"))]
        return [getattr(self, name) for name in names]

    def run(self) -> int:
        """The sequence; the number of calls that returned."""
        returned = 0
        for _ in range(1 + self.source.below(STEPS)):
            action = self.source.pick([*self.actions(), self._round_trip])
            returned += self._done(action)
        self._round_trip()
        return returned

    def _done(self, action: Callable[[], Any]) -> bool:
        before = self.state()
        try:
            action()
        except Interrupted:
            return False
        except EXPECTED as error:
            if action.__name__.startswith("do_"):
                self._compare(before, self.state(), f"{action.__name__} raised {error!r}, but")
            return False
        return True

    def _round_trip(self) -> None:
        way = self.source.pick(WAYS)
        # The one that is copied first stays behind, so that a fault of the copy shows beside it.
        copied = way(self.objects(), self.folder)
        kept = self.objects()
        before = self.state()
        self.take(copied)
        self._compare(before, self.state(), f"after {way.__name__}")
        ends = []
        for objects in (kept, copied):
            self.take(objects)
            try:
                self.train()
                ends.append(self.state())
            except (*EXPECTED, Interrupted) as error:
                ends.append({"error": repr(error).encode()})
        self._compare(*ends, f"after training on after {way.__name__}")

    @staticmethod
    def _compare(before: dict[str, bytes], after: dict[str, bytes], when: str) -> None:
        names = sorted(
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        )
        if names:
            then, now = (state.get(names[0], b"nothing")[:60] for state in (before, after))
            raise Violation(f"{when} {', '.join(names[:5])} changed: {then!r} to {now!r}")


# ---- ways to copy ----


def deepcopied(objects: Any, folder: Path) -> Any:
    import copy

    return copy.deepcopy(objects)


def pickled(objects: Any, folder: Path) -> Any:
    import pickle

    return pickle.loads(pickle.dumps(objects))


def sent(objects: Any, folder: Path) -> Any:
    """As messages are: with the arrays beside the pickle, and read-only."""
    import pickle

    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(objects, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(text, buffers=[bytes(buffer) for buffer in buffers])


def by_joblib(objects: Any, folder: Path) -> Any:
    import joblib

    path = folder / f"{len(list(folder.iterdir()))}.joblib"  # maps of the last one may be in use
    joblib.dump(objects, path)
    return joblib.load(path)


def mapped(objects: Any, folder: Path) -> Any:
    """Read-only memory maps, as n_jobs gives to workers."""
    import joblib

    path = folder / f"{len(list(folder.iterdir()))}.joblib"
    joblib.dump(objects, path)
    return joblib.load(path, mmap_mode="r")


WAYS = (by_joblib, deepcopied, pickled, sent, mapped)


def bytes_of(value: Any) -> bytes:
    """Arrays and numbers in comparable form."""
    import numpy as np

    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(bytes_of, value)) + b"]"
    if not isinstance(value, np.ndarray | np.generic):
        return repr(value).encode()
    array = np.asarray(value)
    if array.dtype.hasobject:
        return repr(value).encode()
    return f"{array.dtype}{array.shape}".encode() + array.tobytes()


# ---- running ----


def machines() -> dict[str, Callable[[Source, Path], Machine]]:
    """All of them, by name."""
    from fuzz.estimating import Estimating, Preprocessing
    from fuzz.scheduling import Recording, Scheduling
    from fuzz.training import Training

    found: tuple[Callable[[Source, Path], Machine], ...] = (
        Training,
        Estimating,
        Preprocessing,
        Scheduling,
        Recording,
    )
    return {made.__name__.lower(): made for made in found}  # type: ignore[attr-defined]


SHARES = ("training",) * 5 + ("estimating",) * 2 + ("preprocessing", "scheduling", "recording")


def run(name: str, data: bytes) -> int:
    """One sequence."""
    import numpy as np

    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("ignore")
        try:
            machine = machines()[name](Source(data), Path(folder))
        except EXPECTED:  # it was asked for what there is not
            return 0
        return machine.run()
