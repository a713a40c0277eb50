"""Saved state, from which a run is resumed: arrays and scalars by name, all checked before any is restored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnfast import _arrays, _npz
from nnfast._whole import Whole

# ---- checks ----


def check_names(given: Mapping[str, Any], expected: set[str]) -> None:
    """A ValueError if names are missing or unknown."""
    for kind, names in (("lacks", expected - given.keys()), ("has", given.keys() - expected)):
        if names:
            raise ValueError(f"state {kind} {', '.join(sorted(names))}")


def check_arrays(given: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> None:
    """A ValueError or TypeError if a shape or dtype differs from that of the array to restore, or that is read-only."""
    for name, array in expected.items():
        if given[name].shape != array.shape:
            raise ValueError(
                f"state[{name!r}] must have shape {array.shape}, got {given[name].shape}"
            )
        if given[name].dtype != array.dtype:
            advice = _arrays.source_of_float64(given[name], array.dtype)
            raise TypeError(
                f"state[{name!r}] must have dtype {array.dtype}, got {given[name].dtype}{advice}"
            )
        if not array.flags.writeable:
            raise ValueError(f"{name} must be writeable, but is read-only")


def by_name(
    lists: Mapping[str, Sequence[NDArray[Any] | None] | None], names: list[str] | None
) -> dict[str, NDArray[Any]]:
    """Flatten lists of arrays, one for each parameter: names are ``<list>.<name or index of the parameter>``."""
    return {
        f"{name}.{names[i] if names else i}": array
        for name, arrays in lists.items()
        for i, array in enumerate(arrays or ())
        if array is not None
    }


def kept_dtype(param: NDArray[Any]) -> Any:
    """The dtype of the state arrays of a parameter: float32 for float16 and bfloat16."""
    return _arrays.parameter_dtype(param.dtype)


class Copies(dict[str, NDArray[Any]]):
    """The result of a state_dict: copies, so that writing to them does not change the network."""


def refuse_copies(params: Any, name: str) -> None:
    """A ValueError if these are copies from state_dict, which it would make no sense to write to."""
    if isinstance(params, Copies):
        raise ValueError(
            f"{name} must be the arrays of the network themselves, as net.named_params() has them, "
            "got the copies of a state_dict: what is written to them changes nothing"
        )


class Resumable(Whole):
    """The base of optimizers and averages, whose state is saved and restored."""

    # The key under which the name of the class is saved; it must be the same when the state is restored.
    _kind: ClassVar[str]

    def _state_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of the state (not copies), by the names under which they are saved."""
        raise NotImplementedError

    def _scalars(self) -> dict[str, NDArray[Any]]:
        """The scalars of the state."""
        raise NotImplementedError

    def _take_scalars(self, given: dict[str, Any]) -> None:
        """Set the scalars of the state."""
        raise NotImplementedError

    def _check_scalars(self, given: dict[str, Any]) -> None:
        """A ValueError if a scalar of the state is out of its range."""
        raise NotImplementedError

    def _pending_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays that a state may have or not."""
        return {}

    def _take_pending(self, given: Mapping[str, NDArray[Any]]) -> None:
        """Restore those of a state, which was checked; none where it has none."""

    # Scalars that version 0.1 did not save.
    _optional: ClassVar[frozenset[str]] = frozenset()

    def _saved_settings(self) -> dict[str, Any]:
        """The settings, as JSON can hold them; empty where there are none."""
        return {}

    def _checked_settings(self, given: dict[str, Any]) -> Any:
        """The saved settings, checked, as _take_settings takes them."""
        raise NotImplementedError

    def _take_settings(self, checked: Any) -> None:
        """Restore checked settings."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """The whole state as arrays, from which a run is resumed with the same bits; names are such as ``exp_avg.0``.

        Returns
        -------
        state : dict of str to ndarray
            Without the parameters, which are the caller's. Names end in the parameter's name where params is a mapping,
            in its place otherwise. The settings, such as lr, are text under the name ``settings``: JSON.
        """
        found = {self._kind: np.array(type(self).__name__), **self._scalars()}
        settings = self._saved_settings()
        if settings:
            found[_SETTINGS] = np.array(json.dumps(settings))
        arrays = {**self._state_arrays(), **self._pending_arrays()}
        return found | {name: array.copy() for name, array in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Any], *, keep_settings: bool = False) -> None:
        """Restore what state_dict returned. Arrays are written in place; an error changes nothing.

        Parameters
        ----------
        state : mapping of str to ndarray
            A state without settings, as version 0.1 saved it, leaves them as they are.
        keep_settings : bool, default False
            Whether to keep the present settings, such as lr, in place of the saved ones.

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If the state is another class's, lacks something, has something more, or a shape differs, a number is out
            of its range, or an array to be written is read-only.
        """
        given = {name: _arrays.plain(value, f"state[{name!r}]") for name, value in state.items()}
        self._check_state(given)
        settings = None
        if not keep_settings and _SETTINGS in given:
            settings = self._checked_settings(_read(given[_SETTINGS]))
        for name, array in self._state_arrays().items():
            array[...] = given[name]
        self._take_pending(given)
        scalars = self._scalars().keys() & given.keys()
        self._take_scalars({name: given[name].tolist() for name in scalars})
        if settings is not None:
            self._take_settings(settings)

    def _check_state(self, given: Mapping[str, NDArray[Any]]) -> None:
        kept, scalars = self._state_arrays(), self._scalars()
        if str(given.get(self._kind)) != type(self).__name__:
            raise ValueError(
                f"state must be of {type(self).__name__}, got {given.get(self._kind)!s}"
            )
        has_settings = bool(self._saved_settings())
        found = {n: value for n, value in given.items() if not (has_settings and n == _SETTINGS)}
        for name in self._optional - found.keys():
            scalars.pop(name, None)
        check_names(found, {self._kind, *scalars, *kept})
        check_arrays(found, kept | scalars)
        self._check_scalars({name: found[name].tolist() for name in scalars})

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

    def load(self, path: _npz.File, *, keep_settings: bool = False) -> None:
        """Restore what save wrote.

        Parameters
        ----------
        path : path-like, or binary file
        keep_settings : bool, default False
            As of load_state_dict.

        Raises
        ------
        OSError
            If it cannot be read.
        TypeError, ValueError
            As load_state_dict, or if it is no such file.
        """
        self.load_state_dict(_npz.load(path, self._check_state), keep_settings=keep_settings)


_SETTINGS = "settings"


def _read(text: NDArray[Any]) -> dict[str, Any]:
    """The settings in a state."""
    try:
        found = json.loads(str(text[()]))
        if not isinstance(found, dict):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"state['{_SETTINGS}'] must be an object in JSON, got {str(text[()])[:40]!r}"
        ) from None
    return found


def count_in(value: Any, name: str) -> int:
    """A count in a state: a ValueError if it is negative."""
    if value < 0:
        raise ValueError(f"state[{name!r}] must not be negative, got {value}")
    return int(value)


def share_in(value: Any, name: str) -> float:
    """A share in a state: a ValueError if it is not in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"state[{name!r}] must be in [0, 1], got {value}")
    return float(value)
