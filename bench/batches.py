"""The next batch of 128 rows of 784, in random order, from an array in memory."""

from collections.abc import Iterator

import numpy as np

import nnfast as nf
from bench.case import Array, Arrays, Case, Forms, Values

ROWS, COLUMNS = 128, 784


def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """The data, and the indices of a batch."""
    rows = max(1, n // COLUMNS)
    return {"x": rng.standard_normal((rows, COLUMNS)), "index": rng.permutation(rows)[:ROWS]}


def forms(x: Array, index: Array) -> Forms:
    epochs = nf.batches(x, batch_size=len(index), rng=0, drop_last=True)

    def endless() -> Iterator[Array]:
        while True:
            yield from epochs

    made = endless()
    return {"next": lambda: next(made)}


def accepts(arrays: Arrays, values: Values, batch: Array) -> str | None:
    """Whether it has so many of the rows."""
    x, index = arrays["x"], arrays["index"]
    found = {row.tobytes() for row in batch}
    if len(found) < len(index) or not found <= {row.tobytes() for row in x}:
        return f"has {len(found)} rows for {len(index)} of x"
    return None


CASES = [Case("batches", inputs, lambda x, index: x[index], forms, accepts=accepts)]
