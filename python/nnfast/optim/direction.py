"""The base of rules whose decoupled weight decay is part of the direction they step along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnfast.optim.configured import Values
from nnfast.optim.optimizer import Optimizer


class DirectionDecay(Optimizer):
    """Decoupled weight decay is added to the direction, where other rules shrink the parameter before the step."""

    def _joins_direction(self, settings: Mapping[str, Any]) -> bool:
        return bool(settings["decoupled_weight_decay"])

    def _direction_decay(self, settings: Mapping[str, Any]) -> float:
        return float(settings["weight_decay"]) if self._joins_direction(settings) else 0.0

    def _row(self, t: int, lr: float, settings: Mapping[str, Any], product: Any) -> Values:
        sign, clip_value, decay, shrink, *others = super()._row(t, lr, settings, product)
        if self._joins_direction(settings):
            shrink = 1.0
        return sign, clip_value, decay, shrink, *others
