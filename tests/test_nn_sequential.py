"""Networks of nnfast.nn: the same bits fused and one by one, memory, learning, errors."""

import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from gradients import Array, assert_gradient
from networks import (
    F64,
    Doubled,
    every_network,
    everything,
    inputs,
    leaves,
    numbers,
    of_images,
    of_words,
)
from nnfast import nn
from nnfast.nn import fused


def one_by_one(net: nn.Sequential, x: Array, dy: Array) -> list[Array]:
    """y, dx, gradients and statistics, a layer at a time, with nothing written in place."""
    layers = leaves(net)
    for layer in layers:
        x = layer.forward(x, training=True).copy()
    dx = dy
    for layer in reversed(layers):
        dx = array_of(layer.backward(dx))
    return [x, dx, *net.grads, *net.named_statistics().values()]


def array_of(dx: Array | None) -> Array:
    """A copy; an empty array where there is no gradient, with respect to indices."""
    return np.zeros(0) if dx is None else dx.copy()


def at_once(net: nn.Sequential, x: Array, dy: Array) -> list[Array]:
    """The same by the network."""
    y = net.forward(x, training=True).copy()
    dx = array_of(net.backward(dy, input_gradient=True))
    return [y, dx, *net.grads, *net.named_statistics().values()]


# ---- gradients, and the same bits by every way ----


@every_network
def test_gradients_of_everything(make: Any, sample: tuple[int, ...]) -> None:
    net = make()
    x, dy = inputs(net, (5, *sample)), numbers((5, 3), 1)
    x[x == 2] = 3  # the index whose row is not learned
    net.forward(x, training=True)
    dx = net.backward(dy, input_gradient=True)
    if make is of_words:
        assert dx is None
    else:
        assert_gradient(dx, lambda x: float((make().forward(x, training=True) * dy).sum()), x)
    names = list(net.named_params())
    assert len(names) == len(net.params) == {everything: 17, of_words: 16, of_images: 11}[make]
    for name, grad, param in zip(names, net.grads, net.params, strict=True):

        def loss(value: Array, name: str = name) -> float:
            other = make()
            other.named_params()[name][...] = value
            return float((other.forward(x, training=True) * dy).sum())

        assert_gradient(grad, loss, param)


