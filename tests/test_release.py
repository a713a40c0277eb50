"""What a release is made of: its page, its files, its notes, and the workflows that make it."""

import io
import random
import re
import shutil
import sys
import tarfile
import tomllib
import zipfile
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.checkout

ROOT = Path(__file__).parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = CONFIG["project"]
VERSION = PROJECT["version"]
ADDRESS = PROJECT["urls"]["Repository"]
AUTHORS = PROJECT["authors"][0]["name"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def script(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script as a module, without leaving its bytecode beside it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("script", str(ROOT / path))
    module = module_from_spec(spec_from_loader("script", loader))
    loader.exec_module(module)
    return module


# ---- the page on PyPI ----


def test_links_of_the_page_are_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    readme = script("python/pypi_readme.py", monkeypatch)
    settings = CONFIG["tool"]["dynamic-metadata"][0]
    page = readme.dynamic_metadata(settings, PROJECT)["readme"]["text"]
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", page)
    assert len(links) > 10
    for picture, link in links:
        at = f"{ADDRESS}/{'raw' if picture else 'blob'}/v{VERSION}/"
        if link.startswith(ADDRESS):
            assert link.startswith(at), link
            assert (ROOT / link.removeprefix(at).partition("#")[0]).exists(), link
        else:
            assert link.startswith(("https://", "#")), link


def test_a_link_becomes_absolute_once(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = script("python/pypi_readme.py", monkeypatch)
    text = "[a](docs/a.md#b) ![c](c.png) [d](https://d) [e](#e) [f](docs/f.md)"
    there = readme.absolute(text, "https://x/nnfast", "1.0")
    assert there == (
        "[a](https://x/nnfast/blob/v1.0/docs/a.md#b) ![c](https://x/nnfast/raw/v1.0/c.png) [d](https://d) [e](#e) "
        "[f](https://x/nnfast/blob/v1.0/docs/f.md)"
    )
    assert readme.absolute(there, "https://x/nnfast", "1.0") == there


def test_a_wheel_is_built_for_every_python_that_is_named() -> None:
    built = re.findall(r"cp3(\d+)-\*", CONFIG["tool"]["cibuildwheel"]["build"])
    named = [c.rpartition(".")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert built == named
    assert f">=3.{named[0]}" == PROJECT["requires-python"]


# ---- authors and address ----


def test_authors_and_address_are_the_same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    identity = script(".ci/identity", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["identity"])
    assert identity.main() == 0
    files = {Path(name): (ROOT / name).read_text() for name in identity.AUTHORS_STAND_IN}

    def faults(public: bool = False, **changed: str) -> list[str]:
        texts = files | {Path(name.replace("_", ".")): text for name, text in changed.items()}
        return identity.faults(texts, ADDRESS, AUTHORS, public)

    assert faults() == []
    other = "https://github.com/somebody/nnfast"
    assert faults(README_md=f"see {other}/issues") == [f"README.md: {other} is not {ADDRESS}"]
    assert faults(README_md="see https://pypi.org/project/nnfast") == []
    assert faults(CITATION_cff="nobody") == [
        f"CITATION.cff: does not name the authors, {AUTHORS!r}"
    ]
    placeholder = ".example/" in ADDRESS
    assert len(faults(public=True)) == placeholder


def test_address_and_authors_are_replaced_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = script(".ci/identity", monkeypatch)
    names = [*identity.AUTHORS_STAND_IN, ".github/ISSUE_TEMPLATE/config.yml"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(identity.subprocess, "check_output", lambda *_, **__: "\0".join(names))
    new = "https://github.com/owner/nnfast"
    monkeypatch.setattr(sys, "argv", ["identity", "--public", new, "A. Author"])
    assert identity.main() == 0, capsys.readouterr().out
    for name in names:
        text = Path(name).read_text()
        assert new in text
        assert ADDRESS not in text
        assert AUTHORS not in text
    monkeypatch.setattr(sys, "argv", ["identity", "http://nnfast"])
    with pytest.raises(SystemExit):
        identity.main()
    assert "must begin with https:// and end with /nnfast" in capsys.readouterr().err


# ---- files ----


def make_dists(
    folder: Path,
    platforms: list[str],
    text: str = "",
    windows_kilobytes: int = 1,
    also: str = "nnfast/a.py",
) -> None:
    """Wheels and an sdist of nothing but metadata."""
    metadata = f"Metadata-Version: 2.4\nName: nnfast\nVersion: {VERSION}\n\n{text}\n".encode()
    for python in re.findall(r"cp3\d+", CONFIG["tool"]["cibuildwheel"]["build"]):
        for platform in platforms:
            name = f"nnfast-{VERSION}-{python}-{python}-{platform}.whl"
            with zipfile.ZipFile(folder / name, "w") as archive:
                archive.writestr(f"nnfast-{VERSION}.dist-info/METADATA", metadata)
                size = 1000 * windows_kilobytes if platform == "win_amd64" else 1000
                archive.writestr("nnfast/_core.so", bytes(size))
                archive.writestr(also, "")
    with tarfile.open(folder / f"nnfast-{VERSION}.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo(f"nnfast-{VERSION}/PKG-INFO")
        info.size = len(metadata)
        archive.addfile(info, io.BytesIO(metadata))


TAGS = [
    "manylinux_2_27_x86_64.manylinux_2_28_x86_64",
    "musllinux_1_2_x86_64",
    "manylinux_2_27_aarch64.manylinux_2_28_aarch64",
    "musllinux_1_2_aarch64",
    "macosx_13_3_arm64",
    "macosx_13_3_x86_64",
    "win_amd64",
]


@pytest.mark.parametrize(
    ("platforms", "options", "fault"),
    [
        (TAGS, {}, None),
        (TAGS, {"text": "[a](https://x) [b](#b)"}, None),
        (TAGS[1:], {}, "no wheel of cp311 for manylinux_x86_64"),
        ([*TAGS, "linux_x86_64"], {}, "linux_x86_64.whl: is not one of pyproject.toml's"),
        (TAGS, {"windows_kilobytes": 2600}, "win_amd64.whl: 2.60 MB, and may have 2.5"),
        (TAGS, {"also": "tests/smoke.py"}, "win_amd64.whl: has tests beside nnfast"),
        (TAGS, {"text": "![a](docs/demo.png)"}, "links in its description: docs/demo.png"),
        (TAGS, {"text": '<img src="docs/a.png">'}, "links in its description: docs/a.png"),
    ],
)
def test_files_of_a_release_are_checked(
    platforms: list[str],
    options: dict[str, Any],
    fault: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    dists = script(".ci/dists", monkeypatch)
    make_dists(tmp_path, platforms, **options)
    found = dists.faults(tmp_path)
    if fault is None:
        assert found == []
    else:
        assert any(fault in line for line in found), found


@pytest.mark.parametrize(("megabytes", "fault"), [(2.2, None), (2.45, "2.45 MB with _core.so")])
def test_a_wheel_is_weighed_before_its_release(
    megabytes: float, fault: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dists = script(".ci/dists", monkeypatch)
    wheel, extension = tmp_path / "a.whl", tmp_path / "_core.so"
    wheel.write_bytes(bytes(200_000))
    extension.write_bytes(random.Random(0).randbytes(int(megabytes * 1e6) - 200_000))
    found = dists.faults_of_built(wheel, extension)
    assert [fault in line for line in found] == ([] if fault is None else [True])


def test_files_of_another_version_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dists = script(".ci/dists", monkeypatch)
    make_dists(tmp_path, TAGS)
    sdist = tmp_path / f"nnfast-{VERSION}.tar.gz"
    assert dists.faults_of(sdist, 1, "9.9") == [f"{sdist.name}: is not of version 9.9"]
    shutil.copy(sdist, tmp_path / f"nnfast-{VERSION}.post1.tar.gz")
    monkeypatch.setattr(dists, "faults_of", lambda *_: [])
    assert dists.faults(tmp_path) == ["2 sdists"]


# ---- notes ----


def test_fragments_are_of_a_known_kind() -> None:
    kinds = "|".join(kind["directory"] for kind in CONFIG["tool"]["towncrier"]["type"])
    fragments = [path for path in (ROOT / "changes").iterdir() if path.name != "README.md"]
    for path in fragments:
        assert re.fullmatch(rf"(\+[a-z0-9-]+|\d+)\.({kinds})\.md", path.name), path.name
        assert path.read_text().strip()
    assert set(kinds.split("|")) == set(
        re.findall(r"^\| `(\w+)`", (ROOT / "changes/README.md").read_text(), re.M)
    )


def test_topics_of_fragments_have_a_place_in_the_notes() -> None:
    template = (ROOT / CONFIG["tool"]["towncrier"]["template"]).read_text()
    (listed,) = re.findall(r"set topics = \[(.*?)\]", template, re.DOTALL)
    topics = re.findall(r'"(.*?)"', listed)
    for path in (ROOT / "changes").glob("*.*.md"):
        for topic in re.findall(r"\A\*\*(.*?)\*\*", path.read_text()):
            assert topic.removesuffix(".") in topics, path.name


def test_notes_are_the_section_of_the_tag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    notes = script(".ci/release-notes", monkeypatch).notes
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes/README.md").touch()
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.1"\n')
    log = tmp_path / "CHANGELOG.md"
    log.write_text(
        "# Changes\n\n## 1.1 (2030-01-01)\n\n### Added\n\n- a\n\n## 1.0 (2029-01-01)\n\n- b\n"
    )
    assert notes(tmp_path, "v1.1") == "### Added\n\n- a"
    with pytest.raises(ValueError, match=r"the tag must be v1\.1, .*got v1\.0"):
        notes(tmp_path, "v1.0")
    (tmp_path / "changes/+c.fixed.md").write_text("c")
    with pytest.raises(ValueError, match=r"lacks \+c\.fixed\.md"):
        notes(tmp_path, "v1.1")
    (tmp_path / "changes/+c.fixed.md").unlink()
    log.write_text("# Changes\n\n## 1.1 (2030-01-01)\n\n## 1.0 (2029-01-01)\n\n- b\n")
    with pytest.raises(ValueError, match=r"no section of 1\.1"):
        notes(tmp_path, "v1.1")


# ---- workflows and hooks ----


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_bounded_named_and_pinned(path: Path) -> None:
    text = path.read_text()
    for line in re.findall(r"uses:.*", text):
        assert re.fullmatch(r"uses: [\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), line
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow
    for name, job in workflow["jobs"].items():
        assert {"name", "timeout-minutes", "permissions"} <= set(job), name
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name
            # It would replace pyproject.toml's list of Pythons.
            assert "CIBW_BUILD" not in step.get("env", {}), name


def test_an_action_has_one_version() -> None:
    used = {line for path in WORKFLOWS for line in re.findall(r"uses: (\S+)@", path.read_text())}
    pins = {pin for path in WORKFLOWS for pin in re.findall(r"uses: (\S+@.*)", path.read_text())}
    assert len(pins) == len(used)


def test_hooks_have_the_versions_of_pyproject() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][-1]["hooks"]
    pins = {pin for hook in hooks for pin in hook["additional_dependencies"]}
    groups = CONFIG["dependency-groups"]
    for pin in pins:
        assert pin in [*groups["lint"], *groups["release"], *groups["docs"]], pin
    assert {hook["id"] for hook in hooks} >= {"ruff-check", "clang-format", "zizmor", "numpydoc"}


def test_issue_forms_ask_for_the_installation() -> None:
    for name in ("bug", "slow"):
        form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text())
        asked = {part["attributes"]["label"]: part for part in form["body"]}
        assert asked["python -m nnfast"]["validations"]["required"]
