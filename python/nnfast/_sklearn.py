"""What the modules that need scikit-learn share."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

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
