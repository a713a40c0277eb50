"""Docstrings hold: parameters, defaults and ranges are the function's, and errors are those that are documented."""

from __future__ import annotations

import ast
import builtins
import copy
import doctest
import inspect
import re
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cache, partial
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import nnfast as nf
from nnfast._docs import complete
from nnfast._links import LAYERS, links
from nnfast._table import TABLE
from nnfast.optim.settings import Options

ROOT = Path(__file__).parents[1]


class Documented(NamedTuple):
    """A public function, class or method."""

    value: Any
    owner: Any
    """The module or the class that has it."""


def _public() -> Iterator[tuple[str, Documented]]:
    for module_name in ("nnfast", *(f"nnfast.{name}" for name in nf._LAZY)):
        module = import_module(module_name)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.ismodule(value) or isinstance(value, str):
                continue
            yield f"{module_name}.{name}", Documented(value, module)
            if inspect.isclass(value):
                for key in vars(value):
                    method = getattr(value, key, None)
                    if key.startswith("_") or not inspect.isroutine(method) or not method.__doc__:
                        continue
                    if method.__module__.startswith("nnfast"):  # and not one that scikit-learn adds
                        yield f"{module_name}.{name}.{key}", Documented(method, value)


PUBLIC = dict(_public())
WHOLE = {name: each for name, each in PUBLIC.items() if inspect.ismodule(each.owner)}
each_public = pytest.mark.parametrize("name", PUBLIC)
each_whole = pytest.mark.parametrize("name", WHOLE)


# ---- what a docstring says ----

SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
ENTRY = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : (.*))?((?:\n(?: {4}.*)?)*)", re.MULTILINE)


def sections(value: Any) -> dict[str, str]:
    parts = SECTION.split(inspect.getdoc(value) or "")
    return dict(zip(parts[1::2], parts[2::2], strict=True))


class Entry(NamedTuple):
    """What is said of a parameter."""

    kind: str
    default: str | None
    """The text after "default", None where there is none."""
    text: str


def entries(section: str) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for names, kind, text in ENTRY.findall(section):
        kind, _, default = kind.partition("default ")
        defaults = default.split(" and ") if default else [None]
        for i, name in enumerate(names.split(", ")):
            one = defaults[i] if len(defaults) > 1 else defaults[0]
            found[name.lstrip("*")] = Entry(kind, one, text.strip())
    return found


def parameters(value: Any) -> dict[str, inspect.Parameter]:
    found = inspect.signature(value).parameters
    return {name: each for name, each in found.items() if name != "self"}


# ---- names, their order, and defaults ----


@each_public
def test_parameters_are_those_of_the_signature(name: str) -> None:
    value = PUBLIC[name].value
    documented = list(entries(sections(value).get("Parameters", "")))
    assert documented == list(parameters(value))


# Of optimizers and their functions, which have None in the signature: other conventions have other ones.
OPTIMIZERS = [name for name in nf.optim.__all__ if hasattr(getattr(nf.optim, name), "defaults")]
DEFAULTS = {
    f"nnfast.optim.{name.lower()}": getattr(nf.optim, name).defaults["torch"] for name in OPTIMIZERS
}


def shown(default: Any) -> str:
    """A default as docstrings write it."""
    if isinstance(default, type) and issubclass(default, np.generic):
        return default.__name__
    if callable(default):
        return next(key for key, each in PUBLIC.items() if each.value is default)
    return repr(default)


def same(text: str, default: Any) -> bool:
    if fraction := re.fullmatch(r"(\d+)/(\d+)", text):
        return bool(int(fraction[1]) / int(fraction[2]) == default)
    try:
        return bool(ast.literal_eval(text) == default)
    except (ValueError, SyntaxError):
        return text == shown(default)


@each_public
def test_defaults_are_those_of_the_signature(name: str) -> None:
    value, wrong = PUBLIC[name].value, {}
    documented = entries(sections(value).get("Parameters", ""))
    usual = DEFAULTS.get(name.lower(), {})
    for key, each in parameters(value).items():
        entry, default = documented[key], each.default
        if default is None and key in usual and key not in Options.__annotations__:
            default = usual[key]
        as_of_other = " as of " in f" {entry.text.lower()}" or "As given to" in entry.text
        if default is inspect.Parameter.empty:
            right = entry.default is None
        elif default is None or default is ...:
            # A gradient takes one of x and y, by the place of the one that is documented first.
            said = name.endswith("_backward") and key in ("x", "y", "bias", "weight")
            said = said or re.search(r"\boptional\b|\bNone\b|^$", entry.kind) is not None
            right = as_of_other or (said and entry.default in (None, "None"))
        elif entry.default is None:
            # One text for several, or for all that ufuncs take.
            right = as_of_other or not entry.kind
        else:
            right = same(entry.default, default)
        if not right:
            wrong[key] = entry.default or entry.kind, default
    assert wrong == {}, wrong


