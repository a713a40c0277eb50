"""check_model: the course's list of checks on a network, its data and its optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nnfast import _arrays, _checks, _seeds
from nnfast._seeds import Rng
from nnfast.checks.copies import Array, Loss, Probe, data_of, some_rows, without_dropout
from nnfast.checks.data import mixture, scale_of_input
from nnfast.checks.gradient import checked, wrong_part
from nnfast.checks.loss import (
    constant_loss,
    labels_of,
    loss_at_chance,
    overfit_tiny,
    regularization_raises_loss,
    tells_of_chance,
)
from nnfast.checks.rate import Trials, too_high, too_low
from nnfast.checks.report import Finding, ModelReport
from nnfast.checks.training import Batch, Maker, Trainee, batches_of
from nnfast.checks.weights import alike, not_finite
from nnfast.losses import softmax_cross_entropy
from nnfast.nn import Layer
from nnfast.optim.optimizer import Optimizer

# Rows that are checked: of X, for the loss, for gradients. Rows to overfit. Steps of a training. Batches that are
# taken of the user's.
_ROWS, _LOSS_ROWS, _GRADIENT_ROWS, _TINY, _STEPS, _BATCHES = 4096, 256, 16, 10, 100, 200


def check_model(
    net: Layer,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: Loss = softmax_cross_entropy,
    optimizer: Optimizer | Maker | None = None,
    lr: float | None = None,
    batch_size: int = 32,
    shuffle: bool = True,
    batches: Iterable[Batch] | None = None,
    rng: Rng = 0,
    verbose: bool = True,
) -> ModelReport:
    """Go through the list of checks before a training, and say what passed, what failed and what to try.

    In their order: the scale of the input, the mixture of classes in batches, numbers that are none, the first weights,
    the loss at chance, regularization, the gradient, a tiny set, and the learning rate. What follows from a fault that
    was found is skipped: without a right gradient, no rate is judged. Where there is doubt, a check passes.

    Parameters
    ----------
    net : Layer
        Untrained. All is done to copies of it.
    X : array_like, shape (N, ...)
        As the network is trained on it.
    y : array_like, shape (N, ...)
        What loss takes.
    loss : function, default nnfast.softmax_cross_entropy
        ``loss(scores, y)`` gives its value and the gradient with respect to the scores.
    optimizer : function or optimizer, optional
        A function of a list of arrays that gives an optimizer of them, such as a class of nnfast.optim, or what has
        ``step(grads)`` and the rate as ``lr``; or an optimizer of nnfast for net's parameters, which is copied. Without
        one the rate is not judged.
    lr : float, optional
        The learning rate, if it is not the optimizer's own.
    batch_size : int, default 32
    shuffle : bool, default True
        Whether your training draws batches at random, or takes the rows of X in their order.
    batches : iterable of pairs of arrays, optional
        (x, y) as your training takes them, in place of the two above. Up to 200 are taken from it.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None, default 0
        For rows and batches: by default the same at every call.
    verbose : bool, default True
        Whether to print the report.

    Returns
    -------
    report : ModelReport
        With the names of the checks in ``passed``, ``failed`` and ``skipped``.

    Raises
    ------
    TypeError
        If net is no Layer, loss or optimizer no function, X not of real numbers, or batches not of pairs.
    ValueError
        If X and y have not as many rows, a number is out of range, there is no batch, lr comes without an optimizer, or
        the optimizer is of other parameters; and whatever net and loss raise of X and y.

    Notes
    -----
    input scale: what the first layer with weights takes in, BatchNorm before it included. A feature's root mean square
    is above 10, that of all below 0.01, or ranges differ a thousandfold.

    shuffling: a batch holds, besides one class, less than half as many as one that is drawn at random, by 4 standard
    deviations.

    finite values: infinities and NaN in X, the parameters, a layer's output, the loss and the gradients.

    first weights: units with equal weights and equal gradients, which stay equal.

    loss at chance, regularization, gradient, overfitting: loss_at_chance, regularization_raises_loss, gradient_check of
    16 rows, and overfit_tiny with 10 rows, but at most one more than there are features. Where the gradient is wrong,
    each layer is checked by itself.

    rate not too high: after 100 steps at your rate, and after 400, the loss is no number or 0.8 times that of the best
    constant scores, where 100 steps of a lower rate get to 0.6 times that.

    rate not too low: after 100 steps the loss has moved by less than a hundredth of its fall at 10 to 1,000,000 times
    the rate, where it falls by a third.

    Without classes there is no chance to compare with, and no mixture.

    References
    ----------
    CS231n, "Learning and evaluation"; Karpathy, "A recipe for training neural networks", 2019.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> rng = np.random.default_rng(0)
    >>> x, labels = rng.standard_normal((500, 20)), np.arange(500) % 5
    >>> x += 2 * np.eye(5, 20)[labels]
    >>> net = nf.nn.Sequential(nf.nn.Dense(20, 50, rng=0), nf.nn.ReLU(), nf.nn.Dense(50, 5, rng=1))
    >>> report = nf.checks.check_model(net, x, labels, optimizer=nf.optim.Adam, verbose=False)
    >>> report.failed, len(report.passed)
    ([], 10)
    >>> report = nf.checks.check_model(net, 100 * x, labels, verbose=False)
    >>> report.failed, report.skipped[0]
    (['input scale'], 'loss at chance')
    """
    x, targets = data_of(net, X, y, loss)
    if optimizer is None and lr is not None:
        raise ValueError("lr must come with an optimizer")
    size, seed = _checks.integer_from(batch_size, 1, "batch_size"), _seeds.seed_of(rng)
    given = None if batches is None else _first_of(batches)

    def user_batches() -> Iterator[Batch]:
        if given is not None:
            return cycle(given)
        return batches_of(x, targets, size, bool(shuffle), np.random.default_rng(seed))

    def trainee() -> Trainee:
        assert optimizer is not None  # it is not asked for without
        made = Trainee(net, optimizer)
        if lr is not None:
            made.set_rate(_checks.not_negative(lr, "lr"))
        return made

    if optimizer is not None:
        trainee()  # its errors come before all else
    count = max(1, len(x) // size) if given is None else len(given)
    model = _Model(
        net, x, targets, loss, user_batches, count, None if optimizer is None else trainee, seed
    )
    with np.errstate(all="ignore"):
        report = ModelReport(tuple(_findings(model)))
    if verbose:
        print(report)
    return report


def _first_of(batches: Iterable[Batch]) -> list[Batch]:
    """Some of the user's batches."""
    found = []
    for i, batch in enumerate(islice(batches, _BATCHES)):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise TypeError(f"batches must give pairs of x and y, but not so at {i}")
        x, y = (_arrays.plain(part, f"batches[{i}][{k}]") for k, part in enumerate(batch))
        found.append((x, y))
    if not found:
        raise ValueError("batches must not be empty")
    return found


