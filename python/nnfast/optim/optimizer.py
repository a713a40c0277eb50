"""The base of all optimizers: parameter groups, state arrays, settings, and the options of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf, sqrt
from operator import itemgetter
from typing import Any, ClassVar, Literal, Self, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from nnfast import _array_lists, _arrays, _checks
from nnfast._array_lists import Arrays
from nnfast._load import _core
from nnfast._state import Resumable, by_name, count_in, kept_dtype, refuse_copies, share_in
from nnfast.optim import accumulation, clipping, packed
from nnfast.optim.accumulation import Accumulated
from nnfast.optim.clipping import Clip
from nnfast.optim.packed import StateDtype
from nnfast.optim.rows import Rows, Written, taken

Convention = Literal["torch", "keras", "optax", "cs231n"]
Params = Arrays | Sequence[Mapping[str, Any]]
Grad = NDArray[Any] | Rows | None
Grads = Sequence[Grad] | Mapping[str, Grad]
Values = tuple[float, ...]

_holds_same = _core.holds_same

# The values that precede a rule's own in _group_hyperparameters, in the order of cpp/kernels/optim.hpp.
_SHARED_HYPERPARAMETERS = ("sign", "clip_value", "weight_decay", "shrink", "ema_decay")
_SUMS = 5  # of squares and counts, for each parameter


class Options(TypedDict, total=False):
    """Options that all rules take; see the docstring of nnfast.optim."""

    maximize: bool
    decoupled_weight_decay: bool | None
    clip_value: float | None
    clip_norm: float | None
    clip_global_norm: float | None
    clip_block_rms: float | None
    clip_adaptive: float | None
    clip_adaptive_eps: float
    skip_nonfinite: bool
    ema_decay: float | None
    ema_bias_correction: bool | None
    ema_overwrite_frequency: int | None
    state_dtype: StateDtype
    rounding_seed: int
    convention: Convention


@dataclass(frozen=True)
class StepStats:
    """Statistics of a step, one for each parameter, in their order.

    Norms are Euclidean, accumulated in float64 in the pass that updates the parameters.

    Parameters
    ----------
    grad_norm : ndarray of float64
        Norm of the gradient with what was accumulated, times grad_scale, before clipping and weight decay.
    update_norm : ndarray of float64
        Norm of the change of the parameter.
    param_norm : ndarray of float64
        Norm of the parameter after the step; NaN where the step was skipped.
    nans : ndarray of int64
        Number of gradient elements that are NaN.
    infinities : ndarray of int64
        Number of gradient elements that are infinite.
    skipped : bool
        Whether the step was skipped, as a gradient was not finite and skip_nonfinite is set.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> opt = nf.optim.SGD([np.array([3.0, 4.0])], lr=0.1)
    >>> stats = opt.step([np.array([0.0, 1.0])], stats=True)
    >>> stats.grad_norm, stats.update_norm.round(6), stats.ratio.round(3)
    (array([1.]), array([0.1]), array([0.02]))
    """

    grad_norm: NDArray[np.float64]
    update_norm: NDArray[np.float64]
    param_norm: NDArray[np.float64]
    nans: NDArray[np.int64]
    infinities: NDArray[np.int64]
    skipped: bool

    @property
    def ratio(self) -> NDArray[np.float64]:
        """update_norm / param_norm: about 1e-3 while a network trains well."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.update_norm / self.param_norm

    @property
    def global_grad_norm(self) -> float:
        """The norm of all gradients as one vector."""
        largest = float(self.grad_norm.max(initial=0))
        if not 0 < largest < inf:
            return largest
        return largest * sqrt(float(np.square(self.grad_norm / largest).sum()))


