"""Data, and ways to compare, of the estimators' tests."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nnfast.estimators import NNClassifier, NNRegressor

Array = NDArray[Any]
Estimator = Any


X = np.random.default_rng(0).standard_normal((90, 4))
Y = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 1)
LABELS = np.stack([X[:, 0] > 0, X[:, 1] > 0.5], axis=1).astype(int)
Z = X @ [1.0, -0.5, 0.25, 0.0]
both = pytest.mark.parametrize("make", [NNClassifier, NNRegressor])


def data(make: Any) -> tuple[Array, Array]:
    return (X, Y) if make is NNClassifier else (X, Z)


def params(estimator: Estimator) -> list[Array]:
    """Everything learned, running statistics included."""
    return list(estimator.net_.state_dict().values())


def assert_same_bits(first: Estimator, second: Estimator) -> None:
    for a, b in zip(params(first), params(second), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def differ(first: Estimator, second: Estimator) -> bool:
    return any((a != b).any() for a, b in zip(params(first), params(second), strict=True))