class _Model:
    """The network and data under check, with intermediate results that several checks share."""

    def __init__(
        self,
        net: Layer,
        x: Array,
        y: Array,
        loss: Loss,
        batches: Callable[[], Iterator[Batch]],
        batch_count: int,
        trainee: Callable[[], Trainee] | None,
        seed: int,
    ) -> None:
        self.net, self.x, self.y, self.loss = net, x, y, loss
        self.batches, self.batch_count, self.trainee, self.seed = (
            batches,
            batch_count,
            trainee,
            seed,
        )
        self.rows = some_rows(x, y, _LOSS_ROWS, self.rng())
        self.probe = Probe(without_dropout(net), *self.rows, loss)
        self.scores = self.probe.scores()
        self._trials: Trials | None = None

    def rng(self) -> np.random.Generator:
        """The same one every time, so that no check depends on those before it."""
        return np.random.default_rng(self.seed)

    def trials(self) -> Trials:
        """Trainings that the two checks of the rate share."""
        assert self.trainee is not None  # they are not made without
        if self._trials is None:
            self._trials = Trials(
                self.net, self.rows, self.loss, self.trainee, self.batches, _STEPS
            )
        return self._trials


# ---- the list ----


class _Result(NamedTuple):
    passed: bool | None
    """None if there was nothing to judge."""
    found: str
    advice: str = ""


