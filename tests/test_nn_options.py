"""The options of a network: its dtype, given once, and its output, which only predict applies."""

import copy
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

import nnfast as nf
from layouts import assert_same_bits
from networks import F64, Doubled, numbers, of_words
from nnfast import nn

# ---- dtype ----


def layers(dtype: Any = None) -> list[nn.Layer]:
    """All layers that learn, at several depths."""
    return [
        nn.Dense(4, 6, dtype=dtype, rng=0),
        nn.ReLU(),
        nn.BatchNorm(6, momentum=None, dtype=dtype),
        nn.StochasticDepth(
            nn.Sequential(nn.LayerNorm(6, dtype=dtype), nn.Dense(6, 6, dtype=dtype, rng=1)),
            0.3,
            rng=2,
        ),
        nn.Sequential(
            nn.Sequential(nn.PReLU(6, dtype=dtype)),
            nn.DropConnect(6, 6, 0.3, dtype=dtype, rng=3),
            nn.Tanh(),
        ),
        nn.RMSNorm(6, dtype=dtype),
        nn.ELU(learn_alpha=True, dtype=dtype),
        nn.GroupNorm(2, 6, dtype=dtype),
        nn.Dropout(0.3, rng=4),
        nn.Dense(6, 3, dtype=dtype, rng=5),
    ]


def arrays_of(net: nn.Layer) -> dict[str, Any]:
    """The arrays of floats, and the gradients."""
    found = net.named_params() | net.named_statistics()
    found |= {f"grad {name}": grad for name, grad in net.named_grads().items()}
    return {name: array for name, array in found.items() if array.dtype.kind == "f"}


def trained(net: nn.Sequential) -> list[Any]:
    """What two steps and inference give."""
    opt = nf.optim.Adam(net.params)
    for seed in range(2):
        net.backward(net.forward(numbers((5, 4), seed), training=True))
        opt.step(net.grads)
    return [net.forward(numbers((5, 4))), *net.params, *net.named_statistics().values()]


@pytest.mark.parametrize("dtype", [np.float32, "f8", np.dtype(np.float64)])
def test_a_dtype_given_once_is_that_of_all_layers(dtype: Any) -> None:
    net, each = nn.Sequential(*layers(), dtype=dtype), nn.Sequential(*layers(dtype))
    assert {array.dtype for array in arrays_of(net).values()} == {np.dtype(dtype)}
    assert net[2].num_batches_tracked.dtype == np.int64
    each.load_state_dict(net.state_dict())
    for one, other in zip(trained(net), trained(each), strict=True):
        assert_same_bits(one, other)


def test_a_network_in_float64_begins_as_the_one_in_float32() -> None:
    single, double = nn.Sequential(*layers()), nn.Sequential(*layers(), dtype=F64)
    for name, array in arrays_of(single).items():
        np.testing.assert_array_equal(arrays_of(double)[name], array)


def test_without_a_dtype_layers_are_float32_and_stay_what_they_are() -> None:
    made = layers()
    before = [array for layer in made for array in arrays_of(layer).values()]
    for options in ({}, {"dtype": np.float32}):
        after = [a for layer in nn.Sequential(*made, **options) for a in arrays_of(layer).values()]
        assert {array.dtype for array in after} == {np.dtype(np.float32)}
        for one, other in zip(before, after, strict=True):
            assert one is other


def test_a_layer_with_another_dtype_is_an_error_that_changes_nothing() -> None:
    for wrong in (
        nn.Dense(4, 4, dtype=np.float32),
        nn.StochasticDepth(nn.Sequential(nn.LayerNorm(4, dtype=np.float32))),
        nn.Sequential(nn.Dense(4, 4), dtype=np.float32),
        nn.Sequential(nn.ReLU(), dtype=np.float32),
        nn.Embedding(4, 4, dtype=np.float32),
    ):
        others = [] if isinstance(wrong, nn.Embedding) else [nn.Dense(4, 4)]
        before = [param for layer in (*others, wrong) for param in layer.params]
        with pytest.raises(
            ValueError, match=r"dtype must be that of all layers, but .* has float32, got float64"
        ):
            nn.Sequential(*others, wrong, dtype=F64)
        after = [param for layer in (*others, wrong) for param in layer.params]
        assert all(one is other for one, other in zip(before, after, strict=True))
    for wrong in ("x", np.float16, int):
        with pytest.raises(TypeError):
            nn.Sequential(nn.Dense(2, 2), dtype=wrong)


def test_layers_of_several_dtypes_are_an_error_that_tells_of_the_networks() -> None:
    for others in (nn.Dense(4, 4, dtype=F64), nn.Sequential(nn.ReLU(), dtype=F64)):
        with pytest.raises(ValueError, match="float32 and float64: give the network a dtype"):
            nn.Sequential(nn.Dense(4, 4), others)