class Optimizer(Resumable):
    """The base of all rules."""

    _kind = "optimizer"
    _optional = frozenset({"skipped_count"})

    lr: float
    weight_decay: float
    state: dict[str, list[NDArray[Any]]]

    # The defaults of each convention that has the rule.
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]]

    _setting_names: ClassVar[tuple[str, ...]]  # without lr

    _takes_rows: ClassVar[bool] = False  # as gradients
    _packs: ClassVar[bool] = False  # state in 16 or 8 bits

    _unbound = False  # a clone that has no parameters yet
    # Whether a step needs more than _core's plain_step knows: groups, parameters, or gradients that were accumulated.
    _special: bool
    _accumulated: Accumulated | None = None
    _rows_core: _core.Optimizer | None = None
    # Options that pickles of earlier versions lack.
    _clip_name: str | None = None
    _clip_kind: int
    clip_adaptive_eps = 1e-3
    ema_overwrite_frequency: int | None = None
    _state_dtype: StateDtype = "float32"
    rounding_seed = 0
    # What a rule carries from step to step, one for each group: NAdam's product, the weights of schedule-free ones.
    # There is one where steps are not the plain ones of the core.
    _carried: Sequence[Any] = ()
    # The caller's dict or list of parameters, and what was in it: that it was changed since is an error.
    _given: tuple[Any, list[NDArray[Any]]] | None = None

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "defaults"):  # a base of some rules has none
            cls._setting_names = tuple(name for name in cls.defaults["torch"] if name != "lr")

    def __init__(self, params: Params, arguments: Mapping[str, Any], options: Options) -> None:
        # The arguments are a rule's locals(), in which settings are found by their names.
        self._unbound = False  # found sooner than in the class
        self.convention = options.get("convention", "torch")
        self._take_options(options)
        decoupled = {"decoupled_weight_decay": options.get("decoupled_weight_decay")}
        given = {name: {**arguments, **decoupled}.get(name) for name in self.defaults["torch"]}
        vars(self).update(settings_of(type(self), self.convention, given))
        self.params, self._names, self._group_of, self.groups = _flattened(params)
        require_distinct(self._names or [])
        self._remember(params)
        self._mark()
        for i, group in enumerate(self.groups):
            self._check_group(group, f"params[{i}]")
        self._rule_name, self._state_names = self._rule()
        self._check_settings()
        self._make_state()

    def _check_settings(self) -> None:
        self._values_of = itemgetter(*self._setting_names)
        self._checked = [self._settings(group) for group in self.groups or ({},)]
        self._seen = [self._values_of(settings) for settings in self._checked]

    def _make_state(self) -> None:
        self.step_count = 0
        self.skipped_count = 0
        self._core = self._new_core()
        self._check_kinds()
        any_float16 = any(p.dtype == np.float16 for p in self.params)
        self._master: list[NDArray[Any] | None] | None = None
        if any_float16:
            self._master = [copy_of_float16(p) for p in self.params]
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
        hyperparameters = [*_SHARED_HYPERPARAMETERS, *self._hyperparameters()]
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
        if groups is not None and _groups(params) is None:
            counts = [group["params"] for group in groups]
            params = _grouped(cast(Arrays, params), self.groups, counts)
        return type(self)(params, **given)

    def accumulate(self, grads: Grads) -> None:
        """Add gradients to those that the next step takes: of a large batch in parts, as memory allows.

        Parameters
        ----------
        grads : sequence or mapping of ndarrays
            As step takes them. None leaves what was accumulated for its parameter as it is. Rows are kept as they are,
            and take Rows alone after them.

        Raises
        ------
        TypeError, ValueError, IndexError
            As step. Nothing is changed then.

        Notes
        -----
        The sums are added up in the dtype of the state, float32 for float16. The next step takes them with its own
        gradients, of which they are a part in whatever it does, clipping and statistics; a skipped step does so, too.
        ``state_dict`` and ``save`` have them. Where losses are means, ``grad_scale`` is 1 over the number of parts.

        Examples
        --------
        >>> import numpy as np, nnfast as nf
        >>> w = np.zeros(2)
        >>> opt = nf.optim.SGD([w], lr=1.0)
        >>> opt.accumulate([np.array([1.0, 2.0])])
        >>> opt.step([np.array([3.0, 0.0])], grad_scale=1 / 2)
        >>> w
        array([-2., -1.])
        """
        if self._unbound:
            raise ValueError("a clone without parameters must be given them in a step first")
        arrays = self._values_like(grads)
        found = self._accumulated
        if found is None:  # one without sums has their memory
            found = Accumulated(len(self.params))
        rows = self._joined(arrays, found)
        dense = {i: g for i, g in enumerate(arrays) if g is not None and i not in rows}
        self._check_gradients(dense)
        found.add(self.params, dense)
        for i, joined in rows.items():
            found.rows[i] = joined
        self._accumulated = found
        self._mark()

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
        plain = params is None and not stats
        if plain and self._core.plain_step(self.__dict__, grads, self._row, grad_scale):
            return None
        scale = _checks.positive(_checks.finite(grad_scale, "grad_scale"), "grad_scale")
        if params is not None or self._unbound:
            return self._step_of(params, grads, stats, scale)
        if self._given is not None:
            there, held = self._given
            if not _holds_same(there, held, self._names):
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
        return _stats(sums, not done) if sums is not None else None

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
        waits = pending is not None and bool(pending)
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
            place = _SHARED_HYPERPARAMETERS.index("ema_decay")
            rows = tuple((*row[:place], 0.0, *row[place + 1 :]) for row in rows)
        if chosen is not None:
            keys = _some(keys or range(len(params)), chosen)
            params, ema, master, group_of = (
                _some(values, chosen) for values in (params, ema, master, group_of)
            )
            state = {name: _some(arrays, chosen) for name, arrays in state.items()}
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
            given, sums = sums, np.zeros((len(grads), _SUMS))
            sums[chosen] = given
            for i in left:
                sums[i, 2] = _norm(self.params[i])
            for i in tables:
                sums[i, 2] = _norm(self._kept(i))
            if norms is not None:
                sums[:, [0, 3, 4]] = norms
        return done, sums

    # ---- gradients that are no arrays of the parameters' shapes, or were accumulated ----

    def _values_like(self, grads: Grads) -> list[Any]:
        """The gradients in the order of the parameters."""
        return list(_array_lists.values_like(cast(Arrays, grads), self._names, "grads"))

    def _kept(self, i: int) -> NDArray[Any]:
        """A parameter in the precision that it is kept in: of float16 its master."""
        master = None if self._master is None else self._master[i]
        return self.params[i] if master is None else _refreshed(master, self.params[i])

    def _label(self, i: int) -> str:
        return f"grads[{(self._names or range(len(self.params)))[i]!r}]"

    def _joined(self, grads: list[Any], waiting: Accumulated) -> dict[int, Rows]:
        """The gradients that are Rows, checked, each with those that were accumulated."""
        if len(grads) != len(self.params):
            raise ValueError(
                f"grads must have one array for each of the {len(self.params)} parameters, got {len(grads)}"
            )
        found = {}
        for i, grad in enumerate(grads):
            before = waiting.rows[i]
            if isinstance(grad, Rows):
                self._check_rows(i, grad)
                if waiting.sum_of(i) is not None:
                    raise TypeError(
                        f"{self._label(i)} must be an array, as what was accumulated is, got Rows"
                    )
                found[i] = grad if before is None else before + grad
            elif before is not None:
                if grad is not None:
                    raise TypeError(
                        f"{self._label(i)} must be Rows, as what was accumulated is, "
                        f"got {type(grad).__name__}"
                    )
                found[i] = before
        return found

    def _check_rows(self, i: int, rows: Rows) -> None:
        if not self._takes_rows:
            raise TypeError(
                f"{self._label(i)} must be an array, as {type(self).__name__} takes no Rows; "
                "SGD, Adagrad, Adam and AdamW do"
            )
        if self._is_packed:
            raise TypeError(
                f"{self._label(i)} must be an array where state_dtype is {self._state_dtype!r}, got Rows"
            )
        for option in ("clip_block_rms", "clip_adaptive"):
            if self._clip_name == option:
                raise TypeError(f"{self._label(i)} must be an array where {option} is given")
        if self.ema_decay is not None and self.ema_bias_correction:
            raise ValueError(
                f"ema_bias_correction must be False where {self._label(i)} is Rows: "
                "rows that were not named yet have no average to correct"
            )
        rows._check(self.params[i], self._label(i))

    def _check_gradients(self, grads: Mapping[int, Any]) -> None:
        """Check gradients of the parameters at these places as a step does."""
        if not grads:
            return
        chosen = list(grads)
        keys = _some(self._names or range(len(self.params)), chosen)
        params, ema, master = (
            _some(values, chosen) for values in (self.params, self.ema, self._master)
        )
        state = {name: _some(arrays, chosen) for name, arrays in self.state.items()}
        self._core.check(params, state, ema, master, keys, list(grads.values()))

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

    @property
    def state_dtype(self) -> StateDtype:
        """How the state is stored, which is decided when the optimizer is made."""
        return self._state_dtype

    @property
    def _is_packed(self) -> bool:
        return self._state_dtype != "float32"

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
                packed.unpacked(array, param, name)
                for array, param in zip(arrays, self.params, strict=True)
            ]
            for name, arrays in zip(self._state_names, self._states(), strict=True)
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

    def _rule(self) -> tuple[str, tuple[str, ...]]:
        """Its name in cpp/kernels/optim.hpp, and the names of its state arrays."""
        raise NotImplementedError

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

    def _first_state(
        self, param: NDArray[Any], settings: Mapping[str, Any], name: str
    ) -> NDArray[Any]:
        """The state array of a parameter before the first step."""
        if self._is_packed:
            return packed.first_state(param, self._state_dtype)
        return first_state(param, self._first_value(settings, name))

    def _rule_scalars(self) -> dict[str, list[float]]:
        """Scalars of the rule's state, one for each group."""
        return {}

    # ---- settings ----

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
            _check_setting(key, value, name)

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
        if not _holds_same(given, seen, self._setting_names) and self._values_of(given) != seen:
            settings = self._checked_again(given, index)
        lr = given["lr"]
        if type(lr) is not float or not lr >= 0:
            lr = _checks.not_negative(lr, "lr")
        carried = given.get("_carried")  # in vars: to look for it in the class takes longer
        return self._row(t, lr, settings, carried[index] if carried else 1.0)

    def _row(self, t: int, lr: float, settings: Mapping[str, Any], product: float) -> Values:
        """The hyperparameters at step t of checked settings, as cpp/kernels/optim.hpp has them."""
        decay = settings["weight_decay"]
        shrink = 1.0
        if settings["decoupled_weight_decay"]:
            shrink, decay = 1 - lr * decay, 0.0
        sign = -1.0 if self.maximize else 1.0
        shared = sign, self._clip_value, decay, shrink, self.ema_decay or 0.0
        return shared + self._values(t, lr, settings, product)

    # ---- arrays ----

    def _check_kinds(self) -> None:
        for key, param in zip(self._names or range(len(self.params)), self.params, strict=True):
            if not isinstance(param, np.ndarray):
                raise TypeError(
                    f"params[{key!r}] must be a numpy.ndarray, got {type(param).__name__}"
                )
            if self._is_packed and param.dtype not in (np.float16, np.float32):
                raise TypeError(
                    f"params[{key!r}] must have dtype float16 or float32 where state_dtype is "
                    f"{self._state_dtype!r}, got {param.dtype}"
                )

    def _states(self) -> list[list[NDArray[Any]]]:
        """The state arrays by name, as a dict that the caller made may have another order."""
        try:
            # A list: of tuples that grow while they are made CPython keeps thousands for later.
            return [self.state[name] for name in self._state_names]
        except KeyError as error:
            raise ValueError(f"state must have {error}") from None

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
        found = top | {name: getattr(self, name) for name in _OPTIONS_SAVED} | self._clips()
        found["state_dtype"] = self._state_dtype
        if self._group_of is not None:
            found["groups"] = [
                {"params": self._group_of.count(i), **{name: checked[i][name] for name in group}}
                for i, group in enumerate(self.groups)
            ]
        return found

    def _valid(self, index: int, name: str, group: Mapping[str, Any]) -> Any:
        try:
            return _check_setting(name, group.get(name, getattr(self, name)))
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
                setattr(tried, name, _check_saved(name, value))
            elif name not in Options.__annotations__:
                raise ValueError(f"state['settings'] has {name!r}")
        tried.convention = given["convention"]
        settings_of(type(self), tried.convention, {})
        switches = {name: _check_saved(name, given[name]) for name in _SWITCHES_OF_ALL}
        with_values = (*clipping.OPTIONS, *_OPTIONS_WITH_VALUES, "state_dtype")
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
        own = (*self.defaults["torch"], *_OPTIONS_SAVED)
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
                group[name] = _check_saved(name, value)
        self.groups = groups or []


