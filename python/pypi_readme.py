"""The README as PyPI shows it, for scikit-build-core (dynamic-metadata in pyproject.toml).

In the repository links and pictures are relative, so that they are those of the commit one looks at; PyPI has no
files to point to.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?P<before>(?P<picture>!?)\[[^\]]*\]\()(?!https?://|#)(?P<file>[^)\s]+)")


def absolute(text: str, address: str, version: str) -> str:
    """Point links and pictures at the files of the version's tag."""

    def link(match: re.Match[str]) -> str:
        kind = "raw" if match["picture"] else "blob"
        return f"{match['before']}{address}/{kind}/v{version}/{match['file']}"

    return _LINK.sub(link, text)


def dynamic_metadata(settings: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """Return the field ``readme`` of the project."""
    text = Path(settings["file"]).read_text(encoding="utf-8")
    text = absolute(text, project["urls"]["Repository"], project["version"])
    return {"readme": {"content-type": "text/markdown", "text": text}}
