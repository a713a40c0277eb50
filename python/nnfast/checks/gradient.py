"""The gradient check: gradients of backward compared with differences of the loss."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nnfast import _checks, _seeds
from nnfast._seeds import Rng
from nnfast.checks.copies import Array, Loss, Probe, data_of, place
from nnfast.checks.function import Function, FunctionProbe
from nnfast.losses import softmax_cross_entropy
from nnfast.nn import Layer, Sequential

# Points at which the rounding of the loss is measured, and how far apart they are in float64 and in float32: so far
# that it differs, so near that there is hardly a kink between.
_POINTS, _APART, _APART_SINGLE = 10, 1e-12, 1e-7
# Standard deviations of its rounding by which the loss may be off.
_DEVIATIONS = 5
# Where a kink may be the reason, the step is tried at these shares of its length.
_SHARES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)

_TITLES = ("", "worst error", "at", "analytic", "numeric", "checked", "kinks", "wrong")


class ArrayCheck(NamedTuple):
    """What gradient_check found in one array.

    Parameters
    ----------
    error : float
        The largest relative error, |a - n| / max(|a|, |n|), but for kinks.
    at : tuple of ints
        The coordinate of that error; () where all were kinks, or the array has no axes.
    analytic : float
        a: the derivative at that coordinate from backward.
    numeric : float
        n: the derivative at that coordinate from differences of the loss.
    checked : int
        The number of coordinates checked.
    kinks : int
        How many of them have a kink within the step, which counts neither as an error nor as correct.
    wrong : int
        How many of them have an error above the tolerance.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> net = nf.nn.Sequential(nf.nn.Dense(3, 2, rng=0))
    >>> found = nf.checks.gradient_check(net, np.ones((4, 3)), [0, 1, 1, 1]).arrays["0.bias"]
    >>> found.checked, found.kinks, found.wrong, found.error < 1e-6
    (2, 0, 0, True)
    """

    error: float
    at: tuple[int, ...]
    analytic: float
    numeric: float
    checked: int
    kinks: int
    wrong: int


@dataclass(frozen=True)
class GradientCheck:
    """What gradient_check found. Printed it is a table.

    Parameters
    ----------
    arrays : dict of ArrayCheck by str
        By the name of the parameter, and "X" for the input.
    tolerance : float
        The relative error above which a coordinate is wrong.
    step : float
        The step by which a coordinate was moved to either side.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> net = nf.nn.Sequential(nf.nn.Dense(3, 2, rng=0))
    >>> check = nf.checks.gradient_check(net, np.ones((4, 3)), [0, 1, 1, 1])
    >>> check.passed, check.wrong, list(check.arrays), check.arrays["0.bias"].checked
    (True, [], ['0.weight', '0.bias', 'X'], 2)
    """

    arrays: dict[str, ArrayCheck]
    tolerance: float
    step: float

    @property
    def passed(self) -> bool:
        """Whether no coordinate is wrong."""
        return not self.wrong

    @property
    def wrong(self) -> list[str]:
        """The names of arrays with a wrong coordinate."""
        return [name for name, found in self.arrays.items() if found.wrong]

    @property
    def worst(self) -> str:
        """The name of the array with the largest error."""
        return max(self.arrays, key=lambda name: self.arrays[name].error)

    @property
    def error(self) -> float:
        """The largest relative error."""
        return self.arrays[self.worst].error

    @property
    def checked(self) -> int:
        """The number of coordinates checked, in all arrays."""
        return sum(found.checked for found in self.arrays.values())

    @property
    def kinks(self) -> int:
        """The number of kinks, in all arrays."""
        return sum(found.kinks for found in self.arrays.values())

    def __str__(self) -> str:
        verdict = "passed" if self.passed else f"FAILED in {', '.join(self.wrong)}"
        rows = [_TITLES, *(_row(name, found) for name, found in self.arrays.items())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]
        settings = f"tolerance {self.tolerance:.0e}, step {self.step:.0e}"
        return "\n".join([f"gradient check {verdict} ({settings})", *lines])


def gradient_check(
    net: Layer | Function,
    X: Any,
    y: Any,
    *,
    loss: Loss = softmax_cross_entropy,
    samples: int = 10,
    tolerance: float = 1e-4,
    rng: Rng = 0,
) -> GradientCheck:
    """Compare gradients with centred differences, ``(loss(w + h) - loss(w - h)) / 2h``.

    ``gradient_check(net, X, y)`` checks what the backward of a network gives, ``gradient_check(f, x, gradient)`` what
    is claimed for a plain function.

    A copy of the network is evaluated in training, every time from the same state: dropout draws the same masks,
    BatchNorm takes the statistics of the batch, and the network itself is left as it is.

    Parameters
    ----------
    net : Layer or function
        A Sequential, or a layer; those of your own, too. Or a function of x that gives a number.
    X : array_like, shape (N, ...), or what the function takes
        For a function an array of any shape, or a list or dict of arrays, which it is given in float64. For a network a
        few samples: 10 to 20 do, and give fewer kinks than many. If they are floats, the gradient with respect to X is
        checked, too.
    y : array_like, shape (N, ...), or the gradient
        What loss takes. For a function the gradient at x: an array of x's shape, or a list or dict of them as x is one,
        or a function of x that gives it.
    loss : function, default nnfast.softmax_cross_entropy
        ``loss(scores, y)`` gives its value and the gradient with respect to the scores. Of no use to a function.
    samples : int, default 10
        Coordinates of each array that are looked at, drawn at random.
    tolerance : float, default 1e-4
        Relative error from which a coordinate is wrong.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None, default 0
        For the coordinates: by default the same at every call.

    Returns
    -------
    check : GradientCheck
        With the worst error of each array.

    Raises
    ------
    TypeError
        If net is neither a Layer nor a function, loss no function, X not of real numbers, or the gradient of a function
        not of X's form.
    ValueError
        If X and y have not as many rows, there is nothing to check, a gradient is missing or has another shape than its
        parameter, or the loss is no number or another one the second time: then a layer draws from what its copies
        share, such as NumPy's global generator.

    Notes
    -----
    The copy is in float64, whatever the network is in, as differences in float32 tell little: what is checked is the
    formula. The rounding of the loss is measured (by its third differences along a random line), and the step is where
    rounding and curvature err alike, its relative size to the power 1/3: 1e-5 at least, about 5e-3 if a layer of your
    own computes in float32 all the same. The tolerance is 10 steps at least, and a derivative that is lost in rounding
    counts as 0.

    An error is judged again with shorter steps, as far as rounding allows. If it goes away there, a kink lay between
    the points; if it stays, and the slopes to the left and to the right differ however short the step, the kink is at
    the point. Both are counted as kinks, not as wrong.

    What a layer of your own keeps is copied as copy.deepcopy does it: arrays that are views of each other share no
    memory in the copy. Classes and functions are not copied.

    References
    ----------
    CS231n, "Gradient checks"; Moré, Wild, "Estimating computational noise", 2011, for the rounding.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> class Square(nf.nn.Layer):
    ...     def forward(self, x, training=False):
    ...         self.x = x
    ...         return x * x
    ...     def backward(self, dy):
    ...         return dy * self.x  # the 2 is missing
    >>> net = nf.nn.Sequential(nf.nn.Dense(8, 4, rng=0), Square(), nf.nn.Dense(4, 3, rng=1))
    >>> x, labels = np.random.default_rng(0).standard_normal((10, 8)), np.arange(10) % 3
    >>> check = nf.checks.gradient_check(net, x, labels)
    >>> check.wrong, round(check.error, 3)
    (['0.weight', '0.bias', 'X'], 0.5)
    >>> x = np.array([0.5, -1.0, 2.0])
    >>> nf.checks.gradient_check(lambda x: np.sin(x).sum(), x, np.cos(x)).passed
    True
    """
    samples = _checks.integer_from(samples, 1, "samples")
    tolerance = _checks.positive(tolerance, "tolerance")
    probe: Probe | FunctionProbe
    if callable(net) and not isinstance(net, Layer):
        if loss is not softmax_cross_entropy:
            raise ValueError("loss must be left out for a function, which gives a number itself")
        probe = FunctionProbe(net, X, y)
    else:
        x, targets = data_of(net, X, y, loss)
        probe = Probe(net, x, targets, loss)
    check = checked(probe, samples, tolerance, _seeds.generator_of(rng))
    if not check.arrays:
        raise ValueError(
            "there is nothing to check: no parameters, and no gradient with respect to X"
        )
    return check


def checked(
    probe: Probe | FunctionProbe, samples: int, tolerance: float, rng: np.random.Generator
) -> GradientCheck:
    """The gradient check of a probe; without arrays if there is nothing to check."""
    if not math.isfinite(probe.first):
        raise ValueError(f"the loss must be a finite number, got {probe.first}")
    if not probe.repeats():
        raise ValueError(
            "the loss must be the same at every evaluation, but a layer draws from what its copies share"
            if isinstance(probe, Probe)
            else "the function must give the same number at every evaluation"
        )
    gradients = probe.gradients()
    if not gradients:
        return GradientCheck({}, tolerance, 0.0)
    differences = _Differences(probe, tolerance, rng)
    found = {
        name: _of_array(differences, probe.arrays[name], gradient, samples, rng)
        for name, gradient in gradients.items()
    }
    return GradientCheck(found, differences.tolerance, differences.step)


def wrong_part(probe: Probe, rng: np.random.Generator) -> str:
    """The layer, or the loss, that is wrong when checked separately; an empty string if none is."""
    net, x = probe.replica(), probe.x
    for i, layer in enumerate(net if isinstance(net, Sequential) else [net]):
        before = copy.deepcopy(layer)
        scores = np.array(layer.forward(x, training=True))
        weights = rng.standard_normal(scores.shape)
        if not checked(Probe(before, x, weights, _weighted), 10, 1e-4, rng).passed:
            return place(net, i)
        x = scores
    if not checked(Probe(_Same(), x, probe.y, probe.loss), 10, 1e-4, rng).passed:
        return "the loss"
    return ""


def _weighted(scores: Array, weights: Array) -> tuple[float, Array]:
    """A loss through which nothing but the network can be wrong."""
    return float((scores * weights).sum()), weights


class _Same(Layer):
    """A network through which nothing but the loss can be wrong."""

    def forward(self, x: ArrayLike, training: bool = False) -> Array:
        return np.asarray(x)

    def backward(self, dy: ArrayLike) -> Array:
        return np.asarray(dy)


# ---- differences ----


class _Coordinate(NamedTuple):
    error: float
    at: tuple[int, ...]
    analytic: float
    numeric: float
    kink: bool


class _Differences:
    """Derivatives with respect to single coordinates; step and tolerance allow for the rounding of the loss."""

    def __init__(
        self, probe: Probe | FunctionProbe, tolerance: float, rng: np.random.Generator
    ) -> None:
        self._probe = probe
        self._noise = _noise(probe, rng)
        relative = self._noise / abs(probe.first) if probe.first else 0.0
        self.step = max(1e-5, relative ** (1 / 3))
        self.tolerance = max(tolerance, 10 * self.step)

    def judged(self, values: Array, index: tuple[int, ...], analytic: float) -> _Coordinate:
        """The error with the whole step, and whether shorter steps show that a kink is the reason."""
        first: _Coordinate | None = None
        tried: list[_Tried] = []
        for share in _SHARES:
            step = share * self.step
            rounding = _DEVIATIONS * self._noise / step
            left, numeric, right = self._slopes(values, index, step)
            error = _relative(analytic, numeric, rounding / self.tolerance)
            if first is None:
                first = _Coordinate(error, index, analytic, numeric, False)
            elif rounding > self.tolerance * max(abs(analytic), abs(numeric)):
                break  # below the rounding of the loss
            if error <= self.tolerance:
                return first._replace(kink=share < 1)
            slack = self.tolerance * max(abs(left), abs(right)) + 2 * rounding
            tried.append(_Tried(abs(analytic - numeric), abs(right - left), slack))
        assert first is not None  # there is a first share
        return first._replace(kink=_is_kink(tried))

    def _slopes(
        self, values: Array, index: tuple[int, ...], step: float
    ) -> tuple[float, float, float]:
        """To the left, between both sides, to the right."""
        here, middle = values[index].item(), self._probe.first
        down, below = self._moved(values, index, here - step)
        up, above = self._moved(values, index, here + step)
        values[index] = here
        return (
            (middle - below) / (here - down),
            (above - below) / (up - down),
            (above - middle) / (up - here),
        )

    def _moved(self, values: Array, index: tuple[int, ...], to: float) -> tuple[float, float]:
        """The value of the coordinate after rounding, and the loss there."""
        values[index] = to
        return values[index].item(), self._probe.value()


class _Tried(NamedTuple):
    """The errors with one step."""

    gap: float
    """Between the analytic derivative and the numeric one."""
    jump: float
    """Between the slopes to the left and to the right."""
    slack: float
    """The bound of the error of either slope."""


def _is_kink(tried: list[_Tried]) -> bool:
    """Whether the errors for steps, each a tenth of the one before, show a kink."""
    gap, jump, slack = tried[-1]
    if len(tried) > 1:
        before = tried[-2]
        if gap < 0.2 * before.gap:
            return (
                True  # it vanishes with the step, as where slopes are equal but curvatures differ
            )
        if 0.08 * before.jump < jump < 0.12 * before.jump:
            return False  # it is curvature that makes slopes differ
    return jump > 2 * slack


def _of_array(
    differences: _Differences,
    values: Array,
    gradient: Array,
    samples: int,
    rng: np.random.Generator,
) -> ArrayCheck:
    """A sample of an array's coordinates."""
    places = rng.permutation(values.size)[:samples]
    indices = [tuple(map(int, np.unravel_index(at, values.shape))) for at in places]
    found = [differences.judged(values, index, gradient[index].item()) for index in indices]
    smooth = [coordinate for coordinate in found if not coordinate.kink]
    wrong = sum(coordinate.error > differences.tolerance for coordinate in smooth)
    none = _Coordinate(0.0, (), math.nan, math.nan, False)
    worst = max(smooth, key=lambda coordinate: coordinate.error, default=none)
    return ArrayCheck(*worst[:4], len(found), len(found) - len(smooth), wrong)


