"""The base of all optimizers: parameters, state arrays, and steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from nnfast import _array_lists, _arrays, _checks
from nnfast._array_lists import Arrays
from nnfast._load import _core
from nnfast._state import kept_dtype, refuse_copies
from nnfast.optim import clipping, packed
from nnfast.optim.accumulation import Accumulated
from nnfast.optim.clipping import Clip
from nnfast.optim.configured import Values, holds_same
from nnfast.optim.gradients import Grads, TakesGradients, some
from nnfast.optim.groups import Params, flattened, grouped, groups_of, require_distinct
from nnfast.optim.masters import master_of, needs_master, refreshed
from nnfast.optim.rows import Rows, Written, taken
from nnfast.optim.settings import SHARED_HYPERPARAMETERS, Options, settings_of
from nnfast.optim.stats import SUMS, StepStats, stats_of


class Optimizer(TakesGradients):
    """The base of all rules."""

    # Whether a step needs more than _core's plain_step knows: groups, parameters that are still to come, or Rows that
    # were accumulated.
    _special: bool
    _rows_core: _core.Optimizer | None = None
    # What a rule carries from step to step, one for each group: NAdam's product, the weights of schedule-free ones.
    _carried: Sequence[Any] = ()
    # The caller's dict or list of parameters, and what was in it: that it was changed since is an error.
    _given: tuple[Any, list[NDArray[Any]]] | None = None

    def __init__(self, params: Params, arguments: Mapping[str, Any], options: Options) -> None:
        # The arguments are a rule's locals(), in which settings are found by their names.
        self._unbound = False  # found sooner than in the class
        self.convention = options.get("convention", "torch")
        self._take_options(options)
        decoupled = {"decoupled_weight_decay": options.get("decoupled_weight_decay")}
        given = {name: {**arguments, **decoupled}.get(name) for name in self.defaults["torch"]}
        vars(self).update(settings_of(type(self), self.convention, given))
        self.params, self._names, self._group_of, self.groups = flattened(params)
        require_distinct(self._names or [])
        self._remember(params)
        self._mark()
        for i, group in enumerate(self.groups):
            self._check_group(group, f"params[{i}]")
        self._rule_name, self._state_names = self._rule()
        self._check_settings()
        self._make_state()

    def _make_state(self) -> None:
        self.step_count = 0
        self.skipped_count = 0
        self._core = self._new_core()
        self._check_kinds()
        self._master: list[NDArray[Any] | None] | None = None
        if any(needs_master(p) for p in self.params):
            self._master = [master_of(p) for p in self.params]
        of = self._group_of or [0] * len(self.params)
        self.state = {
            name: [
                self._first_state(p, self._checked[i], name)
                for p, i in zip(self.params, of, strict=True)
            ]
            for name in self._state_names
        }
        self.ema: list[NDArray[Any]] | None = None
        self._ema_weight = 1.0  # of what the average began with
        if self.ema_decay is not None:
            self.ema = [self._ema_start(p) for p in self.params]
        self._core.check(self.params, self.state, self.ema, self._master, self._names, None)

    def _new_core(self) -> _core.Optimizer:
        hyperparameters = [*SHARED_HYPERPARAMETERS, *self._hyperparameters()]
        return _core.Optimizer(
            self._rule_name,
            list(self._state_names),
            hyperparameters,
            self._setting_names,
            self._is_packed,
        )

    def __getstate__(self) -> dict[str, Any]:
        # For copies and pickles; the core is made again by __setstate__, and the caller's container is the caller's.
        left_out = "_core", "_rows_core", "_given"
        return {k: value for k, value in super().__getstate__().items() if k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_made" in vars(self):  # its name in version 0.1
            self._rule_name = vars(self).pop("_made")
        if "_mu_product" in vars(self):  # its name in version 0.1
            self._carried = vars(self).pop("_mu_product")
        if "_clip_name" not in vars(self):  # of version 0.1, which had two kinds
            self._clip_name = (None, "clip_norm", "clip_global_norm")[self._clip_kind]
            self._clip_kind = clipping.kind_of(self._clip_name, self.convention)
        missing = self.defaults["torch"].keys() - vars(self).keys()  # of an earlier version
        if missing:
            vars(self).update({name: self.defaults["torch"][name] for name in missing})
            self._check_settings()
        self._mark()
        self._core = self._new_core()

    def clone(self, params: Params | None = None) -> Self:
        """Make an optimizer with the same rule, settings and options, for other parameters: its state is new.

        Parameters
        ----------
        params : sequence or mapping of ndarrays, or sequence of groups, optional
            As the class takes them, of any shapes. A plain sequence or mapping of as many arrays as this optimizer's
            is put into its groups. If None, the clone takes the parameters that are handed to its first step.

        Returns
        -------
        clone : optimizer
            At step 0; later changes of either one's settings leave the other as it is. ``copy.deepcopy`` copies
            parameters and state, too.

        Raises
        ------
        TypeError, ValueError
            As the class, or if there are groups and params has another number of arrays.

        Examples
        --------
        >>> import numpy as np, nnfast as nf
        >>> opt = nf.optim.Adam([], lr=0.1)
        >>> networks = [{"w": np.ones(2)}, {"w": np.ones((3, 4)), "b": np.zeros(4)}]
        >>> optimizers = [opt.clone(params) for params in networks]
        >>> [len(each.params) for each in optimizers]
        [1, 2]
        """
        raw = {name: getattr(self, name) for name in self.defaults["torch"]}
        given = self._saved_settings() | raw
        groups = given.pop("groups", None)
        if params is None:
            made = type(self)([], **given)
            made._unbound = True
            made.groups, made._group_of = [dict(group) for group in self.groups], self._group_of
            made._mark()
            made._check_settings()
            return made
        refuse_copies(params, "params")
        if groups is not None and groups_of(params) is None:
            counts = [group["params"] for group in groups]
            params = grouped(cast(Arrays, params), self.groups, counts)
        return type(self)(params, **given)

    def step(
        self,
        grads: Grads | None = None,
        *,
        params: Arrays | None = None,
        stats: bool = False,
        grad_scale: float = 1.0,
    ) -> StepStats | None:
        """Update the parameters with their gradients.

        Parameters
        ----------
        grads : sequence or mapping of ndarrays, optional
            As params were given: as many, in the same order or under the same names (of groups, in their order),
            of the same shapes and dtypes. They are only read: NumPy scalars serve parameters of shape (), numbers and
            lists of numbers take the parameter's dtype. None leaves its parameter, with its state, as it is. SGD,
            Adagrad, Adam and AdamW take Rows for the gradient of a table. May be left out after accumulate.
        params : sequence or mapping of ndarrays, optional
            The arrays to update, all of them, as params were given: from now on they are ``opt.params``. For code that
            hands over its parameters at every step, or may have put others in their place. They may be other arrays of
            the same shapes and dtypes; which network they belong to cannot be told, so networks of equal shapes need
            an optimizer each: see clone. None updates the arrays of the last step.
        stats : bool, default False
            Whether to return norms and counts, which the same pass finds.
        grad_scale : float, default 1
            Positive and finite. Multiplies the gradients, and what was accumulated, before they are clipped, in the
            same pass: 1 over the number of parts that were accumulated, or over the scale of the loss. In float32 for
            float16.

        Returns
        -------
        stats : StepStats or None

        Raises
        ------
        TypeError
            If a gradient is not an array_like of its parameter's dtype, or params are no arrays of the dtypes they had.
        ValueError
            If shapes, counts or names differ, a parameter has become read-only, arrays share memory, grad_scale is not
            positive and finite, there are neither gradients nor accumulated ones, or a clone without parameters is not
            given any. Nothing is changed then.
        IndexError
            If Rows name a row that there is not. Nothing is changed then.
        """
        if params is None and not stats:
            if self._core.plain_step(self.__dict__, grads, self._row, grad_scale):
                return None
            of = self.__dict__, grads, self._row, grad_scale
            if self._takes_rows and self._core.rows_step(*of, Rows):
                return None
        scale = _checks.positive(_checks.finite(grad_scale, "grad_scale"), "grad_scale")
        if params is not None or self._unbound:
            return self._step_of(params, grads, stats, scale)
        if self._given is not None:
            there, held = self._given
            if not holds_same(there, held, self._names):
                self._check_given(there, held)
        pending = self._accumulated is not None and bool(self._accumulated)
        if grads is None and not pending:
            raise ValueError("grads must be given where nothing was accumulated")
        t = self.step_count + 1
        if pending or self._clip_kind == Clip.ADAPTIVE:
            terms = [None] * len(self.params) if grads is None else self._values_like(grads)
            done, sums = self._run_given(t, terms, stats, scale)
        else:
            given: Any = grads  # Rows among them are none of the arrays that it is declared to take
            arrays = _array_lists.values_like(given, self._names, "grads")
            if Rows in map(type, arrays):
                done, sums = self._run_given(t, arrays, stats, scale)
            else:
                try:
                    done, sums = self._run(t, arrays, stats, scale)
                except TypeError:  # nothing has been written
                    if not any(grad is None or isinstance(grad, Rows) for grad in arrays):
                        raise
                    done, sums = self._run_given(t, arrays, stats, scale)
        if pending and self._accumulated is not None:
            self._accumulated.clear()
            self._mark()
        if done:
            self._done(t)
        else:
            self.skipped_count += 1
        return stats_of(sums, not done) if sums is not None else None

    def _step_of(
        self, params: Arrays | None, grads: Grads | None, stats: bool, scale: float
    ) -> StepStats | None:
        """A step of parameters that are handed over, which stay where it fails."""
        if params is None:
            raise ValueError("params must be given to the first step of a clone without parameters")
        if self._unbound:
            made = self.clone(params)
            found = made.step(grads, stats=stats, grad_scale=scale)
            vars(self).update(vars(made), _unbound=False)
            self._mark()
            return found
        before = self.params, self._given
        self.params = self._handed(params)
        self._remember(params)
        try:
            return self.step(grads, stats=stats, grad_scale=scale)
        except BaseException:
            self.params, self._given = before
            raise

    def _mark(self) -> None:
        grouped, pending = self._group_of is not None, self._accumulated
        waits = pending is not None and pending.any_rows
        self._special = self._unbound or grouped or waits or self._is_packed

    def _remember(self, params: Params) -> None:
        seen = isinstance(params, dict | list) and not self.groups
        self._given = (params, list(self.params)) if seen else None

    def _check_given(self, given: Any, arrays: list[NDArray[Any]]) -> None:
        """A ValueError if the caller's dict or list has another array by now, which this step would not reach."""
        for key, array in zip(self._names or range(len(given)), arrays, strict=False):
            now = given.get(key) if self._names else given[key]
            # A scalar, too: NumPy makes one of an array of shape ().
            if now is not array and isinstance(now, np.ndarray | np.generic | float):
                name = f"params[{key!r}]"
                raise ValueError(
                    f"{name} is another array than the one the optimizer updates: write into that, "
                    f"{name}[...] = value, or pass the parameters to every step, opt.step(grads, params=params)"
                )

    def _handed(self, params: Arrays) -> list[NDArray[Any]]:
        """The parameters that a step is handed, of the same shapes and dtypes as those of the last one."""
        refuse_copies(params, "params")
        given = _array_lists.values_like(params, self._names, "params", "the optimizer's params")
        if len(given) != len(self.params):
            raise ValueError(
                f"params must have one array for each of the {len(self.params)} parameters, got {len(given)}"
            )
        for i, (array, param) in enumerate(zip(given, self.params, strict=True)):
            if array is param:
                continue
            name = f"params[{(self._names or range(len(given)))[i]!r}]"
            if not isinstance(array, np.ndarray):
                raise TypeError(f"{name} must be a numpy.ndarray, got {type(array).__name__}")
            if array.dtype != param.dtype:
                advice = _arrays.source_of_float64(array, param.dtype)
                raise TypeError(f"{name} must have dtype {param.dtype}, got {array.dtype}{advice}")
            if array.shape != param.shape:
                raise ValueError(f"{name} must have shape {param.shape}, got {array.shape}")
        return list(given)

    def _run(
        self,
        t: int,
        grads: list[Any],
        stats: bool,
        scale: float,
        chosen: list[int] | None = None,
        named: Mapping[int, NDArray[Any]] | None = None,
        sums: list[NDArray[Any] | None] | None = None,
    ) -> tuple[bool, NDArray[np.float64] | None]:
        """A step of all parameters, or of the chosen ones alone, some of them by the named rows; sums: accumulated."""
        params, state, keys = self.params, self.state, self._names
        ema, master, group_of = self.ema, self._master, self._group_of
        core, parts = self._core, cast(Written, [])
        rounding = (self.rounding_seed, t, chosen) if self._is_packed else None
        if group_of is None:
            rows: tuple[Values, ...] = (self._group_hyperparameters(t, 0, self.__dict__),)
        else:
            rows = self._rows_of_groups(t)
        if ema is not None and self._begins_average(t):
            place = SHARED_HYPERPARAMETERS.index("ema_decay")
            rows = tuple((*row[:place], 0.0, *row[place + 1 :]) for row in rows)
        if chosen is not None:
            keys = some(keys or range(len(params)), chosen)
            params, ema, master, group_of = (
                some(values, chosen) for values in (params, ema, master, group_of)
            )
            state = {name: some(arrays, chosen) for name, arrays in state.items()}
        if chosen is not None and named:
            # A core of its own: the other one goes on knowing the whole arrays.
            core = self._rows_core = self._rows_core or self._new_core()
            lists = [each for each in (params, *state.values(), ema, master) if each is not None]
            for i, of_table in named.items():
                parts += taken(of_table, lists, chosen.index(i))
        found = core.step(
            params,
            grads,
            state,
            ema,
            master,
            rows,
            group_of,
            self._clip_kind,
            self._clip_limit,
            self.skip_nonfinite,
            stats,
            keys,
            sums,
            scale,
            rounding,
        )
        if parts and found[0]:
            _core.write_rows(parts)
        return found

    def _run_given(
        self, t: int, grads: list[Any], stats: bool, scale: float
    ) -> tuple[bool, NDArray[np.float64] | None]:
        """A step of the parameters that have a gradient; for the others, only averages are updated."""
        waiting = self._accumulated
        if waiting is None:
            waiting = Accumulated(len(self.params))
        rows = self._joined(grads, waiting)
        totals = [waiting.sum_of(i) for i in range(len(grads))]
        tables = {i: given._summed(len(self.params[i])) for i, given in rows.items()}
        terms = [tables[i][1] if i in tables else grad for i, grad in enumerate(grads)]
        has = [not (g is None and total is None) for g, total in zip(terms, totals, strict=True)]
        chosen = [i for i, there in enumerate(has) if there]
        left = [i for i, there in enumerate(has) if not there]
        if tables:  # whose whole arrays the step does not see
            self._core.check(self.params, self.state, self.ema, self._master, self._names, None)
        norms = None
        if self._clip_kind == Clip.ADAPTIVE:
            self._check_gradients({i: grad for i, grad in enumerate(terms) if grad is not None})
            limits = self._clip_limit, self.clip_adaptive_eps
            totals, norms = clipping.clipped_units(
                self.params, terms, totals, *limits, scale, self.convention
            )
            terms = [None] * len(terms)
        done, sums = self._run(
            t,
            [terms[i] for i in chosen],
            stats,
            scale,
            chosen,
            {i: named for i, (named, _) in tables.items()},
            [totals[i] for i in chosen],
        )
        if done and self.ema is not None and self.ema_decay is not None:
            # Of a table Keras' average begins whole.
            first = self._begins_average(t)
            for i in (*left, *tables) if first else left:
                average = self.ema[i]
                share = 1.0 if first else 1 - self.ema_decay
                average += average.dtype.type(share) * (self._kept(i) - average)
        if sums is not None:
            given, sums = sums, np.zeros((len(grads), SUMS))
            sums[chosen] = given
            for i in left:
                sums[i, 2] = _norm(self.params[i])
            for i in tables:
                sums[i, 2] = _norm(self._kept(i))
            if norms is not None:
                sums[:, [0, 3, 4]] = norms
        return done, sums

    def _kept(self, i: int) -> NDArray[Any]:
        """A parameter in the precision that it is kept in: of 16 bits its master."""
        master = None if self._master is None else self._master[i]
        return self.params[i] if master is None else refreshed(master, self.params[i])

    # ---- what is shown ----

    def __repr__(self) -> str:
        count = sum(param.size for param in self.params)
        groups = f" in {len(self.groups)} groups" if len(self.groups) > 1 else ""
        shown = {"lr": self.lr}
        shown |= {name: getattr(self, name) for name in self.defaults["torch"]}
        shown |= self._options_in_use()
        settings = "".join(
            f", {name}={value!r}" for name, value in shown.items() if value is not None
        )
        return (
            f"{type(self).__name__}({len(self.params)} arrays of {count:,} parameters{groups}{settings}, "
            f"step_count={self.step_count})"
        )

    def unpacked_state(self) -> dict[str, list[NDArray[Any]]]:
        """Copy the state as numbers, whatever it is stored in: what state_dtype="float32" has in ``opt.state``.

        Returns
        -------
        state : dict of lists of ndarrays
            As ``opt.state``, each array in the shape of its parameter; float32 of what is stored in 16 or 8 bits.

        Examples
        --------
        >>> import numpy as np, nnfast as nf
        >>> w = np.zeros(3, np.float32)
        >>> opt = nf.optim.Lion([w], lr=0.5, betas=(0.5, 0.5), state_dtype="bfloat16")
        >>> opt.step([np.array([1, -2, 3], np.float32)])
        >>> opt.state["exp_avg"][0].dtype, opt.unpacked_state()["exp_avg"][0]
        (dtype('uint16'), array([ 0.5, -1. ,  1.5], dtype=float32))
        """
        return {
            name: [
                packed.unpacked(array, param, self._rule_name, i)
                for array, param in zip(arrays, self.params, strict=True)
            ]
            for i, (name, arrays) in enumerate(zip(self._state_names, self._states(), strict=True))
        }

    def averaged_params(self) -> Any:
        """The running average of the parameters (EMA), as copies in the form that params were given in.

        Returns
        -------
        averages : list or dict of ndarrays
            With bias correction divided by 1 - decay**t, so that early averages are of the parameters alone. float16
            parameters have float32 averages.

        Raises
        ------
        ValueError
            If the optimizer was made without ema_decay, or has made no step yet.
        """
        if self.ema is None:
            raise ValueError("ema_decay must be given to an optimizer that is to average")
        if self.step_count == 0:
            raise ValueError("there is no average before the first step")
        averages = self._averages(self.ema)
        return averages if self._names is None else dict(zip(self._names, averages, strict=True))

    def _averages(self, ema: list[NDArray[Any]]) -> list[NDArray[Any]]:
        share = 1 - self._ema_weight if self.ema_bias_correction else 1.0
        # Of an array without axes NumPy's quotient is no array.
        return [np.asarray(average / average.dtype.type(share)) for average in ema]

    def _begins_average(self, t: int) -> bool:
        """Whether the average becomes the parameters of this step, as it does with Keras at the first one."""
        return t == 1 and self.convention == "keras" and not self.ema_bias_correction

    def _take_averages(self, ema: list[NDArray[Any]]) -> None:
        """Write the averages into the parameters."""
        for i, average in enumerate(self._averages(ema)):
            master = None if self._master is None else self._master[i]
            if master is not None:
                master[...] = average
            with np.errstate(over="ignore"):
                self.params[i][...] = average

    # ---- what a rule defines ----

    def _first_state(
        self, param: NDArray[Any], settings: Mapping[str, Any], name: str
    ) -> NDArray[Any]:
        """The state array of a parameter before the first step."""
        if self._is_packed:
            return packed.first_state(param, self._state_dtype)
        return first_state(param, self._first_value(settings, name))

    # ---- arrays ----

    def _check_kinds(self) -> None:
        for key, param in zip(self._names or range(len(self.params)), self.params, strict=True):
            if not isinstance(param, np.ndarray):
                raise TypeError(
                    f"params[{key!r}] must be a numpy.ndarray, got {type(param).__name__}"
                )
            if self._is_packed and param.dtype != np.float32 and not needs_master(param):
                raise TypeError(
                    f"params[{key!r}] must have dtype float16, bfloat16 or float32 where state_dtype is "
                    f"{self._state_dtype!r}, got {param.dtype}"
                )

    def _ema_start(self, param: NDArray[Any]) -> NDArray[Any]:
        zero = self.ema_bias_correction or self.convention == "keras"
        return first_state(param, 0) if zero else param.astype(kept_dtype(param))

    def _done(self, t: int) -> None:
        self.step_count = t
        if self.ema_decay is not None:
            self._ema_weight *= self.ema_decay
            every = self.ema_overwrite_frequency
            if every is not None and t % every == 0 and self.ema is not None:
                self._take_averages(self.ema)


def _norm(array: NDArray[Any]) -> float:
    return sqrt(np.square(array, dtype=np.float64).sum())


def first_state(param: NDArray[Any], value: float) -> NDArray[Any]:
    """A state array of a parameter before the first step."""
    made = np.zeros_like(param, dtype=kept_dtype(param))
    if value:
        made.fill(value)
    return made
