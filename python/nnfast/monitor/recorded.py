"""Access to the records: arrays, pictures, files."""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nnfast import _npz
from nnfast.monitor import history, pictures
from nnfast.monitor.arrays import Floats
from nnfast.monitor.layers import Look, NonFinite

Target = str | os.PathLike[str] | BinaryIO


class Recorded:
    """A Recorder without what writes into it; not to be made itself."""

    def __init__(self, names: list[str], are_weights: list[bool]) -> None:
        self._take(history.History(names, are_weights))

    def _take(self, told: history.History) -> None:
        """Begin with what is recorded there."""
        self._history = told

    @property
    def step_count(self) -> int:
        """Steps recorded."""
        return len(self._history.losses)

    @property
    def losses(self) -> Floats:
        """The loss of every step, shape (step_count,)."""
        return np.array(self._history.losses)

    @property
    def stats_steps(self) -> NDArray[np.int64]:
        """The steps, counted from 1, that update_ratios and grad_norms have rows of."""
        return np.array(self._history.rows.steps, np.int64)

    @property
    def update_ratios(self) -> Floats:
        """Norm of the update over norm of the parameter: about 1e-3 while a network trains well. A column a parameter.

        NaN where the step was skipped.
        """
        return self._history.ratios()

    @property
    def grad_norms(self) -> Floats:
        """Norms of the gradients as the optimizer got them, a column a parameter."""
        return self._history.grad_norms()

    @property
    def param_names(self) -> tuple[str, ...]:
        """The names of the parameters, in the order of the columns of update_ratios and grad_norms."""
        return tuple(self._history.names)

    @property
    def epochs(self) -> dict[str, Floats]:
        """The numbers of the epochs by name; NaN where one was not given."""
        return {name: np.array(column) for name, column in self._history.epochs.items()}

    @property
    def epoch_steps(self) -> NDArray[np.int64]:
        """Steps recorded at each epoch's end."""
        return np.array(self._history.epoch_steps, np.int64)

    @property
    def looks(self) -> list[Look]:
        """All looks, in order."""
        return self._history.looks.copy()

    @property
    def first_nonfinite(self) -> NonFinite | None:
        """The first NaN or infinity that was recorded; of which layer it is, only a look can tell.

        Of gradients that were not finite in the same step, it is that of the last parameter, the first on the way back.
        """
        return self._history.first_nonfinite

    def gap(self, quantity: str) -> Floats:
        """``train_<quantity>`` minus ``validation_<quantity>`` of every epoch: what is learned by heart.

        Parameters
        ----------
        quantity : str
            "accuracy", or what else was given to ``epoch`` under both names.

        Returns
        -------
        ndarray of float64, shape (epochs,)

        Raises
        ------
        ValueError
            If one of them was never given.

        Examples
        --------
        >>> import nnfast as nf
        >>> rec = nf.monitor.Recorder()
        >>> rec.epoch(train_loss=0.5, validation_loss=2.0)
        >>> rec.gap("loss")
        array([-1.5])
        """
        found = self.epochs
        names = f"train_{quantity}", f"validation_{quantity}"
        for name in names:
            if name not in found:
                raise ValueError(f"quantity must have been given as {name} to epoch")
        return found[names[0]] - found[names[1]]

    # ---- pictures and files ----

    def save_picture(self, path: Target) -> None:
        """Draw the curves, and by layer what the looks have seen.

        Loss, raw and averaged; the numbers of the epochs with the gap between training and validation; the ratios of
        update to weight beside 1e-3; and by layer the deviation of activations, the norm of gradients, the shares of
        dead units and saturated elements. What was not recorded is left out.

        Parameters
        ----------
        path : path-like, or binary file
            Its ending says which kind it is; into a file goes a PNG.

        Raises
        ------
        ImportError
            If there is no matplotlib: ``pip install 'nnfast[demo]'``.
        ValueError
            If nothing was recorded, or matplotlib does not know the ending.
        OSError
            If it cannot be written.

        Examples
        --------
        >>> import io, nnfast as nf
        >>> rec = nf.monitor.Recorder()
        >>> for step in range(100):
        ...     rec.step(2.3 * 0.95**step)
        >>> picture = io.BytesIO()
        >>> rec.save_picture(picture)
        >>> picture.getvalue()[1:4]
        b'PNG'
        """
        pictures.save(pictures.curves(self._history), path)

    def save_histograms(self, path: Target) -> None:
        """Draw the histograms of the last look: a row a layer, activations on the left and gradients on the right.

        Parameters
        ----------
        path : path-like, or binary file
            As of save_picture.

        Raises
        ------
        ImportError, OSError
            As save_picture.
        ValueError
            If there was no look, or matplotlib does not know the ending.

        Examples
        --------
        >>> import io, numpy as np, nnfast as nf
        >>> rec = nf.monitor.Recorder(nf.nn.Sequential(nf.nn.Dense(8, 4, rng=0), nf.nn.ReLU()))
        >>> seen = rec.look(np.random.default_rng(0).standard_normal((50, 8)))
        >>> picture = io.BytesIO()
        >>> rec.save_histograms(picture)
        >>> picture.getvalue()[1:4]
        b'PNG'
        """
        pictures.save(pictures.histograms(self._history), path)

    def save(self, path: _npz.File) -> None:
        """Write all that was recorded to an ``.npz`` file, without pickle.

        Parameters
        ----------
        path : path-like, or binary file

        Raises
        ------
        OSError
            If it cannot be written; a file of that name is left as it was.

        Examples
        --------
        >>> import os, tempfile, numpy as np, nnfast as nf
        >>> rec = nf.monitor.Recorder()
        >>> rec.step(2.3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rec.save(os.path.join(folder, "run.npz"))
        ...     with np.load(os.path.join(folder, "run.npz")) as file:
        ...         print(file["losses"])
        [2.3]
        """
        _npz.save(path, history.to_arrays(self._history))

    def load(self, path: _npz.File) -> None:
        """Take what save wrote in place of what was recorded: to go on with it, or to draw it.

        Parameters
        ----------
        path : path-like, or binary file

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is no such file, or has other parameters than the Recorder's. Nothing is changed then.

        Examples
        --------
        >>> import os, tempfile, nnfast as nf
        >>> rec, later = nf.monitor.Recorder(), nf.monitor.Recorder()
        >>> rec.step(2.3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rec.save(os.path.join(folder, "run.npz"))
        ...     later.load(os.path.join(folder, "run.npz"))
        >>> later.losses
        array([2.3])
        """
        arrays = _npz.load(path)
        try:
            loaded = history.from_arrays(arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{str(path)!r} is no file of a Recorder: {error}") from error
        own = self._history.names
        if own and loaded.names and own != loaded.names:
            raise ValueError(f"{str(path)!r} must have the parameters {own}, got {loaded.names}")
        if own and not loaded.names:
            loaded.names, loaded.are_weights = own, self._history.are_weights
        self._take(loaded)
