"""Losses and gradients equal PyTorch's, over random combinations of options."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nnfast as nf

Array = NDArray[Any]
pytestmark = pytest.mark.peers

REDUCTIONS = ("mean", "sum", "none")
# Shapes of logits with the classes along axis 1, as in PyTorch, and their axis in nnfast.
SHAPES: tuple[tuple[int, ...], ...] = ((7, 5), (1, 3), (4, 6, 3), (2, 3, 4, 5), (3, 1), (40, 17))


def compare(ours: tuple[Any, Array], theirs: Any, leaf: Any, rtol: float = 1e-11) -> None:
    """Value and gradient; where there is a loss for each row, the gradient of their sum."""
    theirs.sum().backward()
    np.testing.assert_allclose(ours[0], theirs.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ours[1], leaf.grad.numpy(), rtol=rtol, atol=1e-13)


def moved(array: Array, axis: int) -> Array:
    """The array with its axis 1 moved to another place."""
    return np.moveaxis(array, 1, axis)


@pytest.mark.parametrize("seed", range(150))
def test_cross_entropy(seed: int) -> None:
    import torch

    rng = np.random.default_rng(seed)
    shape = SHAPES[rng.integers(len(SHAPES))]
    classes, rows = shape[1], (shape[0], *shape[2:])
    axis = int(rng.choice([1, -1, 0]))
    z = rng.normal(0, 3, shape)
    options: dict[str, Any] = {"label_smoothing": float(rng.choice([0, 0.1, 1]))}
    options["reduction"] = REDUCTIONS[rng.integers(3)]
    weights = rng.uniform(0, 2, classes) if rng.random() < 0.5 else None
    leaf = torch.tensor(z, requires_grad=True)
    given = leaf
    ours = nf.softmax_cross_entropy
    if from_probabilities := rng.random() < 0.3:
        z = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        leaf = torch.tensor(z, requires_grad=True)
        given = leaf.log()  # PyTorch takes its softmax
        given = given - given.logsumexp(1, keepdim=True).detach()
        ours = nf.cross_entropy
    if indices := rng.random() < 0.6:
        labels = rng.integers(0, classes, rows)
        if rng.random() < 0.5:
            labels[rng.random(rows) < 0.3] = -100
            labels[(0,) * len(rows)] = 0
            options["ignore_index"] = -100
    else:
        labels = np.moveaxis(rng.dirichlet(np.ones(classes), rows), -1, 1)
    if from_probabilities:
        # By the definition: PyTorch has no such function.
        log_p = leaf.log()
        theirs = explicit(log_p, labels, weights, **options)
    else:
        theirs = torch.nn.functional.cross_entropy(
            given,
            torch.tensor(labels),
            None if weights is None else torch.tensor(weights),
            **options,
        )
    there = moved(z, axis)
    labels_there = labels if indices else moved(labels, axis)
    loss, dz = ours(there, labels_there, class_weight=weights, axis=axis, **options)
    compare((loss, np.moveaxis(dz, axis, 1)), theirs, leaf)


def explicit(
    log_p: Any,
    labels: Array,
    weights: Array | None,
    *,
    label_smoothing: float,
    reduction: str,
    ignore_index: int = -100,
) -> Any:
    """The cross-entropy of logarithms of probabilities, composed of PyTorch's functions."""
    import torch

    classes = log_p.shape[1]
    w = torch.ones(classes, dtype=log_p.dtype) if weights is None else torch.tensor(weights)
    w = w.reshape(-1, *(1,) * (log_p.ndim - 2))
    if labels.ndim == log_p.ndim:
        kept = torch.ones(log_p[:, 0].shape, dtype=log_p.dtype)
        targets, total = torch.tensor(labels), kept.sum()
    else:
        kept = torch.tensor((labels != ignore_index).astype(float))
        hot = torch.nn.functional.one_hot(torch.tensor(np.maximum(labels, 0)), classes)
        targets = hot.movedim(-1, 1).to(log_p.dtype)
        total = ((targets * w).sum(1) * kept).sum()
    targets = (1 - label_smoothing) * targets + label_smoothing / classes
    rows = -(targets * w * log_p).sum(1) * kept
    return {"mean": rows.sum() / total, "sum": rows.sum(), "none": rows}[reduction]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # as ours does