def test_options_of_optimizers_are_listed() -> None:
    for name in OPTIMIZERS:
        listed = entries(sections(getattr(nf.optim, name)).get("Other Parameters", ""))
        assert list(listed) == list(nf._docs.entries(nf.optim.__doc__))
        assert listed.keys() == Options.__annotations__.keys()


# ---- ranges and errors, by what the example calls ----


class Call(NamedTuple):
    """The arguments of a call in the example of a docstring."""

    function: Callable[..., Any]
    arguments: inspect.BoundArguments

    def with_(self, name: str, value: Any) -> Any:
        """Make the call with another value for a parameter."""
        bound = copy.deepcopy(self.arguments)
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            bound.arguments[name] = (value,)
        else:
            bound.arguments[name] = value
        with warnings.catch_warnings(), np.errstate(all="ignore"), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            return self.function(*bound.args, **bound.kwargs)


@cache
def call(name: str) -> Call | None:
    """The first call of a function or class that its example makes; None where it makes none."""
    value, owner = PUBLIC[name]
    short, found = name.rpartition(".")[2], []
    signature = inspect.signature(value)

    def recorder(*args: Any, **kwargs: Any) -> Any:
        if not found:
            found.append(copy.deepcopy(signature.bind(*args, **kwargs)))
        return value(*args, **kwargs)

    example = "\n".join(
        each.source for each in doctest.DocTestParser().get_examples(inspect.getdoc(value) or "")
    )
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()):
        patch.setattr(owner, short, recorder)
        try:
            exec(example, {"__name__": "__main__"})
        except TypeError:  # of a class that is derived from
            return None
    return Call(value, found[0]) if found else None


# Records and bases of classes are not called by their users, and scikit-learn's constructors check nothing.
LATER = ("nnfast.estimators.", "nnfast.preprocessing.")
CALLED = [name for name in WHOLE if not name.startswith(LATER) and call(name)]
each_called = pytest.mark.parametrize("name", CALLED)


def test_nearly_all_are_called() -> None:
    assert len(CALLED) > 0.95 * len(WHOLE) - 6


INTERVAL = re.compile(r"\bin ([\[(])([^,\])]+), ([^,\])]+)([\])])")