def test_a_dtype_is_given_once() -> None:
    made = layers()
    nn.Sequential(*made, dtype=F64)
    nn.Sequential(*made)  # it stays
    with pytest.raises(ValueError, match="has float64, got float32"):
        nn.Sequential(*made, dtype=np.float32)


def test_layers_that_have_run_are_converted_too() -> None:
    made, fresh = nn.Sequential(*layers()), nn.Sequential(*layers(), dtype=F64)
    state, x = made.state_dict(), numbers((9, 4)).astype(np.float32)
    opt = nf.optim.SGD(made.params)
    made.backward(made.forward(x, training=True))
    made.load_state_dict(state)
    net = nn.Sequential(made, dtype=F64)
    for layer in (made, made[0], made[3], net):
        with pytest.raises(RuntimeError, match="backward must follow forward"):
            layer.backward(np.ones((9, 3)))
    for one, other in zip(trained(net), trained(fresh), strict=True):
        assert_same_bits(one, other)
    with pytest.raises(TypeError, match="float32, got float64"):
        opt.step(net.grads)  # it holds the arrays that there were before


def test_layers_with_calls_of_their_own_are_converted_too() -> None:
    class Negated(nn.Dense):
        def forward(self, x: Any, training: bool = False) -> Any:
            return -super().forward(x, training)

        def backward(self, dy: Any) -> Any:
            return super().backward(-dy)

    def made(dtype: Any = None) -> nn.Sequential:
        branch = Negated(4, 4, dtype=dtype, rng=1)
        return nn.Sequential(nn.StochasticDepth(branch, 0.3, rng=2))

    inner = made()
    net, each = nn.Sequential(inner, dtype=F64), nn.Sequential(made(F64))
    assert {array.dtype for array in arrays_of(net).values()} == {np.dtype(F64)}
    for params in (net.params, inner.params):
        assert [id(a) for a in params] == [id(a) for a in net.named_params().values()]
    each.load_state_dict(net.state_dict())
    for one, other in zip(trained(net), trained(each), strict=True):
        assert_same_bits(one, other)


def test_a_dtype_from_another_network_is_noticed() -> None:
    """The optimizer of a network whose layers were converted by another one would step arrays that nobody uses."""
    shared, x = nn.Dense(4, 4, rng=0), numbers((5, 4)).astype(np.float32)
    first = nn.Sequential(shared, nn.Tanh(), nn.Dense(4, 3, rng=1))
    before = first.forward(x)
    nn.Sequential(nn.Sequential(shared), dtype=F64)
    np.testing.assert_allclose(first.forward(x), before, rtol=1e-6)
    for use in (lambda: first.params, lambda: first.grads):
        with pytest.raises(
            ValueError, match=r"another network has given Dense\(4, 4\) float64 for"
        ):
            use()


def test_a_shallow_copy_keeps_its_arrays() -> None:
    layer = nn.BatchNorm(4)
    copied, gamma = copy.copy(layer), layer.gamma
    nn.Sequential(layer, dtype=F64)
    assert copied.gamma is gamma
    assert copied.running_var.dtype == np.float32
    assert layer.gamma.dtype == layer.running_var.dtype == F64


def test_networks_without_parameters_take_a_dtype_too() -> None:
    relu, x = nn.ReLU(), np.ones((2, 3), np.float32)
    assert nn.Sequential(relu, dtype=F64).forward(x).dtype == F64
    assert nn.Sequential(Doubled(), dtype=np.float32).forward(x.astype(F64)).dtype == np.float32
    assert relu.forward(x).dtype == nn.Sequential(relu).forward(x).dtype == np.float32


# ---- output ----

OUTPUTS = {
    "Softmax": (nn.Softmax(), nf.softmax, "Softmax()"),
    "Sigmoid": (nn.Sigmoid(), nf.sigmoid, "Sigmoid()"),
    "Sequential": (
        nn.Sequential(nn.Tanh(), nn.Softmax()),
        lambda z: nf.softmax(np.tanh(z)),
        "Sequential(Tanh(), Softmax())",
    ),
    "softmax": (nf.softmax, nf.softmax, "softmax"),
    "sigmoid": (nf.sigmoid, nf.sigmoid, "sigmoid"),
    "argmax": (np.argmax, np.argmax, "argmax"),
}
every_output = pytest.mark.parametrize(
    ("output", "function", "name"), OUTPUTS.values(), ids=OUTPUTS
)


def small(output: Any = None) -> nn.Sequential:
    return nn.Sequential(
        nn.Dense(4, 5, rng=0), nn.BatchNorm(5), nn.ReLU(), nn.Dense(5, 3, rng=1), output=output
    )


