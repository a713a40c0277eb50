"""Kinds of arrays that are no plain ndarrays, and calls of every public function that reads arrays."""

import tempfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

import nnfast as nf
from nnfast.activations import TABLE

Array = NDArray[Any]
Make = Callable[[Array], Any]


def _memmap(x: Array) -> Array:
    with tempfile.TemporaryFile() as file:
        made = np.memmap(file, x.dtype, "w+", shape=x.shape)
    made[...] = x
    return made


def _read_only(x: Array) -> Array:
    made = x.copy()
    made.flags.writeable = False
    return made


def _structured(x: Array) -> Array:
    made = np.zeros(x.shape, [("value", x.dtype), ("weight", x.dtype)])
    made["value"] = x
    return made


def _labelled(x: Array) -> xr.DataArray:
    """With labels that no other array of the call has."""
    dims = [f"d{np.prod(x.shape)}{axis}" for axis in range(x.ndim)]
    coords = {dim: np.arange(n) + 100 * n for dim, n in zip(dims, x.shape, strict=True)}
    return xr.DataArray(x, dims=dims, coords=coords)


def _series(x: Array) -> pd.Series:
    return pd.Series(x, index=[f"row {i}" for i in range(len(x))], name="s")


def _frame(x: Array) -> pd.DataFrame:
    rows, columns = (list(range(n, 0, -1)) for n in x.shape)
    return pd.DataFrame(x, index=rows, columns=[f"column {i}" for i in columns])


def _masked(x: Array) -> Any:
    mask = np.zeros(x.shape, bool)
    mask.ravel()[::3] = True
    return np.ma.masked_array(x, mask)


def _tensor(x: Array) -> Any:
    import torch

    return torch.from_numpy(x.copy())


class Kind(NamedTuple):
    """How an array of a kind is made, of how many axes, and what the error says where one is refused."""

    make: Make
    ndims: tuple[int, ...] = (0, 1, 2, 3, 4)
    error: str = ""


KINDS = {
    "Series": Kind(_series, (1,)),
    "DataFrame": Kind(_frame, (2,)),
    "DataArray": Kind(_labelled),
    "matrix": Kind(np.matrix, (2,)),
    "memmap": Kind(_memmap),
    "read-only": Kind(_read_only),
    "big-endian": Kind(lambda x: x.astype(x.dtype.newbyteorder(">"))),
    "Dask": Kind(da.from_array, error=r"nnfast\.dask"),
    "Dask in a DataArray": Kind(lambda x: xr.DataArray(da.from_array(x)), error=r"nnfast\.dask"),
    "masked": Kind(_masked, error=r"filled\(value\)"),
    "object": Kind(lambda x: x.astype(object), error=r"astype\(float\)"),
    "structured": Kind(_structured, error=r"\['value'\]"),
    "tensor": Kind(_tensor),
}


class Call(NamedTuple):
    """A function, the arrays that it reads, and the rest."""

    function: Callable[..., Any]
    arrays: dict[str, Array]
    others: Mapping[str, Any] = MappingProxyType({})

    def __call__(self, **replaced: Any) -> Any:
        return self.function(**(self.arrays | replaced), **self.others)


def _numbers(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).uniform(0.1, 1, shape).astype(np.float32)


X, COLUMN, HALF = _numbers(4, 6), _numbers(6), _numbers(4, 3)
IMAGES = _numbers(2, 2, 3, 4)
LABELS = np.array([0, 2, 5, 1])
MASK = np.array([0b10110110, 0b01101101, 0b11011011], np.uint8)


def _elementwise() -> dict[str, Call]:
    """Activations and their gradients, whose arrays have no names of their own where they are ufuncs."""
    calls = {}
    for name in TABLE:
        if name in ("prelu", "gelu_tanh"):
            continue
        forward, backward = getattr(nf, name), getattr(nf, f"{name}_backward")
        calls[name] = Call(lambda x, f=forward: f(x), {"x": X})
        calls[f"{name}_backward"] = Call(lambda dy, x, f=backward: f(dy, x), {"dy": X, "x": X})
    calls["derivative"] = Call(lambda x: nf.derivative("tanh", x), {"x": X})
    return calls


def _biased() -> dict[str, Call]:
    calls = {}
    for name in ("bias_relu", "bias_gelu", "bias_silu", "bias_tanh"):
        saved = {"x": X, "bias": COLUMN} if name in ("bias_gelu", "bias_silu") else {"y": X}
        calls[name] = Call(getattr(nf, name), {"x": X, "bias": COLUMN})
        calls[f"{name}_backward"] = Call(getattr(nf, f"{name}_backward"), {"dy": X, **saved})
    return calls


