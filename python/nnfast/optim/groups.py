"""Parameters as users hand them over: sequences, mappings, and groups that have settings of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

from numpy.typing import NDArray

from nnfast import _array_lists
from nnfast._array_lists import Arrays
from nnfast._state import refuse_copies

Params = Arrays | Sequence[Mapping[str, Any]]


def flattened(
    params: Params,
) -> tuple[list[NDArray[Any]], list[str] | None, list[int] | None, list[dict[str, Any]]]:
    """The arrays, their names, the group of each, and what groups set."""
    refuse_copies(params, "params")
    given = groups_of(params)
    if given is None:
        plain = cast(Arrays, params)
        return _array_lists.values(plain, "params"), _array_lists.names_of(plain), None, []
    arrays: list[NDArray[Any]] = []
    names: list[str] = []
    group_of: list[int] = []
    groups = []
    for i, group in enumerate(given):
        if "params" not in group:
            raise ValueError(f'params[{i}] must have "params"')
        refuse_copies(group["params"], f"params[{i}]['params']")
        found = _array_lists.values(group["params"], f"params[{i}]['params']")
        arrays += found
        names += _array_lists.names_of(group["params"]) or []
        group_of += [i] * len(found)
        groups.append({key: value for key, value in group.items() if key != "params"})
    if names and len(names) != len(arrays):
        raise ValueError("params must have names in all groups, or in none")
    if len(set(names)) != len(names):
        raise ValueError("params must have names that differ from group to group")
    return arrays, names or None, group_of, groups


def grouped(
    params: Arrays, groups: Sequence[Mapping[str, Any]], counts: Sequence[int]
) -> list[dict[str, Any]]:
    """A plain sequence or mapping of parameters in groups of so many."""
    arrays, names = _array_lists.values(params, "params"), _array_lists.names_of(params)
    if len(arrays) != sum(counts):
        raise ValueError(
            f"params must have {sum(counts)} arrays, as the groups of the optimizer do, or be groups, "
            f"got {len(arrays)}"
        )
    ends = list(accumulate(counts))
    parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    return [
        {
            **group,
            "params": dict(zip(names[part], arrays[part], strict=True)) if names else arrays[part],
        }
        for group, part in zip(groups, parts, strict=True)
    ]


def require_distinct(names: Sequence[Any], of: str = "params") -> None:
    """A ValueError if names are equal as text, as which they are saved."""
    if len(set(map(str, names))) != len(names):
        raise ValueError(f"{of} must have names that differ as text")


def groups_of(params: Params) -> Sequence[Mapping[str, Any]] | None:
    """params, if it is a sequence of groups."""
    if isinstance(params, memoryview) or not isinstance(params, Sequence):
        return None
    if params and all(isinstance(group, Mapping) for group in params):
        return cast(Sequence[Mapping[str, Any]], params)
    return None
