"""Initialisers by the names people use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from numpy.typing import NDArray

from nnfast import _checks
from nnfast.init.by_fans import (
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    xavier_normal,
    xavier_uniform,
)
from nnfast.init.constants import zeros
from nnfast.init.matrices import orthogonal

__all__ = ["by_name"]

Initialiser: TypeAlias = Callable[..., NDArray[Any]]


def by_name(name: str) -> Initialiser:
    """The initialiser of a name.

    Parameters
    ----------
    name : str
        That of a function here which needs nothing but a shape: "zeros", "orthogonal", "xavier_normal",
        "xavier_uniform", "he_normal", "he_uniform", "lecun_normal" or "lecun_uniform". "xavier", "he" and "lecun" are
        short for the normal ones. "glorot" and "kaiming" may stand for "xavier" and "he", the same people's other
        names.

    Returns
    -------
    initialiser : function
        To be called with a shape and ``dtype=``, ``rng=`` or ``out=``. (Other settings of one, or one that needs more,
        can be had by functools.partial.)

    Raises
    ------
    ValueError
        If there is none of this name.

    Examples
    --------
    >>> import nnfast as nf
    >>> nf.init.by_name("he") is nf.init.he_normal
    True
    >>> from functools import partial
    >>> small = partial(nf.init.normal, std=0.01)
    >>> small((784, 512), rng=0).shape
    (784, 512)
    """
    return _BY_NAME[_checks.one_of(name, _BY_NAME, "name")]


def _initialisers() -> dict[str, Initialiser]:
    """The initialisers by the names that by_name takes."""
    known: dict[str, Initialiser] = {"zeros": zeros, "orthogonal": orthogonal}
    for names, in_normal, in_uniform in (
        (("xavier", "glorot"), xavier_normal, xavier_uniform),
        (("he", "kaiming"), he_normal, he_uniform),
        (("lecun",), lecun_normal, lecun_uniform),
    ):
        for name in names:
            known |= {name: in_normal, f"{name}_normal": in_normal, f"{name}_uniform": in_uniform}
    return known


_BY_NAME = _initialisers()
NAMES = _BY_NAME.keys()
