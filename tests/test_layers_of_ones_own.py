"""Arrays of layers are set in place; those of a layer of the user's own stay the same, or an error says so."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from layouts import assert_same_bits
from networks import Doubled, numbers
from nnfast import nn

# ---- setting parameters and statistics ----

SETTABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "Dense.weight": (lambda: nn.Dense(3, 4, rng=0), "weight"),
    "Dense.bias": (lambda: nn.Dense(3, 4, rng=0), "bias"),
    "DropConnect.weight": (lambda: nn.DropConnect(3, 4, rng=0), "weight"),
    "DropConnect.bias": (lambda: nn.DropConnect(3, 4, rng=0), "bias"),
    "BatchNorm.gamma": (lambda: nn.BatchNorm(3), "gamma"),
    "BatchNorm.beta": (lambda: nn.BatchNorm(3), "beta"),
    "BatchNorm.running_mean": (lambda: nn.BatchNorm(3), "running_mean"),
    "BatchNorm.running_var": (lambda: nn.BatchNorm(3), "running_var"),
    "BatchNorm.num_batches_tracked": (
        lambda: nn.BatchNorm(3, momentum=None),
        "num_batches_tracked",
    ),
    "Conv2d.weight": (lambda: nn.Conv2d(3, 4, 2, rng=0), "weight"),
    "Conv2d.bias": (lambda: nn.Conv2d(3, 4, 2, rng=0), "bias"),
    "Conv1d.weight": (lambda: nn.Conv1d(3, 4, 2, rng=0), "weight"),
    "Conv1d.bias": (lambda: nn.Conv1d(3, 4, 2, rng=0), "bias"),
    "LayerNorm.gamma": (lambda: nn.LayerNorm((2, 3)), "gamma"),
    "LayerNorm.beta": (lambda: nn.LayerNorm((2, 3)), "beta"),
    "RMSNorm.gamma": (lambda: nn.RMSNorm(3), "gamma"),
    "GroupNorm.gamma": (lambda: nn.GroupNorm(1, 3), "gamma"),
    "GroupNorm.beta": (lambda: nn.GroupNorm(1, 3), "beta"),
    "InstanceNorm.gamma": (lambda: nn.InstanceNorm(3), "gamma"),
    "InstanceNorm.beta": (lambda: nn.InstanceNorm(3), "beta"),
    "Embedding.weight": (lambda: nn.Embedding(3, 4, rng=0), "weight"),
    "PReLU.weight": (lambda: nn.PReLU(3), "weight"),
    "ELU.alpha": (lambda: nn.ELU(learn_alpha=True), "alpha"),
}
every_settable = pytest.mark.parametrize(("make", "name"), SETTABLE.values(), ids=SETTABLE.keys())


def arrays_of(layer: nn.Layer) -> dict[str, Any]:
    return layer.named_params() | layer.named_statistics()


def test_every_array_of_every_layer_can_be_set() -> None:
    for make, name in SETTABLE.values():
        assert name in arrays_of(make())
    layers = {type(make()) for make, _ in SETTABLE.values()}
    names = {(type(make()), name) for make, name in SETTABLE.values()}
    learned = [
        nn.Dense(3, 4),
        nn.DropConnect(3, 4),
        nn.BatchNorm(3, momentum=None),
        nn.Conv2d(3, 4, 2),
        nn.Conv1d(3, 4, 2),
        nn.LayerNorm((2, 3)),
        nn.RMSNorm(3),
        nn.GroupNorm(1, 3),
        nn.InstanceNorm(3),
        nn.Embedding(3, 4),
        nn.PReLU(3),
        nn.ELU(learn_alpha=True),
    ]
    assert {(type(layer), name) for layer in learned for name in arrays_of(layer)} == names
    assert {type(layer) for layer in learned} == layers


@every_settable
def test_arrays_are_set_in_place(make: Callable[[], Any], name: str) -> None:
    net = nn.Sequential(make())
    array = getattr(net[0], name)
    before = array.copy()
    one = np.ones((), array.dtype)
    step = getattr(net[0], name)
    step += one
    setattr(net[0], name, step)  # what layer.weight += 1 is
    assert getattr(net[0], name) is array
    assert_same_bits(array, before + one)
    given = np.full(array.shape, 2.0 if array.dtype.kind == "f" else 2)
    setattr(net[0], name, given)
    assert getattr(net[0], name) is array is arrays_of(net)[f"0.{name}"]
    assert_same_bits(array, given.astype(array.dtype))
    given += 1  # it was copied
    assert (array == 2).all()
    setattr(net[0], name, given.tolist())
    assert (array == 3).all()
    state = net.state_dict()
    state[f"0.{name}"] += one
    net.load_state_dict(state)
    assert (array == 4).all()


@every_settable
def test_invalid_values_change_nothing(make: Callable[[], Any], name: str) -> None:
    layer = make()
    array = getattr(layer, name)
    before = array.copy()
    wrong: list[tuple[Any, type[Exception]]] = [
        (np.ones((*array.shape, 2), array.dtype), ValueError),
        (np.ones(7, array.dtype), ValueError),
        (np.full(array.shape, 1j), TypeError),
        (np.full(array.shape, "1"), TypeError),
        (np.full(array.shape, None), TypeError),
        ([[1], [2, 3]], ValueError),
    ]
    if array.dtype.kind == "i":
        wrong += [(np.ones(array.shape), TypeError), (np.full(array.shape, -1), ValueError)]
    if array.shape != ():
        wrong.append((1.0, ValueError))
    for value, error in wrong:
        with pytest.raises(error, match=name):
            setattr(layer, name, value)
        assert getattr(layer, name) is array
        assert_same_bits(array, before)
    array.flags.writeable = False
    with pytest.raises(ValueError, match=f"{name} must be writeable"):
        setattr(layer, name, before)


def test_arrays_that_a_layer_lacks_cannot_be_set() -> None:
    plain, averaging, fixed = nn.Dense(2, 2, bias=False), nn.BatchNorm(2), nn.ELU(0.5)
    plain.bias = None
    averaging.num_batches_tracked = None
    with pytest.raises(ValueError, match="bias must be None"):
        plain.bias = np.zeros(2)
    with pytest.raises(ValueError, match="num_batches_tracked must be None"):
        averaging.num_batches_tracked = 3  # type: ignore[assignment]
    with pytest.raises(AttributeError, match="alpha must be learned"):
        fixed.alpha = 1.0
    assert fixed.alpha == 0.5


def test_weights_that_were_set_are_trained() -> None:
    net = nn.Sequential(nn.Dense(3, 4, rng=0), nn.ReLU(), nn.BatchNorm(4), nn.ReLU())
    opt = nf.optim.SGD(net.params, lr=0.5)
    net[0].weight -= 0.1
    net[0].bias = np.ones(4)
    w, b = net[0].weight.copy(), net[0].bias.copy()
    net.backward(net.forward(numbers((5, 3)), training=True))
    opt.step(net.grads)
    assert_same_bits(net[0].weight, w - np.float32(0.5) * net[0].named_grads()["weight"])
    assert_same_bits(net[0].bias, b - np.float32(0.5) * net[0].named_grads()["bias"])


def test_an_overlapping_value_is_read_first() -> None:
    layer = nn.Dense(3, 3, rng=0)
    before = layer.weight.copy()
    layer.weight = layer.weight.T
    assert_same_bits(layer.weight, before.T)


# ---- settings that may change ----


@pytest.mark.parametrize(
    "make",
    [
        lambda p: nn.Dropout(p, rng=0),
        lambda p: nn.Dropout(p, mode="vanilla", rng=0),
        lambda p: nn.StochasticDepth(nn.Tanh(), p, rng=0),
        lambda p: nn.DropConnect(6, 6, p, rng=0),
        lambda p: nn.Sequential(nn.Dense(6, 6, rng=1), nn.ReLU(), nn.Dropout(p, rng=0)),
    ],
)
def test_a_changed_probability_holds_from_the_next_step(make: Any) -> None:
    changed, other, x = make(0.5), make(0.25), numbers((8, 6)).astype(np.float32)
    layer = changed[2] if isinstance(changed, nn.Sequential) else changed
    layer.p = 0.25
    for each in (changed, other):
        each.y = np.array(each.forward(x, training=True))
    assert_same_bits(changed.y, other.y)
    layer.p = 0.75  # a pass that is under way ends as it began
    assert_same_bits(*(np.array(each._input_gradient(each.y)) for each in (changed, other)))
    for wrong, error in ((1.5, ValueError), (np.nan, ValueError), ("x", TypeError)):
        with pytest.raises(error, match="p must be"):
            layer.p = wrong
        assert layer.p == 0.75


def test_arguments_of_a_network_cannot_change() -> None:
    net = nn.Sequential(nn.Dense(2, 2), nn.ReLU(), nn.Dropout(0.5))
    with pytest.raises(AttributeError):
        net[2].mode = "vanilla"
    with pytest.raises(AttributeError):
        nn.StochasticDepth(nn.ReLU()).mode = "batch"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        net.layers = (nn.ReLU(),)  # type: ignore[misc]


# ---- layers that assign new arrays ----


class Assigns(Doubled):
    """Assigns its gradient, as one does in NumPy."""

    def backward(self, dy: Any) -> Any:
        self.dfactor = np.array([(dy * self.x).sum()])
        return dy * self.factor


class Replaces(Doubled):
    """Assigns its parameter."""

    def forward(self, x: Any, training: bool = False) -> Any:
        self.factor = np.clip(self.factor, 0, 10)
        return super().forward(x, training)


class GivesCopies(Doubled):
    """Has new gradients at every call."""

    def named_grads(self) -> Any:
        return {"factor": self.dfactor.copy()}


class Late(Doubled):
    """Has its parameter from the first batch on."""

    def named_params(self) -> Any:
        return {"factor": self.factor} if self.x.size else {}


class GivesViews(Doubled):
    """Has new views of the same memory at every call: those are the same arrays."""

    def named_params(self) -> Any:
        return {"factor": self.factor[:]}

    def named_grads(self) -> Any:
        return {"factor": self.dfactor[:]}


WRONG = [
    (Assigns, r"named_grads .* 'factor' is a new one: write into .*\[\.\.\.\] = "),
    (Replaces, "named_params .* 'factor' is a new one"),
    (GivesCopies, "named_grads .* 'factor' is a new one"),
    (Late, "named_params .* 'factor' came or went: make all of them in __init__"),
]
every_wrong = pytest.mark.parametrize(("kind", "message"), WRONG)
WITHIN: list[Callable[[nn.Layer], nn.Sequential]] = [
    lambda layer: nn.Sequential(layer),
    lambda layer: nn.Sequential(nn.Tanh(), nn.Sequential(nn.Tanh(), layer)),
    lambda layer: nn.Sequential(nn.StochasticDepth(layer, 0.0)),
    lambda layer: nn.Sequential(nn.StochasticDepth(nn.Sequential(layer), 0.0), nn.Tanh()),
]


@every_wrong
@pytest.mark.parametrize("within", WITHIN)
def test_new_arrays_are_noticed_in_the_first_step(kind: Any, message: str, within: Any) -> None:
    net = within(kind())
    y = net.forward(numbers((4, 3)), training=True)
    with pytest.raises(ValueError, match=rf"layers\[[\d.]+\], {kind.__name__}: {message}"):
        net.backward(y)


@every_wrong
def test_gradient_check_notices(kind: Any, message: str) -> None:
    x, y = numbers((4, 3)), numbers((4, 3), 1)
    for net in (kind(), nn.Sequential(kind(), nn.Tanh())):
        with pytest.raises(ValueError, match=message):
            nf.checks.gradient_check(net, x, y, loss=nf.mse_loss)


def test_a_parameter_replaced_by_hand_is_noticed() -> None:
    layer = Doubled()
    net = nn.Sequential(layer)
    layer.factor = np.full(1, 3.0)
    for asked in (lambda: net.params, lambda: net.grads):
        with pytest.raises(ValueError, match="'factor' is a new one"):
            asked()


def test_views_of_the_same_memory_are_the_same_arrays() -> None:
    net = nn.Sequential(GivesViews())
    opt = nf.optim.SGD(net.params, lr=0.1)
    net.backward(net.forward(np.ones((2, 1)), training=True))
    opt.step(net.grads)
    assert_same_bits(net[0].factor, np.full(1, 1.6))


def test_gradients_go_by_name() -> None:
    class Two(nn.Layer):
        def __init__(self) -> None:
            self.a, self.b, self.da, self.db = (np.full(1, float(i)) for i in range(4))

        def named_params(self) -> Any:
            return {"a": self.a, "b": self.b}

        def named_grads(self) -> Any:
            return {"b": self.db, "a": self.da}

    layer = Two()
    for net in (layer, nn.Sequential(layer)):
        assert net.grads[0] is layer.da
        assert net.grads[1] is layer.db


def test_layers_of_nnfast_are_not_checked_for_new_arrays() -> None:
    net = nn.Sequential(
        nn.Dense(2, 2), nn.StochasticDepth(nn.Dense(2, 2)), nn.Sequential(nn.PReLU())
    )
    assert net._plan.foreign == []
