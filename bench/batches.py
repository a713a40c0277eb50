"""The next batch in random order from an array in memory: of 128 rows of 784, less where the array is small."""

from collections.abc import Iterator

import numpy as np

import nnfast as nf
from bench.case import Array, Arrays, Case, Forms, Values

ROWS, COLUMNS = 128, 784
RNG = np.random.default_rng(0)


def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """The data, the order of an epoch, and how many rows of it have been taken."""
    rows = max(16, n // COLUMNS)
    x = rng.standard_normal((rows, max(1, n // rows)))
    return {"x": x, "order": rng.permutation(rows), "taken": np.zeros(1, np.int64)}


def size(x: Array) -> int:
    """Rows of a batch: an epoch has four at least."""
    return min(ROWS, len(x) // 4)


def plain(x: Array, order: Array, taken: Array) -> Array:
    """As loops in NumPy have it: an order for each epoch, and rows by a piece of it."""
    rows = size(x)
    if taken[0] + rows > len(x):
        RNG.shuffle(order)
        taken[0] = 0
    first = int(taken[0])
    taken[0] += rows
    return x[order[first : first + rows]]


def forms(x: Array, order: Array, taken: Array) -> Forms:
    epochs = nf.batches(x, batch_size=size(x), rng=0, drop_last=True)

    def endless() -> Iterator[Array]:
        while True:
            yield from epochs

    made = endless()
    return {"next": lambda: next(made)}


def accepts(arrays: Arrays, values: Values, batch: Array) -> str | None:
    """Whether it has so many of the rows."""
    x = arrays["x"]
    found = {row.tobytes() for row in batch}
    if len(found) < size(x) or not found <= {row.tobytes() for row in x}:
        return f"has {len(found)} rows for {size(x)} of x"
    return None


CASES = [Case("batches", inputs, plain, forms, accepts=accepts)]
