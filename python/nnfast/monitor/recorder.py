"""The Recorder: what a training loop tells it, and the line that says so."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, Self, TextIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _checks
from nnfast.losses import softmax_cross_entropy
from nnfast.monitor import layers
from nnfast.monitor.history import History
from nnfast.monitor.layers import Look, Loss, NonFinite
from nnfast.monitor.live import Line
from nnfast.monitor.recorded import Recorded
from nnfast.nn.layer import Layer
from nnfast.optim import StepStats
from nnfast.optim.optimizer import Optimizer


class Recorder(Recorded):
    """What happened in a training: losses, accuracies, update ratios, and statistics by layer.

    The loop stays yours: it calls ``step`` after every update, ``epoch`` where it has measured something, and ``look``
    where it wants to know what the layers do. Nothing is called behind its back, and nothing of the network or the
    optimizer is changed.

    Parameters
    ----------
    net : nn.Layer, optional
        What ``look`` looks at, usually a Sequential; its names of parameters are those in pictures.
    opt : nnfast.optim optimizer, optional
        Whose order the parameters have in StepStats; without it, that of ``net.params``.
    live : bool, optional
        Whether to keep a line in the terminal, or below a notebook's cell, up to date: the mean loss since it was last
        written, the median ratio of update to weight, and the numbers of the last epoch. By default, where stream is a
        terminal or a notebook's.
    stream : text file, optional
        Where that line goes, sys.stderr by default. It is written at most four times a second.

    Attributes
    ----------
    step_count : int
    losses, epoch_steps, epochs, stats_steps, update_ratios, grad_norms, param_names
        What was recorded, as new arrays.
    looks : list of Look
        What ``look`` and ``look_at`` have seen.
    first_nonfinite : NonFinite or None
        The first NaN or infinity that was recorded, in a loss, a gradient or a look.

    Raises
    ------
    TypeError
        If net is no Layer, or opt no optimizer of nnfast.optim.

    Notes
    -----
    Losses are kept of every step, in 8 bytes. Ratios and norms are kept of every step up to 4096; then of every second,
    of every fourth after twice as many, and so on: never of more than 4096 steps, in 16 bytes a parameter. A look keeps
    about 3 kB a layer.

    References
    ----------
    CS231n, neural networks part 3: "babysitting the learning process".

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> net = nf.nn.Sequential(nf.nn.Dense(4, 8, rng=0), nf.nn.ReLU(), nf.nn.Dense(8, 3, rng=1))
    >>> opt = nf.optim.Adam(net.params)
    >>> x, labels = np.random.default_rng(0).random((30, 4), np.float32), np.arange(30) % 3
    >>> with nf.monitor.Recorder(net, opt) as rec:
    ...     for _ in range(5):
    ...         loss, dz = nf.softmax_cross_entropy(net.forward(x, training=True), labels)
    ...         net.backward(dz)
    ...         rec.step(loss, opt.step(net.grads, stats=True))
    >>> rec.losses.shape, rec.update_ratios.shape, rec.param_names
    ((5,), (5, 4), ('0.weight', '0.bias', '2.weight', '2.bias'))
    """

    # What the live line shows besides the history.
    _last_stats: StepStats | None
    _last_epoch: dict[str, float]
    _written: int  # losses that it has told of already

    def __init__(
        self,
        net: Layer | None = None,
        opt: Optimizer | None = None,
        *,
        live: bool | None = None,
        stream: TextIO | None = None,
    ) -> None:
        if net is not None and not isinstance(net, Layer):
            raise TypeError(f"net must be a nnfast.nn.Layer, got {type(net).__name__}")
        if opt is not None and not isinstance(opt, Optimizer):
            raise TypeError(f"opt must be an optimizer of nnfast.optim, got {type(opt).__name__}")
        self.net = net
        named = _named(net, opt)
        super().__init__([name for name, _ in named], [array.ndim > 1 for _, array in named])
        self._line = Line(sys.stderr if stream is None else stream, live)

    # ---- what the loop calls ----

    def step(self, loss: float, stats: StepStats | None = None) -> None:
        """Record a step.

        Parameters
        ----------
        loss : float
            Of the batch. A NaN or an infinity is recorded, too, and shown on the live line immediately.
        stats : StepStats, optional
            What ``opt.step(grads, stats=True)`` returned, for ratios of update to weight and norms of gradients.

        Raises
        ------
        TypeError
            If loss is no real number, or stats something else.
        ValueError
            If stats have another number of parameters than before. Nothing is recorded then.

        Examples
        --------
        >>> import nnfast as nf
        >>> rec = nf.monitor.Recorder()
        >>> rec.step(2.3); rec.step(float("nan"))
        >>> print(rec.first_nonfinite)
        step 2: not finite: loss
        """
        loss = _checks.real(loss, "loss")
        told = self._history
        if stats is not None:
            self._check_stats(stats)
        told.losses.append(loss)
        if stats is not None:
            told.rows.append(len(told.losses), stats)
            self._last_stats = stats
        if told.first_nonfinite is None:
            self._notice(_not_finite(len(told.losses), loss, stats, told.names))
        if self._line.due():
            self._line.write(self._text())

    def epoch(self, /, **numbers: float) -> None:
        """Record numbers of an epoch, or of any other stage.

        Parameters
        ----------
        **numbers : float
            By any names. Pictures draw those that end alike together, ``train_accuracy=`` and ``validation_accuracy=``,
            and what ends in loss beside the losses of the steps. Accuracies are shares in [0, 1].

        Raises
        ------
        TypeError
            If one is no real number. Nothing is recorded then.

        Examples
        --------
        >>> import nnfast as nf
        >>> rec = nf.monitor.Recorder()
        >>> rec.epoch(train_accuracy=0.75, validation_accuracy=0.5)
        >>> rec.epoch(train_accuracy=1.0, validation_accuracy=0.5)
        >>> rec.epochs["train_accuracy"], rec.gap("accuracy")
        (array([0.75, 1.  ]), array([0.25, 0.5 ]))
        """
        checked = {name: _checks.real(number, name) for name, number in numbers.items()}
        self._history.add_epoch(checked)
        self._last_epoch = checked
        if self._line.due():
            self._line.write(self._text())

    def look(self, x: ArrayLike, y: Any = None, *, loss: Loss = softmax_cross_entropy) -> Look:
        """Record what every layer does with a batch; the network is not changed.

        Parameters
        ----------
        x, y, loss
            As of nnfast.monitor.look.

        Returns
        -------
        Look
            The last of ``looks``, too. Printed, it is a table.

        Raises
        ------
        TypeError
            If x is not of real numbers.
        ValueError
            If the Recorder has no net, or net does not take x, or loss not y. Nothing is recorded then.

        Notes
        -----
        A step that made the parameters NaN has hidden where that began. With an optimizer made with
        ``skip_nonfinite=True`` they stay as they were, and a look at the same batch names the layer. (Dropout draws
        other masks.)

        Examples
        --------
        >>> import numpy as np, nnfast as nf
        >>> net = nf.nn.Sequential(nf.nn.Dense(2, 2, rng=0), nf.nn.ReLU(), nf.nn.Dense(2, 2, rng=0))
        >>> rec = nf.monitor.Recorder(net)
        >>> net[0].weight[...] = 1e30
        >>> net[2].weight[...] = 1e30
        >>> print(rec.look(np.ones((3, 2)), [0, 1, 0]).first_nonfinite)
        step 0: not finite: forward of layer 2
        """
        if self.net is None:
            raise ValueError("net must be given to a Recorder that is to look at it")
        seen = layers.look(self.net, x, y, loss=loss, step=self.step_count)
        return self._seen(seen)

    def look_at(
        self,
        activations: Mapping[str, ArrayLike],
        gradients: Mapping[str, ArrayLike] | None = None,
    ) -> Look:
        """Record statistics of arrays: for networks that are no nn.Sequential.

        Parameters
        ----------
        activations : mapping of str to array_like
            In the order of the forward pass; samples along the first axis.
        gradients : mapping of str to array_like, optional
            The gradients of the loss with respect to some of them, or all.

        Returns
        -------
        Look
            The last of ``looks``, too.

        Raises
        ------
        TypeError
            If an array is not of real numbers.
        ValueError
            If one is empty, there is none, or a gradient has no activation. Nothing is recorded then.

        Examples
        --------
        >>> import numpy as np, nnfast as nf
        >>> h1 = nf.relu(np.array([[1.0, -1.0], [2.0, -2.0]]))
        >>> nf.monitor.Recorder().look_at({"h1": h1, "h2": 2 * h1}).layers[0].dead
        0.5
        """
        return self._seen(layers.look_at(activations, gradients or {}, self.step_count))

    def close(self) -> None:
        """Write the live line for the last time and end it; leaving a with-block does the same.

        Examples
        --------
        >>> import io, nnfast as nf
        >>> stream = io.StringIO()
        >>> rec = nf.monitor.Recorder(live=True, stream=stream)
        >>> rec.step(2.3); rec.close()
        >>> stream.getvalue().endswith("step 1  loss 2.3\\n")
        True
        """
        self._line.write(self._text(), end="\n")

    def __repr__(self) -> str:
        told = self._history
        parts = [f"{self.step_count:,} steps", f"{len(told.epoch_steps):,} epochs"]
        if told.losses:
            parts.append(f"last loss {told.losses[-1]:.4g}")
        parts += [f"{name} {number:.4g}" for name, number in self._last_epoch.items()]
        if told.looks:
            parts.append(f"{len(told.looks):,} looks")
        if told.first_nonfinite is not None:
            parts.append(str(told.first_nonfinite))
        return f"{type(self).__name__}({', '.join(parts)})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- what these are made of ----

    def _take(self, told: History) -> None:
        super()._take(told)
        self._last_stats, self._last_epoch, self._written = None, {}, len(told.losses)

    def _check_stats(self, stats: StepStats) -> None:
        if not isinstance(stats, StepStats):
            raise TypeError(f"stats must be a StepStats, got {type(stats).__name__}")
        told = self._history
        count = len(stats.grad_norm)
        if not told.names:
            told.names = [str(i) for i in range(count)]
            told.are_weights = [True] * count
        if count != len(told.names):
            raise ValueError(f"stats must have {len(told.names)} parameters, got {count}")

    def _seen(self, seen: Look) -> Look:
        self._history.looks.append(seen)
        self._notice(seen.first_nonfinite)
        return seen

    def _notice(self, place: NonFinite | None) -> None:
        """Report the first one immediately, on a line that stays."""
        if self._history.first_nonfinite is None and place is not None:
            self._history.first_nonfinite = place
            self._line.write(str(place), end="\n")

    def _text(self) -> str:
        told = self._history
        parts = [f"step {self.step_count:,}"]
        recent = told.losses[self._written :] or told.losses[-1:]
        if recent:
            parts.append(f"loss {sum(recent) / len(recent):.4g}")
        if self._last_stats is not None and told.names:
            ratio = np.median(self._last_stats.ratio[told.watched()])
            parts.append(f"update/weight {ratio:.1e}")
        if told.epoch_steps:
            parts.append(f"epoch {len(told.epoch_steps)}")
            parts += [f"{name} {number:.4g}" for name, number in self._last_epoch.items()]
        self._written = self.step_count
        return "  ".join(parts)


def _named(net: Layer | None, opt: Optimizer | None) -> list[tuple[str, NDArray[Any]]]:
    """The parameters in the order of StepStats, each by the name that the network has for it, or else the optimizer."""
    of_net = {} if net is None else net.named_params()
    if opt is None:
        return list(of_net.items())
    names = {id(array): name for name, array in of_net.items()}
    given = opt._names or [str(i) for i in range(len(opt.params))]
    return [
        (names.get(id(array), str(name)), array)
        for name, array in zip(given, opt.params, strict=True)
    ]


def _not_finite(
    step: int, loss: float, stats: StepStats | None, names: list[str]
) -> NonFinite | None:
    """A loss that is not finite, or the last of the gradients that are not, which the backward pass meets first."""
    if not math.isfinite(loss):
        return NonFinite(step, "loss")
    if stats is None:
        return None
    places = np.flatnonzero(stats.nans + stats.infinities)
    return NonFinite(step, "gradient", names[places[-1]]) if places.size else None
