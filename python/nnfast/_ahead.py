"""A thread that makes the next item while the last one is used."""

import atexit
import os
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any

from nnfast.runtime import get_num_threads, num_threads

# What the garbage collector ends may hold a lock that the thread needs to finish its item.
_LONGEST_WAIT = 1.0


class _Maker(threading.Thread):
    """Calls make(k) for each k that it is asked for; it holds nothing of who asks."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        super().__init__(name="nnfast.batches", daemon=True)
        self.asked: SimpleQueue[int | None] = SimpleQueue()
        self.made: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._make = make
        # np.errstate and nnfast.num_threads hold for the thread that asks.
        self._context, self._threads = copy_context(), get_num_threads()

    def run(self) -> None:
        with num_threads(self._threads):
            self._context.run(self._answer)

    def stop(self, timeout: float | None = None) -> None:
        """End the thread after the item that it is at, and wait for that."""
        self.asked.put(None)
        if self is not threading.current_thread():
            self.join(timeout)

    def _answer(self) -> None:
        while (k := self.asked.get()) is not None:
            try:
                self.made.put((self._make(k), None))
            except BaseException as error:
                self.made.put((None, error))
                return


def made_ahead(make: Callable[[int], Any], count: int) -> Iterator[Any]:
    """make(0), make(1), ..., make(count - 1), each made by a thread from when the one before is asked for.

    An error appears where its item would, and is the end. A forked child makes the rest by itself.
    """
    maker = _Maker(make)
    try:
        maker.start()
    except RuntimeError:  # no more threads are to be had
        yield from map(make, range(count))
        return
    parent = os.getpid()
    maker.asked.put(0 if count > 0 else None)
    try:
        for k in range(count):
            if os.getpid() != parent:
                yield make(k)
                continue
            maker.asked.put(k + 1 if k + 1 < count else None)
            made, error = maker.made.get()
            if error is not None:
                raise error
            yield made
    finally:
        maker.stop(_LONGEST_WAIT)


@atexit.register
def _stop_all() -> None:
    """End the threads of abandoned iterators, which must not run while the interpreter is taken apart."""
    makers = [thread for thread in threading.enumerate() if isinstance(thread, _Maker)]
    for maker in makers:
        maker.stop()