_SWITCHES_OF_ALL = ("maximize", "skip_nonfinite", "ema_bias_correction")
_OPTIONS_WITH_VALUES = (
    "ema_decay",
    "ema_overwrite_frequency",
    "clip_adaptive_eps",
    "rounding_seed",
)
_OPTIONS_SAVED = (*_SWITCHES_OF_ALL, "convention", *_OPTIONS_WITH_VALUES)


def _check_saved(name: str, value: Any) -> Any:
    """Check a setting of a saved state."""
    if name in _SWITCHES or name in _SWITCHES_OF_ALL:
        if not isinstance(value, bool):
            raise TypeError(f"state['settings']: {name} must be a bool, got {value!r}")
        return value
    return _check_setting(name, value, "state['settings']")


def _some(values: Any, chosen: list[int]) -> Any:
    """The values of the chosen parameters, or None for None."""
    return None if values is None else [values[i] for i in chosen]


def _refreshed(master: NDArray[Any], param: NDArray[Any]) -> NDArray[Any]:
    """The master, with the values of its parameter where that was written to since the last step, as in the kernel."""
    with np.errstate(over="ignore"):
        other = master.astype(np.float16).view(np.uint16) != param.view(np.uint16)
    np.copyto(master, param, where=other)
    return master


def _norm(array: NDArray[Any]) -> float:
    return sqrt(np.square(array, dtype=np.float64).sum())