def limits(entry: Entry, given: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Numbers that a parameter takes at its limits, and numbers that it does not take."""
    text = entry.text.partition(". ")[0]
    inside: list[float] = []
    outside: list[float] = []
    if not entry.kind.startswith(("float", "int")):
        return inside, outside
    if found := INTERVAL.search(entry.kind):
        low, high = (eval(found[k], dict(given)) for k in (2, 3))
        step = 1 if type(low) is type(high) is int and "int" in entry.kind else 1e-3
        (inside if found[1] == "[" else outside).append(low)
        (inside if found[4] == "]" else outside).append(high)
        outside += [low - step, high + step]
    if found := re.search(r"[Aa]t least (\d+)", f"{entry.kind}; {text}"):
        inside.append(int(found[1]))
        outside.append(int(found[1]) - 1)
    if re.search(r"^[Pp]ositive|[,;] positive", text):
        outside += [0, -1]
    if re.search(r"^[Nn]ot negative|[,;] not negative", text):
        outside.append(-1)
        inside.append(0)
    return inside, outside


@each_called
def test_ranges_are_those_that_are_checked(name: str) -> None:
    wrong: list[str] = []
    made = call(name)
    assert made
    for key, entry in entries(sections(made.function).get("Parameters", "")).items():
        inside, outside = limits(entry, made.arguments.arguments)
        for number in outside:
            try:
                made.with_(key, number)
                wrong.append(f"{key}={number} is taken")
            except ValueError as error:
                if key not in str(error):
                    wrong.append(f"{key}={number}: {error}")
        for number in inside:
            try:
                made.with_(key, number)
            except ValueError as error:
                if re.match(rf"{key} must (be in|be at least|be positive|not be)", str(error)):
                    wrong.append(f"{key}={number}: {error}")
    assert wrong == [], wrong


# What no single argument provokes.
PROVOKED: dict[str, Callable[[], Any]] = {
    "nnfast.init.gain": lambda: nf.init.gain("leaky_relu", negative_slope="x"),  # type: ignore[arg-type]
    "nnfast.merge_stats": lambda: nf.merge_stats(),
    "nnfast.nn.Sequential": lambda: nf.nn.Sequential(),
    "nnfast.schedules.CosineRestarts": lambda: nf.schedules.CosineRestarts(1, 1, lr_mult=1e9)(99),
    "nnfast.schedules.Exponential": lambda: nf.schedules.Exponential(1, 1e99)(99),
}
# What a layer's documentation says of forward.
OF_FORWARD = ("nonsense", np.zeros(()), np.zeros((2, 3)), np.full((2, 3), 7))


def others(name: str, made: Call) -> Iterator[Callable[[], Any]]:
    """Calls that provoke errors in another way."""
    if name in PROVOKED:
        yield PROVOKED[name]
    if isinstance(made.function, type) and issubclass(made.function, nf.nn.Layer):
        layer = made.function(*made.arguments.args, **made.arguments.kwargs)
        yield from (partial(layer.forward, x) for x in OF_FORWARD)


def strange(value: Any) -> list[Any]:
    """Values in place of one that is right."""
    found: list[Any] = [object(), "nonsense", -1, 2, 1.5, float("nan"), -(10**6), [], None]
    if isinstance(value, np.ndarray) or type(value) in (list, tuple):
        found += [np.zeros((3, 5, 7, 2)), np.zeros(3, np.complex64), ["a"], [object()]]
    if isinstance(value, np.ndarray):
        locked = value.copy()
        locked.flags.writeable = False
        found += [locked, value.astype(np.complex128), value[..., :0]]
    return found


def documented_errors(value: Any) -> set[type]:
    text = sections(value).get("Raises", "")
    names = [
        name
        for head in re.findall(r"^(\w[\w, ]*)$", text, re.MULTILINE)
        for name in head.split(", ")
    ]
    return {getattr(builtins, name) for name in names}


@pytest.fixture
def same_threads() -> Iterator[None]:
    before = nf.get_num_threads()
    yield
    nf.set_num_threads(before)


@pytest.mark.usefixtures("same_threads")
@each_called
def test_errors_are_those_that_are_documented(name: str) -> None:
    made = call(name)
    assert made
    documented, seen, wrong = documented_errors(made.function), set(), []
    for key, parameter in made.arguments.signature.parameters.items():
        if key == "stream":  # anything that can be written to
            continue
        usual = made.arguments.arguments.get(key, parameter.default)
        for value in strange(usual):
            try:
                made.with_(key, value)
            except Exception as error:
                seen |= {each for each in documented if isinstance(error, each)}
                if not isinstance(error, tuple(documented)):
                    wrong.append(f"{key}={value!r:.40}: {type(error).__name__}: {error!s:.100}")
    assert wrong == [], wrong
    for provoke in others(name, made):
        try:
            provoke()
        except Exception as error:
            seen |= {each for each in documented if isinstance(error, each)}
    assert documented == seen


# ---- how they read ----


@pytest.mark.numpydoc
@each_public
def test_numpydoc_finds_nothing(name: str) -> None:
    from numpydoc.docscrape import get_doc_object
    from numpydoc.validate import validate

    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    checks = tool["numpydoc_validation"]["checks"]
    # By the object, for a module has the name, too, of four functions.
    errors = validate(get_doc_object(PUBLIC[name].value))["errors"]
    assert [error for error in errors if error[0] in checks] == []


def names_of(section: str) -> list[str]:
    heads = [line.partition(" : ")[0] for line in section.splitlines() if line[:1].strip()]
    return [name for head in heads for name in head.split(", ")]


@each_whole
def test_every_docstring_names_others(name: str) -> None:
    """All that nnfast/_links.py has of it, which is where a name belongs that has no gradient, layer or peer."""
    prefix, _, short = name.removeprefix("nnfast").lstrip(".").rpartition(".")
    lines = links(prefix, short, WHOLE[name].owner.__all__)
    others = {other for line in lines for other in line.partition(" :")[0].split(", ")}
    assert set() < others <= set(names_of(sections(WHOLE[name].value).get("See Also", "")))


def found(name: str, owner: Any) -> bool:
    """Whether a name means something: in the module that names it, or in another library, if that is installed."""
    library, *parts = name.split(".")
    if not parts:
        return hasattr(owner, name)
    try:
        value = import_module(library)
    except ImportError:
        return True
    try:
        for part in parts:
            value = getattr(value, part, None) or import_module(f"{value.__name__}.{part}")
    except ImportError:
        return False
    return True


@each_whole
def test_what_is_named_exists(name: str) -> None:
    value, owner = WHOLE[name]
    missing = [
        other
        for other in names_of(sections(value).get("See Also", ""))
        if not other.startswith("torch.") and not found(other, owner)
    ]
    assert missing == []


@pytest.mark.peers
@each_whole
def test_what_is_named_exists_in_pytorch(name: str) -> None:
    value, owner = WHOLE[name]
    named = [n for n in names_of(sections(value).get("See Also", "")) if n.startswith("torch.")]
    assert [other for other in named if not found(other, owner)] == []


@each_public
def test_signatures_can_be_read(name: str) -> None:
    text = str(inspect.signature(PUBLIC[name].value))
    for unreadable in ("Union[", "numpy._typing", "numpy.ndarray", "**kwargs: 'Unpack"):
        assert unreadable not in text


SPELLINGS = {
    r"normalis": "normaliz",
    r"regularis": "regulariz",
    r"class_weights": "class_weight",
}


@pytest.mark.parametrize("wrong", SPELLINGS)
def test_one_spelling(wrong: str) -> None:
    words = re.compile(wrong, re.IGNORECASE)
    texts = {name: f"{name} {inspect.getdoc(each.value)}" for name, each in PUBLIC.items()}
    for name in nf._LAZY:
        texts[name] = import_module(f"nnfast.{name}").__doc__ or ""
    assert {name: words.search(text) for name, text in texts.items() if words.search(text)} == {}


def test_star_import_shadows_nothing() -> None:
    names: dict[str, Any] = {}
    exec("from nnfast import *", names)
    mine = names.keys() - {"__builtins__", "__version__"}
    assert len(mine) > 130
    assert mine & (sys.stdlib_module_names | set(dir(builtins))) == set()


# ---- what is filled in ----


def test_layers_are_those_of_their_functions() -> None:
    for function, layer in LAYERS.items():
        assert callable(getattr(nf, function))
        assert issubclass(getattr(nf.nn, layer), nf.nn.Layer)
    of_table = {cls._name: key for key, cls in vars(nf.nn).items() if hasattr(cls, "_name")}
    assert of_table.items() <= LAYERS.items()


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.lowest or row.highest])
def test_bounds_hold_for_all_parameters(name: str) -> None:
    row, rng = TABLE[name], np.random.default_rng(0)
    function, x = getattr(nf, name), np.append(rng.normal(0, 9, 1000), [-np.inf, np.inf])
    text = sections(function)["Returns"]
    for bound in filter(None, (row.lowest, row.highest)):
        assert bound in text
    for _ in range(20):
        values = sorted(rng.normal(0, 3, len(row.params)))
        if name == "celu":
            values = [abs(value) for value in values]
        given = dict(zip(row.params, values, strict=True))
        y = function(x, **given)
        assert y.min() >= eval(row.lowest, dict(given))
        assert not row.highest or y.max() <= eval(row.highest, dict(given))


def test_an_entry_without_a_description_is_filled_in() -> None:
    text = """F.

    Parameters
    ----------
    a : int
    b : float, default 1
        Known.
    p : float

    Returns
    -------
    da, db : ndarray
    c : int

    Examples
    --------
    >>> 1
    1
    """
    done = complete(text, "f_backward", {"a": "never read"}, ["f : The function."])
    parts = sections(type("F", (), {"__doc__": done}))
    assert [each.text for each in entries(parts["Parameters"]).values()] == [
        "As given to f.",
        "Known.",
        "As given to f.",
    ]
    returns = entries(parts["Returns"])
    assert returns["da"].text == "Gradients of the loss with respect to a and b."
    assert returns["c"].text == ""
    assert parts["See Also"].strip() == "f : The function."
    assert list(parts) == ["Parameters", "Returns", "See Also", "Examples"]
    assert (
        entries(
            sections(type("F", (), {"__doc__": complete(text, "f", {"a": "Read."}, [])}))[
                "Parameters"
            ]
        )["a"].text
        == "Read."
    )
