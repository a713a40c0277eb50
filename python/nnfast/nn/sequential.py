"""A sequence of layers, as a network that is trained, summarised, saved and loaded."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from nnfast import _arrays, _generators, _npz, _state
from nnfast.nn import fused
from nnfast.nn.foreign import Held, foreign_of
from nnfast.nn.layer import Array, KernelLayer, Layer, Shape, float_dtype
from nnfast.nn.stages import ForeignStage, Stage, runs_as_written

T = TypeVar("T")
Output = Callable[[Array], Any]


class _Step(NamedTuple):
    """A stage, and whether it may overwrite its input."""

    stage: Stage
    overwrite: bool
    need_dx: bool = True


class _Plan(NamedTuple):
    """What a network works out about its layers once, for every step."""

    params: list[Array]
    grads: list[Array]
    training: list[_Step]
    inference: list[_Step]
    backward: dict[bool, list[_Step]]
    foreign: list[Held]
    dtypes: list[tuple[KernelLayer, np.dtype[Any]]]


class Sequential(KernelLayer):
    """A network of layers that are applied in sequence.

    Neighbours that nnfast has a common kernel for are run by it, with the same bits: Dense with a bias and ReLU, GELU,
    SiLU or Tanh; Dense with a bias, ReLU and Dropout; BatchNorm and ReLU. ``layers`` stays what was given.

    Memory is used again: a step allocates next to nothing after the first, and smaller batches use what larger ones
    left. So what forward returns in training lasts until the next one.

    Parameters
    ----------
    *layers : Layer
        Sequentials too. Each stands once in a network. Embedding can only be the first.
    dtype : float32 or float64, optional
        Of all parameters and statistics, given once. Layers that were made without a dtype are converted to it, so
        what was drawn in float32 begins a float64 network with the same values; arrays that were taken from them
        before are no longer theirs. User-defined layers keep their arrays. Without it the layers keep what they have,
        which must be the same for all.
    output : Layer without parameters, or function, optional
        What predict applies to the scores of forward: ``Softmax()``, ``Sigmoid()``, ``nnfast.sigmoid``. Training works
        on the scores, which losses of logits such as softmax_cross_entropy take.

    Attributes
    ----------
    layers : tuple of Layer
        As given; so are ``net[i]``, ``len(net)`` and iteration.
    output : Layer, function or None
    params, grads : list of ndarrays
        In the same order, and the same arrays at all times.

    Raises
    ------
    TypeError
        If one is no Layer, dtype another, or output neither a Layer nor a function.
    ValueError
        If there is none, one stands twice, their parameters have different dtypes, one was made with another dtype than
        the network's, an Embedding is not the first, or output has parameters. Nothing is changed then.

    Notes
    -----
    forward works in the dtype of the parameters and converts x to it if need be, but for the indices of an Embedding.
    Where the first layer is a Dense, x may be a sparse table of SciPy's, and is never made dense.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> rng = np.random.default_rng(0)
    >>> x, labels = rng.standard_normal((64, 8), np.float32), rng.integers(0, 3, 64)
    >>> net = nf.nn.Sequential(nf.nn.Dense(8, 32, rng=rng), nf.nn.BatchNorm(32), nf.nn.ReLU(),
    ...                        nf.nn.Dropout(0.1, rng=rng), nf.nn.Dense(32, 3, rng=rng))
    >>> opt = nf.optim.Adam(net.params, lr=1e-2)
    >>> for _ in range(200):
    ...     loss, dz = nf.softmax_cross_entropy(net.forward(x, training=True), labels)
    ...     net.backward(dz)
    ...     opt.step(net.grads)
    >>> bool((net.forward(x).argmax(axis=1) == labels).mean() > 0.9)
    True

    In float64, with probabilities:

    >>> net = nf.nn.Sequential(nf.nn.Dense(8, 32, rng=0), nf.nn.BatchNorm(32), nf.nn.ReLU(), nf.nn.Dense(32, 3, rng=1),
    ...                        dtype=np.float64, output=nf.nn.Softmax())
    >>> net.predict(x).dtype, bool(np.allclose(net.predict(x).sum(axis=1), 1))
    (dtype('float64'), True)
    """

    _output: Output | None = None

    def __init__(
        self, *layers: Layer, dtype: DTypeLike | None = None, output: Output | None = None
    ) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers[{i}] must be a Layer, got {type(layer).__name__}")
        if not layers:
            raise ValueError("layers must hold at least one, got none")
        _check_once(layers)
        leaves = [leaf for layer in layers for leaf in _leaves(layer)]
        _check_indices(leaves)
        self.output = output
        if dtype is not None:
            _give_dtype(layers, float_dtype(dtype))
        super().__init__(_one_dtype([*layers, *leaves]) if dtype is None else dtype)
        self._dtype_is_open = dtype is None
        self._takes_indices = layers[0]._takes_indices
        vars(self)["layers"] = layers
        # Planned here, so that the arrays that user-defined layers have now are those that they must keep.
        stages = [step.stage for step in self._plan.training]
        self._is_view = not _planned_inference(stages)[1]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, as given."""
        found: tuple[Layer, ...] = vars(self)["layers"]
        return found

    @property
    def _takes_sparse(self) -> bool:  # type: ignore[override]
        return self.layers[0]._takes_sparse and runs_as_written(self.layers[0])

    @property
    def output(self) -> Output | None:
        """What predict applies, a Layer or a function, or None."""
        return self._output

    @output.setter
    def output(self, value: Output | None) -> None:
        if value is not None and (isinstance(value, type) or not callable(value)):
            raise TypeError(f"output must be a Layer or a function, got {_name_of(value)}")
        if value is self:
            raise ValueError("output must be another layer than the network itself")
        if isinstance(value, Layer) and value.named_params():
            raise ValueError(
                f"output must be without parameters, which nothing would train, got {value!r}"
            )
        self._output = value

    @cached_property
    def _plan(self) -> _Plan:
        leaves = [leaf for layer in self.layers for leaf in _leaves(layer)]
        parts = fused.stages_of(leaves)
        stages = [stage for stage, _ in parts]
        return _Plan(
            params=[param for layer in leaves for param in layer.params],
            grads=[grad for layer in leaves for grad in layer.grads],
            training=_planned(stages),
            inference=_planned_inference(stages)[0],
            backward=_planned_back(stages, _first_that_learns(parts)),
            foreign=foreign_of(self.layers),
            dtypes=[
                (layer, layer._dtype)
                for layer in _at_any_depth(self.layers)
                if isinstance(layer, KernelLayer) and layer._dtype is not None
            ],
        )

    def predict(self, x: ArrayLike) -> Any:
        """``output(forward(x))``: probabilities where forward gives logits; without an output what forward gives.

        Parameters
        ----------
        x : array_like
            As forward takes it.

        Returns
        -------
        y : ndarray, or what output returns
            A new array.

        Raises
        ------
        TypeError, ValueError
            As forward, or as output.

        Notes
        -----
        Of networks within this one the outputs are not applied.

        Examples
        --------
        >>> import numpy as np, nnfast as nf
        >>> net = nf.nn.Sequential(nf.nn.Dense(3, 2, init="zeros"), output=nf.nn.Softmax())
        >>> net.forward(np.ones((1, 3))), net.predict(np.ones((1, 3)))
        (array([[0., 0.]], dtype=float32), array([[0.5, 0.5]], dtype=float32))
        """
        y = self.forward(x)
        return y if self.output is None else self.output(y)

    def backward(self, dy: ArrayLike, *, input_gradient: bool = False) -> Array | None:
        """The gradients with respect to all parameters, into grads, of the last forward with training=True.

        Parameters
        ----------
        dy : array_like, shape of y
            Gradient of the loss with respect to y. It is not changed.
        input_gradient : bool, default False
            Whether to return the gradient with respect to x. Training does not need it, and it costs a matrix product.

        Returns
        -------
        dx : ndarray of x's shape, or None
            In memory that the next call overwrites. None where an Embedding comes first: indices have no gradient.

        Raises
        ------
        RuntimeError
            If there was no forward with training=True.
        TypeError
            If dy is not of real numbers.
        ValueError
            If dy has not the shape of y; nothing is changed then. If a layer of your own has assigned new arrays in
            place of its parameters or gradients, or another network has given a layer another dtype: no optimizer
            would see the new arrays.

        Examples
        --------
        >>> import numpy as np, nnfast as nf
        >>> net = nf.nn.Sequential(nf.nn.Dense(3, 2), nf.nn.Tanh())
        >>> y = net.forward(np.ones((4, 3)), training=True)
        >>> net.backward(y, input_gradient=True).shape
        (4, 3)
        """
        self._check_dtypes()  # before a kernel wonders about its arrays
        dx = self._backward(self._gradient(dy), False, input_gradient)
        self._check_arrays()
        return dx

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        """The shape of y for that of x.

        Parameters
        ----------
        input_shape : tuple of ints
            That of x.
        training : bool, default False
            Whether it is for training, which may ask for more.

        Returns
        -------
        shape : tuple of ints
            That of y.

        Raises
        ------
        ValueError
            If a layer does not take what it would get.

        Examples
        --------
        >>> import nnfast as nf
        >>> nf.nn.Sequential(nf.nn.Flatten(), nf.nn.Dense(12, 5)).output_shape((32, 3, 2, 2))
        (32, 5)
        """
        for i, layer in enumerate(self.layers):
            try:
                input_shape = layer.output_shape(input_shape, training)
            except ValueError as error:
                raise ValueError(f"layers[{i}], {type(layer).__name__}: {error}") from None
        return input_shape

    # ---- its arrays ----

    @property
    def params(self) -> list[Array]:
        """The parameters, for an optimizer."""
        self._check_arrays()
        return self._plan.params.copy()

    @property
    def grads(self) -> list[Array]:
        """Their gradients, in the same order."""
        self._check_arrays()
        return self._plan.grads.copy()

    def named_params(self) -> dict[str, Array]:
        """The parameters under names such as "0.weight".

        Examples
        --------
        >>> import nnfast as nf
        >>> list(nf.nn.Sequential(nf.nn.Dense(2, 2), nf.nn.BatchNorm(2)).named_params())
        ['0.weight', '0.bias', '1.gamma', '1.beta']
        """
        return self._named(lambda layer: layer.named_params())

    def named_grads(self) -> dict[str, Array]:
        """Their gradients under the same names: ``opt.step(net.named_grads())`` where opt has named_params."""
        return self._named(lambda layer: layer.named_grads())

    def named_statistics(self) -> dict[str, Array]:
        """The running statistics under names such as "1.running_mean"."""
        return self._named(lambda layer: layer.named_statistics())

    def named_generators(self) -> dict[str, np.random.Generator]:
        """The generators of layers that have one of their own, under names such as "3.rng"."""
        return self._named(lambda layer: layer.named_generators())

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters and running statistics, and the states of the layers' own generators, by name.

        Training goes on from them with the same bits. A layer has a generator of its own where ``rng=`` was not a
        Generator, which is the caller's to save; its state is text, an array without axes.

        Examples
        --------
        >>> import nnfast as nf
        >>> list(nf.nn.Sequential(nf.nn.PReLU(), nf.nn.BatchNorm(1)).state_dict())
        ['0.weight', '1.gamma', '1.beta', '1.running_mean', '1.running_var']
        """
        arrays = {name: array.copy() for name, array in self._state_arrays().items()}
        return _state.Copies(arrays | self._generator_texts())

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Restore what state_dict returned. Arrays are written in place; an error changes nothing.

        Parameters
        ----------
        state : mapping of str to ndarray
            Where a generator's state is missing, as in what version 0.1 saved, the layer's stays as it is. The states
            of generators that are not the layers' own are left alone.

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If something is missing or too much, a shape differs, or a count is negative.
        """
        given = {name: _arrays.plain(value, f"state[{name!r}]") for name, value in state.items()}
        self._check_state(given)
        states = _generator_states(given, self.named_generators())
        for name, array in self._state_arrays().items():
            array[...] = given[name]
        for rng, found in states:
            rng.bit_generator.state = found

    def _check_state(self, given: Mapping[str, Array]) -> None:
        kept = self._state_arrays()
        arrays = {name: value for name, value in given.items() if not _generators.is_text(value)}
        texts = given.keys() - arrays.keys()
        _state.check_names(arrays, set(kept))
        unknown = sorted(texts - self.named_generators().keys())
        if unknown := [name for name in unknown if not name.endswith("rng")]:
            raise ValueError(f"state has {unknown[0]}")
        _state.check_arrays(given, kept)
        for name, array in kept.items():
            if array.dtype.kind == "i" and (given[name] < 0).any():
                raise ValueError(f"state[{name!r}] must not be negative, got {given[name]}")

    def save(self, path: _npz.File) -> None:
        """Write state_dict to an ``.npz`` file, without pickle.

        The arrays go to a temporary file that then takes the name.

        Parameters
        ----------
        path : path-like, or binary file
            Where to; a file of that name is replaced.

        Raises
        ------
        OSError
            If it cannot be written; a file of that name is left as it was.
        """
        _npz.save(path, self._state_arrays() | self._generator_texts())

    def load(self, path: _npz.File) -> None:
        """Take back what save wrote, into a network of the same layers; nothing is changed if something does not fit.

        Parameters
        ----------
        path : path-like, or binary file
            Where from.

        Raises
        ------
        OSError
            If it cannot be read.
        TypeError, ValueError
            As load_state_dict, or if it is no such file.
        """
        self.load_state_dict(_npz.load(path, self._check_state))

    def summary(self, input_shape: int | tuple[int, ...]) -> str:
        """A table of the layers, the shapes they give and the numbers of their parameters.

        Parameters
        ----------
        input_shape : int or tuple of ints
            Of a sample, without the batch's axis, which is N in the table.

        Returns
        -------
        table : str
            A line for each layer, those within another one too, and the total.

        Raises
        ------
        TypeError
            If input_shape is no int or tuple of ints.
        ValueError
            If it is negative, or a layer does not take what it would get.

        Examples
        --------
        >>> import nnfast as nf
        >>> net = nf.nn.Sequential(nf.nn.Dense(784, 100), nf.nn.BatchNorm(100), nf.nn.ReLU(),
        ...                        nf.nn.Dense(100, 10))
        >>> print(net.summary(784))
           layer            output    parameters
        0  Dense(784, 100)  (N, 100)      78,500
        1  BatchNorm(100)   (N, 100)         200
        2  ReLU()           (N, 100)           0
        3  Dense(100, 10)   (N, 10)        1,010
           total                          79,710
        """
        batch = (2, *_arrays.sides_of(input_shape))
        self.output_shape(batch)
        rows = [("", "layer", "output", "parameters")]
        for place, layer, shape, count in self._rows("", batch):
            sides = ", ".join(["N", *map(str, shape[1:])])
            rows.append((place, layer, f"({sides})", f"{count:,}"))
        if self.output is not None:
            rows.append(("output", _name_of(self.output), "", "0"))
        rows.append(("", "total", "", f"{sum(param.size for param in self.params):,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            f"{place:{widths[0]}}  {layer:{widths[1]}}  {shape:{widths[2]}}  {count:>{widths[3]}}"
            for place, layer, shape, count in rows
        )

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    # ---- passes ----

    @property
    def _training_steps(self) -> list[_Step]:
        return self._plan.training

    def _train(self, x: Array, overwrite: bool) -> Array:
        for stage, overwrite, _ in self._training_steps:
            x = stage._train(x, overwrite)
        return x

    def _infer(self, x: Array, overwrite: bool) -> Array:
        for stage, overwrite, _ in self._plan.inference:
            x = stage._infer(x, overwrite)
        return x

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        need_dx = need_dx and not self._takes_indices
        dx: Any = dy
        for stage, overwrite, need_dx_there in self._plan.backward[need_dx]:
            dx = stage._backward(dx, overwrite, need_dx_there)
        return dx if need_dx else None

    # ---- what the methods above are made of ----

    def _take_dtype(self, dtype: np.dtype[Any]) -> None:
        super()._take_dtype(dtype)
        vars(self).pop("_plan", None)  # it holds the arrays that the layers had

    def _named(self, found_in: Callable[[Layer], dict[str, T]]) -> dict[str, T]:
        return {
            f"{i}.{name}": found
            for i, layer in enumerate(self.layers)
            for name, found in found_in(layer).items()
        }

    def _state_arrays(self) -> dict[str, Array]:
        return self.named_params() | self.named_statistics()

    def _generator_texts(self) -> dict[str, Array]:
        return {name: _generators.text_of(rng) for name, rng in self.named_generators().items()}

    def _check_arrays(self) -> None:
        """A ValueError if a layer has other arrays than when the network was made."""
        self._check_dtypes()
        for held in self._plan.foreign:
            held.check()

    def _check_dtypes(self) -> None:
        """A ValueError if another network has converted a layer."""
        for layer, dtype in self._plan.dtypes:
            if layer._dtype is not dtype and layer._dtype != dtype:  # the first is faster
                raise ValueError(
                    f"layers must keep their dtype, but another network has given {layer!r} {layer._dtype} for {dtype}"
                )

    def __getstate__(self) -> Any:
        # The plan is made again: of what has only one place, nothing can come apart.
        state = super().__getstate__()
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        attributes.pop("_plan", None)
        return attributes if slots is None else (attributes, slots)

    def _rows(self, place: str, shape: Shape) -> Iterator[tuple[str, str, Shape, int]]:
        for i, layer in enumerate(self.layers):
            yield from layer._rows(f"{place}.{i}" if place else f"{i}", shape)
            shape = layer.output_shape(shape)

    def _settings(self) -> str:
        output = [] if self.output is None else [f"output={_name_of(self.output)}"]
        return ", ".join([*map(repr, self.layers), *output])

    def _children(self) -> tuple[Layer, ...]:
        return self.layers

    def _input_gradient(self, dy: Array) -> Array | None:
        if type(self).backward is Sequential.backward:
            return self.backward(dy, input_gradient=True)
        return self.backward(dy)


def _generator_states(
    given: Mapping[str, Array], generators: Mapping[str, np.random.Generator]
) -> list[tuple[np.random.Generator, dict[str, Any]]]:
    """The states of generators in a saved state; all texts are checked, also those of no generator."""
    found = []
    for name, text in given.items():
        if _generators.is_text(text):
            rng = generators.get(name)
            kind = None if rng is None else type(rng.bit_generator).__name__
            state = _generators.state_of(text, f"state[{name!r}]", kind)
            found += [(rng, state)] if rng is not None else []
    return found


def _leaves(layer: Layer) -> list[Layer]:
    """The layers of a nested Sequential, so that layers across its border can be fused; else the layer itself."""
    if isinstance(layer, Sequential) and runs_as_written(layer):
        return [leaf for child in layer.layers for leaf in _leaves(child)]
    return [layer]


def _check_once(layers: tuple[Layer, ...]) -> None:
    """A ValueError if a layer appears twice: it saves what backward needs of one forward pass only."""
    seen: set[int] = set()
    for layer in _at_any_depth(layers):
        if id(layer) in seen:
            raise ValueError(f"layers must stand once each in a network, but {layer!r} is in twice")
        seen.add(id(layer))


def _at_any_depth(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    """The layers, and those within them."""
    for layer in layers:
        yield layer
        yield from _at_any_depth(layer._children())


def _check_indices(leaves: list[Layer]) -> None:
    """A ValueError if a layer that takes indices is not the first."""
    for leaf in leaves[1:]:
        if leaf._takes_indices:
            raise ValueError(
                f"layers must begin with {leaf!r}, which takes indices: no layer returns any"
            )


def _one_dtype(layers: list[Layer]) -> np.dtype[Any] | None:
    """The dtype of the parameters, or None without parameters."""
    found = {layer._dtype for layer in layers if isinstance(layer, KernelLayer)} - {None}
    if len(found) > 1:
        names = " and ".join(sorted(str(dtype) for dtype in found))
        raise ValueError(
            f"layers must have parameters of one dtype, got {names}: give the network a dtype, not its layers"
        )
    return next(iter(found), None)


def _give_dtype(layers: tuple[Layer, ...], dtype: np.dtype[Any]) -> None:
    """Convert the layers, at any depth, to the dtype of their network.

    Raises
    ------
    ValueError
        If one was made with another dtype. Nothing is changed then.
    """
    found = [layer for layer in _at_any_depth(layers) if isinstance(layer, KernelLayer)]
    foreign_of(
        layers
    )  # asks user-defined layers for their arrays: an error of theirs must come first
    for layer in found:
        if layer._dtype is not None and layer._dtype != dtype and not layer._dtype_is_open:
            raise ValueError(
                f"dtype must be that of all layers, but {layer!r} has {layer._dtype}, got {dtype}"
            )
    for layer in found:
        layer._take_dtype(dtype)


def _name_of(output: Any) -> str:
    """The text for an output: that of a layer, or the name of a function."""
    return repr(output) if isinstance(output, Layer) else getattr(output, "__name__", repr(output))


# ---- who may write where ----


def _planned(stages: list[Stage]) -> list[_Step]:
    """The pass in training: a stage may overwrite an input that backward does not read, except the user's x."""
    steps: list[_Step] = []
    free = False
    for stage in stages:
        steps.append(_Step(stage, free and stage._in_place))
        if not stage._is_view:
            free = not stage._keeps_output
    return steps


def _planned_inference(stages: list[Stage]) -> tuple[list[_Step], bool]:
    """The forward pass in inference, which saves nothing, and whether its result is a new array."""
    steps: list[_Step] = []
    free = False
    for stage in stages:
        steps.append(_Step(stage, free))
        free = _frees(stage, free)
    return steps, free


def _planned_back(stages: list[Stage], first: int) -> dict[bool, list[_Step]]:
    """The backward passes with dx and without, which ends at the first stage with parameters."""
    steps: list[_Step] = []
    free = False
    for stage in reversed(stages):
        steps.append(_Step(stage, free))
        free = _frees(stage, free)
    short = steps[: len(stages) - first]
    if short:
        short[-1] = short[-1]._replace(need_dx=False)
    return {True: steps, False: short}


def _frees(stage: Stage, free: bool) -> bool:
    """Whether the output of a stage may be overwritten, as it lies in a buffer of the stage."""
    return free if stage._is_view else not isinstance(stage, ForeignStage)


def _first_that_learns(stages: list[tuple[Stage, list[Layer]]]) -> int:
    return next(
        (i for i, (_, layers) in enumerate(stages) if any(layer.params for layer in layers)),
        len(stages),
    )
