"""A line in the terminal that is written over."""

import os
from time import monotonic
from typing import TextIO

SECONDS = 0.25
"""Between two writings of the line."""


class Line:
    """The line, on a stream; nothing is written unless it is a terminal or `on` says so."""

    def __init__(self, stream: TextIO | None, on: bool | None) -> None:
        self._stream = stream if _wanted(stream, on) else None
        self._next = -float("inf")
        self._length = 0

    def due(self) -> bool:
        """Whether the line is shown, and due for an update."""
        return self._stream is not None and monotonic() >= self._next

    def write(self, text: str, *, end: str = "") -> None:
        """The text in place of what stands there; end="\\n" lets it stand for good."""
        if self._stream is None:
            return
        shown = text[: _columns(self._stream)]
        self._stream.write(f"\r{shown:{self._length}}{end}")
        self._stream.flush()
        self._length = 0 if end else len(shown)
        self._next = monotonic() + SECONDS


def _wanted(stream: TextIO | None, on: bool | None) -> bool:
    """Whether to show the line: by default in terminals and notebooks, not without a console."""
    if stream is None:
        return False
    return stream.isatty() or _is_of_notebook(stream) if on is None else on


def _is_of_notebook(stream: TextIO) -> bool:
    """Whether the stream is that of a Jupyter kernel, which overwrites a line as a terminal does."""
    return type(stream).__module__.partition(".")[0] == "ipykernel"


def _columns(stream: TextIO) -> int | None:
    """The width of a terminal, beyond which a line cannot be overwritten as a whole; None without a limit."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return None
    return columns - 1 if columns > 1 else None
