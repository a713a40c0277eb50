"""The old place of nnfast.estimators.weights, which pickles of version 0.1 name."""

from nnfast.estimators.weights import _of_batch as _of_batch