def _input_scale(model: _Model) -> _Result:
    rows, _ = some_rows(model.x, model.y, _ROWS, model.rng())
    if not np.isfinite(rows).all():
        return _Result(None, "X has infinities or NaN")
    scale = scale_of_input(model.net, rows)
    if scale is None:
        return _Result(None, "X is of integers, which may be indices")
    fault = scale.fault()
    fine = f"features have a root mean square of {scale.size:.3g} at most"
    advice = "standardise X, as nnfast.preprocessing.StandardScaler does; divide bytes by 255"
    return _Result(not fault, fault or fine, advice)


def _shuffling(model: _Model) -> _Result:
    labels = labels_of(_as_many(model.scores, model.y), model.y)
    if labels is None:
        return _Result(None, "y has no classes")
    classes = []
    for _, y in islice(model.batches(), min(model.batch_count, _BATCHES)):
        of_batch = labels_of(_as_many(model.scores, y), y)
        if of_batch is None:
            return _Result(None, "a batch has no classes")
        classes.append(of_batch)
    found = mixture(labels, classes)
    numbers = f"{found.found:.3g} classes in a batch, {found.expected:.3g} at random"
    return _Result(
        found.mixed, numbers, "draw batches from a new random order of the rows in every epoch"
    )


def _as_many(scores: Array, y: Array) -> Array:
    """An array shaped as the scores of that many rows."""
    return np.empty((len(y), *scores.shape[1:]))


def _finite_values(model: _Model) -> _Result:
    where = not_finite(model.net, *model.rows, model.loss)
    found = f"a number is infinite or NaN, first in {where}" if where else "all numbers are finite"
    return _Result(
        not where,
        found,
        "look there for logarithms, roots, quotients and powers, or gaps in the data",
    )


def _first_weights(model: _Model) -> _Result:
    if not model.probe.params:
        return _Result(None, "there are no parameters")
    names = alike(model.probe)
    found = f"all units are alike, and stay so, in {', '.join(names)}" if names else "units differ"
    return _Result(
        not names, found, 'draw weights at random, init="he" or "xavier"; zeros are for biases'
    )


def _loss_at_chance(model: _Model) -> _Result:
    if not tells_of_chance(model.scores, model.rows[1], model.loss):
        return _Result(None, "there are no scores of classes")
    result = loss_at_chance(model.net, *model.rows, loss=model.loss)
    advice = "is the network trained already, or y part of X?"
    if result.loss > result.expected:
        advice = 'smaller first weights, init="he" or "xavier"; is the output logits, as the loss takes them?'
    return _Result(result.passed, str(result), advice)


def _regularization(model: _Model) -> _Result:
    if not model.probe.params:
        return _Result(None, "there are no parameters")
    result = regularization_raises_loss(model.net, *model.rows, loss=model.loss)
    return _Result(
        result.passed, f"{result}: L2, 0.01", "are the parameters those that the network uses?"
    )