def assert_same_bits(make: Any, x: Array) -> None:
    dy = numbers(make().output_shape(x.shape), 1).astype(make().forward(x).dtype)
    for one, other in zip(one_by_one(make(), x, dy), at_once(make(), x, dy), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    net = make()
    y = make().forward(x)
    for layer in leaves(net):
        x = layer.forward(x)
    np.testing.assert_array_equal(x, y, strict=True)


@every_network
def test_a_network_computes_what_its_layers_compute(make: Any, sample: tuple[int, ...]) -> None:
    assert_same_bits(make, inputs(make(), (5, *sample)))


FUSED = {
    "relu": [nn.ReLU],
    "gelu": [nn.GELU],
    "gelu tanh": [lambda: nn.GELU("tanh")],
    "silu": [nn.SiLU],
    "tanh": [nn.Tanh],
    "relu, dropout": [nn.ReLU, lambda: nn.Dropout(0.4, rng=3)],
    "relu, vanilla dropout": [nn.ReLU, lambda: nn.Dropout(0.4, mode="vanilla", rng=3)],
    "batch norm, relu": [lambda: nn.BatchNorm(20), nn.ReLU],
    "batch norm, relu, dropout": [
        lambda: nn.BatchNorm(20),
        nn.ReLU,
        lambda: nn.Dropout(0.4, rng=3),
    ],
}
STAGES = {
    "relu": [fused.BiasedActivation],
    "gelu": [fused.BiasedActivation],
    "gelu tanh": [fused.BiasedActivation],
    "silu": [fused.BiasedActivation],
    "tanh": [fused.BiasedActivation],
    "relu, dropout": [fused.BiasedReLUDropout],
    "relu, vanilla dropout": [fused.BiasedActivation, nn.Dropout],
    "batch norm, relu": [nn.Dense, fused.NormalisedReLU],
    "batch norm, relu, dropout": [nn.Dense, fused.NormalisedReLU, nn.Dropout],
}


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("dense", [nn.Dense, nn.DropConnect])
@pytest.mark.parametrize("last", [False, True])
def test_fused_equals_unfused(
    name: str, dense: Any, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> nn.Sequential:
        layers = [dense(7, 20, rng=0), *(layer() for layer in FUSED[name])]
        net = nn.Sequential(*layers) if last else nn.Sequential(*layers, nn.Dense(20, 3, rng=1))
        for param in net.params:
            param += 0.1  # biases that do something
        return net

    x = numbers((70, 7)).astype(np.float32)
    shape = make().output_shape(x.shape)
    dy = numbers(shape, 1).astype(np.float32)
    net = make()
    run = [type(step.stage) for step in net._training_steps][: len(STAGES[name])]
    assert [dense if kind is nn.Dense else kind for kind in STAGES[name]] == run
    joined, inferred = at_once(net, x, dy), net.forward(x)
    assert_same_bits(make, x)
    monkeypatch.setattr(fused, "JOINS", [])
    net = make()
    assert [type(step.stage) for step in net._training_steps] == [type(layer) for layer in net]
    for one, other in zip([*joined, inferred], [*at_once(net, x, dy), net.forward(x)], strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def test_without_a_bias_nothing_is_fused() -> None:
    net = nn.Sequential(nn.Dense(3, 3, bias=False), nn.ReLU(), nn.Dropout())
    assert [step.stage for step in net._training_steps] == list(net)


def test_neighbours_across_nested_networks_are_fused() -> None:
    net = nn.Sequential(nn.Sequential(nn.Dense(3, 3)), nn.Sequential(nn.ReLU(), nn.Tanh()))
    assert [type(step.stage) for step in net._training_steps] == [fused.BiasedActivation, nn.Tanh]


def test_random_networks_are_their_parts() -> None:
    # In-place work shows here if it destroys what a backward pass needs.
    kinds = [
        *(nn.ReLU, nn.Tanh, nn.SiLU, nn.GELU, nn.ELU, nn.Mish, nn.Softmax, nn.Sigmoid, nn.Flatten),
        lambda: nn.Dropout(0.3, rng=1),
        lambda: nn.Dense(6, 6, dtype=F64, rng=2),
        lambda: nn.BatchNorm(6, dtype=F64),
        lambda: nn.PReLU(6, dtype=F64),
        lambda: nn.LayerNorm(6, dtype=F64),
        lambda: nn.RMSNorm(6, dtype=F64),
        lambda: nn.GroupNorm(2, 6, dtype=F64),
        lambda: nn.StochasticDepth(nn.Tanh(), 0.3, rng=3),
        lambda: nn.StochasticDepth(nn.Sequential(nn.ReLU(), nn.Flatten()), 0.3, rng=3),
        lambda: nn.Sequential(nn.Dropout(0.3, rng=4), nn.LeakyReLU()),
        Doubled,
    ]
    rng = np.random.default_rng(0)
    for _ in range(400):
        chosen = rng.integers(0, len(kinds), rng.integers(1, 9))
        assert_same_bits(
            lambda chosen=chosen: nn.Sequential(*(kinds[i]() for i in chosen)), numbers((5, 6))
        )


# ---- layers of the user ----


def test_a_layer_with_its_own_forward_is_called() -> None:
    class Shifted(nn.ReLU):
        def forward(self, x: Any, training: bool = False) -> Array:
            return super().forward(x, training) + 1

    class Halved(nn.Sequential):
        def forward(self, x: Any, training: bool = False) -> Array:
            return super().forward(x, training) / 2

    class Negated(nn.Dense):
        def forward(self, x: Any, training: bool = False) -> Array:
            return -super().forward(x, training)

    x = numbers((3, 4)).astype(np.float32)
    dense, norm = Negated(4, 4), nn.BatchNorm(4)
    net = nn.Sequential(dense, nn.ReLU(), norm, Shifted(), Halved(nn.Tanh()))
    for training in (False, True):
        h = nf.relu(-(x @ dense.weight))
        expected = np.tanh(nf.relu(norm.forward(h, training)) + 1) / 2
        np.testing.assert_allclose(net.forward(x, training), expected, rtol=1e-6)


def test_a_network_with_its_own_calls_is_trained_within_another() -> None:
    class Noted(nn.Sequential):
        noted = 0

        def forward(self, x: Any, training: bool = False) -> Array:
            self.noted += 1
            return super().forward(x, training)

    class NotedBoth(Noted):
        def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
            self.noted += 1
            return super().backward(dy, input_gradient=input_gradient)

    x, dy = numbers((5, 3)), numbers((5, 2), 1)

    def trained(inner: type[nn.Sequential]) -> tuple[list[Array], Any]:
        within = inner(nn.Tanh(), nn.Dense(4, 2, rng=1, dtype=F64))
        net = nn.Sequential(nn.Dense(3, 4, rng=0, dtype=F64), within)
        net.forward(x, training=True)
        net.backward(dy)
        return net.grads, within

    expected, _ = trained(nn.Sequential)
    for inner, calls in ((Noted, 1), (NotedBoth, 2)):
        grads, within = trained(inner)
        assert within.noted == calls
        for one, other in zip(grads, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_results_of_user_defined_layers_are_not_overwritten() -> None:
    class Cached(nn.Layer):
        kept = np.full((3, 4), -2.0)

        def forward(self, x: Any, training: bool = False) -> Array:
            return self.kept

        def backward(self, dy: Any) -> Array:
            return self.kept

    x = numbers((3, 4))
    for net in (
        nn.Sequential(Cached(), nn.ReLU(), nn.Dropout()),
        nn.Sequential(nn.ReLU(), Cached()),
    ):
        assert not np.shares_memory(net.forward(x), Cached.kept)
        y = net.forward(x, training=True)
        net.backward(np.zeros_like(y), input_gradient=True)
        np.testing.assert_array_equal(Cached.kept, -2)


def test_results_of_user_defined_layers_are_converted() -> None:
    net = nn.Sequential(nn.Dense(4, 4), Doubled(), nn.Dense(4, 2), nn.BatchNorm(2))
    y = net.forward(np.ones((3, 4)), training=True)
    net.backward(y)
    assert {y.dtype, net.forward(np.ones((3, 4))).dtype} == {np.dtype(np.float32)}

    class Nothing(Doubled):
        def backward(self, dy: Any) -> Any:
            return None

    net = nn.Sequential(nn.Dense(4, 4), Nothing())
    y = net.forward(np.ones((3, 4)), training=True)
    with pytest.raises(TypeError, match="dx of Nothing must be an array of real numbers"):
        net.backward(y)


# ---- the gradient with respect to x ----


def test_the_gradient_with_respect_to_x_is_computed_on_request() -> None:
    net, x = everything(), numbers((5, 2, 3))
    dy = numbers((5, 3), 1)
    net.forward(x, training=True)
    assert net.backward(dy) is None
    without = [grad.copy() for grad in net.grads]
    assert net.backward(dy, input_gradient=True).shape == x.shape
    for one, other in zip(without, net.grads, strict=True):
        np.testing.assert_array_equal(one, other)


def test_indices_have_no_gradient() -> None:
    class Shifted(nn.Embedding):
        def forward(self, x: Any, training: bool = False) -> Array:
            return super().forward(x, training) + 1

    x = np.arange(6).reshape(2, 3) % 5
    for kind in (nn.Embedding, Shifted):
        net = nn.Sequential(nn.Sequential(kind(5, 4, rng=0)), nn.Dense(4, 2, rng=1), dtype=F64)
        assert net.forward(x).dtype == net.forward(x, training=True).dtype == F64
        for asked in (True, False):
            net.grads[0][...] = np.nan
            assert net.backward(np.ones((2, 3, 2)), input_gradient=asked) is None
            assert np.isfinite(net.grads[0]).all()
            assert net.grads[0].any()


def test_only_the_first_layer_takes_indices() -> None:
    for layers in (
        [nn.Dense(2, 2), nn.Embedding(3, 2)],
        [nn.Flatten(), nn.Embedding(3, 2)],
        [nn.ReLU(), nn.Sequential(nn.Embedding(3, 2), nn.ReLU())],
    ):
        with pytest.raises(
            ValueError, match=r"layers must begin with Embedding\(3, 2\), which takes"
        ):
            nn.Sequential(*layers)


def test_layers_before_the_first_parameters_are_not_run_backward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = nn.Sequential(nn.Dropout(rng=0), nn.Dense(4, 3, rng=0), nn.Tanh())
    y = net.forward(np.ones((5, 4)), training=True)
    monkeypatch.setattr(nn.Dropout, "_backward", None)
    net.backward(y)
    with pytest.raises(TypeError, match="not callable"):
        net.backward(y, input_gradient=True)


def test_a_first_layer_skips_the_product_for_dx(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    product = nn.Dense._product_backward

    def recorded(self: nn.Dense, dz: Array, expected: bool) -> Array | None:
        asked.append(expected)
        return product(self, dz, expected)

    monkeypatch.setattr(nn.Dense, "_product_backward", recorded)
    net = nn.Sequential(nn.Flatten(), nn.Dense(4, 3), nn.Tanh(), nn.Dense(3, 2))
    y = net.forward(np.ones((5, 4)), training=True)
    net.backward(y)
    net.backward(y, input_gradient=True)
    assert asked == [True, False, True, True]


# ---- memory ----


def bench_network(sizes: list[int], bias: bool = False) -> nn.Sequential:
    """That of bench/training.py: BatchNorm, ReLU and dropout after all layers but the last."""
    rng = np.random.default_rng(0)
    layers: list[nn.Layer] = []
    for n_in, n_out in pairwise(sizes[:-1]):
        layers += [nn.Dense(n_in, n_out, bias=bias, rng=rng), nn.BatchNorm(n_out)]
        layers += [nn.ReLU(), nn.Dropout(0.2, rng=rng)]
    return nn.Sequential(*layers, nn.Dense(*sizes[-2:], rng=rng))


@pytest.mark.parametrize("bias", [False, True])
def test_a_steady_step_allocates_next_to_nothing(bias: bool) -> None:
    net = bench_network([784, 512, 256, 10], bias)
    opt = nf.optim.Adam(net.params)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((128, 784), np.float32), rng.integers(0, 10, 128)

    def step(rows: int) -> None:
        z = net.forward(x[:rows], training=True)
        _, dz = nf.softmax_cross_entropy(z, labels[:rows], out=z)
        net.backward(dz)
        opt.step(net.grads)

    def steps(count: int) -> None:
        for _ in range(count):
            step(128)
        step(96)  # the last batch of an epoch
        step(128)

    steps(5)
    tracemalloc.start()
    try:
        steps(5)
        steady = tracemalloc.get_traced_memory()[0]
        steps(100)
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 16_000  # whatever was replaced counts too
    assert left - steady < 1000


def test_nothing_grows_over_ten_thousand_steps() -> None:
    net = bench_network([8, 8, 4, 3], True)
    opt = nf.optim.Adam(net.params)
    x, labels = numbers((16, 8)).astype(np.float32), np.arange(16) % 3

    def steps(count: int) -> None:
        for _ in range(count):
            z = net.forward(x, training=True)
            net.backward(nf.softmax_cross_entropy(z, labels, out=z)[1])
            opt.step(net.grads)

    steps(5)
    tracemalloc.start()
    try:
        steps(100)
        early = tracemalloc.get_traced_memory()[0]
        steps(10_000)
        late = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert late - early < 1000


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Dense(512, 64)],
        [nn.Dense(512, 512)],
        [nn.DropConnect(512, 64)],
        [nn.Dropout()],
        [nn.Dense(512, 512), nn.ReLU(), nn.Dropout()],
        [nn.Dense(512, 512), nn.GELU()],
        [nn.ReLU(), nn.Dropout()],
        [nn.Mish(), nn.Tanh(), nn.Dropout()],
        [nn.PReLU()],
        [nn.LayerNorm(512)],
        [nn.RMSNorm(512)],
        [nn.GroupNorm(2, 512)],
        [nn.Softmax()],
        [nn.GLU()],
        [nn.Maxout(2)],
    ],
    ids=repr,
)
def test_steady_layers_allocate_next_to_nothing(layers: list[nn.Layer]) -> None:
    # A mask of x has 8 kB, x itself 256, and the sums by a bias 6.
    net, x = nn.Sequential(*layers), np.ones((128, 512), np.float32)
    dy = np.ones(net.output_shape(x.shape), np.float32)

    def step() -> None:
        net.forward(x, training=True)
        net.backward(dy, input_gradient=True)

    tracemalloc.start()
    try:
        step()
        step()
        steady = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - steady < 7000


@every_network
def test_params_and_grads_stay_the_same_arrays(make: Any, sample: tuple[int, ...]) -> None:
    net = make()
    params, grads = net.params, net.grads
    opt = nf.optim.SGD(params, lr=1e-3)
    for rows in (5, 3, 8):
        y = net.forward(inputs(net, (rows, *sample)), training=True)
        net.backward(y)
        opt.step(net.grads)
    net.load_state_dict(make().state_dict())
    for one, other in zip(params + grads, net.params + net.grads, strict=True):
        assert one is other
    assert [a.shape for a in params] == [a.shape for a in grads]
    assert all(a is b for a, b in zip(params, net.named_params().values(), strict=True))
    assert all(a is b for a, b in zip(grads, net.named_grads().values(), strict=True))
    assert list(net.named_params()) == list(net.named_grads())
    net.params.clear()
    net.grads.clear()
    assert len(net.params) == len(net.grads) == len(params) >= 11


def test_results_of_inference_are_new() -> None:
    x = numbers((5, 2, 3))
    for net in (
        everything(),
        nn.Sequential(nn.Flatten()),
        nn.Sequential(nn.Flatten(), nn.Flatten()),
    ):
        given = x.copy()
        first, second = net.forward(x), net.forward(x)
        assert not np.shares_memory(first, x)
        assert not np.shares_memory(first, second)
        first[...] = 0
        np.testing.assert_array_equal(x, given)


def test_the_gradient_may_lie_in_the_outputs_memory() -> None:
    results = []
    for reuse in (False, True):
        net = bench_network([6, 8, 3])
        z = net.forward(numbers((9, 6)), training=True)
        net.backward(nf.softmax_cross_entropy(z, np.arange(9) % 3, out=z if reuse else None)[1])
        results.append(net.grads)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


# ---- learning ----


def spots(rows: int) -> tuple[Array, Array]:
    """Ten classes about ten points, as digits are."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, rows)
    centres = rng.standard_normal((10, 64))
    return (centres[labels] + rng.standard_normal((rows, 64))).astype(np.float32), labels


def learned(seed: int) -> tuple[float, Array]:
    x, labels = spots(500)
    rng = np.random.default_rng(seed)
    net = nn.Sequential(
        *(nn.Dense(64, 32, rng=rng), nn.BatchNorm(32), nn.ReLU(), nn.Dropout(0.2, rng=rng)),
        *(nn.Dense(32, 32, rng=rng), nn.ELU(learn_alpha=True), nn.Dense(32, 10, rng=rng)),
    )
    opt = nf.optim.Adam(net.named_params(), lr=1e-2)
    for _ in range(10):
        for rows in range(0, 400, 64):
            z = net.forward(x[rows : rows + 64], training=True)
            _, dz = nf.softmax_cross_entropy(z, labels[rows : rows + 64])
            net.backward(dz)
            opt.step(net.named_grads())
    z = net.forward(x[400:])
    return float((z.argmax(axis=1) == labels[400:]).mean()), z


def test_a_network_learns_the_same_by_seed() -> None:
    accuracy, z = learned(0)
    assert accuracy > 0.95
    np.testing.assert_array_equal(learned(0)[1], z)
    assert not np.array_equal(learned(1)[1], z)


# ---- errors ----


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], ValueError, "layers must hold at least one, got none"),
        ([[nn.ReLU()]], TypeError, r"layers\[0\] must be a Layer, got list"),
        ([nn.ReLU(), nn.ReLU], TypeError, r"layers\[1\] must be a Layer, got type"),
        (
            [nn.Dense(2, 2), nn.BatchNorm(2, dtype=F64)],
            ValueError,
            "layers must have parameters of one dtype, got float32 and float64",
        ),
    ],
)
def test_layers_are_checked(layers: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nn.Sequential(*layers)


def test_a_layer_stands_once() -> None:
    relu = nn.ReLU()
    for layers in (
        (relu, nn.Tanh(), relu),
        (relu, nn.Sequential(relu)),
        (relu, nn.StochasticDepth(nn.Sequential(relu))),
    ):
        with pytest.raises(ValueError, match=r"once each in a network, but ReLU\(\) is in twice"):
            nn.Sequential(*layers)


def test_a_wrong_shape_changes_nothing() -> None:
    net = nn.Sequential(nn.BatchNorm(3), nn.Dropout(rng=0), nn.Dense(3, 4), nn.Dense(5, 2))
    state, rng_state = net.state_dict(), net[1]._rng.bit_generator.state
    with pytest.raises(
        ValueError, match=r"layers\[3\], Dense: x must have shape \(N, ..., 5\), got \(8, 4\)"
    ):
        net.forward(np.ones((8, 3)), training=True)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    assert net[1]._rng.bit_generator.state == rng_state


def test_backward_after_an_interrupted_forward_is_refused() -> None:
    class Interrupts(Doubled):
        def forward(self, x: Any, training: bool = False) -> Array:
            if training and x[0, 0] > 1:
                raise KeyboardInterrupt
            return x

    net = nn.Sequential(nn.Dense(2, 2), Interrupts())
    net.params[0][...] = np.eye(2)
    y = net.forward(np.ones((2, 2)), training=True)
    with pytest.raises(KeyboardInterrupt):
        net.forward(np.full((2, 2), 5), training=True)
    with pytest.raises(RuntimeError, match="backward must follow forward"):
        net.backward(y)
