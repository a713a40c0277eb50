"""The compiled module."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Saved = TypeVar("_Saved", bound=tuple[Any, ...])

log_softmax: np.ufunc
log_softmax_backward: np.ufunc
logsumexp: np.ufunc
logsumexp_backward: np.ufunc
softmax: np.ufunc
softmax_backward: np.ufunc
sparsemax: np.ufunc
sparsemax_backward: np.ufunc

softmax_names: tuple[str, ...]

def softmax_along(
    index: int,
    arrays: tuple[ArrayLike | None, ...],
    axis: int,
    keepdims: bool,
    out: NDArray[Any] | None,
) -> Any: ...
def make_activations(docs: dict[str, str]) -> dict[str, np.ufunc]: ...
def call_with_parameters(
    ufunc: np.ufunc,
    arrays: tuple[Any, ...],
    parameters: tuple[float, ...],
    keywords: dict[str, Any],
) -> NDArray[Any] | None: ...
def prelu_by_channel(
    backward: bool, inputs: list[Any], weight: Any, out: Any
) -> NDArray[Any] | None: ...
def prelu_weight_backward(dy: ArrayLike, x: ArrayLike, kept_axes: int) -> NDArray[Any]: ...
def maxout(
    x: ArrayLike, y: NDArray[Any], which: NDArray[np.uint8], axis: int, pieces: int
) -> None: ...
def maxout_backward(
    dy: ArrayLike, which: NDArray[np.uint8], dx: NDArray[Any], axis: int, pieces: int
) -> None: ...
def make_gates() -> dict[str, np.ufunc]: ...
def gate(index: int, x: ArrayLike, out: NDArray[Any], axis: int) -> None: ...
def gate_backward(
    index: int, dy: ArrayLike, x: ArrayLike, out: NDArray[Any], axis: int
) -> None: ...
def make_biased() -> dict[str, np.ufunc]: ...
def bias_forward(
    index: int, x: ArrayLike, bias: ArrayLike, out: NDArray[Any] | None
) -> NDArray[Any]: ...
def bias_backward(
    index: int,
    dy: ArrayLike,
    saved: ArrayLike,
    bias: ArrayLike | None,
    dx: NDArray[Any] | None,
    dbias: NDArray[Any] | None,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def cross_entropy(
    of_logits: bool,
    scores: ArrayLike,
    labels: ArrayLike,
    label_smoothing: float,
    class_weight: ArrayLike | None,
    ignore_index: int | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    axis: int,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def svm_loss(
    scores: ArrayLike,
    labels: ArrayLike,
    margin: float,
    squared: bool,
    class_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    axis: int,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def nll_loss(
    predictions: ArrayLike,
    labels: ArrayLike,
    class_weight: ArrayLike | None,
    ignore_index: int | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    axis: int,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def pair_sums(x: NDArray[Any], y: NDArray[Any], axis: int) -> NDArray[np.float64]: ...
def cosine_embedding_loss(
    x1: ArrayLike,
    x2: ArrayLike,
    targets: ArrayLike,
    margin: float,
    sample_weight: ArrayLike | None,
    reduction: str,
    axis: int,
) -> tuple[Any, NDArray[Any], NDArray[Any]]: ...
def triplet_margin_loss(
    anchors: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    margin: float,
    eps: float,
    sample_weight: ArrayLike | None,
    reduction: str,
    axis: int,
) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any]]: ...
def mix_pairs(
    x: NDArray[Any],
    y: NDArray[Any],
    factors: NDArray[np.float64],
    axis: int,
    out: NDArray[Any] | None,
) -> NDArray[Any]: ...
def sigmoid_focal_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    gamma: float,
    alpha: float,
    beta: float,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def mse_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def l1_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def huber_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def log_cosh_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def poisson_nll_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def poisson_nll_loss_of_rates(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def kl_div(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def gaussian_nll_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def hinge_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def squared_hinge_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def binary_cross_entropy_with_logits(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def binary_cross_entropy(
    predictions: ArrayLike,
    targets: ArrayLike,
    parameter: float,
    pos_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: NDArray[Any] | None,
) -> tuple[Any, NDArray[Any]]: ...
def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    running_mean: NDArray[Any] | None,
    running_var: NDArray[Any] | None,
    training: bool,
    momentum: float,
    eps: float,
    axis: int,
    correction: int,
    relu: bool,
    add: ArrayLike | None,
    out: NDArray[Any] | None,
    reuse_mean: NDArray[Any] | None,
    reuse_inv_std: NDArray[Any] | None,
    reuse_mask: NDArray[Any] | None,
    saved_type: type[_Saved],
) -> tuple[NDArray[Any], _Saved]: ...
def batch_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    mean: ArrayLike,
    inv_std: ArrayLike,
    axis: int,
    training: bool,
    mask: NDArray[np.uint8] | None,
    add: bool,
    dx: NDArray[Any] | None,
    dgamma: NDArray[Any] | None,
    dbeta: NDArray[Any] | None,
    dadd: NDArray[Any] | None,
) -> tuple[NDArray[Any], ...]: ...
def batch_norm_stats(
    x: ArrayLike, axis: int
) -> tuple[
    int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]
]: ...
def batch_norm_parameter_gradients(
    dy: ArrayLike, x: ArrayLike, mean: ArrayLike, inv_std: ArrayLike, axis: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def batch_norm_input_gradient(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    mean: ArrayLike,
    inv_std: ArrayLike,
    dgamma: ArrayLike,
    dbeta: ArrayLike,
    count: int,
    axis: int,
) -> NDArray[Any]: ...
def group_norm(
    x: ArrayLike,
    groups: int,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    eps: float,
    axis: int,
    out: NDArray[Any] | None,
    saved_type: type[_Saved],
) -> tuple[NDArray[Any], _Saved]: ...
def group_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    mean: ArrayLike,
    inv_std: ArrayLike,
    groups: int,
    dx: NDArray[Any] | None,
    dgamma: NDArray[Any] | None,
    dbeta: NDArray[Any] | None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...
def layer_norm(
    x: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    axes: tuple[int, ...],
    eps: float,
    centred: bool,
    out: NDArray[Any] | None,
    saved_type: type[_Saved],
) -> tuple[NDArray[Any], _Saved]: ...
def layer_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    mean: ArrayLike | None,
    inv_std: ArrayLike,
    axes: tuple[int, ...],
    centred: bool,
    dx: NDArray[Any] | None,
    dgamma: NDArray[Any] | None,
    dbeta: NDArray[Any] | None,
) -> tuple[NDArray[Any], ...]: ...
def dropout(
    x: ArrayLike,
    p: float | NDArray[np.float64],
    scale: float | NDArray[np.float64],
    shift: float,
    dropped: float,
    inner: int,
    seed: int | Callable[[], int | bytes],
    offset: int,
    out: NDArray[Any] | None,
) -> tuple[NDArray[Any], NDArray[np.uint8]]: ...
def apply_mask(
    x: ArrayLike,
    mask: NDArray[Any] | None,
    scale: float | NDArray[np.float64],
    out: NDArray[Any] | None,
    name: str = "x",
    shift: float = -0.0,
    dropped: float = 0.0,
    inner: int = 1,
) -> NDArray[Any]: ...
def scale_by_channel(
    x: ArrayLike, p: NDArray[np.float64], inner: int, out: NDArray[Any] | None
) -> NDArray[Any]: ...
def dropout_mask(
    n: int,
    p: float | NDArray[np.float64],
    inner: int,
    seed: int | Callable[[], int | bytes],
    offset: int,
    out: NDArray[Any] | None,
) -> NDArray[np.uint8]: ...
def bias_relu_dropout(
    x: ArrayLike,
    bias: ArrayLike,
    p: float,
    scale: float,
    seed: int | Callable[[], int | bytes],
    offset: int,
    mask: NDArray[Any] | None,
    out: NDArray[Any] | None,
    mask_out: NDArray[np.uint8] | None,
) -> tuple[NDArray[Any], NDArray[np.uint8]]: ...
def bias_relu_dropout_backward(
    dy: ArrayLike,
    mask: NDArray[Any] | None,
    scale: float,
    dx: NDArray[Any] | None,
    dbias: NDArray[Any] | None,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def checked_output(
    x: ArrayLike, out: NDArray[Any] | None, name: str = "x"
) -> tuple[NDArray[Any], NDArray[Any]]: ...

_keep_scaled: np.ufunc

def alpha_slices(
    x: ArrayLike,
    mask: Any,
    axes: tuple[int, ...],
    p: float,
    scale: float,
    shift: float,
    dropped: float,
    seed: int | Callable[[], int | bytes],
    out: NDArray[Any] | None,
) -> tuple[NDArray[Any], NDArray[np.uint8]]: ...
def keep_slices(
    x: ArrayLike,
    mask: Any,
    axes: tuple[int, ...],
    scale: float,
    out: NDArray[Any] | None,
    name: str,
) -> NDArray[Any]: ...
def drop_slices(
    x: ArrayLike,
    axes: tuple[int, ...],
    p: float,
    scale: float,
    seed: int | Callable[[], int | bytes],
    out: NDArray[Any] | None,
) -> tuple[NDArray[Any], NDArray[np.uint8]]: ...
def fill_random(
    kind: int, out: NDArray[Any], seed: int, offset: int, first: float, second: float
) -> None: ...
def fill_truncated(
    out: NDArray[Any],
    seed: int,
    offset: int,
    mean: float,
    std: float,
    low: float,
    high: float,
    rate: float,
) -> None: ...
def fill_integers(out: NDArray[Any], seed: int, offset: int, lowest: int, range: int) -> None: ...
def permutation(out: NDArray[np.int64], seed: int) -> None: ...
def _philox4x32(key: int, first: int, stream: int, blocks: int) -> NDArray[np.uint32]: ...
def signed_logsumexp(
    x: ArrayLike, b: ArrayLike | None, axis: int, keepdims: bool, return_sign: bool
) -> Any: ...
def masked_softmax(
    x: ArrayLike,
    mask: ArrayLike | None,
    scale: float,
    causal: bool,
    axis: int,
    out: NDArray[Any] | None,
) -> NDArray[Any]: ...
def masked_softmax_backward(
    dy: ArrayLike, y: ArrayLike, scale: float, axis: int, out: NDArray[Any] | None
) -> NDArray[Any]: ...
def embedding(indices: ArrayLike, weight: ArrayLike, out: NDArray[Any] | None) -> NDArray[Any]: ...
def embedding_backward(
    dy: ArrayLike, indices: ArrayLike, n: int, out: NDArray[Any] | None
) -> NDArray[Any]: ...
def row_sums(
    dy: NDArray[Any], indices: NDArray[Any], n: int
) -> tuple[NDArray[np.int64], NDArray[Any]]: ...
def take_rows(x: NDArray[Any], indices: NDArray[Any], y: NDArray[Any]) -> bool: ...
def convolution(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    channels_last: bool,
    out: NDArray[Any] | None,
) -> NDArray[Any]: ...
def convolution_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    channels_last: bool,
    need_dx: bool,
    need_dw: bool,
    need_db: bool,
    dx_out: NDArray[Any] | None,
    dw_out: NDArray[Any] | None,
    db_out: NDArray[Any] | None,
) -> tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None]: ...
def column_sums(x: ArrayLike, out: NDArray[Any] | None) -> NDArray[Any]: ...
def elastic_net(
    params: list[NDArray[Any]],
    l1: float,
    l2: float,
    grads: list[NDArray[Any]] | None,
    keys: list[Any] | None,
) -> float: ...
def max_norm(weight: NDArray[Any], which: tuple[int, ...], limit: float) -> None: ...

class Optimizer:
    def __init__(
        self,
        rule: str,
        state_names: list[str],
        hyperparameters: list[str],
        setting_names: tuple[str, ...],
        packed: bool = False,
    ) -> None: ...
    def plain_step(
        self,
        attributes: dict[str, Any],
        grads: Any,
        row_of: Callable[..., tuple[float, ...]],
        grad_scale: Any,
    ) -> bool: ...
    def rows_step(
        self,
        attributes: dict[str, Any],
        grads: Any,
        row_of: Callable[..., tuple[float, ...]],
        grad_scale: Any,
        rows_type: type,
    ) -> bool: ...
    def accumulate(
        self,
        params: list[NDArray[Any]],
        grads: Any,
        state: dict[str, list[NDArray[Any]]],
        ema: list[NDArray[Any]] | None,
        master: list[NDArray[Any] | None] | None,
        keys: list[Any] | None,
        sums: list[NDArray[Any] | None],
        pending: list[NDArray[Any] | None],
    ) -> bool: ...
    def check(
        self,
        params: list[NDArray[Any]],
        state: dict[str, list[NDArray[Any]]],
        ema: list[NDArray[Any]] | None,
        master: list[NDArray[Any] | None] | None,
        keys: list[Any] | None,
        grads: list[Any] | None,
    ) -> None: ...
    def step(
        self,
        params: list[NDArray[Any]],
        grads: list[Any],
        state: dict[str, list[NDArray[Any]]],
        ema: list[NDArray[Any]] | None,
        master: list[NDArray[Any] | None] | None,
        hyperparameters: tuple[tuple[float, ...], ...],
        groups: list[int] | None,
        clip_norm: int,
        max_norm: float,
        skip_nonfinite: bool,
        sums: bool,
        keys: list[Any] | None,
        accumulated: list[NDArray[Any] | None] | None,
        grad_scale: float,
        rounding: tuple[int, int, list[int] | None] | None = None,
    ) -> tuple[bool, NDArray[np.float64] | None]: ...
    def update(
        self,
        params: list[Any],
        grads: list[Any],
        state: dict[str, Any],
        labels: tuple[tuple[str, ...], ...],
        master: list[NDArray[Any] | None] | None,
        hyperparameters: tuple[tuple[float, ...], ...],
        clip_norm: int,
        max_norm: float,
        sources: list[Any] | None,
        keys: list[Any] | None,
        alone: bool,
    ) -> None: ...
    def shared_row(
        self, attributes: dict[str, Any], lr: float, settings: Mapping[str, Any]
    ) -> tuple[float, ...]: ...
    def row(
        self, attributes: dict[str, Any], t: float, lr: float, settings: Mapping[str, Any]
    ) -> tuple[float, ...]: ...

def factored(
    g: NDArray[Any], row_var: NDArray[Any], col_var: NDArray[Any], share: float, eps: float
) -> float: ...
def holds_same(
    container: Any, objects: list[Any] | tuple[Any, ...], keys: list[Any] | tuple[Any, ...] | None
) -> bool: ...
def unpacked(
    packed: NDArray[Any], rule: str, state: int, shape: tuple[int, ...]
) -> NDArray[Any]: ...
def write_rows(parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> None: ...
def cpu_info() -> dict[str, Any]: ...
def blas_libraries() -> tuple[dict[str, Any], ...]: ...
def share_blas() -> None: ...
def unshare_blas() -> None: ...
def blas_reason(object: str) -> str: ...
def build_info() -> dict[str, str]: ...
def _costs() -> dict[str, tuple[float, bool]]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def _set_thread_override(n: int) -> int: ...
def _force_isa(isa: str) -> None: ...
def threading() -> str: ...
def _force_threading(name: str) -> None: ...
def _force_processors(count: int) -> int: ...
def _helpers_woken() -> int: ...
def _force_grain(items: int) -> int: ...

# Pooling. Numbers of windows are ints or sequences of them.
def max_pool(
    dims: int,
    x: ArrayLike,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    axis: int,
    out: Any,
) -> tuple[NDArray[Any], NDArray[np.int32]]: ...
def max_pool_backward(
    dims: int, dy: ArrayLike, which: NDArray[Any], shape: Any, axis: int, out: NDArray[Any] | None
) -> NDArray[Any]: ...
def avg_pool(
    dims: int,
    x: ArrayLike,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    counts_padding: bool,
    axis: int,
    out: NDArray[Any] | None,
) -> NDArray[Any]: ...
def avg_pool_backward(
    dims: int,
    dy: ArrayLike,
    shape: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    counts_padding: bool,
    axis: int,
    out: NDArray[Any] | None,
) -> NDArray[Any]: ...
def global_avg_pool(
    dims: int, x: ArrayLike, axis: int, out: NDArray[Any] | None
) -> NDArray[Any]: ...
def global_avg_pool_backward(
    dims: int, dy: ArrayLike, shape: Any, axis: int, out: NDArray[Any] | None
) -> NDArray[Any]: ...
def im2col(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    axis: int,
    out: NDArray[Any] | None,
) -> NDArray[Any]: ...
def col2im(
    columns: ArrayLike,
    shape: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    axis: int,
    out: NDArray[Any] | None,
) -> NDArray[Any]: ...
def pool_sides(value: Any, dims: int, low: int, name: str) -> tuple[int, ...]: ...
def pool_window(
    dims: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]: ...
def plane_axes(shape: Any, dims: int, axis: int, name: str) -> tuple[int, tuple[int, ...]]: ...
def pool_windows(
    shape: Any,
    dims: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    axis: int,
    half: bool,
) -> tuple[Any, ...]: ...
