"""What the sections See Also are made of: which names belong together, here and in other libraries."""

from collections.abc import Collection
from functools import cache

# The layer of a function.
LAYERS = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "relu_squared": "ReLUSquared",
    "hardtanh": "Hardtanh",
    "leaky_relu": "LeakyReLU",
    "prelu": "PReLU",
    "rrelu": "RReLU",
    "threshold": "Threshold",
    "hardshrink": "Hardshrink",
    "softshrink": "Softshrink",
    "hardsigmoid": "Hardsigmoid",
    "hardswish": "Hardswish",
    "elu": "ELU",
    "celu": "CELU",
    "selu": "SELU",
    "sigmoid": "Sigmoid",
    "logsigmoid": "LogSigmoid",
    "softplus": "Softplus",
    "squareplus": "Squareplus",
    "tanh": "Tanh",
    "tanhshrink": "Tanhshrink",
    "silu": "SiLU",
    "mish": "Mish",
    "softsign": "Softsign",
    "gelu": "GELU",
    "maxout": "Maxout",
    "glu": "GLU",
    "geglu": "GEGLU",
    "swiglu": "SwiGLU",
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
    "sparsemax": "Sparsemax",
    "batch_norm": "BatchNorm",
    "group_norm": "GroupNorm",
    "instance_norm": "InstanceNorm",
    "layer_norm": "LayerNorm",
    "rms_norm": "RMSNorm",
    "dropout": "Dropout",
    "drop_connect": "DropConnect",
    "stochastic_depth": "StochasticDepth",
    "embedding": "Embedding",
    "conv1d": "Conv1d",
    "conv2d": "Conv2d",
    "max_pool1d": "MaxPool1d",
    "max_pool2d": "MaxPool2d",
    "avg_pool1d": "AvgPool1d",
    "avg_pool2d": "AvgPool2d",
    "global_avg_pool1d": "GlobalAvgPool1d",
    "global_avg_pool2d": "GlobalAvgPool2d",
}
# Functions that there are of x + bias, too.
BIASED = ("relu", "gelu", "silu", "tanh")

