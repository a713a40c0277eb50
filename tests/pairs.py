"""Parametrizations that pair values where crossing them all finds no more.

A fault in what two values have in common, a rule in a dtype or a dtype on an instruction set, shows with any value
of a third. So each value of a list meets each of every other one in some test, not in all.
"""

from collections.abc import Sequence
from typing import Any

import pytest


def in_pairs(**values: Sequence[Any]) -> pytest.MarkDecorator:
    """As parametrize, by name: each value of the first beside each of every other.

    The others take turns at a pace each, so that they meet one another, with different values of the first.
    """
    first, *others = values.values()
    turns = max(map(len, others))
    rows = [
        (value, *(other[(turn + place * i) % len(other)] for place, other in enumerate(others)))
        for i, value in enumerate(first)
        for turn in range(turns)
    ]
    return pytest.mark.parametrize(
        tuple(values), rows, ids=["-".join(map(_label, row)) for row in rows]
    )


def _label(value: Any) -> str:
    return str(getattr(value, "name", getattr(value, "__name__", value)))
