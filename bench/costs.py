"""What kernels cost an element, beside the figures of cpp/ops/costs.hpp."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

import nnfast as nf
from bench.timing import in_turn
from nnfast import _core, bias, gating
from nnfast.activations.ufuncs import UFUNCS as ACTIVATION_UFUNCS

# Elements of the two runs whose difference is measured, so that the cost of a call is left out. Both stay in
# the second-level cache.
SMALL, LARGE = 4096, 20480
COLUMNS = 512
# How many times narrower the vectors are than those of x86-64-v4, which has the figures. Arithmetic takes as many times
# longer, loads and stores do not, and a kernel lies between: so far above its figure it may be, besides the half.
NARROWER = {"x86-64-v4": 1, "x86-64-v3": 2, "x86-64-v2": 4, "neon": 4}
# The figure of formulas that have none in costs.hpp (listed_cost).
USUAL = 0.5
# Costs that are measured together with another.
ADDED_TO = {
    "gradient_norms": "sgd",
    "step_sums": "sgd",
    "packing": "adam",
    "softmax_row": "softmax",
    "signed_logsumexp_row": "signed_logsumexp",
    "norm_set": "norm_moments",
    "cross_entropy_row": "cross_entropy",
    "probabilities_at_labels": "probabilities",
    "probabilities_at_labels_row": "probabilities_at_labels",
    "svm_loss_row": "svm_loss",
    "nll_loss_row": "nll_loss",
    "row_pairs_row": "row_pairs",
    "score_tiles": "cross_entropy",
    "binary_cross_entropy": "probabilities",
}


Call = Callable[[], object]
# A call over arrays of about so many elements.
Case = Callable[[int], Call]


def main() -> None:
    """Print all; fail where one is off by more than half, as the vectors' width allows for."""
    figures = _core._costs()
    cases = all_cases()
    if missing := figures.keys() - cases.keys():
        raise SystemExit(f"bench/costs.py must measure what costs.hpp has: {missing}")
    usual = dict.fromkeys(cases.keys() - figures.keys(), (USUAL, False))
    isa = nf.cpu_info()["chosen"]
    most, wrong = 1.5 * NARROWER[isa], []
    print(f"{isa}: allowed are ratios from 0.5 to {most:g}")
    print(f"{'':28}{'measured':>9}{'figure':>9}{'ratio':>7}   ns an element")
    with nf.num_threads(1):
        for name, (figure, _) in (figures | usual).items():
            measured = ns_per_element(cases[name])
            if name in ADDED_TO:
                measured -= ns_per_element(cases[ADDED_TO[name]])
            ratio = measured / figure
            off = not 0.5 <= ratio <= most
            wrong += [name] * off
            note = "   off" * off + "   has no figure" * (name in usual)
            print(f"{name:28}{measured:9.3f}{figure:9.3f}{ratio:7.2f}{note}")
    if wrong:
        raise SystemExit(
            f"{len(wrong)} of {len(cases)} are off by more than half: {', '.join(wrong)}"
        )


def ns_per_element(case: Case) -> float:
    """The slope between two sizes; the least of several, since other processes only add to a time."""
    small, large = case(SMALL), case(LARGE)
    slopes = []
    with np.errstate(all="ignore"):
        for _ in range(7):
            low, high = in_turn([small, large], rounds=9, number=8)
            slopes.append((high - low) / (LARGE - SMALL))
    return min(slopes)


def all_cases() -> dict[str, Case]:
    """A case for each name of costs.hpp."""
    cases = {name: of_ufunc(ufunc) for name, ufunc in gating._ufuncs.items()}
    for name, ufunc in ACTIVATION_UFUNCS.items():
        inputs = 2 if name.endswith("_backward") else 1
        cases[name] = of_ufunc(ufunc, params=ufunc.nin - inputs)
    cases = {name.removeprefix("_"): case for name, case in cases.items()}
    cases["bfloat16"] = bfloat16
    cases["keep_scaled"] = of_ufunc(_core._keep_scaled, params=1)
    cases |= {**of_layouts(), **of_biases(), **of_softmax(), **of_embedding(), **of_losses()}
    cases |= {**of_normalization(), **of_dropout(), **of_convolution(), **of_pooling()}
    return {**cases, **of_random(), **of_optimizers()}


def floats(*shape: int) -> Any:
    """Between 0 and 1, which suits every input."""
    return np.random.default_rng(0).random(shape, np.float32)


