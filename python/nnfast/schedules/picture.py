"""``python -m nnfast.schedules PICTURE``: one of each schedule, drawn."""

from __future__ import annotations

import sys

import numpy as np

from nnfast.schedules.combined import Scaled, Sequential, Warmup
from nnfast.schedules.cycles import CosineRestarts, Cyclic, OneCycle
from nnfast.schedules.falling import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    InverseTime,
    Linear,
    MultiStep,
    Polynomial,
    Step,
)
from nnfast.schedules.plateau import ReduceOnPlateau
from nnfast.schedules.schedule import Schedule, values

EXAMPLES: tuple[Schedule, ...] = (
    Constant(1.0),
    Step(1.0, 30, gamma=0.5),
    MultiStep(1.0, [20, 70], gamma=0.3),
    Exponential(1.0, 0.96, min_lr=0.1),
    InverseTime(1.0, 0.05),
    InverseSqrt(1.0, 15),
    Linear(1.0, 0.2, 100),
    Polynomial(1.0, 100, power=2.0),
    Cosine(1.0, 100),
    CosineRestarts(1.0, 16, T_mult=2),
    Cyclic(0.1, 1.0, 20, mode="triangular2"),
    OneCycle(1.0, 100),
    Warmup(Cosine(1.0, 80), 20),
    Sequential([Constant(1.0), Linear(1.0, 0.1, 40), Constant(0.05)], [40, 90]),
    Scaled(InverseSqrt(1.0, 15), 0.5),
)
"""One of each, as docs/schedules.md lists them."""


def save_picture(path: str, steps: int = 120) -> None:
    """Draw the examples, and ReduceOnPlateau beside the metric it watches.

    Parameters
    ----------
    path : str
        Where the picture goes; its ending says which kind it is.
    steps : int, default 120
    """
    from matplotlib.figure import Figure

    curves = {type(schedule).__name__: values(schedule, steps) for schedule in EXAMPLES}
    metric = np.maximum(1 - np.arange(steps) / 50, 0.2)  # falls, and stops falling
    plateau = ReduceOnPlateau(1.0, factor=0.5, patience=10)
    curves["ReduceOnPlateau"] = np.array([plateau.update(loss) for loss in metric])

    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(4, 4, sharex=True, sharey=True).ravel()
    for plot, (name, rates) in zip(axes, curves.items(), strict=True):
        plot.plot(rates, drawstyle="steps-post")
        plot.set_title(name)
        plot.grid(alpha=0.3)
    axes[-1].plot(metric, "--", color="grey", label="metric")
    axes[-1].legend()
    figure.supxlabel("step")
    figure.supylabel("learning rate")
    figure.savefig(path, dpi=90)


def main(arguments: list[str]) -> int:
    """``python -m nnfast.schedules PICTURE``."""
    if len(arguments) != 1:
        print("usage: python -m nnfast.schedules PICTURE", file=sys.stderr)
        return 2
    try:
        save_picture(arguments[0])
    except ModuleNotFoundError as missing:
        print(f"The picture needs {missing.name}: pip install matplotlib", file=sys.stderr)
        return 1
    return 0