def first_state(param: NDArray[Any], value: float) -> NDArray[Any]:
    """A state array of a parameter before the first step."""
    made = np.zeros_like(param, dtype=kept_dtype(param))
    if value:
        made.fill(value)
    return made


def copy_of_float16(param: NDArray[Any]) -> NDArray[Any] | None:
    """The master of a float16 parameter, None of another one."""
    return param.astype(np.float32) if param.dtype == np.float16 else None


def _flattened(
    params: Params,
) -> tuple[list[NDArray[Any]], list[str] | None, list[int] | None, list[dict[str, Any]]]:
    """The arrays, their names, the group of each, and what groups set."""
    refuse_copies(params, "params")
    given = _groups(params)
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


def _grouped(
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


def _groups(params: Params) -> Sequence[Mapping[str, Any]] | None:
    """params, if it is a sequence of groups."""
    if isinstance(params, memoryview) or not isinstance(params, Sequence):
        return None
    if params and all(isinstance(group, Mapping) for group in params):
        return cast(Sequence[Mapping[str, Any]], params)
    return None


def _stats(sums: NDArray[np.float64], skipped: bool) -> StepStats:
    grad, update, param = sums[:, :3].T
    if skipped:
        param = np.full_like(param, np.nan)
    counts = sums[:, 3:].astype(np.int64).T
    return StepStats(grad, update, param, counts[0], counts[1], skipped)


# ---- settings of rules ----


def two_betas(betas: Any, name: str = "betas") -> tuple[float, float]:
    """Two floats in [0, 1)."""
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise TypeError(f"{name} must be two numbers, got {betas!r}")
    first, second = (_checks.unit_interval(beta, f"{name}[{i}]") for i, beta in enumerate(betas))
    if type(betas) is tuple and betas[0] is first and betas[1] is second:
        same: tuple[float, float] = betas
        return same
    return first, second


def _two_numbers(value: Any, name: str) -> tuple[float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"{name} must be two numbers, got {value!r}")
    if type(value) is tuple and set(map(type, value)) == {float}:
        return value  # the very object that was given, which a step looks for
    first, second = (_checks.real(number, f"{name}[{i}]") for i, number in enumerate(value))
    return first, second


def _etas(value: Any, name: str) -> tuple[float, float]:
    etas = _two_numbers(value, name)
    if not 0 < etas[0] < 1 < etas[1]:
        raise ValueError(f"{name} must be one number in (0, 1) and one above 1, got {etas}")
    return etas


def _step_sizes(value: Any, name: str) -> tuple[float, float]:
    sizes = _two_numbers(value, name)
    if not 0 <= sizes[0] <= sizes[1]:
        raise ValueError(f"{name} must be two numbers that do not fall, from 0 on, got {sizes}")
    return sizes


def _three_numbers(value: Any, name: str) -> tuple[float, float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        raise TypeError(f"{name} must be three numbers, got {value!r}")
    first, second, third = (_checks.real(n, f"{name}[{i}]") for i, n in enumerate(value))
    return first, second, third


def _not_positive(value: Any, name: str) -> float:
    number = _checks.real(value, name)
    if not number <= 0:
        raise ValueError(f"{name} must not be positive, got {number!r}")
    return number


def _few(value: Any, name: str) -> int:
    number = _checks.integer_from(value, 0, name)
    if number >= 100:
        raise ValueError(f"{name} must be below 100, got {number}")
    return number


# Settings of Muon and Adafactor.
_OF_MATRICES: dict[str, Callable[[Any, str], Any]] = {
    "ns_coefficients": _three_numbers,
    "ns_steps": _few,
    "adjust_lr_fn": lambda value, name: _checks.one_of(
        value, ("original", "match_rms_adamw"), name
    ),
    "beta2_decay": _not_positive,
    "eps1": lambda value, name: None if value is None else _checks.not_negative(value, name),
    "d": _checks.positive,
}


_SWITCHES = ("nesterov", "centered", "amsgrad", "decoupled_weight_decay", "bias_correction")
_SHARES = ("alpha", "rho", "beta3")


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a rule, each checked by its name."""
    return {name: _check_setting(name, value) for name, value in settings.items()}


def _check_setting(name: str, value: Any, within: str | None = None) -> Any:
    label = name if within is None else f"{within}[{name!r}]"
    if name == "betas":
        return two_betas(value, label)
    if name == "etas":
        return _etas(value, label)
    if name == "step_sizes":
        return _step_sizes(value, label)
    if name in _OF_MATRICES:
        return _OF_MATRICES[name](value, label)
    if name in _SWITCHES:
        return bool(value)
    if name in _SHARES:
        return _checks.unit_interval(value, label)
    if name == "dampening":
        return _checks.real(value, label)
    if name == "threshold":
        return _at_least_four(value, label)
    return _checks.not_negative(value, label)


def _at_least_four(value: Any, label: str) -> float:
    """RAdam's threshold: below 4 the rectification is the root of a negative number."""
    number = _checks.real(value, label)
    if not number >= 4:
        raise ValueError(f"{label} must be at least 4, got {number!r}")
    return number


def settings_of(rule: type[Optimizer], convention: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings, with the convention's defaults for the others."""
    if convention not in ("torch", "keras", "optax", "cs231n"):
        raise ValueError(
            f"convention must be 'torch', 'keras', 'optax' or 'cs231n', got {convention!r}"
        )
    if convention not in rule.defaults:
        raise ValueError(f"convention {convention!r} has no {rule.__name__}")
    defaults = {**rule.defaults["torch"], **rule.defaults[convention]}
    chosen = {name: value for name, value in given.items() if value is not None}
    return check_settings({**defaults, **chosen})