# Others do the same under the same name, in these modules; further down under another one.
_TORCH = {
    "": (
        "torch.nn.functional",
        "relu relu6 hardtanh leaky_relu prelu rrelu threshold hardshrink softshrink hardsigmoid hardswish elu celu "
        "selu sigmoid logsigmoid softplus tanh tanhshrink silu mish softsign gelu glu softmax softmin log_softmax "
        "batch_norm group_norm instance_norm layer_norm rms_norm dropout alpha_dropout feature_alpha_dropout "
        "dropout1d dropout2d dropout3d embedding conv1d conv2d max_pool1d max_pool2d avg_pool1d avg_pool2d mse_loss "
        "l1_loss huber_loss kl_div nll_loss poisson_nll_loss gaussian_nll_loss binary_cross_entropy "
        "binary_cross_entropy_with_logits cosine_embedding_loss triplet_margin_loss",
    ),
    "nn": (
        "torch.nn",
        "AvgPool1d AvgPool2d Conv1d Conv2d Dropout Embedding Flatten GroupNorm LayerNorm MaxPool1d MaxPool2d RMSNorm "
        "Sequential CELU ELU GELU GLU SELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid LogSoftmax "
        "Mish PReLU RReLU ReLU ReLU6 SiLU Sigmoid Softmax Softplus Softshrink Softsign Tanh Tanhshrink Threshold",
    ),
    "optim": (
        "torch.optim",
        "ASGD Adadelta Adafactor Adagrad Adam AdamW Adamax LBFGS Muon NAdam RAdam RMSprop Rprop SGD",
    ),
}
_ELSEWHERE = {
    "batches": "torch.utils.data.DataLoader",
    "col2im": "torch.nn.functional.fold",
    "get_num_threads": "torch.get_num_threads",
    "global_avg_pool1d": "torch.nn.functional.adaptive_avg_pool1d",
    "global_avg_pool2d": "torch.nn.functional.adaptive_avg_pool2d",
    "im2col": "torch.nn.functional.unfold",
    "logsumexp": "torch.logsumexp",
    "num_threads": "threadpoolctl.threadpool_limits",
    "set_num_threads": "torch.set_num_threads",
    "softmax_cross_entropy": "torch.nn.functional.cross_entropy",
    "svm_loss": "torch.nn.functional.multi_margin_loss",
    "averaging.BatchNormRecomputer": "torch.optim.swa_utils.update_bn",
    "averaging.EMA": "torch.optim.swa_utils.AveragedModel",
    "averaging.SWA": "torch.optim.swa_utils.AveragedModel",
    "checks.gradient_check": "torch.autograd.gradcheck",
    "estimators.NNClassifier": "sklearn.neural_network.MLPClassifier",
    "estimators.NNRegressor": "sklearn.neural_network.MLPRegressor",
    "init.constant": "torch.nn.init.constant_",
    "init.gain": "torch.nn.init.calculate_gain",
    "init.he_normal": "torch.nn.init.kaiming_normal_",
    "init.he_uniform": "torch.nn.init.kaiming_uniform_",
    "init.normal": "torch.nn.init.normal_",
    "init.orthogonal": "torch.nn.init.orthogonal_",
    "init.truncated_normal": "torch.nn.init.trunc_normal_",
    "init.uniform": "torch.nn.init.uniform_",
    "init.xavier_normal": "torch.nn.init.xavier_normal_",
    "init.xavier_uniform": "torch.nn.init.xavier_uniform_",
    "init.zeros": "torch.nn.init.zeros_",
    "nn.BatchNorm": "torch.nn.BatchNorm2d",
    "nn.Dense": "torch.nn.Linear",
    "nn.GlobalAvgPool1d": "torch.nn.AdaptiveAvgPool1d",
    "nn.GlobalAvgPool2d": "torch.nn.AdaptiveAvgPool2d",
    "nn.InstanceNorm": "torch.nn.InstanceNorm2d",
    "nn.Layer": "torch.nn.Module",
    "penalties.max_norm_": "torch.renorm",
    "preprocessing.PCA": "sklearn.decomposition.PCA",
    "preprocessing.StandardScaler": "sklearn.preprocessing.StandardScaler",
    "random.Philox": "numpy.random.Philox",
    "schedules.Cosine": "torch.optim.lr_scheduler.CosineAnnealingLR",
    "schedules.CosineRestarts": "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts",
    "schedules.Cyclic": "torch.optim.lr_scheduler.CyclicLR",
    "schedules.Exponential": "torch.optim.lr_scheduler.ExponentialLR",
    "schedules.Linear": "torch.optim.lr_scheduler.LinearLR",
    "schedules.MultiStep": "torch.optim.lr_scheduler.MultiStepLR",
    "schedules.OneCycle": "torch.optim.lr_scheduler.OneCycleLR",
    "schedules.Polynomial": "torch.optim.lr_scheduler.PolynomialLR",
    "schedules.ReduceOnPlateau": "torch.optim.lr_scheduler.ReduceLROnPlateau",
    "schedules.Sequential": "torch.optim.lr_scheduler.SequentialLR",
    "schedules.Step": "torch.optim.lr_scheduler.StepLR",
}
for _prefix, (_module, _names) in _TORCH.items():
    _dot = _prefix and f"{_prefix}."
    _ELSEWHERE |= {f"{_dot}{_name}": f"{_module}.{_name}" for _name in _names.split()}

