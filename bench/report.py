"""The suite's results as tables: of one run, and of two runs compared."""

from collections import Counter
from collections.abc import Iterator
from statistics import geometric_mean
from typing import Any

from bench import capped, reasons

Row = dict[str, Any]

# From here on a point counts as behind.
BEHIND = 0.95
MARKS = {"ahead": "", "level": "  level", "behind": "  behind", "noise": "  noise"}


def header(machine: Row) -> str:
    """The machine and the versions."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} threads, {machine['isa']}, {machine['threading']}; "
        f"{versions}; {blas(machine)}"
    )


def blas(machine: Row) -> str:
    """Every BLAS, and which of its kernels ran; of its own words only name and number."""
    libraries = [
        f"{' '.join(each['version'].split()[:2])} with its {each['kernels']} kernels on {each['threads']} threads"
        for each in machine.get("blas", ())
    ]
    return ", ".join(libraries) or "a BLAS that says nothing of itself"


def lines(result: Row) -> Iterator[str]:
    """The table: ours, the best peer, the ratio, and the share of the machine's limit."""
    yield header(result["machine"])
    yield ""
    yield (
        f"{'kernel':22}{'dtype':>8}{'n':>7}{'thr':>4}{'us':>10}{'Gelem/s':>9}  {'best peer':14}{'us':>10}"
        f"{'ratio':>7}{'limit':>7}{'between':>9}{'product':>9}"
    )
    for row in result["points"]:
        ours = row["candidates"][row["nnfast"]]["median"]
        between = row.get("between")
        yield (
            f"{row['kernel']:22}{row['dtype']:>8}{row['n']:7.0e}{row['threads']:4}{ours / 1e3:10.1f}"
            f"{row['size'] / ours:9.2f}  {row['peer']:14}"
            f"{row['candidates'][row['peer']]['median'] / 1e3:10.1f}{row['median']:7.2f}"
            + f"{share(row):>7}"
            + (
                f"{between['kernel_ratio']:9.2f}{between['product_ratio']:9.2f}"
                if between
                else f"{'':18}"
            )
            + MARKS[row["verdict"]]
        )
    yield ""
    yield counts(result["points"])
    yield from faults(result["points"])


def page(result: Row) -> str:
    """The table as a page of docs, after every point where a peer is faster, each with its reason."""
    behind = sorted((row for row in result["points"] if row["median"] < 1), key=key)
    listed = [
        f"| `{row['kernel']}` | {row['dtype']} | {row['n']:,} | {row['threads']} | {row['median']:.2f} {row['peer']} | "
        f"{share(row)} | {reasons.of(row)} |"
        for row in behind
    ]
    unknown = sum(reasons.of(row) == reasons.UNKNOWN for row in behind)
    return "\n".join(
        [
            f"# What the suite measured{' with AVX2' if result['machine']['isa'] == capped.ISA else ''}",
            "",
            "Written by `python -m bench`; figures are medians, a ratio above 1 says that nnfast is faster.",
            "",
            "## Families",
            "",
            *families(result["points"]),
            "",
            "## Points below 1.0",
            "",
            f"{len(behind)} of {len(result['points'])}; {reasons.UNKNOWN} for {unknown}.",
            "",
            "| kernel | dtype | elements | threads | ratio to the best peer | limit | reason |",
            "|---|---|---:|---:|---|---:|---|",
            *listed,
            "",
            "## All points",
            "",
            "```",
            *lines(result),
            "```",
            "",
        ]
    )


def families(points: list[Row]) -> Iterator[str]:
    """A row a family and dtype, all sizes and threads: the ratio to the best peer, its geometric mean and its least."""
    yield "| family | dtype | points | geometric mean | least | below 0.95 |"
    yield "|---|---|---:|---:|---|---:|"
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in points:
        for family in (row["family"], "all"):
            groups.setdefault((family, row["dtype"]), []).append(row)
    for (family, dtype), rows in sorted(groups.items(), key=lambda item: item[0][0] == "all"):
        ratios = [row["median"] for row in rows]
        least = min(rows, key=lambda row: float(row["median"]))
        yield (
            f"| {family} | {dtype} | {len(rows)} | {geometric_mean(ratios):.2f} | "
            f"{least['median']:.2f} `{least['kernel']}` at {least['n']:,} | {sum(r < BEHIND for r in ratios)} |"
        )


def share(row: Row) -> str:
    """The share of the machine's limit, where that is known."""
    return f"{row['share']:.0%}" if "share" in row else ""


def counts(points: list[Row]) -> str:
    """How many verdicts of each kind."""
    found = Counter(row["verdict"] for row in points)
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in MARKS) + f" of {len(points)}"


def faults(points: list[Row]) -> Iterator[str]:
    """Peers that were left out because they compute something else."""
    seen = {
        (name, row["kernel"], row["dtype"]): fault
        for row in points
        for name, fault in row["faults"].items()
    }
    for (name, kernel, dtype), fault in sorted(seen.items()):
        yield f"left out: {name} for {kernel} {dtype}: {fault}"


def key(row: Row) -> tuple[Any, ...]:
    """What makes two rows of two runs the same point."""
    return row["kernel"], row["dtype"], row["n"], row["threads"]


# Times of two runs are of two moments of the machine; this much of a difference is not a change of the code.
CHANGE = 1.15


def compare(old: Row, new: Row) -> Iterator[str]:
    """What got slower and faster between two runs, and verdicts that turned.

    A kernel got slower where both its time and its ratio to the peers' say so: their code is the same in both runs, so
    that what the machine did to all is no change of ours.
    """
    before = {key(row): row for row in old["points"]}
    slower, faster, turned, common = [], [], [], 0
    for row in new["points"]:
        was = before.get(key(row))
        if was is None:
            continue
        common += 1
        time = own(row) / own(was)
        against = [
            (row["candidates"][peer]["median"] / own(row))
            / (was["candidates"][peer]["median"] / own(was))
            for peer in row["candidates"].keys() & was["candidates"].keys()
            if not peer.startswith("nnfast")
        ]
        relative = 1 / sorted(against)[len(against) // 2]
        line = (
            f"{row['kernel']:22}{row['dtype']:>8}{row['n']:7.0e}{row['threads']:4}"
            f"{own(was) / 1e3:10.1f}{own(row) / 1e3:10.1f}{time:7.2f}{relative:7.2f}"
        )
        if min(time, relative) > CHANGE:
            slower.append((relative, line))
        elif max(time, relative) < 1 / CHANGE:
            faster.append((relative, line))
        if was["verdict"] != row["verdict"] and "noise" not in (was["verdict"], row["verdict"]):
            turned.append(f"{line}   was {was['verdict']}, is {row['verdict']}")
    title = f"{'kernel':22}{'dtype':>8}{'n':>7}{'thr':>4}{'old us':>10}{'new us':>10}{'time':>7}{'peers':>7}"
    for name, found in (("slower", sorted(slower, reverse=True)), ("faster", sorted(faster))):
        yield f"{name}: {len(found)} of {common}"
        if found:
            yield title
        yield from (line for _, line in found)
    yield f"verdicts that turned, those of noise apart: {len(turned)}"
    yield from turned
    yield f"old: {counts(old['points'])}"
    yield f"new: {counts(new['points'])}"


def own(row: Row) -> float:
    """Our time, nanoseconds."""
    return float(row["candidates"][row["nnfast"]]["median"])
