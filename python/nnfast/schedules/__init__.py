"""Learning-rate schedules: pure functions of the step, to be called and combined.

A schedule is a frozen object that is called with a step and returns the rate of that step. Steps count from 0; whether
one is a batch or an epoch is up to the caller. Nothing is remembered from call to call: any step may be asked for, in
any order, a resumed run needs nothing but its step, and no rate drifts. A schedule that has an end stays at its last
value. Only ReduceOnPlateau has state: it depends on the metrics that the training reports.

Arguments are named as in ``torch.optim.lr_scheduler`` where that has them; `lr` is the rate a schedule starts from.
Warmup, Sequential and Scaled combine schedules, or any functions of the step. ``python -m nnfast.schedules PICTURE``
draws one of each.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> w = np.array([1.0, 2.0])
>>> opt = nf.optim.SGD([w])
>>> schedule = nf.schedules.Warmup(nf.schedules.Cosine(0.1, T_max=90), warmup_steps=10)
>>> for _ in range(100):
...     opt.lr = schedule(opt.step_count)
...     opt.step([2 * w])
>>> schedule(5), schedule(10), schedule(100)
(0.05, 0.1, 0.0)
"""

# ruff: noqa: F403
from nnfast import _docs
from nnfast.schedules import combined, cycles, falling, plateau, schedule
from nnfast.schedules.combined import *
from nnfast.schedules.cycles import *
from nnfast.schedules.falling import *
from nnfast.schedules.plateau import *
from nnfast.schedules.schedule import *

__all__: list[str] = []
__all__ += combined.__all__
__all__ += cycles.__all__
__all__ += falling.__all__
__all__ += plateau.__all__
__all__ += schedule.__all__

_docs.finish(
    __name__,
    {
        "lr": "The rate it starts from; not negative.",
        "max_lr": "The highest rate; not negative.",
        "eta_min": "The least rate; not negative.",
        "min_lr": "The least rate; not negative.",
        "end_lr": "The last rate; not negative.",
        "factor": "What the rate is multiplied by at a fall.",
        "schedule": "A schedule, or any function of the step that gives a rate.",
        "schedules": "In their order.",
        "step_size_up": "Steps from base_lr to max_lr.",
        "rates": "In their order.",
    },
)
