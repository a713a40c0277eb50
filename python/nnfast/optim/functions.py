"""The rules as functions, for code that hands over its parameters at every update and keeps their state itself."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from inspect import Parameter, Signature, getdoc, signature
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np

from nnfast import _array_lists, _checks
from nnfast._docs import page
from nnfast._state import count_in, refuse_copies, share_in
from nnfast.optim import rules
from nnfast.optim.groups import require_distinct
from nnfast.optim.masters import master_of, needs_master
from nnfast.optim.optimizer import Optimizer, first_state
from nnfast.optim.settings import Options

__all__ = [
    "adabelief",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adan",
    "asgd",
    "ftrl",
    "lamb",
    "lars",
    "lion",
    "nadam",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
    "yogi",
]

State = dict[str, Any]

# Settings whose check is remembered, of each function.
_MOST_SETTINGS = 64
_MANY = Mapping, Sequence
_STRINGS = frozenset({str}).issuperset
# Of settings that cannot change, and so may be remembered.
_CONSTANTS = {float, int, bool, str, type(None)}
# Options of the classes; the others need an object.
_OPTIONS = {
    "decoupled_weight_decay": None,
    "maximize": False,
    "clip_value": None,
    "clip_norm": None,
    "clip_global_norm": None,
    "clip_block_rms": None,
    "convention": "torch",
}


class Update(Protocol):
    """A rule as a function."""

    def __call__(
        self,
        w: Any,
        dw: Any,
        state: State | None = None,
        *,
        lr: float | None = None,
        out: Any = None,
        **settings: Any,
    ) -> tuple[Any, State]:
        """Update w by one step, and return it with the state."""


# ---- a step ----


def _function(rule: type[Optimizer], example: tuple[str, str]) -> Update:
    """The function of a rule: an optimizer without parameters has its settings and computes its hyperparameters."""
    name, of_rule = rule.__name__.lower(), _signature(rule)
    known: dict[Any, _Rule] = {}

    def checked(settings: dict[str, Any]) -> _Rule:
        for setting in settings:
            if setting not in of_rule.parameters:
                raise TypeError(f"{name} has no argument {setting!r}")
        return _prepared(rule([], **settings))

    def function(
        w: Any,
        dw: Any,
        state: State | None = None,
        *,
        lr: float | None = None,
        out: Any = None,
        **settings: Any,
    ) -> tuple[Any, State]:
        key = tuple(settings.items()) if settings else ()
        try:
            found = known.get(key)
        except TypeError:  # what has no hash, such as betas in a list
            return _step(checked(settings), w, dw, state, lr, out)
        if found is None:
            found = checked(settings)
            if len(known) == _MOST_SETTINGS:
                known.clear()
            if all(map(_is_constant, settings.values())):
                known[key] = found
        return _step(found, w, dw, state, lr, out)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = _doc(rule, name, example)
    function.__signature__ = of_rule  # type: ignore[attr-defined]
    return function


def _is_constant(value: Any) -> bool:
    return all(map(_is_constant, value)) if type(value) is tuple else type(value) in _CONSTANTS


class _Rule(NamedTuple):
    """An optimizer without parameters, and what a step takes of it."""

    optimizer: Optimizer
    settings: Mapping[str, Any]
    clip: tuple[int, float]
    kept: tuple[tuple[str, ...], bool]
    """The names of its state arrays, and whether NAdam's product is kept."""


def _prepared(optimizer: Optimizer) -> _Rule:
    clip = optimizer._clip_kind, optimizer._clip_limit
    kept = optimizer._state_names, bool(optimizer._carried)
    return _Rule(optimizer, optimizer._checked[0], clip, kept)


