"""State that a run is resumed from: arrays and numbers by name, checked as a whole before any is taken."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnfast import _arrays, _npz

# ---- checks ----


def check_names(given: Mapping[str, Any], wanted: set[str]) -> None:
    """A ValueError if names are missing or too many."""
    for kind, names in (("lacks", wanted - given.keys()), ("has", given.keys() - wanted)):
        if names:
            raise ValueError(f"state {kind} {', '.join(sorted(names))}")


def check_arrays(given: Mapping[str, NDArray[Any]], wanted: Mapping[str, NDArray[Any]]) -> None:
    """A ValueError or TypeError if an array has not the shape or dtype of the one it is for, or that is read-only."""
    for name, array in wanted.items():
        if given[name].shape != array.shape:
            raise ValueError(
                f"state[{name!r}] must have shape {array.shape}, got {given[name].shape}"
            )
        if given[name].dtype != array.dtype:
            raise TypeError(
                f"state[{name!r}] must have dtype {array.dtype}, got {given[name].dtype}"
            )
        if not array.flags.writeable:
            raise ValueError(f"{name} must be writeable, but is read-only")


def by_name(
    lists: Mapping[str, Sequence[NDArray[Any] | None] | None], names: list[str] | None
) -> dict[str, NDArray[Any]]:
    """The arrays of several lists, one for each parameter, by the list's name and the parameter's name or place."""
    return {
        f"{name}.{names[i] if names else i}": array
        for name, arrays in lists.items()
        for i, array in enumerate(arrays or ())
        if array is not None
    }


class Resumable:
    """What has state to be saved; not to be made itself."""

    # What kind of thing the class is: under this its name is saved, which must be the same where the state is taken.
    _kind: ClassVar[str]

    def _kept(self) -> dict[str, NDArray[Any]]:
        """The arrays of the state themselves, by the names they are saved under."""
        raise NotImplementedError

    def _scalars(self) -> dict[str, NDArray[Any]]:
        """The numbers of the state."""
        raise NotImplementedError

    def _take_scalars(self, given: dict[str, Any]) -> None:
        """Set the numbers of the state."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All that a run needs to go on with the same bits, as arrays: copies, with names such as ``exp_avg.0``.

        Returns
        -------
        state : dict of str to ndarray
            Without the parameters and the settings, which are the caller's. Names end in the parameter's name where
            params is a mapping, in its place otherwise.
        """
        found = {self._kind: np.array(type(self).__name__), **self._scalars()}
        return found | {name: array.copy() for name, array in self._kept().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what state_dict gave. Arrays are written in place; nothing is changed if something does not fit.

        Parameters
        ----------
        state : mapping of str to ndarray

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If the state is another class's, lacks something, has something more, or a shape differs, or an array to be
            written is read-only.
        """
        given = {name: _arrays.plain(value, f"state[{name!r}]") for name, value in state.items()}
        self._check_state(given)
        for name, array in self._kept().items():
            array[...] = given[name]
        self._take_scalars({name: given[name].tolist() for name in self._scalars()})

    def _check_state(self, given: Mapping[str, NDArray[Any]]) -> None:
        kept, scalars = self._kept(), self._scalars()
        if str(given.get(self._kind)) != type(self).__name__:
            raise ValueError(
                f"state must be of {type(self).__name__}, got {given.get(self._kind)!s}"
            )
        check_names(given, {self._kind, *scalars, *kept})
        check_arrays(given, kept | scalars)

    def save(self, path: _npz.File) -> None:
        """Write state_dict to an ``.npz`` file, without pickle: to a temporary file that then takes the name.

        Parameters
        ----------
        path : path-like, or binary file

        Raises
        ------
        OSError
            If it cannot be written; a file of that name is left as it was.
        """
        _npz.save(path, self.state_dict())

    def load(self, path: _npz.File) -> None:
        """Take back what save wrote.

        Parameters
        ----------
        path : path-like, or binary file

        Raises
        ------
        OSError
            If it cannot be read.
        TypeError, ValueError
            As load_state_dict, or if it is no such file.
        """
        self.load_state_dict(_npz.load(path, self._check_state))
