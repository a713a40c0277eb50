"""nnfast on Dask: the same functions where the data outgrow one machine.

Elementwise functions are ufuncs, or functions over one, so Dask applies them lazily by itself: ``nf.gelu(x)`` of a Dask
array is a Dask array. Here are those that look beyond an element, under their own names and with the bits they have in
memory:

- along an axis that is not cut: ``softmax``, ``log_softmax``, ``logsumexp``, ``sparsemax``, ``maxout``, ``layer_norm``,
  ``rms_norm``, ``group_norm``, ``instance_norm``
- over the whole array, chunked anywhere: ``batch_norm`` and ``batch_norm_stats``
- by the place in the whole array: ``dropout``

The transformers of ``nnfast.preprocessing`` and the estimators of ``nnfast.estimators`` take Dask arrays as they are.
docs/dask.md shows all of it.

This module needs Dask: ``pip install 'nnfast[dask]'``.

Examples
--------
>>> import dask.array as da, nnfast as nf
>>> x = da.random.default_rng(0).normal(size=(1000, 20), chunks=(100, 20))
>>> y, stats = nf.dask.batch_norm(x, training=True)
>>> nf.dask.softmax(nf.relu(y)).sum().compute().round(6)
np.float64(1000.0)
"""

try:
    import dask.array  # noqa: F401
except ImportError as error:
    raise ImportError("nnfast.dask needs Dask: pip install 'nnfast[dask]'") from error

from nnfast import _docs
from nnfast.dask.dropout import dropout, dropout_backward
from nnfast.dask.normalization import batch_norm, batch_norm_backward, batch_norm_stats
from nnfast.dask.rows import (
    group_norm,
    instance_norm,
    layer_norm,
    log_softmax,
    log_softmax_backward,
    logsumexp,
    maxout,
    rms_norm,
    softmax,
    softmax_backward,
    sparsemax,
    sparsemax_backward,
)

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_stats",
    "dropout",
    "dropout_backward",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "maxout",
    "rms_norm",
    "softmax",
    "softmax_backward",
    "sparsemax",
    "sparsemax_backward",
]

_docs.finish(
    __name__,
    {
        "x": "Any chunks along other axes.",
        "axis": "The axis, or axes, along which x has one chunk.",
        "gamma": "Scale; ones if None.",
        "beta": "Shift; zeros if None.",
        "gamma, beta": "Scale and shift; ones and zeros if None.",
        "eps": "Added to the variance, inside the root.",
        "pieces": "How many neighbours there are for each y.",
        "y": "Lazy, with x's chunks.",
    },
)
