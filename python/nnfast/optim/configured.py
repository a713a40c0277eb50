"""Settings of an optimizer and of its groups, options, and the hyperparameters that follow from them at a step."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from operator import itemgetter
from typing import Any, ClassVar, cast

from numpy.typing import NDArray

from nnfast import _checks
from nnfast._load import _core
from nnfast._state import Resumable
from nnfast.optim import clipping, packed
from nnfast.optim.packed import StateDtype
from nnfast.optim.settings import (
    Convention,
    Options,
    check_setting,
    check_settings,
)

Values = tuple[float, ...]

holds_same = _core.holds_same


class Configured(Resumable):
    """Settings and options, and the hyperparameters of a step."""

    lr: float
    weight_decay: float
    convention: Convention
    params: list[NDArray[Any]]
    groups: list[dict[str, Any]]
    maximize: bool
    skip_nonfinite: bool
    ema_decay: float | None
    ema_bias_correction: bool

    # The defaults of each convention that has the rule.
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]]

    _setting_names: ClassVar[tuple[str, ...]]  # without lr

    _packs: ClassVar[bool] = False  # state in 16 or 8 bits

    _group_of: list[int] | None
    _rule_name: str
    _clip_value: float
    _clip_limit: float
    # Options that pickles of earlier versions lack.
    _clip_name: str | None = None
    _core: _core.Optimizer
    _clip_kind: int
    clip_adaptive_eps = 1e-3
    ema_overwrite_frequency: int | None = None
    _state_dtype: StateDtype = "float32"
    rounding_seed = 0

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "defaults"):  # a base of some rules has none
            cls._setting_names = tuple(name for name in cls.defaults["torch"] if name != "lr")

    # ---- what a rule defines ----

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        """Its name in cpp/kernels/optim.hpp, and the names of its state arrays."""
        raise NotImplementedError

    def _hyperparameters(self) -> tuple[str, ...]:
        """Names of what _values returns, as cpp/kernels/optim.hpp has them."""
        raise NotImplementedError

    def _values(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        """The rule's hyperparameters at step t; `product` is NAdam's before it."""
        raise NotImplementedError

    def _next_product(self, t: int, settings: Mapping[str, Any], product: float) -> float:
        """NAdam's product after step t."""
        return product

    def _first_value(self, settings: Mapping[str, Any], name: str) -> float:
        """What the state arrays of a name begin with."""
        return 0.0

    def _rule_scalars(self) -> dict[str, list[float]]:
        """Scalars of the rule's state, one for each group."""
        return {}

    # ---- what is set ----

    def _check_settings(self) -> None:
        self._values_of = itemgetter(*self._setting_names)
        self._checked = [self._settings(group) for group in self.groups or ({},)]
        self._seen = [self._values_of(settings) for settings in self._checked]

    def _any(self, name: str) -> bool:
        """Whether a setting is on, in any group."""
        return bool(getattr(self, name)) or any(group.get(name) for group in self.groups)

    def _same_for_all(self, name: str) -> None:
        """A ValueError if a group sets an option that decides which state arrays there are."""
        for i, group in enumerate(self.groups):
            if name in group:
                raise ValueError(f"params[{i}] must not set {name!r}, which is for all groups")

    def _of_param(self, i: int, name: str) -> Any:
        """A setting as it is for parameter i."""
        group = self.groups[self._group_of[i]] if self._group_of else {}
        return group.get(name, getattr(self, name))

    @property
    def state_dtype(self) -> StateDtype:
        """How the state is stored, which is decided when the optimizer is made."""
        return self._state_dtype

    @property
    def _is_packed(self) -> bool:
        return self._state_dtype != "float32"

    def _take_options(self, options: Options) -> None:
        unknown = options.keys() - Options.__annotations__.keys()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no argument {sorted(unknown)[0]!r}")
        self.maximize = bool(options.get("maximize", False))
        self.skip_nonfinite = bool(options.get("skip_nonfinite", False))
        corrected = options.get("ema_bias_correction")
        self.ema_bias_correction = (
            self.convention != "keras" if corrected is None else bool(corrected)
        )
        decay = options.get("ema_decay")
        self.ema_decay = None if decay is None else _checks.unit_interval(decay, "ema_decay")
        every = options.get("ema_overwrite_frequency")
        if every is not None:
            every = _checks.integer_from(every, 1, "ema_overwrite_frequency")
            if self.ema_decay is None:
                raise ValueError("ema_overwrite_frequency needs ema_decay")
        self.ema_overwrite_frequency = every
        limits = {
            name: _checks.positive(cast(Mapping[str, Any], options)[name], name)
            for name in clipping.OPTIONS
            if options.get(name) is not None
        }
        if len(limits) > 1:
            raise ValueError(f"{' and '.join(limits)} exclude each other")
        self._clip_value = limits.pop("clip_value", inf)
        self._clip_name, self._clip_limit = next(iter(limits.items()), (None, inf))
        self._clip_kind = clipping.kind_of(self._clip_name, self.convention)
        self.clip_adaptive_eps = _checks.not_negative(
            options.get("clip_adaptive_eps", 1e-3), "clip_adaptive_eps"
        )
        self._take_state_dtype(options)

    def _take_state_dtype(self, options: Options) -> None:
        found = _checks.one_of(
            options.get("state_dtype", "float32"), packed.STATE_DTYPES, "state_dtype"
        )
        self._state_dtype = cast(StateDtype, found)
        if self._is_packed and not self._packs:
            raise ValueError(
                f"state_dtype must be 'float32' for {type(self).__name__}, got {found!r}: "
                "SGD, RMSprop, Adam, AdamW and Lion have others"
            )
        seed = _checks.integer_from(options.get("rounding_seed", 0), 0, "rounding_seed")
        if seed >= 2**64:
            raise ValueError(f"rounding_seed must be in [0, 2**64), got {seed}")
        self.rounding_seed = seed

    def _check_group(self, group: Mapping[str, Any], name: str) -> None:
        """A group may set what the optimizer has as numbers and switches."""
        for key, value in group.items():
            if key not in self.defaults["torch"]:
                raise ValueError(f"{name} must not set {key!r}")
            check_setting(key, value, name)

    def _options_in_use(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        clip = self._clip_name
        found: dict[str, Any] = {} if clip is None else {clip: self._clip_limit}
        if self._clip_value != inf:
            found["clip_value"] = self._clip_value
        for name in ("maximize", "skip_nonfinite", "ema_decay"):
            if getattr(self, name):
                found[name] = getattr(self, name)
        if self.ema_overwrite_frequency is not None:
            found["ema_overwrite_frequency"] = self.ema_overwrite_frequency
        if self._is_packed:
            found["state_dtype"] = self._state_dtype
        if self.convention != "torch":
            found["convention"] = self.convention
        return found

    # ---- at a step ----

    def _rows_of_groups(self, t: int) -> tuple[Values, ...]:
        """The hyperparameters of each group."""
        counts = len(self.params), len(self.groups)
        if counts != (len(self._group_of or ()), len(self._checked)):
            raise ValueError("params and groups must be as many as when the optimizer was made")
        return tuple(
            self._group_hyperparameters(t, i, {**vars(self), **group} if group else vars(self))
            for i, group in enumerate(self.groups)
        )

    def _settings(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a group as Python's numbers, so that corrections are computed in double precision."""
        own = {**vars(self), **group}
        return check_settings({name: own[name] for name in self.defaults["torch"]})

    def _checked_again(self, given: Mapping[str, Any], index: int) -> dict[str, Any]:
        """The settings of a group after one was changed."""
        settings = self._settings(given)
        rule, _ = self._rule()
        if self._rule_name not in (rule, f"{rule}_momentum"):
            raise ValueError(
                "momentum, centered and amsgrad are chosen when the optimizer is made: "
                f"it is {self._rule_name}, and cannot become {rule}"
            )
        self._checked[index] = settings
        self._seen[index] = self._values_of(settings)
        return settings

    def _group_hyperparameters(self, t: int, index: int, given: Mapping[str, Any]) -> Values:
        """The hyperparameters of a group, of whose settings as they are given only lr is checked at every step."""
        settings = self._checked[index]
        seen = self._seen[index]
        # The same objects as a rule, which is soon seen; equal ones in a copy.
        if not holds_same(given, seen, self._setting_names) and self._values_of(given) != seen:
            settings = self._checked_again(given, index)
        lr = given["lr"]
        if type(lr) is not float or not lr >= 0:
            lr = _checks.not_negative(lr, "lr")
        carried = given.get("_carried")  # in vars: to look for it in the class takes longer
        return self._row(t, lr, settings, carried[index] if carried else 1.0)

    def _row(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        """The hyperparameters at step t of checked settings, as cpp/kernels/optim.hpp has them."""
        shared = self._core.shared_row(self.__dict__, lr, settings)
        return shared + self._values(t, lr, settings, product)