def _relative(a: float, n: float, least: float) -> float:
    """|a - n| / max(|a|, |n|, least); infinite where a or n is not finite."""
    if not (math.isfinite(a) and math.isfinite(n)):
        return math.inf
    size = max(abs(a), abs(n), least)
    return abs(a - n) / size if size else 0.0


def _noise(probe: Probe | FunctionProbe, rng: np.random.Generator) -> float:
    """The standard deviation of the rounding of the loss, from third differences, in which smooth parts cancel."""
    arrays = list(probe.arrays.values())
    apart = _APART_SINGLE if _is_single(probe) else _APART
    before = [array.copy() for array in arrays]
    directions = [apart * rng.standard_normal(array.shape) for array in arrays]
    losses = []
    for k in range(_POINTS):
        for array, start, direction in zip(arrays, before, directions, strict=True):
            array[...] = start + k * direction
        losses.append(probe.value())
    for array, start in zip(arrays, before, strict=True):
        array[...] = start
    # Of independent numbers the third difference has 1 + 9 + 9 + 1 times the variance.
    found = math.sqrt(float(np.square(np.diff(losses, 3)).mean()) / 20)
    eps = max(float(np.finfo(array.dtype).eps) for array in arrays)
    return max(found, eps * abs(probe.first) / 2)


def _is_single(probe: Probe | FunctionProbe) -> bool:
    """Whether a layer computes in float32 even for float64 input: its output has no more digits."""
    if isinstance(probe, FunctionProbe):
        return probe.is_single()
    todo = [probe.replica()]
    x = probe.x * (1 + 1e-9) if probe.x.dtype.kind == "f" else probe.x
    with np.errstate(all="ignore"):
        while todo:
            layer = todo.pop()
            if isinstance(layer, Sequential):
                todo += reversed(layer.layers)
                continue
            x = np.array(layer.forward(x, training=True))
            if (x == x.astype(np.float32)).all():
                return True
    return False


def _row(name: str, found: ArrayCheck) -> tuple[str, ...]:
    """The line of the table for an array."""
    numbers = f"{found.error:.1e}", f"{found.analytic:.4g}", f"{found.numeric:.4g}"
    where = f"({', '.join(map(str, found.at))})"
    return name, numbers[0], where, *numbers[1:], *map(str, found[4:])
