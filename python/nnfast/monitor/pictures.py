"""Pictures of what a Recorder has recorded."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast.monitor.arrays import Floats, Statistics
from nnfast.monitor.history import History
from nnfast.monitor.layers import LayerStatistics, Look

Draw = Callable[..., None]

# Points of a curve: pixels are not many more. Points of its average. Looks that are told apart by their colours.
_POINTS, _AVERAGES, _LOOKS = 1000, 50, 6


def save(figure: Any, path: Any) -> None:
    """Write a figure to a path or file."""
    figure.savefig(path, dpi=100)


def curves(history: History) -> Any:
    """All that there is: a panel for each quantity."""
    panels: dict[str, Draw] = {"loss": _loss} if history.losses else {}
    for quantity in map(_quantity, history.epochs):
        panels[quantity] = _loss if quantity == "loss" else partial(_numbers, quantity=quantity)
    if history.rows.steps:
        panels["norm of update / norm of weight"] = _ratios
    if history.looks:
        panels["deviation of activations"] = _deviations
        if any(seen.gradient for seen in history.looks[-1].layers):
            panels["norm of gradients with respect to activations"] = _gradients
        panels["dead units, saturated elements"] = _shares
    if not panels:
        raise ValueError("there is nothing to draw before the first step, epoch or look")
    figure, axes = _grid(len(panels), min(3, len(panels)), 4.5, 3.2)
    for ax, (title, draw) in zip(axes, panels.items(), strict=False):
        draw(ax, history)
        ax.set_title(title)
        ax.grid(alpha=0.3)
    return figure


def histograms(history: History) -> Any:
    """A panel of the last look."""
    if not history.looks:
        raise ValueError("there are no histograms before the first look")
    look = history.looks[-1]
    figure, axes = _grid(2 * len(look.layers), 2, 4.5, 1.4)
    for seen, left, right in zip(look.layers, axes[::2], axes[1::2], strict=True):
        left.set_ylabel(f"{seen.name} {seen.layer.partition('(')[0]}", size=8)
        _histogram(left, seen.activation, "C0")
        _histogram(right, seen.gradient, "C1")
        right.set_yscale("log")  # most are close to 0
        right.yaxis.set_visible(False)
    axes[0].set_title(f"activations, step {look.step:,}")
    axes[1].set_title("gradients with respect to them, logarithmic")
    return figure


def _grid(count: int, columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure of so many axes, and more to fill its last row, which show nothing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures of nnfast.monitor need matplotlib: pip install 'nnfast[demo]'"
        ) from error
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.3), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes


# ---- over steps ----


def _loss(ax: Any, history: History) -> None:
    losses = np.array(history.losses)
    steps = np.flatnonzero(np.isfinite(losses))
    finite = losses[steps]
    if finite.size:
        ax.plot(*_envelope(steps + 1, finite), color="0.7", lw=0.8, label="steps")
        ax.plot(*_averages(steps + 1, finite), color="0.2", lw=2, label="average")
    _numbers(ax, history, "loss")
    drawn = np.concatenate([line.get_ydata() for line in ax.lines] or [[]])
    if drawn.size and not np.any(drawn <= 0):
        ax.set_yscale("log")
    place = history.first_nonfinite
    if place is not None:
        ax.axvline(place.step, color="red", lw=1, label=str(place).partition(": ")[2])
    ax.legend(fontsize=8)


def _numbers(ax: Any, history: History, quantity: str) -> None:
    """The columns of one quantity, and the gap between training and validation."""
    columns = {
        name: np.array(c) for name, c in history.epochs.items() if _quantity(name) == quantity
    }
    steps = np.array(history.epoch_steps)
    for name, column in columns.items():
        ax.plot(steps, column, ".-", label=name)
    train, held_out = (columns.get(f"{part}_{quantity}") for part in ("train", "validation"))
    if train is not None and held_out is not None:
        gap = f"gap {train[-1] - held_out[-1]:.3g}"
        ax.fill_between(steps, train, held_out, color="grey", alpha=0.2, label=gap)
    ax.set_xlabel("step")
    if columns:
        ax.legend(fontsize=8)


def _ratios(ax: Any, history: History) -> None:
    ratios = history.ratios()
    ratios[~np.isfinite(ratios)] = np.nan
    chosen = history.watched()
    for i, color in zip(chosen, _shades(len(chosen)), strict=True):
        steps, ratio = _envelope(np.array(history.rows.steps), ratios[:, i])
        ax.plot(steps, ratio, color=color, lw=0.8, label=history.names[i])
    ax.axhline(1e-3, color="black", ls="--", lw=1)
    if np.any(ratios[:, chosen] > 0):
        ax.set_yscale("log")
    ax.set_xlabel("step")
    if len(chosen) <= 10:
        ax.legend(fontsize=8)


def _quantity(name: str) -> str:
    """The quantity that is measured: train_accuracy and validation_accuracy are both accuracies."""
    return name.rpartition("_")[2]


def _parts(count: int, most: int) -> list[slice]:
    """At most so many slices, as equal as can be, which cover all."""
    ends = np.linspace(0, count, min(count, most) + 1).astype(int).tolist()
    return [slice(a, b) for a, b in pairwise(ends)]


def _envelope(x: NDArray[Any], y: Floats) -> tuple[NDArray[Any], Floats]:
    """A curve of few points that looks as that of all: the least and the greatest of each part."""
    if len(x) <= _POINTS:
        return x, y
    parts = _parts(len(x), _POINTS // 2)
    places = np.array([[p.start, p.stop - 1] for p in parts]).ravel()
    with np.errstate(invalid="ignore"):
        # fmin and fmax pass over NaN.
        ends = [[np.fmin.reduce(y[p]), np.fmax.reduce(y[p])] for p in parts]
    return x[places], np.array(ends).ravel()


def _averages(x: NDArray[Any], y: Floats) -> tuple[Floats, Floats]:
    """The means of parts, at their middles."""
    parts = _parts(len(x), _AVERAGES)
    return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])


# ---- by layer ----


def _deviations(ax: Any, history: History) -> None:
    _by_layer(ax, history, lambda seen: seen.activation.std)


def _gradients(ax: Any, history: History) -> None:
    _by_layer(ax, history, lambda seen: seen.gradient.norm if seen.gradient else math.nan)


def _by_layer(ax: Any, history: History, number: Callable[[LayerStatistics], float]) -> None:
    """A line a look, the last one the lightest."""
    looks = _comparable(history.looks)
    drawn = [[number(seen) for seen in look.layers] for look in looks]
    for look, numbers, color in zip(looks, drawn, _shades(len(looks)), strict=True):
        ax.plot(numbers, ".-", color=color, label=f"step {look.step:,}")
    if any(value > 0 for numbers in drawn for value in numbers):
        ax.set_yscale("log")
    _name_layers(ax, looks[-1])
    ax.legend(fontsize=8)


def _shares(ax: Any, history: History) -> None:
    """A panel of the last look."""
    look = history.looks[-1]
    places = np.arange(len(look.layers))
    ax.bar(places - 0.2, [seen.dead for seen in look.layers], 0.4, label="dead")
    saturated = np.nan_to_num([seen.saturated for seen in look.layers])
    ax.bar(places + 0.2, saturated, 0.4, label="saturated")
    ax.set_ylim(0, 1)
    _name_layers(ax, look)
    ax.legend(fontsize=8)


def _comparable(looks: list[Look]) -> list[Look]:
    """Some of the looks, the first and the last among them, at the layers that the last one saw."""
    names = [seen.name for seen in looks[-1].layers]
    same = [look for look in looks if [seen.name for seen in look.layers] == names]
    places = np.linspace(0, len(same) - 1, min(len(same), _LOOKS)).round().astype(int)
    return [same[i] for i in places]


def _name_layers(ax: Any, look: Look) -> None:
    labels = [f"{seen.name} {seen.layer.partition('(')[0]}".rstrip() for seen in look.layers]
    ax.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)


def _histogram(ax: Any, found: Statistics | None, color: str) -> None:
    ax.tick_params(labelsize=7)
    ax.set_yticks([])
    if found is None:
        ax.set_axis_off()
        return
    if found.counts.any():
        ax.stairs(found.counts, found.edges, fill=True, color=color)
    ax.text(0.99, 0.9, _caption(found), size=7, ha="right", va="top", transform=ax.transAxes)


def _caption(found: Statistics) -> str:
    bad = "" if found.finite else f"\n{found.nans} NaN, {found.infinities} infinite"
    return f"{found.mean:.2g} ± {found.std:.2g}\n{found.zeros:.0%} zeros{bad}"


def _shades(count: int) -> list[Any]:
    """Colours from dark to light."""
    from matplotlib import colormaps

    return list(colormaps["viridis"](np.linspace(0, 0.85, count)))