def _gradient(model: _Model) -> _Result:
    rng = model.rng()
    few = some_rows(model.x, model.y, _GRADIENT_ROWS, rng)
    probe = Probe(model.net, *few, model.loss)
    if not probe.repeats():
        return _Result(
            None, "a layer draws from what its copies share: the loss is not the same twice"
        )
    check = checked(probe, 10, 1e-4, rng)
    if not check.arrays:
        return _Result(None, "there are no parameters")
    if check.passed:
        kinks = f", {check.kinks} of {check.checked} coordinates at kinks" if check.kinks else ""
        return _Result(True, f"largest error {check.error:.1e} in {check.worst}{kinks}")
    worst = check.arrays[check.worst]
    numbers = f"{check.worst} is {worst.analytic:.3g} by backward, {worst.numeric:.3g} by the loss"
    part = wrong_part(probe, rng)
    by_itself = f"; wrong by itself: {part}" if part else ""
    return _Result(False, f"wrong in {', '.join(check.wrong)}: {numbers}{by_itself}", _look(part))


def _look(part: str) -> str:
    what = f"of {part} " if part else ""
    return f"compare the backward pass {what}with the derivative of the forward pass; gradient_check has the table"


def _overfitting(model: _Model) -> _Result:
    if not model.probe.params:
        return _Result(None, "there are no parameters")
    size = min(_TINY, model.x[0].size + 1)  # a linear network with a bias learns as many
    result = overfit_tiny(model.net, model.x, model.y, loss=model.loss, size=size, rng=model.seed)
    advice = (
        "more units; is there a layer that lets nothing through, or an output that cannot reach y?"
    )
    return _Result(result.passed, str(result), advice)


def _rate_not_too_high(model: _Model) -> _Result:
    trials = model.trials()
    factor = too_high(trials, constant_loss(model.scores, model.rows[1], model.loss))
    advice = (
        "" if factor is None else f"lr={trials.rate * factor:.1g} or less; see learning_rate_range"
    )
    return _Result(factor is None, trials.story(), advice)


def _rate_not_too_low(model: _Model) -> _Result:
    trials = model.trials()
    if trials.rate == 0:
        return _Result(False, "the rate is 0", "lr=1e-3 with Adam, 1e-2 with SGD")
    factor = too_low(trials)
    if factor is None:
        return _Result(True, trials.story())
    better = f", to {trials.after(factor):.4g} at {trials.rate * factor:.1g}"
    advice = f"lr={trials.rate * factor:.1g}; see learning_rate_range"
    return _Result(False, f"{trials.story()}{better}", advice)


class _Check(NamedTuple):
    name: str
    judge: Callable[[_Model], _Result]
    needs: tuple[str, ...] = ()
    """Checks whose failure would be the reason of this one's."""
    of_rate: bool = False


_SOUND = ("finite values", "input scale", "first weights", "gradient")
_LIST = (
    _Check("input scale", _input_scale),
    _Check("shuffling", _shuffling),
    _Check("finite values", _finite_values),
    _Check("first weights", _first_weights, ("finite values",)),
    _Check("loss at chance", _loss_at_chance, ("finite values", "input scale")),
    _Check("regularization", _regularization, ("finite values", "first weights")),
    _Check("gradient", _gradient, ("finite values",)),
    _Check("overfitting", _overfitting, _SOUND),
    _Check("rate not too high", _rate_not_too_high, (*_SOUND, "shuffling", "overfitting"), True),
    _Check(
        "rate not too low",
        _rate_not_too_low,
        (*_SOUND, "shuffling", "overfitting", "rate not too high"),
        True,
    ),
)


def _findings(model: _Model) -> Iterator[Finding]:
    """One check after the other, but for those whose failure has its reason already."""
    failed: set[str] = set()
    for check in _LIST:
        reasons = [name for name in check.needs if name in failed]
        if check.of_rate and model.trainee is None:
            result = _Result(None, "give optimizer= to have its rate judged")
        elif reasons:
            result = _Result(None, f"as {reasons[0]} failed")
        else:
            result = check.judge(model)
        if result.passed is None:
            yield Finding(check.name, "skipped", result.found, "")
        elif result.passed:
            yield Finding(check.name, "passed", result.found, "")
        else:
            failed.add(check.name)
            yield Finding(check.name, "FAILED", result.found, result.advice)
