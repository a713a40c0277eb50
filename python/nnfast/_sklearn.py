"""Helpers of the modules that need scikit-learn."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

from nnfast._dask import is_dask_data

Method = TypeVar("Method", bound=Callable[..., Any])

DTYPES = (np.float64, np.float32)
"""The dtypes that estimators compute in; other dtypes are converted to the first."""


@contextmanager
def unchanged_on_error(estimator: object) -> Iterator[None]:
    """Restore the attributes of an estimator if learning fails; scikit-learn's checks set some before they raise."""
    state = vars(estimator)
    before = state.copy()
    try:
        yield
    except BaseException:
        state.clear()
        state.update(before)
        raise


def on_dask() -> Any:
    """The module for data on Dask, imported when there are some."""
    return import_module("nnfast.dask._data")


def lazy_score(estimator: Any, X: Any, y: Any, sample_weight: Any, kind: str) -> Any:
    """The score of an estimator for rows on Dask, lazily."""
    return import_module("nnfast.dask._scores").score(estimator, X, y, sample_weight, kind)


def lazy_on_dask(method: Method) -> Method:
    """A method that returns a lazy Dask array for rows on Dask."""

    @wraps(method)
    def of_any(self: Any, X: Any, **options: Any) -> Any:
        if is_dask_data(X):
            return on_dask().applied(self, method.__name__, X)
        return method(self, X, **options)

    return of_any  # type: ignore[return-value]