@pytest.mark.parametrize("seed", range(150))
def test_elementwise(seed: int) -> None:
    import torch

    rng = np.random.default_rng(1000 + seed)
    shape = ((6,), (5, 4), (3, 2, 7), (2100,))[rng.integers(4)]
    reduction = REDUCTIONS[rng.integers(3)]
    x, t = rng.normal(0, 3, (2, *shape))
    name = (
        *("mse", "l1", "huber", "poisson_nll", "kl_div"),
        *("binary_cross_entropy_with_logits", "binary_cross_entropy"),
    )[seed % 7]
    options: dict[str, Any] = {}
    theirs_options: dict[str, Any] = {}
    if name == "huber":
        options["delta"] = theirs_options["delta"] = 0.75
    if name == "poisson_nll":
        t = rng.poisson(2, shape).astype(float)
        x = np.abs(x)
        options["log_input"] = theirs_options["log_input"] = bool(seed % 2)
    if name == "kl_div":
        t = rng.random(shape) * rng.integers(0, 2, shape)
    if name.startswith("binary"):
        t = rng.random(shape) if rng.random() < 0.5 else rng.integers(0, 2, shape).astype(float)
        # PyTorch's mean does not divide by the weights.
        if rng.random() < 0.5:
            weight = rng.uniform(0.5, 2, shape)
            options["sample_weight"] = weight
            theirs_options["weight"] = torch.tensor(weight)
    if name == "binary_cross_entropy":
        x = np.clip(rng.random(shape) * 1.2 - 0.1, 0, 1)
    if name.endswith("logits") and rng.random() < 0.7:
        ends = [shape[k:] for k in range(len(shape) + 1)]
        of_axis = (shape[0], *(1,) * (len(shape) - 1))
        weight = rng.uniform(0, 3, [*ends, of_axis][rng.integers(len(ends) + 1)])
        options["pos_weight"] = weight
        theirs_options["pos_weight"] = torch.tensor(weight)
    leaf = torch.tensor(x, requires_grad=True)
    ours_name, theirs_name = (
        (name, name) if name.startswith(("binary", "kl")) else (f"{name}_loss", f"{name}_loss")
    )
    theirs = getattr(torch.nn.functional, theirs_name)(
        leaf, torch.tensor(t), reduction=reduction, **theirs_options
    )
    loss, dx = getattr(nf, ours_name)(x, t, reduction=reduction, **options)
    if reduction == "mean" and "sample_weight" in options:
        by = options["sample_weight"].mean()
        loss, dx = loss * by, dx * by
    # The limit of p (1 - p) is a float32 in PyTorch.
    compare((loss, dx), theirs, leaf, rtol=1e-8 if name == "binary_cross_entropy" else 1e-11)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_hinge(reduction: str, margin: float) -> None:
    import torch

    rng = np.random.default_rng(5)
    s, labels = rng.normal(size=(9, 4)), rng.integers(0, 4, 9)
    leaf = torch.tensor(s, requires_grad=True)
    theirs = torch.nn.functional.multi_margin_loss(
        leaf, torch.tensor(labels), margin=margin, reduction=reduction
    )
    loss, ds = nf.svm_loss(s, labels, margin=margin, reduction=reduction)  # type: ignore[arg-type]
    compare((np.asarray(loss) / 4, ds / 4), theirs, leaf)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("p", [1, 2])
def test_hinge_of_powers_and_weights(reduction: str, p: int) -> None:
    import torch

    rng = np.random.default_rng(6)
    s, labels, weights = rng.normal(size=(9, 4)), rng.integers(0, 4, 9), rng.random(4)
    leaf = torch.tensor(s, requires_grad=True)
    theirs = torch.nn.functional.multi_margin_loss(
        leaf, torch.tensor(labels), p=p, weight=torch.tensor(weights), reduction=reduction
    )
    loss, ds = nf.svm_loss(s, labels, squared=p == 2, class_weight=weights, reduction=reduction)  # type: ignore[call-overload]
    # PyTorch divides by the number of rows, and of classes.
    by = (weights[labels].mean() if reduction == "mean" else 1) / 4
    compare((np.asarray(loss) * by, ds * by), theirs, leaf)


