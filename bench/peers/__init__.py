"""Other libraries, each in its best form. A module here is one peer:

NAME, VERSION         as the report shows them
set_threads(n)        False where the peer cannot change its threads in a running process
OPERATIONS            by a case's name: (arrays, values) -> forms, of which the fastest counts

Arrays that candidates share are only read; what a form writes or updates it has made for itself.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Protocol

from bench.case import Arrays, Forms

Operation = Callable[[Arrays, dict[str, float]], Forms]

PEERS = ("pytorch", "xla", "numba_", "numexpr_", "onnx_", "scipy_", "thinc_")


class Peer(Protocol):
    """What a module here has."""

    NAME: str
    VERSION: str
    OPERATIONS: dict[str, Operation]

    def set_threads(self, n: int) -> bool:
        """Let the peer's next calls use n threads."""


def names() -> list[str]:
    """What --peers takes."""
    return [module.rstrip("_") for module in PEERS]


def load(expected: Iterable[str]) -> list[Peer]:
    """The peers that are installed; a line about each that is not."""
    peers = []
    for module in PEERS:
        if module.rstrip("_") not in expected:
            continue
        try:
            peers.append(import_module(f"bench.peers.{module}"))
        except ImportError as error:
            print(f"left out: {module.rstrip('_')} ({error})")
    return peers
