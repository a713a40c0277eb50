"""What is saved is the whole state of a run: generators, settings, counts; and what cannot be is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from layouts import assert_same_bits
from networks import every_network, everything, inputs, numbers
from nnfast import nn

Way = Callable[[Any, Any, Path], None]


def by_dict(first: Any, second: Any, folder: Path) -> None:
    second.load_state_dict(first.state_dict())


def by_file(first: Any, second: Any, folder: Path) -> None:
    first.save(folder / "state.npz")
    second.load(folder / "state.npz")


every_way = pytest.mark.parametrize("way", [by_dict, by_file])


# ---- generators ----


def steps(net: nn.Sequential, opt: Any, seeds: range, sample: tuple[int, ...] = (2, 3)) -> None:
    for seed in seeds:
        x = inputs(net, (5, *sample), seed)
        net.backward(net.forward(x, training=True))
        opt.step(net.grads)


@every_way
@every_network
def test_30_steps_are_15_and_15(
    way: Way, make: Any, sample: tuple[int, ...], tmp_path: Path
) -> None:
    """With layers that have a generator of their own: dropout, fused or not, residual branches, dropped weights."""
    net, first, second = make(), make(), make()
    opts = [nf.optim.Adam(each.params, lr=1e-3) for each in (net, first, second)]
    steps(net, opts[0], range(30), sample)
    steps(first, opts[1], range(15), sample)
    way(first, second, tmp_path)
    way(opts[1], opts[2], tmp_path)
    steps(second, opts[2], range(15, 30), sample)
    for name, array in net.state_dict().items():
        if array.dtype.kind == "U":
            assert str(second.state_dict()[name]) == str(array)
        else:
            assert_same_bits(second.state_dict()[name], array)


def test_names_of_generators() -> None:
    names = ["4.rng", "5.branch.2.rng", "5.rng", "6.0.rng", "16.rng"]
    assert sorted(everything().named_generators()) == sorted(names)
    text = everything().state_dict()["4.rng"]
    assert json.loads(str(text))["bit_generator"] == "PCG64"


def test_a_generator_that_was_given_is_the_callers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Dense(3, 3, rng=rng), nn.Dropout(rng=rng))
    state = rng.bit_generator.state
    assert not [name for name in net.state_dict() if name.endswith("rng")]
    own = nn.Sequential(nn.Dense(3, 3, rng=0), nn.Dropout(rng=1))
    by_file(own, net, tmp_path)
    assert rng.bit_generator.state == state
    by_file(net, own, tmp_path)  # as of version 0.1: the layer's stays as it is


class Noisy(nn.Layer):
    """A layer of the user's that draws by a generator of its own."""

    def __init__(self, bit_generator: Any) -> None:
        self.rng = np.random.Generator(bit_generator)

    def named_generators(self) -> dict[str, np.random.Generator]:
        return {"noise": self.rng}

    def forward(self, x: Any, training: bool = False) -> Any:
        return x + self.rng.standard_normal(x.shape)

    def backward(self, dy: Any) -> Any:
        return dy


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
@every_way
def test_every_bit_generator_of_numpy(kind: str, way: Way, tmp_path: Path) -> None:
    first, second = (nn.Sequential(Noisy(getattr(np.random, kind)(i))) for i in range(2))
    first.forward(np.zeros((3, 1)))
    first[0].rng.integers(5, dtype=np.uint8)  # half a number is left over
    way(first, second, tmp_path)
    x = np.zeros((3, 1))
    assert_same_bits(second.forward(x), first.forward(x))
    assert first[0].rng.integers(2**20, dtype=np.uint32) == second[0].rng.integers(
        2**20, dtype=np.uint32
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"1.rng": np.array("no JSON")}, r"state\['1.rng'\] must be the state of a generator"),
        ({"1.rng": np.array('{"bit_generator": "PCG64"}')}, "must be the state of a generator"),
        ({"1.rng": np.array('{"bit_generator": "os"}')}, "must be the state of a generator"),
        ({"1.rng": np.array('["a"]')}, "must be the state of a generator"),
        ({"9.rng": np.array("no JSON")}, r"state\['9.rng'\] must be the state of a generator"),
        ({"more": np.array("text")}, "state has more"),
        ({"0.num_batches_tracked": np.array(-1)}, "num_batches_tracked'] must not be negative"),
    ],
)
def test_states_of_networks_that_are_none(changes: Any, message: str, tmp_path: Path) -> None:
    net = nn.Sequential(nn.BatchNorm(3, momentum=None), nn.Dropout(rng=0))
    net.forward(numbers((4, 3)), training=True)
    before = net.state_dict()
    state = net.state_dict() | changes
    np.savez(tmp_path / "net.npz", **state)
    for load in (lambda: net.load_state_dict(state), lambda: net.load(tmp_path / "net.npz")):
        with pytest.raises(ValueError, match=message):
            load()
    for name, array in net.state_dict().items():
        assert array.tolist() == before[name].tolist()


