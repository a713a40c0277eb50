"""Pictures of a run: throughput over size, ratios at a glance, training times."""

import math
from io import BytesIO
from pathlib import Path
from typing import Any

Row = dict[str, Any]

COLORS = {
    "nnfast": "#d62728",
    "NumPy": "#7f7f7f",
    "PyTorch": "#ff7f0e",
    "torch.compile": "#ffbb78",
    "JAX": "#1f77b4",
    "Numba": "#2ca02c",
    "numexpr": "#9467bd",
    "ONNX Runtime": "#8c564b",
    "SciPy": "#17becf",
    "thinc": "#bcbd22",
    "scikit-learn": "#17becf",
}
RATIOS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
VERDICTS = {"ahead": "#2ca02c", "level": "#1f77b4", "behind": "#d62728", "noise": "#7f7f7f"}


def save(result: Row, folder: Path) -> list[Path]:
    """All pictures that the result has something for."""
    made = []
    points = [row for row in result["points"] if row["dtype"] == "float32"]
    most = max((row["threads"] for row in points), default=0)
    points = [row for row in points if row["threads"] == most]
    pictures = {"throughput": (throughput, points), "ratios": (ratios, points)}
    if result.get("training"):
        pictures["training"] = (training, result["training"])
    for name, (draw, rows) in pictures.items():
        if rows:
            made.append(folder / f"{name}.png")
            write(draw(rows), made[-1])
    return made


def write(figure: Any, path: Path) -> None:
    """As a PNG of 256 colours: a page of plots has no more, and it is a third of the size."""
    from PIL import Image  # matplotlib brings it

    drawn = BytesIO()
    figure.savefig(drawn, dpi=90)
    Image.open(drawn).convert("RGB").quantize(256).save(path, optimize=True)


def grid(n: int, width: float, height: float, columns: int = 5) -> tuple[Any, list[Any]]:
    """A figure of n axes."""
    from matplotlib.figure import Figure

    columns = min(columns, n)
    rows = math.ceil(n / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[n:]:
        unused.set_axis_off()
    return figure, list(axes[:n])


def throughput(points: list[Row]) -> Any:
    """Elements a second over size for every kernel and candidate, and what memory allows."""
    kernels = list(dict.fromkeys(row["kernel"] for row in points))
    figure, axes = grid(len(kernels), 3.2, 2.6)
    handles: dict[str, Any] = {}
    for kernel, ax in zip(kernels, axes, strict=True):
        rows = [row for row in points if row["kernel"] == kernel]
        names = dict.fromkeys(name for row in rows for name in row["candidates"])
        for name in [n for n in names if not n.startswith("nnfast")]:
            found = [row for row in rows if name in row["candidates"]]
            rate = [row["size"] / row["candidates"][name]["median"] for row in found]
            (handles[name],) = ax.plot(
                [row["size"] for row in found], rate, ".-", color=COLORS.get(name), lw=1
            )
        rate = [row["size"] / row["candidates"][row["nnfast"]]["median"] for row in rows]
        sizes = [row["size"] for row in rows]
        (handles["nnfast"],) = ax.plot(sizes, rate, "o-", color=COLORS["nnfast"], lw=2, ms=4)
        if "limit_ns" in rows[0]:
            limit = [row["size"] / row["limit_ns"] for row in rows]
            (handles["limit of memory"],) = ax.plot(sizes, limit, "--", color="black", lw=1)
        ax.set(xscale="log", yscale="log", title=kernel)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("Gelem/s")
    figure.supxlabel("elements (float32, all threads)")
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(handles), 10)
    )
    return figure


def ratios(points: list[Row]) -> Any:
    """The best peer's time over ours, a column a size; to the right of 1 we are faster."""
    sizes = sorted({row["n"] for row in points})
    kernels = list(dict.fromkeys(row["kernel"] for row in points))[::-1]
    figure, axes = grid(len(sizes), 3.4, 0.28 * len(kernels) + 1.2)
    for n, ax in zip(sizes, axes, strict=True):
        rows = {row["kernel"]: row for row in points if row["n"] == n}
        for y, kernel in enumerate(kernels):
            if kernel not in rows:
                continue
            row = rows[kernel]
            color = VERDICTS[row["verdict"]]
            ax.plot([row["low"], row["high"]], [y, y], color=color, lw=1)
            ax.plot(row["median"], y, "o", color=color, ms=5)
            ax.annotate(
                row["peer"], (row["median"], y), xytext=(4, 3), textcoords="offset points", size=6
            )
        ax.axvline(1, color="black", lw=1)
        ax.set(xscale="log", title=f"n = {n:.0e}", ylim=(-1, len(kernels)), xlim=(0.08, 30))
        ax.set_xticks(RATIOS, [f"{tick:g}" for tick in RATIOS])
        ax.minorticks_off()
        ax.set_yticks(range(len(kernels)), kernels if ax is axes[0] else [""] * len(kernels))
        ax.grid(alpha=0.3, which="both", axis="x")
    figure.supxlabel("time of the best peer / time of nnfast (float32, all threads)")
    return figure


def training(rows: list[Row]) -> Any:
    """Milliseconds an epoch."""
    figure, axes = grid(len(rows), 3.4, 3, columns=3)
    for row, ax in zip(rows, axes, strict=True):
        names = list(row["candidates"])
        times = [row["candidates"][name]["seconds"] * 1e3 for name in names]
        bars = ax.bar(names, times, color=[COLORS[name] for name in names])
        accuracies = [f"{row['candidates'][name]['accuracy']:.1%}" for name in names]
        ax.bar_label(bars, accuracies, size=8)
        ax.set_title(
            f"{row['network']}, {row['kind']}\n{row['data']}, batch {row['batch']}", size=9
        )
        ax.tick_params(axis="x", labelsize=8)
    axes[0].set_ylabel("ms an epoch (held-out accuracy)")
    return figure
