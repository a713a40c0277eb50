"""What the site adds to the pages: figures and pictures of the last run, the contributor's page, the release notes."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import plots
from nnfast._table import TABLE

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
PICTURES = "generated_pictures"
SIZES = (10**4, 10**6)

_PICTURE = re.compile(r"<!-- pictures of the run -->")
_ACTIVATIONS = re.compile(r"<!-- table of activations -->")
_ROOT_LINK = re.compile(r"(\[[^\]]*\]\()(?!https?://|#|mailto:)([^)\s]+\))")


def families_of(points: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The points that a picture shows, by family: float32, on all threads, at two sizes."""
    most = max(row["threads"] for row in points)
    shown = [
        row
        for row in points
        if row["dtype"] == "float32" and row["threads"] == most and row["n"] in SIZES
    ]
    return {
        family: [row for row in shown if row["family"] == family]
        for family in dict.fromkeys(row["family"] for row in shown)
    }


def draw_run() -> str:
    """Draw a picture a family of the last run into the site's folder; the Markdown that shows them."""
    result = json.loads((DOCS / "bench/results.json").read_text(encoding="utf-8"))
    folder = DOCS / PICTURES
    folder.mkdir(exist_ok=True)
    parts = []
    for family, points in families_of(result["points"]).items():
        plots.ratios(points).savefig(folder / f"{family}.svg")
        alt = f"Time of the best peer over that of nnfast, {family}"
        parts.append(f"### {family}\n\n![{alt}]({PICTURES}/{family}.svg)")
    return "\n\n".join(parts)


def activations() -> str:
    """The table of elementwise activations, of the package's own."""
    head = [
        "| function | formula | parameters | gradient takes | error, ULP |",
        "|---|---|---|---|---:|",
    ]
    found = []
    for row in TABLE.values():
        if row.name == "gelu_tanh":
            continue
        given = ", ".join(f"{name} {value:g}" for name, value in row.params.items())
        found.append(
            f"| {{py:obj}}`nf.{row.name} <nnfast.{row.name}>` | `{row.formula}` | {given} | {row.saves} | {row.ulp:g} |"
        )
    return "\n".join([*head, *found])


def from_root(name: str) -> str:
    """A page of the repository's root, with the links it has from docs."""

    def link(match: re.Match[str]) -> str:
        target = match[2].replace("changes/README.md", "docs/changes.md")
        return match[1] + (target[5:] if target.startswith("docs/") else f"../{target}")

    return _ROOT_LINK.sub(link, (ROOT / name).read_text(encoding="utf-8"))


def unreleased() -> str:
    """The fragments in changes, as towncrier gathers them."""
    if not any((ROOT / "changes").glob("*.*.md")):
        return ""
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "next"]
    drafted = subprocess.check_output(command, cwd=ROOT, text=True, stderr=subprocess.DEVNULL)
    _, _, below = drafted.strip().partition("\n")
    return f"## Not released yet\n{below}"


def release_notes() -> str:
    """CHANGELOG.md, with what is not released yet on top."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    start = "<!-- towncrier release notes start -->"
    released = text.split(start)[1]
    return f"# Release notes\n\n{unreleased()}\n{released}"


def filled(app: Any, name: str, text: list[str]) -> None:
    """Fill in what a page takes from elsewhere."""
    if name == "activations":
        text[0] = _ACTIVATIONS.sub(lambda _: activations(), text[0])
    elif name == "performance":
        text[0] = _PICTURE.sub(lambda _: draw_run(), text[0])
    elif name == "contributing":
        text[0] = from_root("CONTRIBUTING.md")
    elif name == "changes":
        text[0] = release_notes()


def scrape_picture(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Show what a gallery script has drawn into a file in memory that it names `picture`."""
    from sphinx_gallery.scrapers import figure_rst

    picture = block_vars["example_globals"].pop("picture", None)
    if picture is None:
        return ""
    path = next(block_vars["image_path_iterator"])
    Path(path).write_bytes(picture.getvalue())
    return str(figure_rst([path], gallery_conf["src_dir"]))


def setup(app: Any) -> dict[str, bool]:
    """Fill in pages as they are read."""
    app.connect("source-read", filled)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