def _step(
    rule: _Rule, w: Any, dw: Any, state: Any, lr: float | None, out: Any
) -> tuple[Any, State]:
    # Small arrays wait for this function, so that it calls few others.
    optimizer, settings, (clip_kind, clip_limit), kept = rule
    if lr is None:
        lr = settings["lr"]
    elif type(lr) is not float or not lr >= 0:
        lr = _checks.not_negative(lr, "lr")
    keys: list[Any] | None = None
    # The usual types first: to ask an abstract class takes long.
    alone = False
    if type(w) is dict:
        keys, params = [*w], [*w.values()]
    elif type(w) is list:
        params = [*w]
    elif isinstance(w, np.ndarray) or not isinstance(w, _MANY):
        alone, params = True, [w]
    else:
        keys, params = _array_lists.names_of(w), _array_lists.values(w, "w")
        if out is None:
            refuse_copies(w, "w")
    if alone:
        grads, written = [dw], params if out is None else [out]
    else:
        grads = _array_lists.values_like(dw, keys, "dw", "w")
        written = params
        if out is not None:
            refuse_copies(out, "out")
            written = _array_lists.values_like(out, keys, "out", "w")
            if len(written) != len(params):
                raise ValueError(
                    f"out must have as many arrays as w, {len(params)}, got {len(written)}"
                )
    labels = _labels(kept, None if alone else len(params) if keys is None else _texts(keys))
    if state is None:
        state = {}
    elif not isinstance(state, dict):
        raise TypeError(f"state must be a dict, got {type(state).__name__}")
    name = "w" if out is None else "out"
    before = state or _begun(optimizer, {**settings, "lr": lr}, written, labels, keys, name)
    try:
        step_count = before["step_count"]
        product = before["mu_product"] if kept[1] else 1.0
    except KeyError as error:
        raise ValueError(f"state must have {error}") from None
    if type(step_count) is not int or step_count < 0:
        step_count = count_in(_checks.integer(step_count, "state['step_count']"), "step_count")
    if kept[1]:
        product = share_in(_checks.real(product, "state['mu_product']"), "mu_product")
    masters = None if len(before) <= labels.size else _masters(optimizer, before, labels, written)
    t = step_count + 1
    optimizer._core.update(
        written,
        grads,
        before,
        labels.of_states,
        masters,
        (optimizer._row(t, lr, settings, product),),
        clip_kind,
        clip_limit,
        None if out is None else params,
        keys,
        alone,
    )
    if before is not state:
        state.update(before)
    state["step_count"] = t
    if kept[1]:
        state["mu_product"] = optimizer._next_product(t, settings, product)
    return w if out is None else out, state


# ---- the state ----


class _Labels(NamedTuple):
    """What the values of a state are called."""

    of_states: tuple[tuple[str, ...], ...]
    of_masters: tuple[str, ...]
    size: int
    """How many values there are, without masters."""


def _texts(keys: list[Any]) -> tuple[str, ...]:
    """Keys as text."""
    return tuple(keys if _STRINGS(map(type, keys)) else map(str, keys))


@lru_cache
def _labels(kept: tuple[tuple[str, ...], bool], keys: tuple[Any, ...] | int | None) -> _Labels:
    """Those of a rule; keys: of the parameters, their number, or None for one by itself."""
    names, has_product = kept
    if keys is None:
        of_lists: list[tuple[str, ...]] = [(name,) for name in (*names, "master")]
    else:
        each = range(keys) if isinstance(keys, int) else keys
        of_lists = [tuple(f"{name}.{key}" for key in each) for name in (*names, "master")]
    *of_states, of_masters = of_lists
    size = 1 + has_product + len(names) * len(of_masters)
    return _Labels(tuple(of_states), of_masters, size)


def _begun(
    rule: Optimizer,
    settings: Mapping[str, Any],
    params: list[Any],
    labels: _Labels,
    keys: list[Any] | None,
    name: str,
) -> State:
    """The state before the first step."""
    require_distinct(keys or [], name)
    for i, param in enumerate(params):
        if not isinstance(param, np.ndarray):
            key = "" if labels.of_masters == ("master",) else f"[{keys[i] if keys else i!r}]"
            raise TypeError(f"{name}{key} must be a numpy.ndarray, got {type(param).__name__}")
    state: State = {"step_count": 0}
    if rule._carried:
        state["mu_product"] = 1.0
    for each, of_state in zip(labels.of_states, rule._state_names, strict=True):
        value = rule._first_value(settings, of_state)
        state |= {label: first_state(p, value) for label, p in zip(each, params, strict=True)}
    masters = zip(labels.of_masters, map(master_of, params), strict=True)
    return state | {label: master for label, master in masters if master is not None}


def _masters(rule: Optimizer, state: State, labels: _Labels, params: list[Any]) -> list[Any]:
    """The masters in a state that has more than the rule's values, None for each parameter without one."""
    missing = [label for label in chain(*labels.of_states) if label not in state]
    if missing:
        raise ValueError(f"state must have {missing[0]!r}")
    known = {"step_count", *labels.of_masters, *chain(*labels.of_states)}
    others = state.keys() - known - ({"mu_product"} if rule._carried else set())
    if others:
        raise ValueError(
            f"state must be of {type(rule).__name__} and of these arrays, "
            f"but has {', '.join(sorted(map(repr, others)))}"
        )
    for label, param in zip(labels.of_masters, params, strict=True):
        if (label in state) != needs_master(param):
            has = "must not have" if label in state else "must have"
            raise ValueError(f"state {has} {label!r} for a parameter of {param.dtype}")
    return [state.get(label) for label in labels.of_masters]


# ---- signatures and docstrings ----


def _signature(rule: type[Optimizer]) -> Signature:
    """w, dw, state, then the rule's settings, options and out by name."""
    settings = [
        each.replace(kind=Parameter.KEYWORD_ONLY)
        for name, each in signature(rule).parameters.items()
        if name != "params" and each.kind is not Parameter.VAR_KEYWORD
    ]
    hints = {name: hint.__forward_arg__ for name, hint in Options.__annotations__.items()}
    options = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        for name, default in _OPTIONS.items()
    ]
    kind = Parameter.POSITIONAL_OR_KEYWORD
    first = [Parameter("w", kind), Parameter("dw", kind), Parameter("state", kind, default=None)]
    out = Parameter("out", Parameter.KEYWORD_ONLY, default=None)
    return Signature([*first, *settings, *options, out], return_annotation="tuple[Any, State]")


