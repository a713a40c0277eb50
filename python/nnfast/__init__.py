"""Kernels of neural-network training for NumPy, at machine speed.

The kernels stand here; what is built on them has modules of its own (``nnfast.optim``, ``nnfast.schedules``), loaded
when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnfast._load import _core as _core
from nnfast.activations import (
    celu,
    celu_backward,
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    hardsigmoid,
    hardsigmoid_backward,
    hardswish,
    hardswish_backward,
    hardtanh,
    hardtanh_backward,
    leaky_relu,
    leaky_relu_backward,
    logsigmoid,
    logsigmoid_backward,
    maxout,
    maxout_backward,
    mish,
    mish_backward,
    prelu,
    prelu_backward,
    prelu_weight_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
    selu,
    selu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
    softsign,
    softsign_backward,
    tanh,
    tanh_backward,
    tanhshrink,
    tanhshrink_backward,
)
from nnfast.bias import (
    bias_gelu,
    bias_gelu_backward,
    bias_relu,
    bias_relu_backward,
    bias_silu,
    bias_silu_backward,
    bias_tanh,
    bias_tanh_backward,
)
from nnfast.dropout import (
    alpha_dropout,
    alpha_dropout_backward,
    bias_relu_dropout,
    bias_relu_dropout_backward,
    dropout,
    dropout_backward,
    dropout_mask,
)
from nnfast.gating import (
    geglu,
    geglu_backward,
    glu,
    glu_backward,
    swiglu,
    swiglu_backward,
)
from nnfast.layer_norm import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward
from nnfast.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    l1_loss,
    mse_loss,
    softmax_cross_entropy,
    svm_loss,
)
from nnfast.normalization import (
    batch_norm,
    batch_norm_backward,
    batch_norm_stats,
    fold_batch_norm,
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
    merge_stats,
)
from nnfast.runtime import cpu_info, get_num_threads, num_threads, set_num_threads
from nnfast.softmax import (
    log_softmax,
    log_softmax_backward,
    logsumexp,
    logsumexp_backward,
    softmax,
    softmax_backward,
)
from nnfast.structured_dropout import (
    drop_connect,
    drop_connect_backward,
    dropout1d,
    dropout1d_backward,
    dropout2d,
    dropout2d_backward,
    dropout3d,
    dropout3d_backward,
    stochastic_depth,
    stochastic_depth_backward,
)
from nnfast.version import __version__

if TYPE_CHECKING:
    from nnfast import activations as activations
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

# Those that need an extra are not in __all__: `from nnfast import *` works without it.
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
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_stats",
    "bias_gelu",
    "bias_gelu_backward",
    "bias_relu",
    "bias_relu_backward",
    "bias_relu_dropout",
    "bias_relu_dropout_backward",
    "bias_silu",
    "bias_silu_backward",
    "bias_tanh",
    "bias_tanh_backward",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "celu_backward",
    "checks",
    "cpu_info",
    "cross_entropy",
    "drop_connect",
    "drop_connect_backward",
    "dropout",
    "dropout1d",
    "dropout1d_backward",
    "dropout2d",
    "dropout2d_backward",
    "dropout3d",
    "dropout3d_backward",
    "dropout_backward",
    "dropout_mask",
    "elu",
    "elu_backward",
    "fold_batch_norm",
    "geglu",
    "geglu_backward",
    "gelu",
    "gelu_backward",
    "get_num_threads",
    "glu",
    "glu_backward",
    "group_norm",
    "group_norm_backward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "hardtanh",
    "hardtanh_backward",
    "huber_loss",
    "init",
    "instance_norm",
    "instance_norm_backward",
    "l1_loss",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log_softmax",
    "log_softmax_backward",
    "logsigmoid",
    "logsigmoid_backward",
    "logsumexp",
    "logsumexp_backward",
    "maxout",
    "maxout_backward",
    "merge_stats",
    "mish",
    "mish_backward",
    "monitor",
    "mse_loss",
    "nn",
    "num_threads",
    "optim",
    "penalties",
    "prelu",
    "prelu_backward",
    "prelu_weight_backward",
    "random",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "rms_norm",
    "rms_norm_backward",
    "schedules",
    "selu",
    "selu_backward",
    "set_num_threads",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softplus",
    "softplus_backward",
    "softsign",
    "softsign_backward",
    "stochastic_depth",
    "stochastic_depth_backward",
    "svm_loss",
    "swiglu",
    "swiglu_backward",
    "tanh",
    "tanh_backward",
    "tanhshrink",
    "tanhshrink_backward",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return import_module(f"nnfast.{name}")
    raise AttributeError(f"module 'nnfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