def _normalizing() -> dict[str, Call]:
    affine = {"gamma": COLUMN, "beta": COLUMN}
    calls = {
        "batch_norm": Call(nf.batch_norm, {"x": X, **affine, "add": X}, {"training": True}),
        "batch_norm_stats": Call(nf.batch_norm_stats, {"x": X}),
        "fold_batch_norm": Call(
            nf.fold_batch_norm,
            {"weight": X.T.copy(), "bias": COLUMN, "mean": COLUMN, "var": COLUMN, **affine},
        ),
        "layer_norm": Call(nf.layer_norm, {"x": X, **affine}),
        "rms_norm": Call(nf.rms_norm, {"x": X, "gamma": COLUMN}),
        "group_norm": Call(nf.group_norm, {"x": X, **affine}, {"num_groups": 3}),
        "instance_norm": Call(
            nf.instance_norm, {"x": IMAGES, "gamma": COLUMN[:2], "beta": COLUMN[:2]}
        ),
    }
    for name in ("batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm"):
        forward = calls[name]
        x = forward.arrays["x"]
        more = {"num_groups": 3} if name == "group_norm" else {}
        more |= {"training": True} if name == "batch_norm" else {}
        saved = getattr(nf, name)(x, **more)[1]
        arrays = {"dy": x, "x": x, "gamma": forward.arrays["gamma"]}
        calls[f"{name}_backward"] = Call(getattr(nf, f"{name}_backward"), arrays, {"saved": saved})
    return calls


def _dropping() -> dict[str, Call]:
    rng, p = {"rng": 0}, {"p": 0.5}
    calls = {
        "dropout": Call(nf.dropout, {"x": X, "p": np.full(6, 0.5, np.float32)}, rng),
        "dropout_backward": Call(nf.dropout_backward, {"dy": X}, {"mask": MASK}),
        "dropout_mask": Call(
            nf.dropout_mask, {"p": np.full(6, 0.5, np.float32)}, {"shape": (4, 6)} | rng
        ),
        "alpha_dropout": Call(nf.alpha_dropout, {"x": X}, rng),
        "alpha_dropout_backward": Call(nf.alpha_dropout_backward, {"dy": X}, {"mask": MASK}),
        "bias_relu_dropout": Call(nf.bias_relu_dropout, {"x": X, "bias": COLUMN}, rng),
        "bias_relu_dropout_backward": Call(
            nf.bias_relu_dropout_backward, {"dy": X}, {"mask": MASK}
        ),
        "stochastic_depth": Call(nf.stochastic_depth, {"x": X}, rng),
        "stochastic_depth_backward": Call(
            nf.stochastic_depth_backward, {"dy": X}, {"mask": MASK[:1]}
        ),
        "drop_connect": Call(nf.drop_connect, {"x": X, "weight": X.T.copy()}, rng),
        "drop_connect_backward": Call(
            nf.drop_connect_backward,
            {"dy": _numbers(4, 4), "x": X, "weight": X.T.copy()},
            {"mask": MASK} | p,
        ),
    }
    for dims, shape in ((1, (2, 2, 3)), (2, (2, 2, 3, 4)), (3, (2, 2, 3, 2, 2))):
        x = _numbers(*shape)
        calls[f"dropout{dims}d"] = Call(getattr(nf, f"dropout{dims}d"), {"x": x}, rng)
        calls[f"dropout{dims}d_backward"] = Call(
            getattr(nf, f"dropout{dims}d_backward"), {"dy": x}, {"mask": MASK[:1]}
        )
    calls["feature_alpha_dropout"] = Call(nf.feature_alpha_dropout, {"x": IMAGES}, rng)
    calls["feature_alpha_dropout_backward"] = Call(
        nf.feature_alpha_dropout_backward, {"dy": IMAGES}, {"mask": MASK[:1]}
    )
    return calls


def _of_batches(X: Any, y: Any) -> Any:
    return next(iter(nf.batches(X, y, batch_size=4, rng=0)))


def _of_rows() -> dict[str, Call]:
    return {
        "batches": Call(_of_batches, {"X": X, "y": COLUMN[:4]}),
        "masked_softmax": Call(nf.masked_softmax, {"x": X}, {"mask": X > 0.3}),
        "masked_softmax_backward": Call(nf.masked_softmax_backward, {"dy": X, "y": X}),
        "embedding": Call(nf.embedding, {"indices": LABELS, "weight": X.T.copy()}),
        "embedding_backward": Call(nf.embedding_backward, {"dy": X, "indices": LABELS}, {"n": 6}),
    }


