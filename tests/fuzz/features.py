"""What an input reaches: lines of the package, and the ways in which calls end."""

import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from fuzz.call import Caller
from fuzz.targets import Target

_caller = Caller()


def lines(call: Callable[..., Any], *arguments: Any) -> set[object]:
    """Lines of nnfast that a call reaches."""
    found: set[object] = set()

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            found.add((frame.f_code.co_filename, frame.f_lineno))
        return line

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return line if "/nnfast/" in frame.f_code.co_filename else None

    sys.settrace(enter)
    try:
        call(*arguments)
    finally:
        sys.settrace(None)
    return found


def features(target: Target, data: bytes) -> set[object]:
    """Lines of nnfast in this function's calls, and each error's text without what it got."""
    found: set[object] = set()

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "exception" and argument[0] is not StopIteration:
            text = re.sub(r"got .*|\(.*?\)|[0-9]+", "", str(argument[1]))[:100]
            found.add((target.name, argument[0].__name__, text))
        elif event == "line" and "/nnfast/" in frame.f_code.co_filename:
            found.add((frame.f_code.co_filename, frame.f_lineno))
        return line

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        path = frame.f_code.co_filename
        if "/nnfast/" in path:
            return line
        return line if path.endswith("fuzz/call.py") and frame.f_code.co_name == "_call" else None

    returned = _caller.returned
    sys.settrace(enter)
    try:
        _caller.run(target, data)
    finally:
        sys.settrace(None)
    found.add((target.name, "returned", min(_caller.returned - returned, 3)))
    return found
