"""The pages of docs: their examples run, the names in them exist, and their tables say what the functions do."""

import contextlib
import inspect
import io
import re
import runpy
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nnfast as nf

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# By a test below; by test_dask_training.py, test_demo_images.py, test_estimators.py and test_schedules.py.
TESTED_ELSEWHERE = {"dask.md", "images.md", "estimators.md", "schedules.md", "start.md"}
# Written by bench.
GENERATED = {"accuracy.md", "bench/report.md", "bench/avx2/report.md"}
WITH_TORCH = "<!-- needs torch -->\n"
EXAMPLE = re.compile(
    rf"(?P<torch>{WITH_TORCH})?```python\n(?P<code>.*?)```(?:\n\n```text\n(?P<printed>.*?)```)?",
    re.S,
)

PAGES = {
    path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.rglob("*.md"))
}
WRITTEN = {name: text for name, text in PAGES.items() if name not in GENERATED}
WITH_EXAMPLES = [
    name for name, text in PAGES.items() if EXAMPLE.search(text) and name not in TESTED_ELSEWHERE
]


def run(page: str, torch: bool = False) -> dict[str, Any]:
    """Run the examples of a page one after the other; what they print is compared where the page shows it."""
    text, names = PAGES[page], {"__name__": "page"}
    for match in EXAMPLE.finditer(text):
        if match["torch"] and not torch:
            continue
        line = text.count("\n", 0, match.start("code"))
        code = compile("\n" * line + match["code"], str(DOCS / page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        if match["printed"] is not None:
            assert printed.getvalue() == match["printed"], f"{page}:{line + 1}"
    return names


@pytest.mark.parametrize("page", WITH_EXAMPLES)
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(page)


def test_the_tutorial_learns() -> None:
    found = run("start.md")
    assert found["accuracy"] > 0.95
    assert found["accuracy_of_layers"] > 0.95
    assert found["clf"].score(found["x_test"], found["labels_test"]) > 0.95


def test_what_an_example_prints_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAGES, "x", "```python\nprint(1)\n```\n\n```text\n2\n```\n")
    with pytest.raises(AssertionError, match="x:2"):
        run("x")


GALLERY = sorted((DOCS / "gallery").glob("*.py"))


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_gallery_scripts_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    with contextlib.redirect_stdout(io.StringIO()):
        found = runpy.run_path(str(path))
    drawn = plt.get_fignums()
    plt.close("all")
    assert drawn or found["picture"].getvalue().startswith(b"\x89PNG")


# ---- names ----


def attribute(root: Any, path: str) -> Any:
    """What `nf.optim.Adam` names."""
    for part in path.split("."):
        root = getattr(root, part)
    return root


@pytest.mark.parametrize("page", WRITTEN)
def test_names_of_nnfast_exist(page: str) -> None:
    # Prose and tables; examples run.
    prose = re.sub(r"```.*?```", "", WRITTEN[page], flags=re.S)
    for name in re.findall(r"`(?:nf|nnfast)\.([A-Za-z][\w.]*\w)", prose):
        attribute(nf, name)


@pytest.mark.parametrize("page", WRITTEN)
def test_keywords_of_calls_exist(page: str) -> None:
    prose = re.sub(r"```.*?```", "", WRITTEN[page], flags=re.S)
    for name, arguments in re.findall(r"`nf\.([\w.]+)\(([^`]*)\)`", prose):
        parameters = inspect.signature(attribute(nf, name)).parameters
        taken = {each.kind for each in parameters.values()}
        for keyword in re.findall(r"(\w+)=", arguments):
            assert keyword in parameters or inspect.Parameter.VAR_KEYWORD in taken, (name, keyword)


@pytest.mark.peers
def test_names_of_pytorch_exist() -> None:
    import torch

    found = set(re.findall(r"`torch\.([A-Za-z][\w.]*\w)", PAGES["pytorch.md"]))
    assert len(found) > 60
    for name in found:
        attribute(torch, name)


# ---- tables ----


def rows(page: str, title: str) -> Iterator[list[str]]:
    """The cells of the table under a title."""
    part = PAGES[page].split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = [line for line in part.splitlines() if line.startswith("|")][2:]
    assert len(found) > 5
    for line in found:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def named(cell: str) -> tuple[str, str]:
    """`nf.dropout` p: the function and its parameter."""
    match = re.fullmatch(r"`(?:nf|torch)\.([\w.]+)` (\w+)", cell)
    assert match, cell
    return match[1], match[2]


def default(root: Any, name: str, parameter: str, convention: str = "torch") -> Any:
    """What an argument is where it is left out."""
    function = attribute(root, name)
    if convention in getattr(function, "defaults", {}):
        table = function.defaults
        return (table["torch"] | table[convention])[parameter]
    if root is nf and name == "nn.BatchNorm":
        return getattr(nf.nn.BatchNorm(2, convention=convention), parameter)
    return inspect.signature(function).parameters[parameter].default


def test_defaults_are_those_of_the_page() -> None:
    for ours, value, _, _ in rows("pytorch.md", "Defaults"):
        assert f"`{default(nf, *named(ours))}`" == value, ours


@pytest.mark.peers
def test_defaults_of_pytorch_are_those_of_the_page() -> None:
    import torch

    for _, _, theirs, value in rows("pytorch.md", "Defaults"):
        assert f"`{default(torch, *named(theirs))}`" == value, theirs


def test_defaults_by_the_convention_of_keras() -> None:
    for ours, value, of_keras in rows("keras.md", "Defaults"):
        assert value.split(",")[0] == f"`{default(nf, *named(ours))}`", ours
        assert of_keras.split(",")[0] == f"`{default(nf, *named(ours), 'keras')}`", ours


@pytest.mark.peers
def test_the_port_from_pytorch_trains_alike() -> None:
    """The page's two networks, without dropout, on the same batches."""
    import torch

    page = run("pytorch.md", torch=True)
    net, model = page["network"](0, p=0.0), page["model"].train()
    for module in model:
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        for layer, module in zip(net, model, strict=True):
            if isinstance(module, torch.nn.Linear):
                module.weight[...] = torch.from_numpy(layer.weight.T)
                if module.bias is not None:
                    module.bias[...] = torch.from_numpy(layer.bias)
    x, labels = page["x"][:640], page["labels"][:640]
    schedule = nf.schedules.Cosine(1e-3, T_max=20)
    opt = nf.optim.AdamW(net.params, weight_decay=1e-2, clip_global_norm=1.0)
    theirs = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=20)
    for k in range(0, 640, 32):
        xb, yb = x[k : k + 32], labels[k : k + 32]
        loss, dz = nf.softmax_cross_entropy(net.forward(xb, training=True), yb)
        net.backward(dz)
        opt.lr = schedule(opt.step_count)
        opt.step(net.grads)
        theirs.zero_grad()
        expected = torch.nn.functional.cross_entropy(
            model(torch.from_numpy(xb)), torch.from_numpy(yb)
        )
        expected.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        theirs.step()
        scheduler.step()
        assert loss == pytest.approx(float(expected.detach()), rel=1e-3)
    with torch.no_grad():
        scores = model.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(net.forward(x), scores, atol=2e-2)


