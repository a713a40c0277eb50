"""One call, and what has to hold after it."""

import gc
import inspect
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import nnfast as nf
from fuzz.arguments import WRITTEN, argument
from fuzz.arrays import Frame
from fuzz.memory import Memory
from fuzz.source import Source
from fuzz.strangers import Refused
from fuzz.targets import Target, signature
from nnfast._testing import forced

ALLOWED = (
    TypeError,
    ValueError,
    MemoryError,
    OverflowError,
    AttributeError,
    IndexError,
    KeyError,
    Refused,
)
ISAS = nf.cpu_info()["supported"]
# Of these there may be one for the whole process.
SHARED = (str, bytes, int, float, complex, type, type(len), type(None), tuple, np.dtype)


class Violation(AssertionError):
    """Something happened that must not."""


class Caller:
    """Makes calls in a memory of its own, and counts those that returned."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.calls = self.returned = 0

    def run(self, target: Target, data: bytes) -> None:
        """A call, or an object's construction and a few calls of its methods.

        Raises
        ------
        Violation
            If an exception is of an unexpected kind, a byte changed that must not, or an argument is held on to.
        """
        source = Source(data)
        self.memory.fill(source.below(10))
        frame = Frame.grown(target.name, source, self.memory, huge=target.huge)
        isa = ISAS[-1 - source.below(len(ISAS))]
        threads, grain = source.pick(((1, 0),) * 14 + ((2, 1), (3, 1)))
        if any(parameter.name == "where" for parameter in target.parameters):
            threads = 1  # each run of a mask would be shared by itself, thousands of them
        with (
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
            forced(isa=isa, threads=threads, grain=grain),
        ):
            warnings.simplefilter("ignore")
            if isinstance(target.function, np.ufunc) and target.methods:
                self._call(frame, _way(source, target), target.parameters, target.name)
            else:
                made = self._call(frame, target.function, target.parameters, target.name)
                if target.methods and made is not None:
                    self._methods(frame, made, target)

    def _methods(self, frame: Frame, made: Any, target: Target) -> None:
        for _ in range(1 + frame.source.below(4)):
            name = frame.source.pick(target.methods)
            method = getattr(made, name)
            self._call(frame, method, signature(method), f"{target.name}.{name}", keep=made)

    def _call(
        self,
        frame: Frame,
        function: Callable[..., Any],
        parameters: tuple[inspect.Parameter, ...],
        name: str,
        keep: Any = None,
    ) -> Any:
        try:
            args, kwargs = _grown(frame, parameters, name, self_writes=keep is not None)
        except ALLOWED:  # of an object that does not even let itself be made
            return None
        given = [*args, *kwargs.values()]
        given = [value for value in given if not isinstance(value, SHARED)]
        counts = None if keep is not None else [sys.getrefcount(value) for value in given]
        self.memory.remember()
        self.calls += 1
        result, failed = None, False
        try:
            result = function(*args, **kwargs)
            self.returned += 1
        except ALLOWED:
            failed = True
        except BaseException as error:
            raise Violation(f"{name}: {type(error).__name__}: {error}") from error
        if changed := self.memory.changed(failed=failed):
            what = "after an error" if failed else "outside of what is written"
            raise Violation(
                f"{name}: {len(changed)} bytes changed {what}, the first at {changed[0]}"
            )
        if inspect.isclass(function) or keep is not None:
            return result
        del result
        if counts is not None:
            self._check_counts(counts, given, name)
        return None

    def _check_counts(self, counts: list[int], given: list[Any], name: str) -> None:
        if [sys.getrefcount(value) for value in given] == counts:
            return
        gc.collect()
        after = [sys.getrefcount(value) for value in given]
        if any(new > old for new, old in zip(after, counts, strict=True)):
            raise Violation(f"{name}: arguments are held on to: {counts} became {after}")


def _way(source: Source, target: Target) -> Callable[..., Any]:
    """The ufunc, or one of its methods."""
    way = source.pick(target.methods)
    return target.function if way == "__call__" else getattr(target.function, way)


def _grown(
    frame: Frame, parameters: tuple[inspect.Parameter, ...], name: str, *, self_writes: bool
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    in_place = name.endswith("_")
    for parameter in parameters:
        # Left out, rng= is fresh entropy, and no call is like another.
        optional = parameter.default is not parameter.empty and parameter.name != "rng"
        if optional and frame.source.below(3) < (2 if parameter.name != "out" else 1):
            continue
        writes = parameter.name in WRITTEN or (in_place and not args and not kwargs)
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            args += [argument(frame, parameter, writes) for _ in range(frame.source.below(4))]
            continue
        value = argument(frame, parameter, writes)
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            args.append(value)
        else:
            kwargs[parameter.name] = value
    return args, kwargs
