"""Choices out of bytes. Where the bytes end every choice is the first one, the plainest."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Source:
    """A string of bytes that is read once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, n: int) -> int:
        """A number in [0, n), for an n of up to 65,536."""
        width = 1 if n <= 256 else 2
        taken = self._data[self._at : self._at + width]
        self._at += width
        return int.from_bytes(taken, "little") % n

    def pick(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.below(len(choices))]

    def rarely(self, n: int) -> bool:
        """True once in n."""
        return self.below(n) == n - 1
