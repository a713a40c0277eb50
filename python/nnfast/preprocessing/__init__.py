"""Preprocessing of a network's input: scikit-learn transformers that learn from training data and are applied to any.

===============================  ============================================================
zero-centring                    ``StandardScaler(with_std=False)``
standardising                    ``StandardScaler()``
PCA                              ``PCA(n_components)``
PCA whitening                    ``Whitening("pca")``, or ``PCA(n_components, whiten=True)``
ZCA whitening                    ``Whitening("zca")``
mean image                       ``ImageScaler(per="pixel", with_std=False)``
per-channel mean                 ``ImageScaler(with_std=False)``
per-channel mean and deviation   ``ImageScaler()``
===============================  ============================================================

StandardScaler, PCA and Whitening take tables of samples and features, ImageScaler takes batches of images. All work in
pipelines and in searches over their parameters, learn from data in pieces (``partial_fit``; into which does not matter
but for rounding), and have an inverse. What they learn is float64, from the one-pass kernels of ``nf.batch_norm_stats``
and ``nf.merge_stats``; float32 and float64 data keep their dtype, everything else becomes float64.

Dask arrays, and lists of delayed pieces, are learned from in one pass and transformed lazily.

StandardScaler skips NaN, takes weights of samples, and with ``with_mean=False`` sparse tables, which stay sparse; PCA
learns from sparse tables without making them dense. Elsewhere NaN and sparse tables are errors, as infinities and data
without samples are everywhere. An error changes nothing of what was learned.

This module needs scikit-learn: ``pip install 'nnfast[sklearn]'``.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> from sklearn.pipeline import make_pipeline
>>> rng = np.random.default_rng(0)
>>> train, test = rng.normal(5, 3, (800, 20)), rng.normal(5, 3, (200, 20))
>>> prepare = make_pipeline(nf.preprocessing.StandardScaler(), nf.preprocessing.Whitening("zca"))
>>> prepare.fit(train).transform(test).shape
(200, 20)
"""

from nnfast import _docs
from nnfast.preprocessing import _transformer as _transformer  # first: it says what is needed
from nnfast.preprocessing.rotations import PCA, Whitening
from nnfast.preprocessing.rotations import _Axes as _Axes  # which pickles of 0.1 name
from nnfast.preprocessing.scalers import ImageScaler, StandardScaler

__all__ = ["PCA", "ImageScaler", "StandardScaler", "Whitening"]

_docs.finish(
    __name__,
    {
        "X": "The samples.",
        "kind": "Whether the axes are those of the eigenvectors, or turned back to the features'.",
    },
)
