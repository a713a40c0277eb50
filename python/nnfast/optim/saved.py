"""The state of an optimizer as it is saved and restored: arrays, scalars, and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nnfast._state import by_name, count_in, share_in
from nnfast.optim import accumulation, clipping
from nnfast.optim.accumulation import Accumulated
from nnfast.optim.configured import Configured
from nnfast.optim.settings import (
    OPTIONS_SAVED,
    OPTIONS_WITH_VALUES,
    SWITCHES_OF_ALL,
    Options,
    check_saved,
    check_setting,
    settings_of,
)


class Saved(Configured):
    """State and settings by the names under which they are saved."""

    _kind = "optimizer"
    _optional = frozenset({"skipped_count"})

    state: dict[str, list[NDArray[Any]]]
    ema: list[NDArray[Any]] | None
    step_count: int
    skipped_count: int

    _names: list[str] | None
    _state_names: tuple[str, ...]
    _master: list[NDArray[Any] | None] | None
    _ema_weight: float
    _accumulated: Accumulated | None = None

    def _mark(self) -> None:
        """Note whether a step needs more than a plain one."""
        raise NotImplementedError

    def _states(self) -> list[list[NDArray[Any]]]:
        """The state arrays by name, as a dict that the caller made may have another order."""
        try:
            # A list: of tuples that grow while they are made CPython keeps thousands for later.
            return [self.state[name] for name in self._state_names]
        except KeyError as error:
            raise ValueError(f"state must have {error}") from None

    def _state_arrays(self) -> dict[str, NDArray[Any]]:
        states = dict(zip(self._state_names, self._states(), strict=True))
        return by_name({**states, "ema": self.ema, "master": self._master}, self._names)

    def _labels(self) -> list[str]:
        """What states call the parameters."""
        return [*map(str, self._names or range(len(self.params)))]

    def _pending_arrays(self) -> dict[str, NDArray[Any]]:
        return self._accumulated.arrays(self._labels()) if self._accumulated is not None else {}

    def _check_state(self, given: Mapping[str, NDArray[Any]]) -> None:
        super()._check_state({n: a for n, a in given.items() if not accumulation.is_of(n)})
        accumulation.restored(given, self._labels(), self.params)

    def _take_pending(self, given: Mapping[str, NDArray[Any]]) -> None:
        found = accumulation.restored(given, self._labels(), self.params)
        self._accumulated = found if found else None
        self._mark()

    def _scalars(self) -> dict[str, NDArray[Any]]:
        found: dict[str, Any] = {"step_count": self.step_count, **self._rule_scalars()}
        found["skipped_count"] = self.skipped_count
        if self.ema_decay is not None:
            found["ema_weight"] = self._ema_weight
        return {name: np.array(value) for name, value in found.items()}

    def _check_scalars(self, given: dict[str, Any]) -> None:
        for name, value in given.items():
            if name.endswith("_count"):
                count_in(value, name)
            else:
                for each in value if isinstance(value, list) else [value]:
                    share_in(each, name)

    def _take_scalars(self, given: dict[str, Any]) -> None:
        self.step_count = given["step_count"]
        self.skipped_count = given.get("skipped_count", self.skipped_count)
        self._ema_weight = given.get("ema_weight", self._ema_weight)

    # ---- settings in a state ----

    def _saved_settings(self) -> dict[str, Any]:
        """The present settings; where one is invalid, its last valid value."""
        groups = self.groups or [{}]
        checked = [
            {name: self._valid(i, name, own) for name in self.defaults["torch"]}
            for i, own in enumerate(groups)
        ]
        top = {name: self._valid(0, name, {}) for name in self.defaults["torch"]}
        found = top | {name: getattr(self, name) for name in OPTIONS_SAVED} | self._clips()
        found["state_dtype"] = self._state_dtype
        if self._group_of is not None:
            found["groups"] = [
                {"params": self._group_of.count(i), **{name: checked[i][name] for name in group}}
                for i, group in enumerate(self.groups)
            ]
        return found

    def _valid(self, index: int, name: str, group: Mapping[str, Any]) -> Any:
        try:
            return check_setting(name, group.get(name, getattr(self, name)))
        except (TypeError, ValueError):
            return self._checked[index][name]

    def _checked_settings(self, given: dict[str, Any]) -> Any:
        # Tried out on a copy, so that an error changes nothing.
        tried = object.__new__(type(self))
        vars(tried).update(vars(self))
        tried._take_groups(given.pop("groups", None), bool(given))
        given = {**self._saved_settings(), **given}
        given.pop("groups", None)
        for name, value in given.items():
            if name in self.defaults["torch"]:
                setattr(tried, name, check_saved(name, value))
            elif name not in Options.__annotations__:
                raise ValueError(f"state['settings'] has {name!r}")
        tried.convention = given["convention"]
        settings_of(type(self), tried.convention, {})
        switches = {name: check_saved(name, given[name]) for name in SWITCHES_OF_ALL}
        with_values = (*clipping.OPTIONS, *OPTIONS_WITH_VALUES, "state_dtype")
        tried._take_options(cast(Options, switches | {name: given[name] for name in with_values}))
        if tried._state_dtype != self._state_dtype:
            raise ValueError(
                f"state['settings'] must have state_dtype {self._state_dtype!r}, "
                f"got {tried._state_dtype!r}"
            )
        if (tried.ema_decay is None) != (self.ema_decay is None):
            raise ValueError(f"state['settings'] must have ema_decay, got {tried.ema_decay}")
        rule, _ = tried._rule()
        if self._rule_name not in (rule, f"{rule}_momentum"):
            raise ValueError(f"state['settings'] must be those of {self._rule_name}, got {rule}")
        return tried

    def _take_settings(self, checked: Any) -> None:
        own = (*self.defaults["torch"], *OPTIONS_SAVED)
        for name in (*own, "_clip_value", "_clip_name", "_clip_kind", "_clip_limit"):
            setattr(self, name, getattr(checked, name))
        for group, saved in zip(self.groups, checked.groups, strict=True):
            group.clear()
            group.update(saved)
        self._check_settings()

    def _clips(self) -> dict[str, float | None]:
        """The clipping limits, by their arguments."""
        found: dict[str, float | None] = dict.fromkeys(clipping.OPTIONS)
        if self._clip_value != inf:
            found["clip_value"] = self._clip_value
        if self._clip_name is not None:
            found[self._clip_name] = self._clip_limit
        return found

    def _take_groups(self, given: Any, required: bool) -> None:
        """Set the settings of the groups, in new dicts."""
        of = self._group_of
        counts = None if of is None else [of.count(i) for i in range(len(self.groups))]
        if given is None and not required:
            return
        if given is not None and not (
            isinstance(given, list) and all(isinstance(group, dict) for group in given)
        ):
            raise TypeError(f"state['settings']: groups must be a list of objects, got {given!r}")
        groups = None if given is None else [dict(group) for group in given]
        found = None if groups is None else [group.pop("params", None) for group in groups]
        if found != counts:
            raise ValueError(
                "state must have settings for as many groups of as many parameters as params has, "
                f"{counts}, got {found}; keep_settings=True leaves all settings as they are"
            )
        for i, group in enumerate(groups or []):
            for name, value in group.items():
                if name not in self.defaults["torch"]:
                    raise ValueError(f"state['settings']: groups[{i}] has {name!r}")
                group[name] = check_saved(name, value)
        self.groups = groups or []