# ---- what the site is made of ----


def module_at(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A file as a module, without leaving its bytecode beside it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("module", str(ROOT / path))
    module = module_from_spec(spec_from_loader("module", loader))
    loader.exec_module(module)
    return module


def test_every_public_name_has_a_place_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    api = module_at("docs/_site/api.py", monkeypatch)
    listed = [name for _, names in api.families().values() for name in names]
    public = [
        f"{name}.{part}" if name in nf._LAZY else part
        for name in sorted({*nf.__all__, *nf._LAZY} - {"__version__"})
        for part in getattr(getattr(nf, name), "__all__", [name])
    ]
    assert sorted(listed) == sorted(set(public))
    files = [api.filenames().get(f"nnfast.{name}", f"nnfast.{name}") for name in listed]
    assert len({file.lower() for file in files}) == len(files)


def test_a_name_of_no_module_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    api = module_at("docs/_site/api.py", monkeypatch)
    monkeypatch.setattr(nf, "__all__", [*nf.__all__, "nothing"])
    with pytest.raises(LookupError, match="nothing"):
        api.families()


def test_signatures_show_defaults_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    api = module_at("docs/_site/api.py", monkeypatch)

    def shown(kind: str, function: Any) -> str:
        return str(api.signature(None, kind, "", function, None)[0])

    assert shown("class", nf.nn.Embedding) == (
        "(n, dim, *, padding_idx=None, sparse=False, dtype=None, init=normal, rng=None)"
    )
    assert "momentum=..., eps=None" in shown("function", nf.batch_norm)
    assert "dtype=np.float32" in shown("function", nf.init.zeros)
    assert shown("method", nf.nn.Sequential.save) == "(path)"
    assert api.signature(None, "function", "", 1, None) is None


@pytest.mark.parametrize(
    ("line", "escaped"),
    [
        ("classes_ : ndarray", r"classes\_ : ndarray"),
        ("where |d| <= delta, ``|d|``", r"where \|d\| <= delta, ``|d|``"),
        (":math:`|x|` of coef_", r":math:`|x|` of coef\_"),
        (">>> a_ | b", ">>> a_ | b"),
        ("(*indices.shape, dim) is *added*", r"(\*indices.shape, dim) is *added*"),
    ],
)
def test_names_and_bars_are_no_markup(
    line: str, escaped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = module_at("docs/_site/api.py", monkeypatch)
    lines = [line, ".. math::", "", "   |x| a_", "", line]
    api.escaped(None, "function", "", None, None, lines)
    assert lines == [escaped, ".. math::", "", "   |x| a_", "", escaped]


def test_names_to_see_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    api = module_at("docs/_site/api.py", monkeypatch)
    lines = ["See Also", "--------", "max_norm_ : a_ constraint", "", "Notes", "-----", "a_ b"]
    api.escaped(None, "function", "", None, None, lines)
    assert lines[2:] == ["max_norm_ : a_ constraint", "", "Notes", "-----", r"a\_ b"]


@pytest.mark.checkout
def test_every_page_is_on_the_site() -> None:
    listed = set()
    for name, text in PAGES.items():
        for block in re.findall(r"```{toctree}\n(.*?)```", text, re.S):
            entries = re.findall(r"^(?!:)(?:.*<)?([\w/.]+)>?$", block, re.M)
            listed |= {(Path(name).parent / entry).as_posix() for entry in entries}
    pages = {name.removesuffix(".md") for name in PAGES} - {"index"}
    assert pages <= listed
    assert listed - pages == {"api/index", "auto_gallery/index"}


@pytest.mark.checkout
@pytest.mark.skipif(find_spec("snowballstemmer") is None, reason="comes with Sphinx")
def test_a_search_without_result_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = module_at(".ci/check-site", monkeypatch)
    index = '{"docnames": ["a", "b"], "terms": {"weight": [0, 1], "decai": 1}, "titleterms": {"resum": [0]}}'
    (tmp_path / "searchindex.js").write_text(f"Search.setIndex({index})")
    assert list(check.without_result(tmp_path, {"weight decay": "b", "resume": "a"})) == []
    assert list(check.without_result(tmp_path, {"weight decay": "a"})) == [
        "a search for 'weight decay' finds 1 pages without a"
    ]


@pytest.mark.checkout
def test_dead_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = module_at(".ci/check-site", monkeypatch)
    (tmp_path / "a.html").write_text('<p id="p"><a href="b.html#q">b</a> <a href="#p">p</a></p>')
    (tmp_path / "b.html").write_text('<h1 id="q">q</h1><a href="https://x/y">out</a>')
    assert list(check.dead_links(tmp_path.resolve())) == []
    (tmp_path / "b.html").write_text('<img src="c.png"><a href="a.html">a</a>')
    assert list(check.dead_links(tmp_path.resolve())) == [
        "a.html: b.html#q has no such anchor",
        "b.html: c.png is not there",
    ]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