def test_a_state_of_another_bit_generator() -> None:
    net = nn.Sequential(Noisy(np.random.MT19937(0)))
    with pytest.raises(ValueError, match="must be the state of a MT19937, got that of a PCG64"):
        net.load_state_dict(nn.Sequential(Noisy(np.random.PCG64(0))).state_dict())


# ---- settings ----

RULES = [
    "SGD",
    "Adagrad",
    "Adadelta",
    "RMSprop",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "Lion",
    "AdaBelief",
    "Yogi",
    "Adan",
    "Rprop",
    "ASGD",
    "Ftrl",
    "LAMB",
    "LARS",
]
SETTINGS: dict[str, Any] = {
    "lr": 0.25,
    "momentum": 0.5,
    "dampening": 0.25,
    "weight_decay": 0.125,
    "lr_decay": 0.5,
    "eps": 0.01,
    "rho": 0.75,
    "alpha": 0.75,
    "betas": (0.5, 0.75),
    "momentum_decay": 0.25,
    "decoupled_weight_decay": True,
}


def arrays() -> list[Any]:
    return [np.ones(3), np.ones(2, np.float32)]


def run(opt: Any, seeds: range) -> list[Any]:
    for seed in seeds:
        opt.step([numbers((3,), seed), numbers((2,), seed).astype(np.float32)])
    return [param.copy() for param in opt.params]


@pytest.mark.parametrize("kind", RULES)
@every_way
def test_settings_are_restored(kind: str, way: Way, tmp_path: Path) -> None:
    make = getattr(nf.optim, kind)
    own = {name: value for name, value in SETTINGS.items() if name in make.defaults["torch"]}
    options: dict[str, Any] = {
        "maximize": True,
        "skip_nonfinite": True,
        "clip_norm": 0.5,
        "ema_decay": 0.5,
    }
    momentum = {"momentum": 0.9} if "momentum" in own else {}
    first = make(arrays(), **own, **options)
    second = make(arrays(), **momentum, ema_decay=0.9)
    run(first, range(2))
    way(first, second, tmp_path)
    for name, value in own.items():
        assert getattr(second, name) == value
        assert type(getattr(second, name)) is type(getattr(first, name))
    for mine, theirs in zip(second.params, first.params, strict=True):
        mine[...] = theirs
    for a, b in zip(run(second, range(2, 4)), run(first, range(2, 4)), strict=True):
        assert_same_bits(a, b)
    for a, b in zip(second.averaged_params(), first.averaged_params(), strict=True):
        assert_same_bits(a, b)


@every_way
def test_settings_of_groups_are_restored(way: Way, tmp_path: Path) -> None:
    def make(**own: Any) -> Any:
        w, b = arrays()
        return nf.optim.Adam([{"params": [w], **own}, {"params": [b]}])

    first, second = make(lr=0.5, betas=(0.5, 0.5)), make(weight_decay=0.5)
    group = second.groups[0]
    way(first, second, tmp_path)
    assert second.groups == [{"lr": 0.5, "betas": (0.5, 0.5)}, {}]
    assert second.groups[0] is group
    for other in (nf.optim.Adam(arrays()), nf.optim.Adam([{"params": arrays()}])):
        before = other.state_dict()
        with pytest.raises(ValueError, match="as many groups of as many parameters"):
            other.load_state_dict(first.state_dict())
        assert str(other.state_dict()["settings"]) == str(before["settings"])
        other.load_state_dict(first.state_dict(), keep_settings=True)


