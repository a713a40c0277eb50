"""Kernels of neural-network training for NumPy, at machine speed.

The kernels stand here; what is built on them has modules of its own (``nnfast.optim``, ``nnfast.schedules``), loaded
when first used.
"""

# ruff: noqa: F403 (a family's module lists what it exports; four modules have the name of a function)
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnfast import activations as activations
from nnfast import (
    bias,
    blas,
    convolution,
    gating,
    losses,
    normalization,
    pooling,
    runtime,
    structured_dropout,
)
from nnfast._load import _core as _core
from nnfast.activations import *
from nnfast.batches import batches
from nnfast.bias import *
from nnfast.blas import *
from nnfast.convolution import *
from nnfast.dropout import (
    alpha_dropout,
    alpha_dropout_backward,
    bias_relu_dropout,
    bias_relu_dropout_backward,
    dropout,
    dropout_backward,
    dropout_mask,
)
from nnfast.embedding import embedding, embedding_backward
from nnfast.gating import *
from nnfast.layer_norm import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward
from nnfast.losses import *
from nnfast.normalization import *
from nnfast.pooling import *
from nnfast.runtime import *
from nnfast.softmax import (
    log_softmax,
    log_softmax_backward,
    logsumexp,
    logsumexp_backward,
    masked_softmax,
    masked_softmax_backward,
    softmax,
    softmax_backward,
    softmin,
    softmin_backward,
    sparsemax,
    sparsemax_backward,
)
from nnfast.structured_dropout import *
from nnfast.version import __version__

if TYPE_CHECKING:
    from nnfast import augmentation as augmentation
    from nnfast import averaging as averaging
    from nnfast import checks as checks
    from nnfast import dask as dask
    from nnfast import estimators as estimators
    from nnfast import init as init
    from nnfast import monitor as monitor
    from nnfast import nn as nn
    from nnfast import optim as optim
    from nnfast import penalties as penalties
    from nnfast import preprocessing as preprocessing
    from nnfast import random as random
    from nnfast import schedules as schedules

# Not in __all__ are those that need an extra, and random, for the standard library has one.
_LAZY = (
    "augmentation",
    "averaging",
    "checks",
    "dask",
    "estimators",
    "init",
    "monitor",
    "nn",
    "optim",
    "penalties",
    "preprocessing",
    "random",
    "schedules",
)

__all__ = [
    "__version__",
    "alpha_dropout",
    "alpha_dropout_backward",
    "augmentation",
    "averaging",
    "batches",
    "bias_relu_dropout",
    "bias_relu_dropout_backward",
    "checks",
    "dropout",
    "dropout_backward",
    "dropout_mask",
    "embedding",
    "embedding_backward",
    "init",
    "layer_norm",
    "layer_norm_backward",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "logsumexp_backward",
    "masked_softmax",
    "masked_softmax_backward",
    "monitor",
    "nn",
    "optim",
    "penalties",
    "rms_norm",
    "rms_norm_backward",
    "schedules",
    "softmax",
    "softmax_backward",
    "softmin",
    "softmin_backward",
    "sparsemax",
    "sparsemax_backward",
]
__all__ += activations.__all__
__all__ += bias.__all__
__all__ += blas.__all__
__all__ += convolution.__all__
__all__ += gating.__all__
__all__ += losses.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += runtime.__all__
__all__ += structured_dropout.__all__


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return import_module(f"nnfast.{name}")
    raise AttributeError(f"module 'nnfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
