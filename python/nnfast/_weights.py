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


def split(targets: Any) -> tuple[Array, Array | None]:
    """The targets, and the weights if there are any."""
    if isinstance(targets, WeightedTargets):
        return targets.values, targets.weights
    return targets, None


def weighted(loss: Loss, class_weights: Array | None = None) -> Loss:
    """A loss for WeightedTargets: the mean of the rows' losses by their weights, divided by the sum of these.

    Weights of classes multiply those of the samples. The loss is called for each row; it is to be
    ``loss(z, targets.values, sample_weight=targets.weights, out=out)`` once the losses take sample weights.
    """
    return partial(_of_batch, loss, class_weights)


def _of_batch(
    loss: Loss, class_weights: Array | None, z: Array, targets: WeightedTargets, out: Array
) -> tuple[float, Array]:
    shares = targets.weights
    if class_weights is not None:
        shares = shares * class_weights[targets.values]
    total = float(shares.sum())
    value = 0.0
    for i, weight in enumerate(shares):
        row = slice(i, i + 1)
        if not weight:
            out[row] = 0
            continue
        of_row, gradient = loss(z[row], targets.values[row])
        value += float(weight / total) * of_row
        out[row] = gradient * out.dtype.type(weight / total)
    return value, out
