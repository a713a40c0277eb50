"""Sample weights of the estimators: they travel beside the targets, and weigh the rows of a loss."""

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Loss = Callable[..., tuple[float, Array]]


class WeightedTargets:
    """Targets with a weight for each row, indexed together as one array."""

    __slots__ = ("values", "weights")

    def __init__(self, values: Array, weights: Array) -> None:
        self.values, self.weights = values, weights

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> "WeightedTargets":
        return WeightedTargets(self.values[rows], self.weights[rows])


def split_weights(targets: Any) -> tuple[Array, Array | None]:
    """The targets, and the weights if there are any."""
    if isinstance(targets, WeightedTargets):
        return targets.values, targets.weights
    return targets, None


def weighted(loss: Loss) -> Loss:
    """A loss for WeightedTargets: its mean divides by the sum of the weights."""
    return partial(_of_batch, loss)


def _of_batch(loss: Loss, z: Array, targets: WeightedTargets, out: Array) -> tuple[float, Array]:
    return loss(z, targets.values, sample_weight=targets.weights, out=out)