def _pooling() -> dict[str, Call]:
    calls = {}
    for dims, shape in ((1, (2, 2, 12)), (2, (2, 2, 3, 4))):
        x = _numbers(*shape)
        y, which = getattr(nf, f"max_pool{dims}d")(x, 2)
        forward = {"kernel_size": 2}
        named = {
            "max_pool": ({"x": x}, forward),
            "max_pool_backward": ({"dy": y}, {"which": which, "shape": shape}),
            "avg_pool": ({"x": x}, forward),
            "avg_pool_backward": ({"dy": y}, {"shape": shape} | forward),
            "global_avg_pool": ({"x": x}, {}),
            "global_avg_pool_backward": ({"dy": _numbers(2, 2)}, {"shape": shape}),
        }
        for name, (arrays, options) in named.items():
            name = name.replace("pool", f"pool{dims}d")
            calls[name] = Call(getattr(nf, name), arrays, options)
    columns = nf.im2col(IMAGES, 2)
    calls["im2col"] = Call(nf.im2col, {"x": IMAGES}, {"kernel_size": 2})
    options = {"shape": IMAGES.shape, "kernel_size": 2}
    calls["col2im"] = Call(nf.col2im, {"columns": columns}, options)
    return calls


def _convolutions() -> dict[str, Call]:
    calls = {}
    for dims, x in ((1, _numbers(2, 2, 5)), (2, _numbers(2, 2, 5, 4))):
        w = _numbers(3, 2, *(2,) * dims)
        dy = _numbers(2, 3, *(side - 1 for side in x.shape[2:]))
        calls[f"conv{dims}d"] = Call(getattr(nf, f"conv{dims}d"), {"x": x, "w": w, "b": COLUMN[:3]})
        calls[f"conv{dims}d_backward"] = Call(
            getattr(nf, f"conv{dims}d_backward"), {"dy": dy, "x": x, "w": w}
        )
    return calls


