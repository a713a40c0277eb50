"""What the modules that need scikit-learn share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

from nnfast._dask import is_dask

Method = TypeVar("Method", bound=Callable[..., Any])

DTYPES = (np.float64, np.float32)
"""What estimators compute in; others become the first."""


@contextmanager
def unchanged_on_error(estimator: object) -> Iterator[None]:
    """An estimator as it was, should learning fail; scikit-learn's checks set attributes before they raise."""
    state = vars(estimator)
    before = state.copy()
    try:
        yield
    except BaseException:
        state.clear()
        state.update(before)
        raise


def on_dask() -> Any:
    """What is done with data on Dask, for who has found some."""
    return import_module("nnfast.dask._data")


def lazy_on_dask(method: Method) -> Method:
    """A method that gives a lazy Dask array for one."""

    @wraps(method)
    def of_any(self: Any, X: Any) -> Any:
        if is_dask(X):
            return on_dask().applied(self, method.__name__, X)
        return method(self, X)

    return of_any  # type: ignore[return-value]
