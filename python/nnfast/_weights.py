"""For pickles of estimators fitted with sample_weight before version 0.2, which name this function."""

from typing import Any


def _of_batch(loss: Any, z: Any, targets: Any, sample_weight: Any = None, out: Any = None) -> Any:
    return loss(z, targets, sample_weight=sample_weight, out=out)