@every_output
def test_predict_applies_the_output_and_nothing_else_does(
    output: Any, function: Any, name: str, tmp_path: Path
) -> None:
    net, plain, x = small(output), small(), numbers((6, 4)).astype(np.float32)
    assert net.output is output
    for each in (net, plain):
        z = each.forward(x, training=True)
        each.backward(z)
    for one, other in zip(
        [z, net.forward(x), net(x), *net.grads],
        [z, plain.forward(x), plain(x), *plain.grads],
        strict=True,
    ):
        assert_same_bits(one, other)
    expected = function(plain.forward(x))
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-6)
    assert repr(net) == f"{repr(plain)[:-1]}, output={name})"
    assert net.summary(4).splitlines()[-2].split() == ["output", *name.split(), "0"]
    assert net.summary(4).splitlines()[-1].split() == plain.summary(4).splitlines()[-1].split()
    # The state is that of the layers.
    assert net.state_dict().keys() == plain.state_dict().keys()
    plain.save(tmp_path / "net.npz")
    net.load(tmp_path / "net.npz")
    joblib.dump(net, tmp_path / "net.joblib")
    for copied in (
        copy.deepcopy(net),
        copy.copy(net),
        pickle.loads(pickle.dumps(net)),
        joblib.load(tmp_path / "net.joblib"),
    ):
        assert_same_bits(np.asarray(copied.predict(x)), np.asarray(net.predict(x)))


def test_without_an_output_predict_is_forward() -> None:
    net, x = small(), numbers((6, 4))
    assert net.output is None
    assert_same_bits(net.predict(x), net.forward(x))


def test_predict_in_float64_and_of_indices() -> None:
    net = of_words()
    y = net.predict(np.arange(12).reshape(4, 3) % 7)
    assert y.dtype == F64
    np.testing.assert_allclose(y.sum(axis=1), 1)


def test_outputs_within_a_network_are_not_applied() -> None:
    inner, x = small(nn.Softmax()), numbers((6, 4))
    outer = nn.Sequential(inner, output=nn.Sigmoid())
    assert_same_bits(outer.forward(x), small().forward(x))
    assert_same_bits(outer.predict(x), nf.sigmoid(small().forward(x)))


def test_the_output_can_be_set_and_is_checked() -> None:
    net = small()
    net.output = nn.Softmax()
    assert repr(net).endswith("output=Softmax())")
    for wrong, error, message in (
        (3, TypeError, "output must be a Layer or a function, got 3"),
        (nn.Softmax, TypeError, "output must be a Layer or a function, got Softmax"),
        (nn.PReLU(), ValueError, r"output must be without parameters.*, got PReLU\(1\)"),
        (nn.Sequential(nn.Dense(3, 3)), ValueError, "output must be without parameters"),
    ):
        with pytest.raises(error, match=message):
            net.output = wrong
        with pytest.raises(error, match=message):
            small(wrong)
        assert isinstance(net.output, nn.Softmax)
    net.output = None
    assert_same_bits(net.predict(numbers((6, 4))), net.forward(numbers((6, 4))))


class Failing(nn.Layer):
    """A layer of one's own that cannot say its parameters."""

    def named_params(self) -> dict[str, Any]:
        raise RuntimeError("boom")


def test_an_error_of_a_layer_of_ones_own_leaves_the_others() -> None:
    dense = nn.Dense(3, 2)
    with pytest.raises(RuntimeError, match="boom"):
        nn.Sequential(dense, Failing(), dtype=np.float64)
    assert dense.weight.dtype == np.float32


def test_backward_says_that_another_network_converted_a_layer() -> None:
    dense = nn.Dense(3, 2)
    net = nn.Sequential(dense, nn.ReLU())
    net.forward(np.ones((4, 3), np.float32), training=True)
    nn.Sequential(dense, dtype=np.float64)
    with pytest.raises(ValueError, match="another network has given"):
        net.backward(np.ones((4, 2), np.float32))


def test_first_weights_are_the_layers_alone() -> None:
    given = np.full((3, 2), 7, np.float32)
    for layer in (
        nn.Embedding(3, 2, padding_idx=1, init=lambda shape, **_: given),
        nn.Dense(3, 2, init=lambda shape, **_: given),
    ):
        assert not np.shares_memory(layer.weight, given)
    assert (given == 7).all()
    nn.Embedding(3, 2, padding_idx=1, init=lambda shape, **_: np.broadcast_to(np.float32(1), shape))


def test_a_network_is_not_its_own_output() -> None:
    net = nn.Sequential(nn.ReLU())
    with pytest.raises(ValueError, match="output must be another layer"):
        net.output = net