@pytest.mark.parametrize("make", [nf.optim.SGD, nf.averaging.EMA])
def test_the_callers_settings_are_kept_on_demand(make: Any, tmp_path: Path) -> None:
    name, value = ("lr", 0.5) if make is nf.optim.SGD else ("decay", 0.5)
    first, second = make([np.ones(2)], **{name: 0.25}), make([np.ones(2)], **{name: value})
    first.save(tmp_path / "state.npz")
    second.load(tmp_path / "state.npz", keep_settings=True)
    assert getattr(second, name) == value
    second.load_state_dict(first.state_dict(), keep_settings=True)
    assert getattr(second, name) == value
    second.load(tmp_path / "state.npz")
    assert getattr(second, name) == 0.25


def test_conventions_are_restored() -> None:
    first, second = (
        nf.optim.SGD(arrays(), convention="cs231n"),
        nf.optim.SGD(arrays(), momentum=0.5),
    )
    second.load_state_dict(first.state_dict())
    assert (second.convention, second.momentum) == ("cs231n", 0.9)
    for a, b in zip(run(first, range(3)), run(second, range(3)), strict=True):
        assert_same_bits(a, b)


def test_states_without_settings_leave_them() -> None:
    opt = nf.optim.Adam(arrays(), lr=0.5)
    state = nf.optim.Adam(arrays()).state_dict()
    del state["settings"], state["skipped_count"]  # as version 0.1 saved them
    opt.load_state_dict(state)
    assert opt.lr == 0.5


def changed(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(state: dict[str, Any]) -> dict[str, Any]:
        settings = json.loads(str(state["settings"])) | changes
        return state | {"settings": np.array(json.dumps(settings))}

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (changed(lr=-1.0), ValueError, "'lr'.* must not be negative"),
        (changed(lr="x"), TypeError, "'lr'.* must be a real number"),
        (changed(lr=None), TypeError, "'lr'.* must be a real number"),
        (changed(betas=[0.5]), TypeError, "betas.* must be two numbers"),
        (changed(more=1), ValueError, "has 'more'"),
        (changed(maximize=1), TypeError, "maximize must be a bool"),
        (changed(convention="none"), ValueError, "convention must be"),
        (changed(clip_value=1.0, clip_norm=1.0), ValueError, "exclude each other"),
        (changed(clip_value=-1.0), ValueError, "clip_value must be positive"),
        (changed(ema_decay=0.5), ValueError, "must have ema_decay"),
        (changed(amsgrad=True), ValueError, "must be those of adam, got"),
        (changed(groups=[{"params": 2}]), ValueError, "as many groups"),
        (changed(groups=3), TypeError, "groups must be a list"),
        (lambda s: s | {"settings": np.array("{")}, ValueError, "must be an object in JSON"),
        (lambda s: s | {"settings": np.array(3.0)}, ValueError, "must be an object in JSON"),
        (lambda s: s | {"step_count": np.array(-5)}, ValueError, r"'step_count'\] must not be neg"),
        (lambda s: s | {"skipped_count": np.array(-5)}, ValueError, "must not be negative"),
    ],
)
def test_settings_that_do_not_fit_change_nothing(
    change: Any, error: Any, message: str, tmp_path: Path
) -> None:
    opt = nf.optim.Adam(arrays(), lr=0.5)
    run(opt, range(2))
    before, attributes = opt.state_dict(), dict(vars(opt))
    state = change(nf.optim.Adam(arrays()).state_dict())
    np.savez(tmp_path / "state.npz", **state)
    for load in (lambda: opt.load_state_dict(state), lambda: opt.load(tmp_path / "state.npz")):
        with pytest.raises(error, match=message):
            load()
        assert vars(opt) == attributes
        for name, array in opt.state_dict().items():
            assert array.tolist() == before[name].tolist()


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (
            lambda: nf.optim.SGD(arrays(), ema_decay=0.5),
            {"ema_weight": np.array(2.0)},
            "ema_weight",
        ),
        (
            lambda: nf.optim.SGD(arrays(), ema_decay=0.5),
            {"ema_weight": np.array(np.nan)},
            "in .0, 1",
        ),
        (lambda: nf.optim.NAdam(arrays()), {"mu_product": np.array([-1.0])}, "mu_product"),
        (lambda: nf.averaging.EMA(arrays()), {"update_count": np.array(-1)}, "update_count"),
        (lambda: nf.averaging.EMA(arrays()), {"weight": np.array(-1.0)}, "weight"),
        (lambda: nf.averaging.EMA(arrays()), {"settings": np.array('{"decay": 1}')}, "decay"),
        (
            lambda: nf.averaging.EMA(arrays()),
            {"settings": np.array('{"lr": 1}')},
            "must have decay",
        ),
        (lambda: nf.averaging.SWA(arrays()), {"update_count": np.array(-1)}, "update_count"),
        (lambda: nf.averaging.SWA(arrays()), {"settings": np.array("{}")}, "state has settings"),
    ],
)
def test_numbers_of_a_state_are_checked(make: Any, changes: Any, message: str) -> None:
    resumable = make()
    before = resumable.state_dict()
    with pytest.raises(ValueError, match=message):
        resumable.load_state_dict(make().state_dict() | changes)
    assert {n: a.tolist() for n, a in resumable.state_dict().items()} == {
        n: a.tolist() for n, a in before.items()
    }