# Each of a group names the others.
_GROUPS = {
    "": (
        "softmax_cross_entropy cross_entropy svm_loss",
        "binary_cross_entropy_with_logits binary_cross_entropy",
        "mse_loss l1_loss huber_loss log_cosh_loss",
        "kl_div softmax_cross_entropy",
        "nll_loss softmax_cross_entropy cross_entropy",
        "hinge_loss squared_hinge_loss svm_loss",
        "softmax_focal_loss sigmoid_focal_loss",
        "softmax_focal_loss softmax_cross_entropy",
        "sigmoid_focal_loss binary_cross_entropy_with_logits",
        "poisson_nll_loss gaussian_nll_loss mse_loss",
        "cosine_embedding_loss triplet_margin_loss",
        "batch_norm batch_norm_stats merge_stats fold_batch_norm",
        "group_norm instance_norm layer_norm",
        "dropout dropout_mask alpha_dropout bias_relu_dropout dropout2d",
        "dropout1d dropout2d dropout3d",
        "alpha_dropout feature_alpha_dropout",
        "feature_alpha_dropout dropout2d",
        "drop_connect stochastic_depth dropout",
        "softmax log_softmax logsumexp masked_softmax",
        "softmax softmin sparsemax",
        "glu geglu swiglu",
        "prelu prelu_backward prelu_weight_backward",
        "relu relu6 leaky_relu",
        "rrelu leaky_relu prelu",
        "im2col col2im conv2d",
        "conv1d conv2d",
        "get_num_threads set_num_threads num_threads cpu_info",
        "share_blas_threads BlasSharing cpu_info",
        "derivative relu_backward",
        "batches nnfast.augmentation.random_crop",
    ),
    "augmentation": ("random_crop random_erasing random_flip random_noise",),
    "averaging": ("EMA SWA BatchNormRecomputer mean_of_checkpoints mean_of_predictions",),
    "checks": (
        "gradient_check GradientCheck ArrayCheck",
        "check_dtypes DtypeReport",
        "check_model ModelReport Finding",
        "loss_at_chance LossAtChance",
        "overfit_tiny Overfitting",
        "learning_rate_range RateRange",
        "regularization_raises_loss Regularization",
        "check_model loss_at_chance overfit_tiny regularization_raises_loss learning_rate_range gradient_check",
    ),
    "estimators": ("NNClassifier NNRegressor",),
    "init": (
        "he_normal he_uniform gain",
        "xavier_normal xavier_uniform gain",
        "lecun_normal lecun_uniform",
        "normal truncated_normal uniform orthogonal",
        "zeros constant",
        "by_name fans gain",
    ),
    "monitor": ("look Look LayerStatistics", "statistics Statistics NonFinite", "Recorder look"),
    "nn": (
        "Layer Sequential",
        "Dense DropConnect Sequential",
        "Flatten Dense",
        "Dropout StochasticDepth DropConnect",
    ),
    "optim": (
        "StepStats Adam",
        "Rows SGD",
        "Rows Adagrad",
        "Rows Adam",
        "Rows AdamW",
        "AdaBelief Yogi Adan Adam",
        "LAMB LARS",
        "Adafactor Muon AdamW",
        "ScheduleFreeSGD ScheduleFreeAdamW Lookahead",
        "ScheduleFreeSGD SGD",
        "ScheduleFreeAdamW AdamW",
        "LBFGS Rprop",
    ),
    "penalties": ("l1 l2 elastic_net max_norm_",),
    "preprocessing": ("StandardScaler ImageScaler", "PCA Whitening StandardScaler"),
    "random": (),
    "schedules": (
        "Step MultiStep Exponential",
        "Cosine CosineRestarts OneCycle Polynomial",
        "Linear Polynomial Warmup",
        "InverseTime InverseSqrt Exponential",
        "Cyclic OneCycle CosineRestarts",
        "Warmup Sequential Scaled",
        "Constant Sequential",
        "Schedule values",
        "ReduceOnPlateau Step",
    ),
}


_CALLED = {
    "numpy": "NumPy's",
    "sklearn": "scikit-learn's",
    "threadpoolctl": "Of the BLAS and of OpenMP",
    "torch": "PyTorch's",
}


@cache
def _neighbours(module: str) -> dict[str, dict[str, None]]:
    """The names of its groups for each name."""
    found: dict[str, dict[str, None]] = {}
    for group in _GROUPS.get(module, ()):
        names = dict.fromkeys(group.split())
        for name in names:
            found.setdefault(name, {}).update(names)
    return found


_RULE = "The optimizer that holds its parameters and their state."
_RULE_AS_FUNCTION = "The rule as a function, whose caller keeps the state."


def links(module: str, name: str, known: Collection[str]) -> list[str]:
    """Lines for the section See Also of a name of a module that has the known names; "" is nnfast itself."""
    found: dict[str, str] = {}
    forward = name.removesuffix("_backward")
    if forward != name:
        if forward in known:
            found[forward] = "The function."
    elif f"{name}_backward" in known:
        found[f"{name}_backward"] = "Its gradient."
    if not module and forward == name:
        if name in BIASED:
            found[f"bias_{name}"] = "Of x plus a bias, in one pass."
        plain = name.removeprefix("bias_")
        if plain != name and plain in BIASED:
            found[plain] = "Without the bias."
        if name in LAYERS:
            found[f"nnfast.nn.{LAYERS[name]}"] = "The layer."
    if module == "nn":
        found |= {
            f"nnfast.{key}": "The function." for key, layer in LAYERS.items() if layer == name
        }
    if module == "optim":
        for other in known:
            if other != name and other.lower() == name.lower():
                found[other] = _RULE if name.islower() else _RULE_AS_FUNCTION
    if module == "dask":
        found[f"nnfast.{name}"] = "Of NumPy's arrays."
    elsewhere = _ELSEWHERE.get(f"{module}.{name}" if module else name)
    if elsewhere:
        found[elsewhere] = f"{_CALLED[elsewhere.partition('.')[0]]}."
    others = _neighbours(module).get(name, ())
    more = [other for other in others if other != name and other not in found]
    return [f"{target} : {text}" for target, text in found.items()] + (
        [", ".join(more)] if more else []
    )
