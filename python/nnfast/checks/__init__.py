"""Checks of a network before and while it is trained.

check_model goes through the list of a course on neural networks and says what to try; the others are its parts, for
when one wants to look closer. They take any Layer of nnfast.nn, those of your own too, a loss as those of nnfast are
(``loss(scores, y)`` gives its value and the gradient with respect to the scores), and work on copies: the network is
left as it is, with its parameters, running statistics and random streams. check_dtypes, for networks of your own too,
names what is float64 among float32 arrays.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> rng = np.random.default_rng(0)
>>> x, labels = 50 * rng.random((200, 16)), rng.integers(0, 4, 200)
>>> net = nf.nn.Sequential(nf.nn.Dense(16, 32, rng=0), nf.nn.ReLU(), nf.nn.Dense(32, 4, rng=1))
>>> report = nf.checks.check_model(net, x, labels, optimizer=nf.optim.Adam, lr=1e-3, verbose=False)
>>> print(report.findings[0].found)
a feature has a root mean square of 30.4
>>> print(report.findings[0].advice)
standardise X, as nnfast.preprocessing.StandardScaler does; divide bytes by 255
"""

from typing import Any
from warnings import warn

from nnfast import _docs
from nnfast.checks.dtypes import DtypeReport, check_dtypes
from nnfast.checks.gradient import ArrayCheck, GradientCheck, gradient_check
from nnfast.checks.loss import (
    LossAtChance,
    Overfitting,
    Regularization,
    loss_at_chance,
    overfit_tiny,
    regularization_raises_loss,
)
from nnfast.checks.model import check_model
from nnfast.checks.rate import RateRange, learning_rate_range
from nnfast.checks.report import Finding, ModelReport

__all__ = [
    "ArrayCheck",
    "DtypeReport",
    "Finding",
    "GradientCheck",
    "LossAtChance",
    "ModelReport",
    "Overfitting",
    "RateRange",
    "Regularization",
    "check_dtypes",
    "check_model",
    "gradient_check",
    "learning_rate_range",
    "loss_at_chance",
    "overfit_tiny",
    "regularization_raises_loss",
]

_docs.finish(
    __name__,
    {
        "X": "Samples, as the network takes them.",
        "batch_size": "Rows of a batch.",
        "report": "What was found, to print or to ask.",
        "result": "Both losses; ``passed`` says whether the penalty raised it.",
        "axes": "Where to draw.",
    },
)

# What version 0.1 called them.
_BEFORE: dict[str, Any] = {
    "Regularisation": Regularization,
    "regularisation_raises_loss": regularization_raises_loss,
}


def __getattr__(name: str) -> Any:
    if name not in _BEFORE:
        raise AttributeError(f"module 'nnfast.checks' has no attribute {name!r}")
    warn(f"{name} is called {_BEFORE[name].__name__} now", DeprecationWarning, stacklevel=2)
    return _BEFORE[name]
