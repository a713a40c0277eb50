"""Clusters of separate processes for the tests on Dask, which are shut down whatever happens."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster


@contextmanager
def cluster(workers: int, **options: Any) -> Iterator[Client]:
    """A client of as many workers of one thread, each a process."""
    given: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": ":0"} | options
    with LocalCluster(n_workers=workers, processes=True, **given) as local, Client(local) as client:
        yield client


def pids(client: Client) -> dict[str, int]:
    """The processes of the workers, by address."""
    found: dict[str, int] = client.run(os.getpid)
    return found


def kill(pid: int) -> None:
    """As the kernel does where memory is short: nothing in the process knows."""
    os.kill(pid, signal.SIGKILL)
