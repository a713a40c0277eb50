"""The figures of the README and of docs/performance.md, out of the JSON files of two runs. None of them is typed in."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench import report

Row = dict[str, Any]

ROOT = Path(__file__).parents[1]
SIZES = (10**4, 10**6)


# What a network is made of, and one row for each way of being bound: by memory, by arithmetic, by calls.
TEN = (
    "relu",
    "gelu",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "batch_norm",
    "layer_norm",
    "dropout",
    "Adam",
    "Adam list",
)


class Runs(NamedTuple):
    """The machine with all that it has, and with AVX2."""

    whole: Row
    avx2: Row


def load(results: Path) -> Runs:
    """The run of a file, and the one of AVX2 in the folder beside it."""
    files = results, results.parent / "avx2" / results.name
    return Runs(*(json.loads(file.read_text()) for file in files))


def block(runs: Runs) -> str:
    """Ten kernels, and the networks."""
    return "\n".join([*ten(runs.whole), "", *training(runs.whole["training"])])


def with_avx2(runs: Runs) -> str:
    """Ten kernels on a smaller processor, as it were."""
    return "\n".join(ten(runs.avx2))


def every(runs: Runs) -> str:
    """All kernels."""
    return "\n".join(kernels(runs.whole["points"]))


def ten(result: Row) -> list[str]:
    """Ten kernels."""
    points = [row for row in result["points"] if row["kernel"] in TEN]
    return [*measured(result), *kernels(points)]


def measured(result: Row) -> list[str]:
    """Where the figures come from, and what the columns are."""
    machine = result["machine"]
    versions = machine["versions"]
    commit = f", commit {result['commit']}" if "commit" in result else ""
    return [
        f"Measured on {machine['processor']} ({machine['cores']} cores, {machine['isa']}), float32, all threads"
        f"{commit}, against "
        + ", ".join(f"{k} {v}" for k, v in versions.items() if k not in ("Python", "nnfast")),
        *([f"(BLAS: {report.blas(machine)}),"] if "blas" in machine else []),
        "each in its best form; candidates in turn, medians. How many times as fast as NumPy, and as the best of",
        "all peers; the share of what the machine's memory allows.",
        "",
    ]


def kernels(points: list[Row]) -> list[str]:
    """A row a kernel."""
    most = max(row["threads"] for row in points)
    found = {
        (row["kernel"], row["n"]): row
        for row in points
        if row["dtype"] == "float32" and row["threads"] == most
    }
    head = "| kernel |" + "".join(
        f" {n:,} elements: × NumPy | × best peer | limit |" for n in SIZES
    )
    lines = [head, "|---|" + "---:|---|---:|" * len(SIZES)]
    for kernel in dict.fromkeys(name for name, _ in found):
        cells = [cell(found[kernel, n]) for n in SIZES]
        lines.append(f"| `{kernel}` | " + " | ".join(cells) + " |")
    return lines


def cell(row: Row) -> str:
    """Ratios to NumPy and to the best peer, share of the limit."""
    ours = row["candidates"][row["nnfast"]]["median"]
    numpy = row["candidates"]["NumPy"]["median"] / ours
    peer = "" if row["peer"] == "NumPy" else f" {row['peer']}"
    return f"{numpy:.1f} | {row['median']:.2f}{peer} | {report.share(row)}"


def training(rows: list[Row]) -> list[str]:
    """A row a network."""
    names = list(dict.fromkeys(name for row in rows for name in row["candidates"]))
    shared = any(row.get("shares_blas_threads") for row in rows)
    where = ", the BLAS on nnfast's threads" if shared else ""
    lines = [
        f"| training, ms an epoch (held-out accuracy){where} | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for row in rows:
        cells = [
            f"{found['seconds'] * 1e3:.1f} ({found['accuracy']:.1%})" if found else ""
            for found in (row["candidates"].get(name) for name in names)
        ]
        title = f"{row['network']}, {row['kind']}, {row['data']}, batch {row['batch']}"
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


# What stands on which page between <!-- this: python -m bench readme --> and <!-- end of this -->.
PAGES: dict[str, dict[str, Callable[[Runs], str]]] = {
    "README.md": {"figures": block},
    "docs/performance.md": {"figures": block, "with AVX2": with_avx2, "every kernel": every},
}


def filled(text: str, runs: Runs, name: str) -> str:
    """The page of that name with the figures of two runs.

    Raises
    ------
    ValueError
        If the markers are not there.
    """
    for mark, part in PAGES[name].items():
        begin, end = f"<!-- {mark}: python -m bench readme -->", f"<!-- end of {mark} -->"
        text = put(text, begin, end, part(runs), name)
    return text


def put(text: str, begin: str, end: str, part: str, name: str) -> str:
    """A text with a part between two markers; a ValueError that names it if they are not there."""
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.S)
    if not pattern.search(text):
        raise ValueError(f"{name} has no {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n{part}\n{end}", text)


def write(runs: Runs) -> None:
    """Put them in."""
    for name in PAGES:
        path = ROOT / name
        path.write_text(filled(path.read_text(), runs, name))
        print(f"wrote the figures into {name}")