_ENTRY = re.compile(r"^\S.*\n(?: {4}.*\n)*", re.MULTILINE)


def _doc(rule: type[Optimizer], name: str, example: tuple[str, str]) -> str:
    """The docstring, out of that of the class."""
    head, *rest = re.split(r"^(\w.*)\n-{3,}\n", getdoc(rule) or "", flags=re.MULTILINE)
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    entries = _ENTRY.findall(sections.get("Parameters", "") + "\n")
    settings = "".join(e for e in entries if not e.startswith(("params", "**options")))
    settings = re.sub(r" {4}For all groups\.(\n| )", lambda m: "    " * (m[1] == " "), settings)
    options = "".join(f"{{{each}}}\n" for each in _OPTIONS)  # nnfast.optim has their texts
    arrays = sections.get("Attributes", "").partition("\nstep_count")[0].partition("\n")[2].strip()
    arguments, result = example
    call = f"w, state = nf.optim.{name}(w, dw{{}}{arguments})"
    return page(
        f"Update parameters by one step of {rule.__name__}, in place or into out.\n\n"
        f"{head.strip()}\n\nHere p is w and g is dw.",
        {
            "Parameters": f"""w : ndarray of float16, float32 or float64, or a sequence or mapping of such
    Updated in place, unless out is given: then it is only read, and may be read-only, a NumPy scalar or a number.
dw : array_like of w's shape and dtype, or as many as in w, in order or by name
    Gradient of the loss with respect to w.
state : dict, optional
    What the last step of these parameters returned; it is updated in place. None or an empty dict begins.
{settings}{options}out : ndarray of w's shape and dtype, or as many as in w, in order or by name, optional
    Takes the updated parameters. It may be w.""",
            "Returns": f"""w : what w was given as, or out
state : dict
    ``step_count`` and arrays,
    {arrays}
    Of several parameters their names end in ``.0`` or ``.<name>``, as those of ``opt.state_dict()`` do; of float16
    there is a float32 ``master``, too. ``np.savez(file, **state)`` saves it, ``dict(np.load(file))`` restores it.""",
            "Raises": """TypeError
    If w, or out, is no array of floats that can be written, dw has another dtype, or a setting is not a number.
ValueError
    If a shape differs, a number is out of range, the state is that of other parameters or has the arrays of another
    rule (Adam, AdamW and RAdam have the same ones), an array to be written is read-only, or arrays share memory.
    Neither w nor the state is changed then.""",
            "Notes": sections.get("Notes", ""),
            "References": sections.get("References", ""),
        },
        (
            "w, dw = np.array([1.0, 2.0]), np.array([3.0, -0.5])\n"
            f">>> {call.format('')}\n>>> {call.format(', state')}\n>>> w.round(6)",
            result,
        ),
    )


sgd = _function(rules.SGD, (", lr=0.1, momentum=0.9", "array([0.13 , 2.145])"))
adagrad = _function(rules.Adagrad, (", lr=0.1", "array([0.829289, 2.170711])"))
adadelta = _function(rules.Adadelta, ("", "array([0.993593, 2.006407])"))
rmsprop = _function(rules.RMSprop, (", lr=0.01", "array([0.829112, 2.170888])"))
adam = _function(rules.Adam, (", lr=0.1", "array([0.8, 2.2])"))
adamw = _function(rules.AdamW, (", lr=0.1, weight_decay=0.5", "array([0.7075, 2.    ])"))
adamax = _function(rules.Adamax, (", lr=0.1", "array([0.8, 2.2])"))
nadam = _function(rules.NAdam, (", lr=0.1", "array([0.815986, 2.184014])"))
radam = _function(rules.RAdam, (", lr=0.1", "array([0.4, 2.1])"))
lion = _function(rules.Lion, (", lr=0.1", "array([0.8, 2.2])"))
adabelief = _function(rules.AdaBelief, (", lr=0.1", "array([0.772088, 2.227912])"))
yogi = _function(rules.Yogi, (", lr=0.1", "array([0.8001  , 2.199275])"))
adan = _function(rules.Adan, (", lr=0.1", "array([0.8, 2.2])"))
lamb = _function(rules.LAMB, (", lr=0.1", "array([0.67349 , 2.316811])"))
lars = _function(rules.LARS, (", lr=1.0", "array([0.993604, 2.001066])"))
rprop = _function(rules.Rprop, (", lr=0.1", "array([0.78, 2.22])"))
asgd = _function(rules.ASGD, (", lr=0.1", "array([0.399985, 2.099959])"))
ftrl = _function(rules.Ftrl, (", lr=0.1", "array([0.725207, 1.08002 ])"))