def test_steps_that_were_skipped_are_counted_on() -> None:
    first, second = (nf.optim.SGD([np.ones(1)], skip_nonfinite=True) for _ in range(2))
    first.step([np.array([np.nan])])
    second.load_state_dict(first.state_dict())
    assert second.skipped_count == 1


def test_a_thousand_groups_fit_into_a_file(tmp_path: Path) -> None:
    def make() -> Any:
        return nf.optim.Adam([{"params": [np.ones(1)], "lr": 1 / (i + 1)} for i in range(1000)])

    first, second = make(), make()
    second.groups[7]["lr"] = 3.0
    by_file(first, second, tmp_path)
    assert second.groups == first.groups


# ---- averages and checkpoints of networks with generators ----


def test_averages_leave_the_states_of_generators_out(tmp_path: Path) -> None:
    nets = [nn.Sequential(nn.Dense(2, 2, rng=i), nn.Dropout(rng=i)) for i in range(2)]
    paths = []
    for i, net in enumerate(nets):
        net.save(tmp_path / f"{i}.npz")
        paths.append(tmp_path / f"{i}.npz")
    for checkpoints in (paths, [net.state_dict() for net in nets]):
        mean: Any = nf.averaging.mean_of_checkpoints(checkpoints)
        assert list(mean) == ["0.weight", "0.bias"]
        nets[0].load_state_dict(mean)
    average = nf.averaging.EMA(nets[0].state_dict())
    average.update(nets[1].state_dict())
    assert_same_bits(average.averages()["0.weight"], nets[1][0].weight)


# ---- copies of parameters are no place to write to ----


def averages(params: Any) -> list[Any]:
    made: list[Any] = [nf.averaging.EMA(params), nf.averaging.SWA(params)]
    for average in made:
        average.update(params)
    return made


def test_averages_are_not_written_to_copies() -> None:
    net = nn.Sequential(nn.Dense(2, 2, rng=0))
    for average in averages(net.named_params()):
        for write in (lambda s, a=average: a.applied(s).__enter__(), average.copy_to):
            state = net.state_dict()
            before = {name: array.copy() for name, array in state.items()}
            with pytest.raises(
                ValueError, match="params must be the arrays of the network themselves"
            ):
                write(state)
            for name, array in state.items():
                assert_same_bits(array, before[name])
        with average.applied(net.named_params()):
            pass
        with average.applied({name: array.copy() for name, array in net.named_params().items()}):
            pass


@pytest.mark.parametrize("kind", RULES)
def test_optimizers_do_not_train_copies(kind: str) -> None:
    net = nn.Sequential(nn.Dense(2, 2, rng=0))
    for params in (net.state_dict(), [{"params": net.state_dict()}]):
        with pytest.raises(ValueError, match="must be the arrays of the network themselves"):
            getattr(nf.optim, kind)(params)