def of_ufunc(ufunc: np.ufunc, params: int = 0) -> Case:
    """All inputs are arrays, but for the parameters, which come last."""

    def case(n: int) -> Call:
        inputs: list[Any] = [floats(n) for _ in range(ufunc.nin - params)]
        inputs += [np.float32(0.25), np.float32(0.75)][:params]
        out = np.empty(n, np.float32)
        return lambda: ufunc(*inputs, out=out)

    return case


def bfloat16(n: int) -> Call:
    """A conversion to float32 and one back, of half as many."""
    import ml_dtypes

    x = floats(n // 2).astype(ml_dtypes.bfloat16)
    return lambda: nf.relu(x, out=x)


def rows(n: int) -> Any:
    """A matrix of n elements."""
    return floats(n // COLUMNS, COLUMNS)


def of_layouts() -> dict[str, Case]:
    """What is more than a loop: channels, columns, lists."""

    def prelu_channels(n: int) -> Call:
        x, weight, out = rows(n), floats(COLUMNS), rows(n)
        return lambda: _core.prelu_by_channel(False, [x], weight, out)

    def prelu_weight_rows(n: int) -> Call:
        dy, x = rows(n).T, rows(n).T
        return lambda: _core.prelu_weight_backward(dy, x, 1)

    def prelu_weight_strided(n: int) -> Call:
        dy, x = floats(4, n // 4), floats(4, n // 4)
        return lambda: _core.prelu_weight_backward(dy, x, 1)

    def maxout(n: int) -> Call:
        x, y, which = floats(n), floats(n // 2), np.empty(n // 2, np.uint8)
        return lambda: _core.maxout(x, y, which, 0, 2)

    def column_sums(n: int) -> Call:
        x, out = rows(n), floats(COLUMNS)
        return lambda: _core.column_sums(x, out)

    def elastic_net(n: int) -> Call:
        params, grads = [floats(n)], [floats(n)]
        return lambda: _core.elastic_net(params, 1e-3, 1e-3, grads, None)

    return {
        case.__name__: case
        for case in (
            prelu_channels,
            prelu_weight_rows,
            prelu_weight_strided,
            maxout,
            column_sums,
            elastic_net,
        )
    }


def of_biases() -> dict[str, Case]:
    """Forward and backward of each."""

    def forward(index: int) -> Case:
        def case(n: int) -> Call:
            x, b, out = rows(n), floats(COLUMNS), rows(n)
            return lambda: _core.bias_forward(index, x, b, out)

        return case

    def backward(index: int) -> Case:
        def case(n: int) -> Call:
            dy, saved, b, dx, dbias = rows(n), rows(n), floats(COLUMNS), rows(n), floats(COLUMNS)
            return lambda: _core.bias_backward(index, dy, saved, b, dx, dbias)

        return case

    cases = {}
    for name, index in bias._INDEX.items():
        cases[name.removeprefix("_")] = forward(index)
        cases[name.removeprefix("_") + "_backward"] = backward(index)
    return cases


def of_softmax() -> dict[str, Case]:
    """Rows of many elements; and rows of one, for what each row adds."""

    def rows_of(columns: int, function: np.ufunc = _core.softmax) -> Case:
        def case(n: int) -> Call:
            x, out = floats(n // columns, columns), floats(n // columns, columns)
            return lambda: function(x, out=out)

        return case

    def gradient_of(n: int) -> Call:
        dy, y, out = rows(n), rows(n), rows(n)
        return lambda: _core.softmax_backward(dy, y, out=out)

    def signed_rows(columns: int) -> Case:
        def case(n: int) -> Call:
            x, b = floats(n // columns, columns), floats(n // columns, columns)
            return lambda: _core.signed_logsumexp(x, b, 1, False, True)

        return case

    return {
        "softmax": rows_of(COLUMNS),
        "softmax_backward": gradient_of,
        "softmax_row": rows_of(1),
        "sparsemax": rows_of(COLUMNS, _core.sparsemax),
        "signed_logsumexp": signed_rows(COLUMNS),
        "signed_logsumexp_row": signed_rows(1),
    }


def of_embedding() -> dict[str, Case]:
    """Rows of a table, each once."""

    def embedding(n: int) -> Call:
        at, table, out = np.arange(n // COLUMNS), rows(n), rows(n)
        return lambda: _core.embedding(at, table, out)

    def embedding_backward(n: int) -> Call:
        at, dy, out = np.arange(n // COLUMNS), rows(n), rows(n)
        return lambda: _core.embedding_backward(dy, at, len(at), out)

    return {case.__name__: case for case in (embedding, embedding_backward)}


def of_pooling() -> dict[str, Case]:
    """Windows of 2 x 2 over planes of 32 x 32: an element of a window is one of x."""

    def planes(n: int) -> tuple[Any, Any]:
        return floats(n // 1024, 1, 32, 32), floats(n // 1024, 1, 16, 16)

    def max_pool(n: int) -> Call:
        (x, y), which = planes(n), np.empty((n // 1024, 1, 16, 16), np.int32)
        return lambda: nf.max_pool2d(x, 2, out=(y, which))

    def max_pool_backward(n: int) -> Call:
        dx, dy = planes(n)
        _, which = nf.max_pool2d(dx, 2)
        return lambda: nf.max_pool2d_backward(dy, which, dx.shape, out=dx)

    def avg_pool(n: int) -> Call:
        x, y = planes(n)
        return lambda: nf.avg_pool2d(x, 2, out=y)

    def avg_pool_backward(n: int) -> Call:
        dx, dy = planes(n)
        return lambda: nf.avg_pool2d_backward(dy, dx.shape, 2, out=dx)

    def global_avg_pool(n: int) -> Call:
        (x, _), y = planes(n), floats(n // 1024, 1)
        return lambda: nf.global_avg_pool2d(x, out=y)

    def global_avg_pool_backward(n: int) -> Call:
        (dx, _), dy = planes(n), floats(n // 1024, 1)
        return lambda: nf.global_avg_pool2d_backward(dy, dx.shape, out=dx)

    def im2col(n: int) -> Call:
        """An element of the columns."""
        x = floats(max(1, n // 9216), 1, 32, 32)
        columns = floats(len(x), 9, 1024)
        return lambda: nf.im2col(x, 3, padding=1, out=columns)

    def col2im(n: int) -> Call:
        """An element of the columns."""
        shape = (max(1, n // 9216), 1, 32, 32)
        columns, dx = floats(shape[0], 9, 1024), floats(*shape)
        return lambda: nf.col2im(columns, shape, 3, padding=1, out=dx)

    cases: tuple[Case, ...] = (
        max_pool,
        max_pool_backward,
        avg_pool,
        avg_pool_backward,
        global_avg_pool,
        global_avg_pool_backward,
        im2col,
        col2im,
    )
    return {case.__name__: case for case in cases}


def of_convolution() -> dict[str, Case]:
    """A convolution of 16 channels by 3 by 3 kernels to 16, an element being a product."""

    def convolution(n: int) -> Call:
        length = max(1, n // (16 * 16 * 3))
        x, w, y = (np.ones(shape, "f") for shape in ((1, 16, length), (16, 16, 3), (1, 16, length)))
        return lambda: _core.convolution(x, w, None, [1], [], [1], 1, False, y)

    return {"convolution": convolution}


def of_losses() -> dict[str, Case]:
    """Losses of elements and of rows, and the check of probabilities, which its error ends."""

    def of_elements(name: str) -> Case:
        def case(n: int) -> Call:
            loss, x, t, out = getattr(_core, name), floats(n), floats(n), floats(n)
            return lambda: loss(x, t, 1.0, None, None, "mean", out)

        return case

    def at_labels(columns: int) -> Case:
        def case(n: int) -> Call:
            p, out = floats(n // columns, columns), floats(n // columns, columns)
            labels = np.zeros(n // columns, np.int64)
            return lambda: _core.cross_entropy(
                False, p, labels, 0.0, None, None, None, "mean", -1, out
            )

        return case

    def of_rows(svm: bool, columns: int = COLUMNS, strided: bool = False) -> Case:
        def case(n: int) -> Call:
            shape = (columns, n // columns) if strided else (n // columns, columns)
            z, out = (floats(*shape).T if strided else floats(*shape) for _ in range(2))
            labels = np.zeros(n // columns, np.int64)
            if svm:
                return lambda: _core.svm_loss(z, labels, 1.0, False, None, None, "mean", -1, out)
            return lambda: _core.cross_entropy(
                True, z, labels, 0.0, None, None, None, "mean", -1, out
            )

        return case

    def probabilities(n: int) -> Call:
        p, t, out = floats(n), floats(n), floats(n)
        p[-1] = 2

        def call() -> None:
            with contextlib.suppress(ValueError):
                _core.binary_cross_entropy(p, t, 0.0, None, None, "mean", out)

        return call

    def nll_loss(columns: int) -> Case:
        def case(n: int) -> Call:
            z, out = floats(n // columns, columns), floats(n // columns, columns)
            labels = np.zeros(n // columns, np.int64)
            return lambda: _core.nll_loss(z, labels, None, None, None, "mean", -1, out)

        return case

    def row_pairs(columns: int) -> Case:
        def case(n: int) -> Call:
            x, y = floats(n // columns, columns), floats(n // columns, columns)
            return lambda: _core.pair_sums(x, y, 1)

        return case

    def sigmoid_focal_loss(n: int) -> Call:
        x, t, out = floats(n), floats(n), floats(n)
        return lambda: _core.sigmoid_focal_loss(x, t, 2.0, 0.25, 0.75, None, "mean", out)

    elements = (
        *("mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "kl_div"),
        *("log_cosh_loss", "poisson_nll_loss", "poisson_nll_loss_of_rates"),
        *("gaussian_nll_loss", "hinge_loss", "squared_hinge_loss"),
    )
    return {
        **{name: of_elements(name) for name in (*elements, "binary_cross_entropy")},
        "cross_entropy": of_rows(False),
        "cross_entropy_row": of_rows(False, 1),
        "probabilities_at_labels": at_labels(COLUMNS),
        "probabilities_at_labels_row": at_labels(1),
        "svm_loss": of_rows(True),
        "svm_loss_row": of_rows(True, 1),
        "score_tiles": of_rows(False, strided=True),
        "probabilities": probabilities,
        "nll_loss": nll_loss(COLUMNS),
        "nll_loss_row": nll_loss(1),
        "row_pairs": row_pairs(COLUMNS),
        "row_pairs_row": row_pairs(1),
        "sigmoid_focal_loss": sigmoid_focal_loss,
    }


def of_normalization() -> dict[str, Case]:
    """Passes over the columns of a matrix, and over its rows."""
    mean, inv_std, gamma = floats(COLUMNS), floats(COLUMNS), floats(COLUMNS)

    def norm_moments(n: int) -> Call:
        x = rows(n)
        return lambda: _core.batch_norm_stats(x, 1)

    def norm_set(n: int) -> Call:
        x = floats(1, n)
        return lambda: _core.batch_norm_stats(x, 1)

    def norm_map(n: int) -> Call:
        x, out = rows(n), rows(n)
        return lambda: nf.batch_norm(x, gamma, gamma, mean, inv_std, training=False, out=out)

    def norm_gradient_sums(n: int) -> Call:
        dy, x = rows(n), rows(n)
        return lambda: _core.batch_norm_parameter_gradients(dy, x, mean, inv_std, 1)

    def norm_input_gradient(n: int) -> Call:
        dy, x = rows(n), rows(n)
        return lambda: _core.batch_norm_input_gradient(
            dy, x, gamma, mean, inv_std, mean, mean, n, 1
        )

    def layer_norm(n: int) -> Call:
        x, out = rows(n), rows(n)
        return lambda: nf.layer_norm(x, gamma, gamma, out=out)

    def layer_norm_backward(n: int) -> Call:
        dy, x, dx = rows(n), rows(n), rows(n)
        _, saved = nf.layer_norm(x)
        return lambda: nf.layer_norm_backward(dy, x, gamma, saved, out=(dx, None, None))

    cases = (norm_moments, norm_set, norm_map, norm_gradient_sums, norm_input_gradient)
    return {case.__name__: case for case in (*cases, layer_norm, layer_norm_backward)}


def of_dropout() -> dict[str, Case]:
    """Masks, and what applies them; with one probability, and with one a channel."""
    each = np.linspace(0, 0.5, COLUMNS)

    def packed(n: int) -> Any:
        return np.full(n // 8, 0x5A, np.uint8)

    def mask(p: Any) -> Case:
        def case(n: int) -> Call:
            out = packed(n)
            return lambda: _core.dropout_mask(n, p, 1, 0, 0, out)

        return case

    def apply(scale: Any) -> Case:
        def case(n: int) -> Call:
            x, bits, out = rows(n), packed(n), rows(n)
            return lambda: _core.apply_mask(x, bits, scale, out)

        return case

    def bias_relu_dropout(n: int) -> Call:
        x, b, out = rows(n), floats(COLUMNS), (rows(n), packed(n))
        return lambda: nf.bias_relu_dropout(x, b, rng=0, out=out)

    def bias_relu_dropout_backward(n: int) -> Call:
        dy, bits, out = rows(n), packed(n), (rows(n), floats(COLUMNS))
        return lambda: nf.bias_relu_dropout_backward(dy, bits, out=out)

    return {
        "dropout_mask": mask(0.5),
        "dropout_mask_channels": mask(each),
        "apply_mask": apply(2.0),
        "apply_mask_channels": apply(each),
        "bias_relu_dropout": bias_relu_dropout,
        "bias_relu_dropout_backward": bias_relu_dropout_backward,
    }


def of_random() -> dict[str, Case]:
    """Kinds of number of 32 and 64 bits."""
    stream = nf.random.Philox(0)
    dtypes = {"bits_32": "u4", "bits_64": "u8"}
    dtypes |= {
        f"{kind}_f{8 * size}": f"f{size}"
        for kind in ("uniform", "normal", "exponential")
        for size in (4, 8)
    }
    kinds = ("bits", "uniform", "normal", "exponential")

    def fill(kind: int, dtype: str) -> Case:
        def case(n: int) -> Call:
            out = np.empty(n, dtype)
            return lambda: _core.fill_random(kind, out, 1, 0, 0.0, 1.0)

        return case

    def truncated(dtype: str, low: float, high: float) -> Case:
        def case(n: int) -> Call:
            out = np.empty(n, dtype)
            return lambda: stream.truncated_normal(low=low, high=high, out=out)

        return case

    return {
        **{name: fill(kinds.index(name.split("_")[0]), dtype) for name, dtype in dtypes.items()},
        "truncated_f32": truncated("f4", -2, 2),
        "truncated_f64": truncated("f8", -2, 2),
        "narrow_f64": truncated("f8", 2, 3),
        "integers": lambda n: lambda: stream.integers(n, 0, 1000),
        "permutation": lambda n: lambda: stream.permutation(n),
    }


def of_optimizers() -> dict[str, Case]:
    """A step of each rule; of the sums before and in it, what they add to one."""
    made: dict[str, tuple[type[nf.optim.Optimizer], dict[str, Any]]] = {
        "sgd": (nf.optim.SGD, {}),
        "sgd_momentum": (nf.optim.SGD, {"momentum": 0.9}),
        "adagrad": (nf.optim.Adagrad, {}),
        "adadelta": (nf.optim.Adadelta, {}),
        "rmsprop": (nf.optim.RMSprop, {}),
        "rmsprop_momentum": (nf.optim.RMSprop, {"momentum": 0.9}),
        "rmsprop_centered": (nf.optim.RMSprop, {"centered": True}),
        "rmsprop_centered_momentum": (nf.optim.RMSprop, {"centered": True, "momentum": 0.9}),
        "adam": (nf.optim.Adam, {}),
        "amsgrad": (nf.optim.Adam, {"amsgrad": True}),
        "adamax": (nf.optim.Adamax, {}),
        "nadam": (nf.optim.NAdam, {}),
        "radam": (nf.optim.RAdam, {}),
        "lion": (nf.optim.Lion, {}),
        "adabelief": (nf.optim.AdaBelief, {}),
        "yogi": (nf.optim.Yogi, {}),
        "adan": (nf.optim.Adan, {}),
        "rprop": (nf.optim.Rprop, {}),
        "asgd": (nf.optim.ASGD, {}),
        "ftrl": (nf.optim.Ftrl, {}),
        "lamb": (nf.optim.LAMB, {}),
        "lars": (nf.optim.LARS, {}),
        "schedule_free_sgd": (nf.optim.ScheduleFreeSGD, {}),
        "schedule_free_adam": (nf.optim.ScheduleFreeAdamW, {}),
    }

    def step(rule: Any, settings: dict[str, Any], stats: bool = False) -> Case:
        def case(n: int) -> Call:
            optimizer, grads = rule([floats(n)], lr=1e-6, **settings), [floats(n)]
            return lambda: optimizer.step(grads, stats=stats)

        return case

    cases = {name: step(rule, settings) for name, (rule, settings) in made.items()}
    return {
        **cases,
        "gradient_norms": step(nf.optim.SGD, {"clip_norm": 1.0}),
        "step_sums": step(nf.optim.SGD, {}, True),
        "packing": step(nf.optim.Adam, {"state_dtype": "uint8"}),
    }
