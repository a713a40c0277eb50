"""The actors in the workers of a Dask cluster: started, called, and dropped where a worker is lost."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from nnfast.dask._peer import Lost, Peer
from nnfast.dask._trainer import Failed

# After so many attempts at one thing that each lost a worker, the training itself is what kills them.
MOST_ATTEMPTS = 5
# Seconds to wait for a worker where there is none.
_PATIENCE = 300
# Seconds after which the scheduler is asked whether the workers that do not answer are still there: one may wait for
# another, and does not see at once that it is lost.
_POLL = 0.5


class WorkersLost(Exception):
    """Some workers do not answer any more."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__("workers were lost")
        self.names = set(names)


class Workers:
    """An actor in every worker, by the worker's address."""

    def __init__(self, client: Any, run: str) -> None:
        self._client, self._run = client, run
        self._futures: dict[str, Any] = {}  # while they exist, Dask keeps the actors
        self._actors: dict[str, Any] = {}

    def __contains__(self, name: str | None) -> bool:
        return name in self._actors

    @property
    def keys(self) -> dict[str, str]:
        """The key of each actor."""
        return {name: future.key for name, future in self._futures.items()}

    def add(self) -> bool:
        """Start actors in the workers that have none yet; returns whether there were such workers."""
        before = set(self._actors)
        for _ in range(MOST_ATTEMPTS):
            self._client.wait_for_workers(1, timeout=_PATIENCE)
            self._start([name for name in self._client.nthreads() if name not in self])
            if self._actors:
                return set(self._actors) != before
        raise RuntimeError(
            f"no worker lived long enough to start a trainer in it, in {MOST_ATTEMPTS} attempts"
        )

    def drop(self, names: Iterable[str]) -> None:
        """Forget the actors of these workers."""
        for name in names:
            self._actors.pop(name, None)
            self._futures.pop(name, None)

    def call(self, method: str, arguments: dict[str, tuple[Any, ...]]) -> list[Any]:
        """All results of a method, when all are there.

        Raises
        ------
        WorkersLost
            If there are workers that gave none.
        """
        pending = {name: self._called(name, method, args) for name, args in arguments.items()}
        results, lost = [], []
        for name, future in pending.items():
            try:
                results.append(self._result(future))
            except WorkersLost:
                raise
            except Exception:  # an actor's own errors do not raise here
                lost.append(name)
        if lost:
            raise WorkersLost(lost)
        for value in results:
            if isinstance(value, Failed):
                raise value.error
            if isinstance(value, Lost):
                raise WorkersLost(value.names)
        return results

    def close(self) -> None:
        """Remove the files of all workers."""
        with suppress(Exception):  # the files of a lost worker are gone with it
            alive = self._client.nthreads()
            self.call("close", {name: () for name in self._actors if name in alive})
        self.drop(list(self._actors))

    def _start(self, names: list[str]) -> None:
        """Start actors in these workers, without those that are lost meanwhile."""
        from distributed import wait

        waiting = {
            name: self._client.submit(
                Peer,
                self._run,
                workers=[name],
                allow_other_workers=False,
                actor=True,
                pure=False,
                key=f"trainer-{uuid4().hex}",
            )
            for name in names
        }
        while waiting:
            with suppress(TimeoutError):
                wait(list(waiting.values()), timeout=_POLL)
            alive = set(self._client.nthreads())
            for name, future in list(waiting.items()):
                if future.status == "finished":
                    with suppress(Exception):  # it was lost this moment
                        self._actors[name] = future.result()
                        self._futures[name] = future
                if future.status != "pending" or name not in alive:
                    del waiting[name]

    def _called(self, name: str, method: str, args: tuple[Any, ...]) -> Any:
        """The future of a call; None where the actor is known to be lost."""
        with suppress(Exception):
            return getattr(self._actors[name], method)(*args)
        return None

    def _result(self, future: Any) -> Any:
        if future is None:
            raise OSError("the worker is lost")
        while True:
            try:
                return future.result(timeout=_POLL)
            except TimeoutError:
                if future.done():
                    raise
            if gone := set(self._actors) - set(self._client.nthreads()):
                raise WorkersLost(gone)