def _losses() -> dict[str, Call]:
    calls = {
        "softmax_cross_entropy": Call(
            nf.softmax_cross_entropy, {"logits": X, "labels": LABELS, "class_weight": COLUMN}
        ),
        "softmax_cross_entropy of probabilities": Call(
            nf.softmax_cross_entropy, {"logits": X, "labels": X}
        ),
        "svm_loss": Call(nf.svm_loss, {"scores": X, "labels": LABELS}),
    }
    p = 1 / (1 + np.exp(-X))
    calls["cross_entropy"] = Call(nf.cross_entropy, {"predictions": p, "labels": LABELS})
    calls["binary_cross_entropy"] = Call(
        nf.binary_cross_entropy, {"predictions": p, "targets": p[::-1].copy()}
    )
    for name in ("binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "huber_loss"):
        calls[name] = Call(getattr(nf, name), {"predictions": X, "targets": X[::-1].copy()})
    for name in (
        *("log_cosh_loss", "poisson_nll_loss", "kl_div", "hinge_loss", "squared_hinge_loss"),
        "sigmoid_focal_loss",
    ):
        calls[name] = Call(getattr(nf, name), {"predictions": X, "targets": p[::-1].copy()})
    calls["gaussian_nll_loss"] = Call(
        nf.gaussian_nll_loss, {"predictions": X, "targets": X[::-1].copy(), "variances": p}
    )
    calls["logsumexp of factors"] = Call(nf.logsumexp, {"x": X, "b": p})
    calls["nll_loss"] = Call(nf.nll_loss, {"predictions": X, "labels": LABELS})
    calls["softmax_focal_loss"] = Call(nf.softmax_focal_loss, {"logits": X, "labels": LABELS})
    signs = np.where(np.arange(len(X)) % 2, 1, -1)
    calls["cosine_embedding_loss"] = Call(
        nf.cosine_embedding_loss, {"x1": X, "x2": X[::-1].copy(), "targets": signs}
    )
    calls["triplet_margin_loss"] = Call(
        nf.triplet_margin_loss, {"anchors": X, "positives": p, "negatives": X[::-1].copy()}
    )
    return calls


def _of_modules() -> dict[str, Call]:
    images = {"x": IMAGES}
    rng = {"rng": 0}
    net = nf.nn.Sequential(nf.nn.Dense(6, 5, rng=0), nf.nn.ReLU(), nf.nn.Dense(5, 6, rng=1))
    layer = nf.nn.Dense(6, 3, rng=0)

    def backward(dy: Any) -> Any:
        layer.forward(X, training=True)
        layer.backward(dy)
        return [grad.copy() for grad in layer.grads]

    return {
        "augmentation.random_flip": Call(nf.augmentation.random_flip, images, rng),
        "augmentation.random_crop": Call(nf.augmentation.random_crop, images, {"size": 2} | rng),
        "augmentation.random_noise": Call(
            nf.augmentation.random_noise, {"x": X}, {"std": 0.5} | rng
        ),
        "augmentation.random_erasing": Call(
            nf.augmentation.random_erasing, images | {"value": COLUMN[:2]}, {"p": 1.0} | rng
        ),
        "averaging.mean_of_predictions": Call(
            lambda first, weights: nf.averaging.mean_of_predictions([first, X], weights),
            {"first": X, "weights": COLUMN[:2]},
        ),
        "monitor.statistics": Call(
            lambda values: str(nf.monitor.statistics(values)), {"values": X}
        ),
        "monitor.look": Call(lambda x, y: str(nf.monitor.look(net, x, y)), {"x": X, "y": LABELS}),
        "monitor.Recorder.look_at": Call(
            lambda x: str(nf.monitor.Recorder().look_at({"h": x})), {"x": X}
        ),
        "nn.Layer.forward": Call(net.forward, {"x": X}),
        "nn.Layer.backward": Call(backward, {"dy": HALF}),
        "checks.gradient_check": Call(
            lambda X, y: str(nf.checks.gradient_check(net, X, y)), {"X": X, "y": LABELS}
        ),
        "preprocessing.StandardScaler": Call(
            lambda X: nf.preprocessing.StandardScaler().fit(X).mean_, {"X": X}
        ),
        "preprocessing.PCA": Call(
            lambda X: np.abs(nf.preprocessing.PCA(2).fit(X).components_), {"X": X}
        ),
        "preprocessing.ImageScaler": Call(
            lambda X: nf.preprocessing.ImageScaler().fit(X).mean_, {"X": IMAGES}
        ),
        "estimators.NNClassifier": Call(
            lambda X, y: (
                nf.estimators.NNClassifier(max_iter=2, random_state=0).fit(X, y).history_["loss"]
            ),
            {"X": X, "y": LABELS},
        ),
        "estimators.NNRegressor": Call(
            lambda X, y: (
                nf.estimators.NNRegressor(max_iter=2, random_state=0).fit(X, y).history_["loss"]
            ),
            {"X": X, "y": COLUMN[:4]},
        ),
    }


KEEPING = _elementwise()
"""Those that give an array of the kind that they are given: NumPy's ufuncs, and thin functions over one."""

ALONG = {
    "softmax": Call(nf.softmax, {"x": X}),
    "softmax_backward": Call(nf.softmax_backward, {"dy": X, "y": X}),
    "softmin": Call(nf.softmin, {"x": X}),
    "softmin_backward": Call(nf.softmin_backward, {"dy": X, "y": X}),
    "log_softmax": Call(nf.log_softmax, {"x": X}),
    "log_softmax_backward": Call(nf.log_softmax_backward, {"dy": X, "y": X}),
    "logsumexp": Call(nf.logsumexp, {"x": X}),
    "logsumexp_backward": Call(nf.logsumexp_backward, {"dy": COLUMN[:4], "x": X}),
    "sparsemax": Call(nf.sparsemax, {"x": X}),
    "sparsemax_backward": Call(nf.sparsemax_backward, {"dy": X, "y": X}),
    "glu": Call(nf.glu, {"x": X}),
    "glu_backward": Call(nf.glu_backward, {"dy": HALF, "x": X}),
    "geglu": Call(nf.geglu, {"x": X}),
    "geglu_backward": Call(nf.geglu_backward, {"dy": HALF, "x": X}),
    "swiglu": Call(nf.swiglu, {"x": X}),
    "swiglu_backward": Call(nf.swiglu_backward, {"dy": HALF, "x": X}),
}
"""Those that look along an axis, and know labels and Dask's arrays."""

POSITIONAL = {
    **{name: call for name, call in _biased().items() if not name.endswith("_backward")},
    "prelu": Call(nf.prelu, {"x": X, "weight": COLUMN}),
    "prelu_backward": Call(nf.prelu_backward, {"dy": X, "x": X, "weight": COLUMN}),
}
"""Those whose x keeps its labels, and whose bias or slopes belong to columns by their position."""

READING = {
    **{name: call for name, call in _biased().items() if name.endswith("_backward")},
    "prelu_weight_backward": Call(nf.prelu_weight_backward, {"dy": X, "x": X, "weight": COLUMN}),
    "rrelu": Call(nf.rrelu, {"x": X}, {"training": True, "rng": 0}),
    "rrelu_backward": Call(nf.rrelu_backward, {"dy": X, "x": X}, {"slopes": _numbers(4, 6)}),
    "maxout": Call(nf.maxout, {"x": X}, {"pieces": 2}),
    "maxout_backward": Call(
        nf.maxout_backward, {"dy": HALF}, {"which": np.zeros((4, 3), np.uint8), "pieces": 2}
    ),
    **_normalizing(),
    **_dropping(),
    **_of_rows(),
    **_pooling(),
    **_convolutions(),
    **_losses(),
    **_of_modules(),
}
"""Those that read numbers and give ndarrays, records or floats."""