@pytest.mark.parametrize("seed", range(30))
def test_likelihood(seed: int) -> None:
    import torch

    rng = np.random.default_rng(seed)
    shape = SHAPES[rng.integers(len(SHAPES))]
    rows = (shape[0], *shape[2:])
    x, labels = rng.normal(0, 3, shape), rng.integers(0, shape[1], rows)
    options: dict[str, Any] = {"reduction": REDUCTIONS[rng.integers(3)]}
    weights = rng.uniform(0.1, 2, shape[1]) if rng.random() < 0.5 else None
    if rng.random() < 0.5:
        labels[rng.random(rows) < 0.3] = -100
        labels[(0,) * len(rows)] = 0
    leaf = torch.tensor(x, requires_grad=True)
    given = None if weights is None else torch.tensor(weights)
    theirs = torch.nn.functional.nll_loss(leaf, torch.tensor(labels), given, **options)
    ours = nf.nll_loss(x, labels, class_weight=weights, ignore_index=-100, axis=1, **options)
    compare(ours, theirs, leaf)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (None, 1.5), (0.7, 0.5), (0.4, 0.0)])
def test_focal(reduction: str, alpha: float | None, gamma: float) -> None:
    """torchvision.ops.sigmoid_focal_loss, composed."""
    import torch

    rng = np.random.default_rng(7)
    x, t = rng.normal(0, 3, (6, 7)), rng.integers(0, 3, (6, 7)) / 2
    leaf, targets = torch.tensor(x, requires_grad=True), torch.tensor(t)
    p = torch.sigmoid(leaf)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(leaf, targets, reduction="none")
    right = p * targets + (1 - p) * (1 - targets)
    theirs = entropy * (1 - right) ** gamma
    if alpha is not None:
        theirs = (alpha * targets + (1 - alpha) * (1 - targets)) * theirs
    theirs = {"mean": theirs.mean(), "sum": theirs.sum(), "none": theirs}[reduction]
    ours = nf.sigmoid_focal_loss(x, t, alpha=alpha, gamma=gamma, reduction=reduction)  # type: ignore[arg-type]
    compare(ours, theirs, leaf)


def compare_all(ours: tuple[Any, ...], theirs: Any, leaves: list[Any]) -> None:
    theirs.sum().backward()
    np.testing.assert_allclose(ours[0], theirs.detach().numpy(), rtol=1e-11, atol=1e-13)
    for gradient, leaf in zip(ours[1:], leaves, strict=True):
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(24))
def test_losses_of_several_gradients(seed: int) -> None:
    import torch

    rng = np.random.default_rng(seed)
    functional = torch.nn.functional
    options: dict[str, Any] = {"reduction": REDUCTIONS[rng.integers(3)]}
    arrays = rng.normal(0, 1, (3, 6, 5))
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    match seed % 3:
        case 0:
            v = [arrays[2] ** 2, arrays[2][:, :1] ** 2][rng.integers(2)]
            leaves[2] = torch.tensor(v, requires_grad=True)
            options |= {"full": bool(rng.integers(2)), "eps": float(rng.choice([1e-6, 0.1]))}
            theirs = functional.gaussian_nll_loss(*leaves, **options)
            ours = nf.gaussian_nll_loss(arrays[0], arrays[1], v, **options)
            del leaves[1]
        case 1:
            signs = rng.choice([-1, 1], 6)
            options["margin"] = float(rng.choice([0, 0.3]))
            del leaves[2]
            theirs = functional.cosine_embedding_loss(*leaves, torch.tensor(signs), **options)
            ours = nf.cosine_embedding_loss(arrays[0], arrays[1], signs, **options)
        case _:
            options |= {"p": float(rng.choice([1, 2, 3])), "swap": bool(rng.integers(2))}
            theirs = functional.triplet_margin_loss(*leaves, **options)
            ours = nf.triplet_margin_loss(*arrays, **options)
    compare_all(ours, theirs, leaves)


def test_extreme_probabilities() -> None:
    import torch

    p = np.array([0.0, 1.0, 0.0, 1.0, 1e-30, 1e-300, 0.5, np.nextafter(1, 0)])
    t = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.25, 0.0])
    leaf = torch.tensor(p, requires_grad=True)
    theirs = torch.nn.functional.binary_cross_entropy(leaf, torch.tensor(t), reduction="none")
    compare(nf.binary_cross_entropy(p, t, reduction="none"), theirs, leaf, rtol=1e-8)
