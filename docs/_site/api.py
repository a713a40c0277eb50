"""The reference: a page a family, made of the package's own lists, so that a new function is on it by itself."""

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import nnfast as nf

FOLDER = Path(__file__).parents[1] / "api"
# They have no public names, or no users.
WITHOUT = {"__main__", "demo", "version"}
# scikit-learn's routing of metadata, which has its own documentation.
ROUTING = re.compile(r"(set_\w+_request|get_metadata_routing)$")


def families() -> dict[str, tuple[str, list[str]]]:
    """Of every public module: its title, and the names that are reached as `nnfast.<name>`.

    A module whose functions stand at the top of the package (`nnfast.relu`) is a family like one that is used by its
    own name (`nnfast.optim.Adam`).

    Raises
    ------
    LookupError
        If a public name is of no module.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    rest = set(nf.__all__) - {"__version__"}
    modules = {
        info.name: import_module(f"nnfast.{info.name}")
        for info in pkgutil.iter_modules(nf.__path__)
        if not info.name.startswith("_") and info.name not in WITHOUT
    }
    # First those that say what they export: the others import from them.
    for name, module in sorted(modules.items(), key=lambda item: not hasattr(item[1], "__all__")):
        exported = getattr(module, "__all__", None)
        if name in nf._LAZY:
            names = [f"{name}.{each}" for each in exported]
            rest.discard(name)
        elif exported is not None:
            names = [each for each in exported if each in nf.__all__]
            rest -= set(names)
        else:
            names = sorted(
                each
                for each in rest
                if hasattr(module, each)
                and getattr(module, each) is getattr(nf, each, None)
                and each not in nf._LAZY
            )
            rest -= set(names)
        if names:
            found[name] = (title(module.__doc__), names)
    if rest:
        raise LookupError(f"no module of nnfast exports {sorted(rest)}")
    return dict(sorted(found.items()))


def title(doc: str | None) -> str:
    """What a module is about: the first sentence of its docstring, without a colon's rest."""
    first = re.split(r"[.:]\s", f"{' '.join((doc or '').split())} ")[0]
    return re.sub(r"``(.*?)``", r"\1", first)


def filenames() -> dict[str, str]:
    """Other file names for what differs from another name by its case alone, as `optim.adam` from `optim.Adam`."""
    names = [name for _, names in families().values() for name in names]
    classes = {name.lower() for name in names if name != name.lower()}
    return {f"nnfast.{name}": f"nnfast.{name}_function" for name in names if name in classes}


def page(family: str, names: list[str]) -> str:
    """The page of a family, in reST: what its module says, then its names."""
    table = "\n".join(f"   {name}" for name in names)
    return f"""{family}
{"=" * len(family)}

.. automodule:: nnfast.{family}
   :no-members:
   :no-index:

.. currentmodule:: nnfast
.. autosummary::
   :toctree: generated
   :nosignatures:

{table}
"""


def index(found: dict[str, tuple[str, list[str]]]) -> str:
    """The page that lists the families."""
    rows = "\n".join(
        f"   * - :doc:`{family}`\n     - {doc}\n     - {len(names)}"
        for family, (doc, names) in found.items()
    )
    entries = "\n".join(f"   {family}" for family in found)
    return f"""API reference
=============

Every public function and class, by family. ``import nnfast as nf``; a function of a family such as activations is
``nf.relu``, of a module such as optim ``nf.optim.Adam``.

.. list-table::
   :header-rows: 1
   :widths: 20 70 10

   * - family
     - what it has
     - names
{rows}

.. toctree::
   :hidden:

{entries}
"""


def write() -> None:
    """Write the pages into docs/api, where they have changed."""
    found = families()
    texts = {family: page(family, names) for family, (_, names) in found.items()}
    FOLDER.mkdir(exist_ok=True)
    for name, text in {**texts, "index": index(found)}.items():
        path = FOLDER / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in FOLDER.glob("*.rst"):
        if path.stem not in {*texts, "index"}:
            path.unlink()


# What is no markup in our docstrings: the underscore of classes_, the bars of |x|, the star of (*shape, n).
_MARKUP = re.compile(r"(?<=\w)_(?=$|[\s,.;:)])|(?<!\\)\||(?<=[(\[ ])\*(?=[A-Za-z_][\w.]*[,)\] ])")
# Code and formulas, which are left as they are.
_LITERAL = re.compile(r"(``.*?``|:\w+:`.*?`|\.\. .*)")


def escaped(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep names and formulas in plain text from being markup."""
    formula = None  # the indentation of a formula that goes on
    names = False  # whether the section is one of names, which numpydoc reads
    for i, line in enumerate(lines):
        if i + 1 < len(lines) and re.fullmatch("-{3,}", lines[i + 1]):
            names = line == "See Also"
        indent = len(line) - len(line.lstrip())
        if formula is not None and (not line or indent > formula):
            continue
        formula = indent if line.lstrip().startswith(".. math::") else None
        if not names and not line.lstrip().startswith((">>>", "...")):
            parts = _LITERAL.split(line)
            parts[::2] = [_MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
            lines[i] = "".join(parts)


class Shown:
    """A default as one writes it: a function by its name, ... for Ellipsis."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        if self.value is ...:
            return "..."
        prefix = "np." if self.value.__module__ == "numpy" else ""
        return prefix + str(self.value.__qualname__)


def signature(app: Any, what: str, name: str, obj: Any, options: Any, *_: Any) -> Any:
    """The signature without types, which the docstring has in words; that of a ufunc too, where NumPy knows it."""
    try:
        found = inspect.signature(obj)
    except (TypeError, ValueError):
        return None
    parameters = [
        each.replace(
            annotation=each.empty,
            default=Shown(each.default)
            if each.default is ... or (callable(each.default) and each.default is not each.empty)
            else each.default,
        )
        for each in found.parameters.values()
    ]
    if what == "method" and parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    return str(found.replace(parameters=parameters, return_annotation=found.empty)), ""


def skipped(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Whether a member has no place on its class's page."""
    return True if ROUTING.match(name) else None


def setup(app: Any) -> dict[str, bool]:
    """Write the pages before Sphinx looks for them."""
    write()
    app.connect("autodoc-process-docstring", escaped, priority=100)
    app.connect("autodoc-process-signature", signature, priority=900)
    app.connect("autodoc-skip-member", skipped)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
