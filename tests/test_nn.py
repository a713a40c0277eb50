"""Layers of nnfast.nn, each by itself: gradients, what training and inference mean, memory, errors."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from gradients import Array, assert_gradient
from networks import Doubled, numbers
from nnfast import nn

Make = Callable[[], nn.Layer]
F64 = np.float64


# A layer each, whose random numbers are the same at every making, and the shape of its x.
LAYERS: dict[str, tuple[Make, tuple[int, ...]]] = {
    **{
        name: (getattr(nn, name), (3, 4))
        for name in nn.__all__
        if issubclass(getattr(nn, name), nn.activations.Activation | nn.activations.AlongAxis)
        and name not in ("ELU", "PReLU")
    },
    "CELU 0.5": (lambda: nn.CELU(0.5), (3, 4)),
    "Hardtanh -0.5, 1.5": (lambda: nn.Hardtanh(-0.5, 1.5), (3, 4)),
    "LeakyReLU 0.3": (lambda: nn.LeakyReLU(0.3), (3, 4)),
    "Softplus 2": (lambda: nn.Softplus(2.0), (3, 4)),
    "GELU tanh": (lambda: nn.GELU("tanh"), (3, 4)),
    "GLU axis 1": (lambda: nn.GLU(axis=1), (3, 4, 3)),
    "Softmax axis 0": (lambda: nn.Softmax(axis=0), (3, 4)),
    "ELU": (lambda: nn.ELU(0.7), (3, 4)),
    "ELU learned": (lambda: nn.ELU(0.7, learn_alpha=True, dtype=F64), (3, 4)),
    "PReLU": (lambda: nn.PReLU(dtype=F64), (3, 4)),
    "PReLU channels": (lambda: nn.PReLU(4, 0.1, dtype=F64), (3, 4, 2)),
    "PReLU channels last": (lambda: nn.PReLU(2, axis=-1, dtype=F64), (3, 4, 2)),
    "Maxout": (lambda: nn.Maxout(3), (4, 6)),
    "Maxout axis 1": (lambda: nn.Maxout(2, axis=1), (3, 4, 2)),
    "Dense": (lambda: nn.Dense(4, 3, dtype=F64, rng=0), (5, 4)),
    "Dense no bias": (lambda: nn.Dense(4, 3, bias=False, dtype=F64, rng=0), (5, 4)),
    "Dense three axes": (lambda: nn.Dense(4, 3, dtype=F64, rng=0), (2, 3, 4)),
    "DropConnect": (lambda: nn.DropConnect(4, 3, 0.4, dtype=F64, rng=0), (5, 4)),
    "BatchNorm": (lambda: nn.BatchNorm(4, dtype=F64), (5, 4)),
    "BatchNorm maps": (lambda: nn.BatchNorm(3, dtype=F64), (2, 3, 2, 2)),
    "BatchNorm last": (lambda: nn.BatchNorm(2, axis=-1, dtype=F64), (2, 3, 2)),
    "BatchNorm cumulative": (lambda: nn.BatchNorm(4, momentum=None, dtype=F64), (5, 4)),
    "Dropout": (lambda: nn.Dropout(0.4, rng=0), (5, 4)),
    "Dropout vanilla": (lambda: nn.Dropout(0.4, mode="vanilla", rng=0), (5, 4)),
    "StochasticDepth": (
        lambda: nn.StochasticDepth(nn.Dense(4, 4, dtype=F64, rng=0), 0.4, rng=0),
        (6, 4),
    ),
    "StochasticDepth batch": (
        lambda: nn.StochasticDepth(
            nn.Sequential(nn.Dense(4, 4, dtype=F64, rng=0), nn.Tanh()), 0.4, mode="batch", rng=0
        ),
        (6, 4),
    ),
    "StochasticDepth of a user's layer": (
        lambda: nn.StochasticDepth(Doubled(), 0.4, rng=0),
        (6, 4),
    ),
    "Flatten": (nn.Flatten, (2, 3, 2)),
    "Sequential": (
        lambda: nn.Sequential(nn.Dense(4, 3, dtype=F64, rng=0), nn.ReLU(), nn.Dropout(rng=1)),
        (5, 4),
    ),
}
every_layer = pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)


def backward(layer: nn.Layer, dy: Array) -> Array:
    """dx, also of a Sequential."""
    if isinstance(layer, nn.Sequential):
        return layer.backward(dy, input_gradient=True)
    return layer.backward(dy)


def test_every_layer_is_tested() -> None:
    made = {type(make()).__name__ for make, _ in LAYERS.values()}
    assert made == set(nn.__all__) - {"Layer"}


def test_every_activation_is_a_layer() -> None:
    layers = [getattr(nn, name) for name in nn.__all__]
    assert {layer._name for layer in layers if hasattr(layer, "_name")} == {
        *nf.activations.TABLE.keys() - {"gelu_tanh"},
        *("softmax", "log_softmax", "glu", "geglu", "swiglu"),
    }


# ---- gradients ----


@every_layer
def test_gradients(make: Make, shape: tuple[int, ...]) -> None:
    layer, x = make(), numbers(shape)
    y = layer.forward(x, training=True)
    assert y.shape == layer.output_shape(shape)
    dy = numbers(y.shape, 1)
    dy.flags.writeable = False
    dx = backward(layer, dy)
    assert_gradient(dx, lambda x: float((make().forward(x, training=True) * dy).sum()), x)

    for name, param in layer.named_params().items():

        def loss(value: Array, name: str = name) -> float:
            other = make()
            other.named_params()[name][...] = value
            return float((other.forward(x, training=True) * dy).sum())

        assert_gradient(layer.named_grads()[name], loss, param)


@every_layer
def test_backward_writes_gradients_anew(make: Make, shape: tuple[int, ...]) -> None:
    layer, x = make(), numbers(shape)
    dy = numbers(layer.forward(x, training=True).shape, 1)
    first = [backward(layer, dy).copy(), *(grad.copy() for grad in layer.grads)]
    for one, again in zip(first, [backward(layer, dy), *layer.grads], strict=True):
        np.testing.assert_array_equal(one, again)


def test_alpha_is_learned_from_what_training_saw() -> None:
    layer = nn.ELU(0.5, learn_alpha=True, dtype=F64)
    x = numbers((4, 3))
    y = layer.forward(x, training=True)
    layer.params[0][...] = 3.0
    np.testing.assert_array_equal(layer.forward(x), nf.elu(x, 3.0))
    layer.backward(np.ones_like(y))
    np.testing.assert_allclose(layer.grads[0], np.expm1(x[x < 0]).sum())


def test_layers_are_their_functions() -> None:
    x = numbers((4, 6)).astype(np.float32)
    dense = nn.Dense(6, 2, rng=3)
    np.testing.assert_array_equal(dense.weight, nf.init.he_normal((6, 2), rng=3))
    np.testing.assert_array_equal(dense.bias, np.zeros(2))
    dense.bias[...] = 1
    np.testing.assert_array_equal(dense.forward(x), x @ dense.weight + dense.bias)
    small = nn.Dense(6, 2, init=lambda shape, dtype, rng: np.full(shape, 0.5, dtype))
    np.testing.assert_array_equal(small.weight, np.full((6, 2), 0.5))

    drop = nn.Dropout(0.3, rng=np.random.default_rng(5)).forward(x, training=True)
    np.testing.assert_array_equal(drop, nf.dropout(x, 0.3, rng=np.random.default_rng(5))[0])

    connect = nn.DropConnect(6, 2, 0.3, bias=False, rng=7)
    rng = np.random.default_rng(7)
    expected = nf.drop_connect(x, connect.weight, 0.3, rng=rng)[0]
    np.testing.assert_array_equal(connect.forward(x, training=True), expected)
    np.testing.assert_array_equal(connect.forward(x), x @ connect.weight)

    norm = nn.BatchNorm(6, momentum=0.3, eps=1e-3, running_var_correction=0)
    mean, var = np.zeros(6, np.float32), np.ones(6, np.float32)
    settings = {"momentum": 0.3, "eps": 1e-3, "running_var_correction": 0}
    y, _ = nf.batch_norm(x, None, None, mean, var, training=True, **settings)
    np.testing.assert_array_equal(norm.forward(x, training=True), y)
    np.testing.assert_array_equal([norm.running_mean, norm.running_var], [mean, var])
    expected = nf.batch_norm(x, None, None, mean, var, training=False, eps=1e-3)[0]
    np.testing.assert_array_equal(norm.forward(x), expected)


@pytest.mark.parametrize("rows", [0, 1, 1000, 5000])
def test_a_bias_for_any_number_of_rows(rows: int) -> None:
    dense, x = nn.Dense(3, 32, rng=0), numbers((rows, 3)).astype(np.float32)
    dense.bias[...] = numbers((32,), 1)
    expected = x @ dense.weight + dense.bias
    np.testing.assert_array_equal(dense.forward(x, training=True), expected)
    np.testing.assert_array_equal(dense.forward(x), expected)
    dense.backward(np.ones((rows, 32)))
    np.testing.assert_array_equal(dense.grads[1], np.full(32, rows))


# ---- training and inference ----


@every_layer
def test_inference_keeps_nothing_and_gives_new_arrays(make: Make, shape: tuple[int, ...]) -> None:
    layer, untouched = make(), make()
    x, other = numbers(shape), numbers(shape, 1)
    y = layer.forward(x, training=True)
    untouched.forward(x, training=True)
    before = [array.copy() for array in layer.named_statistics().values()]
    results = [layer.forward(other) for _ in range(2)]
    np.testing.assert_array_equal(*results)
    for result in results:
        assert not any(np.shares_memory(result, array) for array in (x, other, y))
    assert not np.shares_memory(*results)
    for one, array in zip(before, layer.named_statistics().values(), strict=True):
        np.testing.assert_array_equal(one, array)
    dy = numbers(y.shape, 2)
    np.testing.assert_array_equal(backward(layer, dy), backward(untouched, dy))
    # No random number was drawn either.
    np.testing.assert_array_equal(
        layer.forward(x, training=True), untouched.forward(x, training=True)
    )


def test_inference_is_the_default() -> None:
    x = numbers((3, 4))
    np.testing.assert_array_equal(nn.Dropout(0.5, rng=0).forward(x), x)
    np.testing.assert_allclose(nn.Dropout(0.4, mode="vanilla").forward(x), x * 0.6)
    np.testing.assert_array_equal(nn.StochasticDepth(nn.ReLU()).forward(x), x + nf.relu(x))


def test_cumulative_statistics() -> None:
    norm = nn.BatchNorm(2, momentum=None, dtype=F64)
    batches = [numbers((5, 2), seed) for seed in range(3)]
    for batch in batches:
        norm.forward(batch, training=True)
    np.testing.assert_allclose(norm.running_mean, np.mean(batches, axis=(0, 1)))
    assert norm.num_batches_tracked == 3
    assert nn.BatchNorm(2).num_batches_tracked is None


@pytest.mark.parametrize("rng", [0, np.random.SeedSequence(1), None])
@pytest.mark.parametrize(
    "make",
    [
        lambda rng: nn.Dropout(0.5, rng=rng),
        lambda rng: nn.DropConnect(64, 64, 0.5, rng=rng),
        lambda rng: nn.StochasticDepth(nn.ReLU(), 0.5, rng=rng),
    ],
)
def test_steps_differ_and_seeds_repeat_them(make: Any, rng: Any) -> None:
    x = np.ones((64, 64), np.float32)

    def steps() -> list[Array]:
        layer = make(rng)
        return [layer.forward(x, training=True).copy() for _ in range(3)]

    first, again = steps(), steps()
    assert not np.array_equal(first[0], first[1])
    assert np.array_equal(first, again) == (rng is not None)


def test_a_generator_is_drawn_from() -> None:
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    nn.Dropout(0.5, rng=rng).forward(np.ones(8), training=True)
    same.bit_generator.random_raw()
    assert rng.bit_generator.state == same.bit_generator.state


# ---- memory ----


@every_layer
def test_buffers_are_used_again(make: Make, shape: tuple[int, ...]) -> None:
    layer, x = make(), numbers(shape)
    y = layer.forward(x, training=True)
    dx = backward(layer, np.ones_like(y))
    params, grads = layer.params, layer.grads
    smaller = x[: len(x) - 1]
    small_y = layer.forward(smaller, training=True)
    small_dx = backward(layer, np.ones_like(small_y))
    assert small_y.shape == layer.output_shape(smaller.shape)
    assert small_dx.shape == smaller.shape
    again = layer.forward(x, training=True)
    if not isinstance(layer, nn.Flatten):  # whose results are what it is given
        assert np.shares_memory(y, small_y)
        assert np.shares_memory(y, again)
        assert np.shares_memory(dx, small_dx)
    for one, other in zip(params + grads, layer.params + layer.grads, strict=True):
        assert one is other


@every_layer
def test_x_is_not_changed(make: Make, shape: tuple[int, ...]) -> None:
    layer, x = make(), numbers(shape)
    given = x.copy()
    y = layer.forward(x, training=True)
    backward(layer, np.ones_like(y))
    layer.forward(x)
    np.testing.assert_array_equal(x, given)


@every_layer
def test_copies_go_on_alone(make: Make, shape: tuple[int, ...]) -> None:
    layer, x = make(), numbers(shape)
    layer.forward(x, training=True)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    results = []
    for one in (layer, *copies):
        y = one.forward(x, training=True)
        results.append([y.copy(), backward(one, y).copy(), *one.grads])
    for result in results[1:]:
        for a, b in zip(results[0], result, strict=True):
            np.testing.assert_array_equal(a, b)
    for param, other in zip(layer.params, copies[0].params, strict=True):
        assert not np.shares_memory(param, other)


@every_layer
def test_copies_are_without_the_last_batch(make: Make, shape: tuple[int, ...]) -> None:
    layer = make()
    fresh = len(pickle.dumps(layer))
    x = numbers((64, *shape))[:, 0] if len(shape) == 1 else numbers((64 * shape[0], *shape[1:]))
    layer.forward(x, training=True)
    copied = pickle.loads(pickle.dumps(layer))
    kept = x.nbytes if isinstance(getattr(layer, "branch", None), Doubled) else 0  # by the user
    assert len(pickle.dumps(layer)) < fresh + kept + 1000
    with pytest.raises(RuntimeError, match="backward must follow forward"):
        copied.backward(np.ones(3))


# ---- dtypes ----


@every_layer
def test_strided_and_foreign_inputs(make: Make, shape: tuple[int, ...]) -> None:
    x = numbers(shape)
    dy = numbers(make().output_shape(shape), 1)
    wide = np.repeat(x, 2, axis=-1)[..., ::2]
    results = []
    for value in (x, wide, np.asfortranarray(x), x.tolist(), x.astype(">f8")):
        layer = make()
        y = layer.forward(value, training=True).copy()
        results.append([y, backward(layer, np.asfortranarray(dy)), layer.forward(value)])
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            # BLAS may add up in another order.
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_parameters_decide_the_dtype() -> None:
    for dtype in (np.float32, np.float64):
        layers = [nn.Dense(4, 4, dtype=dtype), nn.BatchNorm(4, dtype=dtype)]
        layers += [nn.PReLU(dtype=dtype), nn.ELU(learn_alpha=True, dtype=dtype)]
        for layer in layers:
            for given in (np.ones((3, 4), np.float32), np.ones((3, 4)), np.ones((3, 4), int)):
                y = layer.forward(given, training=True)
                dx = layer.backward(given)
                assert {y.dtype, dx.dtype, *(a.dtype for a in layer.params + layer.grads)} == {
                    np.dtype(dtype)
                }
    assert {param.dtype for param in nn.Dense(2, 2).params} == {np.dtype(np.float32)}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_activations_take_what_they_get(dtype: type) -> None:
    x = numbers((3, 4)).astype(dtype)
    for layer in (nn.ReLU(), nn.GELU(), nn.ELU(), nn.Softmax(), nn.GLU(), nn.Dropout()):
        y = layer.forward(x, training=True)
        assert y.dtype == layer.backward(y).dtype == layer.forward(x).dtype == dtype


# ---- errors ----


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Dense(0, 3), ValueError, "n_in must be at least 1, got 0"),
        (lambda: nn.Dense(3, 2.0), TypeError, "n_out must be an int, got float"),
        (lambda: nn.Dense(3, 2, dtype=np.float16), TypeError, "dtype must be float32 or float64"),
        (lambda: nn.Dense(3, 2, init="her"), ValueError, "init must be 'zeros'"),
        (lambda: nn.Dense(3, 2, init=3), TypeError, "init must be a name or a function, got int"),
        (
            lambda: nn.Dense(3, 2, init=lambda shape, dtype, rng: np.ones(shape)),
            ValueError,
            r"init must give weights of shape \(3, 2\) and dtype float32, got \(3, 2\) and float64",
        ),
        (lambda: nn.DropConnect(3, 2, 1.5), ValueError, r"p must be in \[0, 1\], got 1.5"),
        (lambda: nn.BatchNorm(0), ValueError, "n must be at least 1, got 0"),
        (lambda: nn.BatchNorm(3, momentum=2), ValueError, r"momentum must be in \[0, 1\]"),
        (lambda: nn.BatchNorm(3, eps=0), ValueError, "eps must be positive, got 0.0"),
        (lambda: nn.BatchNorm(3, running_var_correction=2), ValueError, "must be 0 or 1, got 2"),
        (lambda: nn.Dropout(-1), ValueError, r"p must be in \[0, 1\], got -1.0"),
        (lambda: nn.Dropout(mode="twice"), ValueError, "mode must be 'inverted' or 'vanilla'"),
        (lambda: nn.Dropout(rng="x"), TypeError, "rng must be an int"),
        (lambda: nn.StochasticDepth(nf.relu), TypeError, "branch must be a Layer, got ufunc"),
        (lambda: nn.StochasticDepth(nn.ReLU(), mode="x"), ValueError, "mode must be 'row' or"),
        (lambda: nn.LeakyReLU(-0.1), ValueError, "negative_slope must not be negative"),
        (lambda: nn.ELU(0), ValueError, "alpha must be positive, got 0"),
        (lambda: nn.ELU(learn_alpha=True, dtype=int), TypeError, "dtype must be float32 or"),
        (lambda: nn.Hardtanh(1, 1), ValueError, "max_val must be above min_val"),
        (lambda: nn.GELU("sigmoid"), ValueError, "approximate must be 'none' or 'tanh'"),
        (lambda: nn.PReLU(0), ValueError, "n must be at least 1"),
        (lambda: nn.PReLU(init="x"), TypeError, "init must be a real number, got str"),
        (lambda: nn.Maxout(0), ValueError, "pieces must be at least 1, got 0"),
        (lambda: nn.Maxout(257), ValueError, r"pieces must be in \[1, 256\], got 257"),
        (lambda: nn.GLU(axis=0.5), TypeError, "axis must be an int, got float"),
    ],
)
def test_settings_are_checked(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.Dense(4, 3), (5, 3), r"x must have shape \(N, ..., 4\), got \(5, 3\)"),
        (nn.Dense(4, 3), (4,), r"x must have shape \(N, ..., 4\), got \(4,\)"),
        (nn.BatchNorm(3), (5, 4), r"x must have 3 channels along axis 1, got \(5, 4\)"),
        (nn.BatchNorm(3, axis=2), (5, 3), "x must have 3 channels along axis 2"),
        (nn.BatchNorm(3), (1, 3), r"two values a channel or more in training, got \(1, 3\)"),
        (nn.PReLU(3), (5, 4), "x must have 3 channels along axis 1"),
        (nn.GLU(), (2, 3), r"even length along axis -1, got shape \(2, 3\)"),
        (nn.Softmax(axis=2), (2, 3), r"x must have an axis 2, got shape \(2, 3\)"),
        (nn.Maxout(2), (2, 3), "length along axis -1 that 2 pieces divide"),
        (nn.Flatten(), (), r"x must have shape \(N, ...\), got \(\)"),
        (
            nn.StochasticDepth(nn.Dense(4, 3)),
            (5, 4),
            r"branch must keep the shape of x, \(5, 4\), got \(5, 3\)",
        ),
    ],
)
def test_shapes_of_x_are_checked(layer: nn.Layer, shape: tuple[int, ...], message: str) -> None:
    before = copy.deepcopy(list(layer.named_statistics().values()))
    with pytest.raises(ValueError, match=message):
        layer.forward(np.ones(shape, np.float32), training=True)
    with pytest.raises(RuntimeError, match="backward must follow forward"):
        layer.backward(np.ones(shape))
    for one, other in zip(before, layer.named_statistics().values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_row_is_enough_in_inference() -> None:
    nn.BatchNorm(3).forward(np.ones((1, 3)))


@every_layer
def test_backward_checks_dy(make: Make, shape: tuple[int, ...]) -> None:
    layer, x = make(), numbers(shape)
    with pytest.raises(RuntimeError, match=r"backward must follow forward\(x, training=True\)"):
        layer.backward(x)
    y = layer.forward(x, training=True)
    layer.forward(x[:1])  # inference does not count
    for grad in layer.grads:
        grad[...] = 7
    with pytest.raises(ValueError, match=r"dy must have the shape of y, \(.*\), got \(1, 9\)"):
        layer.backward(np.ones((1, 9)))
    with pytest.raises(TypeError, match="dy must be an array of real numbers, got dtype complex"):
        layer.backward(np.ones(y.shape, complex))
    assert all((grad == 7).all() for grad in layer.grads)
    backward(layer, y)


@every_layer
def test_x_must_be_real(make: Make, shape: tuple[int, ...]) -> None:
    with pytest.raises(TypeError, match="x must be an array of real numbers, got dtype complex"):
        make().forward(np.ones(shape, complex))


def test_an_alpha_that_learning_made_negative() -> None:
    layer = nn.ELU(learn_alpha=True)
    layer.params[0][...] = -0.5
    with pytest.raises(ValueError, match="alpha must be positive, got -0.5"):
        layer.forward(np.ones(3), training=True)


def test_methods_that_a_user_defined_layer_lacks() -> None:
    with pytest.raises(NotImplementedError, match="Layer must have forward"):
        nn.Layer().forward(np.ones(3))
    with pytest.raises(NotImplementedError, match="Layer must have backward"):
        nn.Layer().backward(np.ones(3))
