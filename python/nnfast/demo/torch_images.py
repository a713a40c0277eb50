"""The network of the demo on images in PyTorch, as one writes it there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nnfast.demo.images import DROPPED, F32, SKIPPED, WEIGHT_DECAY


class Residual(nn.Module):
    """x + branch(x), which each sample skips at random in training; then ReLU."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(*convolution(n, n), nn.ReLU(), *convolution(n, n))

    def forward(self, x: Any) -> Any:
        """The block's output."""
        y = self.branch(x)
        if self.training:
            kept = torch.rand(len(x), 1, 1, 1) >= SKIPPED
            y = y * (kept / (1 - SKIPPED))
        return torch.relu(x + y)


def convolution(n_in: int, n_out: int) -> list[Any]:
    """3x3, without a bias, and BatchNorm."""
    return [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out)]


class TorchNetwork:
    """The network, which begins with nnfast's parameters, and its optimizer."""

    def __init__(self, maps: int, seed: int, params: list[NDArray[Any]]) -> None:
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            *(*convolution(1, maps), nn.ReLU(), nn.MaxPool2d(2), Residual(maps)),
            *(*convolution(maps, 2 * maps), nn.ReLU(), nn.MaxPool2d(2), Residual(2 * maps)),
            *(nn.Dropout2d(DROPPED), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(2 * maps, 10),
        )
        with torch.no_grad():
            for param, first in zip(self.net.parameters(), params, strict=True):
                # A dense weight is (in, out) in nnfast.
                param.copy_(torch.from_numpy(first.T if first.ndim == 2 else first))
        self.adam = torch.optim.AdamW(self.net.parameters(), weight_decay=WEIGHT_DECAY)

    def train_step(self, x: F32, labels: NDArray[Any], lr: float) -> float:
        """One forward pass, backward pass and update; the loss."""
        self.net.train()
        loss = nn.functional.cross_entropy(self.net(torch.from_numpy(x)), torch.from_numpy(labels))
        self.adam.zero_grad()
        loss.backward()
        self.adam.param_groups[0]["lr"] = lr
        self.adam.step()
        return float(loss.detach())

    def scores(self, x: F32) -> F32:
        """One score for each class."""
        self.net.eval()
        with torch.no_grad():
            return np.asarray(self.net(torch.from_numpy(x)))
