"""Whatever copies or serialises objects gives what trains on to the same bits: arrays that are one stay one."""

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import nnfast as nf
from layouts import assert_same_bits
from networks import Doubled, every_network, everything, inputs, numbers
from nnfast import nn, normalization
from nnfast.estimators import training
from optim_rules import Rule, every_kernel

Way = Callable[[Any, Path], Any]
Array = np.ndarray[Any, Any]
KEPT = Path(__file__).parent / "kept" / "0.1"


# ---- ways to copy ----


def by_joblib(thing: Any, folder: Path, **options: Any) -> Any:
    joblib.dump(thing, folder / "thing.joblib", compress=options.pop("compress", 0))
    return joblib.load(folder / "thing.joblib", **options)


def by_memory(thing: Any, folder: Path) -> Any:
    cached = joblib.Memory(folder, verbose=0).cache(_same)
    cached(thing)
    assert cached.check_call_in_cache(thing)
    return cached(thing)


def _same(thing: Any) -> Any:
    return thing


def by_messages(thing: Any, folder: Path) -> Any:
    """As Dask sends it: the arrays outside of the pickle, and read-only."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(text, buffers=[bytes(buffer) for buffer in buffers])


WAYS: dict[str, Way] = {
    "deepcopy": lambda thing, folder: copy.deepcopy(thing),
    **{
        f"pickle {protocol}": lambda thing, folder, protocol=protocol: pickle.loads(
            pickle.dumps(thing, protocol)
        )
        for protocol in (2, 5)
    },
    "messages": by_messages,
    "cloudpickle": lambda thing, folder: pickle.loads(cloudpickle.dumps(thing)),
    "joblib": by_joblib,
    "joblib compressed": lambda thing, folder: by_joblib(thing, folder, compress=1),
    "joblib read-only": lambda thing, folder: by_joblib(thing, folder, mmap_mode="r"),
    "joblib copy-on-write": lambda thing, folder: by_joblib(thing, folder, mmap_mode="c"),
    "joblib.Memory": by_memory,
    "twice": lambda thing, folder: by_joblib(by_joblib(thing, folder), folder),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


# ---- networks, with what trains them ----


class Run:
    """A network and all that a training may have beside it."""

    def __init__(
        self,
        net: nn.Sequential | None = None,
        named: bool = False,
        sample: tuple[int, ...] = (2, 3),
    ) -> None:
        self.net = everything() if net is None else net
        self.sample = sample
        params = self.net.named_params() if named else self.net.params
        self.named = named
        self.opt = nf.optim.AdamW(params, lr=0.01, ema_decay=0.9)
        self.ema = nf.averaging.EMA(self.net.named_params(), decay=0.9)
        self.swa = nf.averaging.SWA(params)

    def step(self, seed: int) -> None:
        y = self.net.forward(inputs(self.net, (5, *self.sample), seed), training=True)
        self.net.backward(y)
        self.opt.step(self.net.named_grads() if self.named else self.net.grads)
        params = self.net.named_params() if self.named else self.net.params
        self.ema.update(self.net.named_params())
        self.swa.update(params)

    def state(self) -> dict[str, Array]:
        parts = ("net", self.net), ("opt", self.opt), ("ema", self.ema), ("swa", self.swa)
        return {
            f"{n}.{name}": value for n, part in parts for name, value in part.state_dict().items()
        }


def assert_same_state(actual: dict[str, Array], expected: dict[str, Array]) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        if array.dtype.kind == "U":
            assert str(actual[name]) == str(array), name
        else:
            assert_same_bits(actual[name], array)


def assert_one(net: nn.Layer, opt: Any) -> None:
    """That training, saving and what the layers show are about the same arrays."""
    own = {id(array) for array in net.named_params().values()}
    assert {id(array) for array in net.params} == own == {id(array) for array in opt.params}
    assert [id(a) for a in net.grads] == [id(a) for a in net.named_grads().values()]


@every_way
@every_network
@pytest.mark.parametrize("named", [False, True])
def test_a_copy_trains_on_to_the_same_bits(
    way: Way, make: Any, sample: tuple[int, ...], named: bool, tmp_path: Path
) -> None:
    run = Run(make(), named, sample)
    run.step(0)
    copied = way(run, tmp_path)
    assert_one(copied.net, copied.opt)
    before = run.state()
    for seed in (1, 2):
        copied.step(seed)
    assert_same_state(run.state(), before)  # they share nothing
    for seed in (1, 2):
        run.step(seed)
    assert_same_state(copied.state(), run.state())
    for a, b in zip(copied.net.grads, run.net.grads, strict=True):
        assert_same_bits(a, b)
        assert a.any()
    x = inputs(run.net, (5, *sample), 3)
    assert_same_bits(copied.net.predict(x), run.net.predict(x))


@every_way
def test_the_parts_of_a_copy_stay_tied(way: Way, tmp_path: Path) -> None:
    run = Run()
    net, opt, ema, norm = way(
        (
            run.net,
            run.opt,
            run.ema,
            nf.averaging.BatchNormRecomputer(run.net[2].running_mean, run.net[2].running_var),
        ),
        tmp_path,
    )
    assert_one(net, opt)
    assert norm._mean is net[2].running_mean
    y = net.forward(numbers((5, 2, 3)), training=True)
    net.backward(y)
    before = net.state_dict()
    opt.step(net.grads)
    ema.update(net.named_params())
    assert all(
        (param != before[name]).any()
        for name, param in net.named_params().items()
        if net.named_grads()[name].any()
    )
    state = run.net.state_dict()
    net.load_state_dict(state)
    assert_same_bits(net.forward(numbers((5, 2, 3))), run.net.forward(numbers((5, 2, 3))))
    with ema.applied(net.named_params()):
        assert not np.array_equal(net.state_dict()["1.weight"], state["1.weight"])


LAYERS: dict[str, Callable[[], nn.Layer]] = {
    "Dense": lambda: nn.Dense(6, 6, rng=0),
    "Dense without bias": lambda: nn.Dense(6, 6, bias=False, rng=0),
    "DropConnect": lambda: nn.DropConnect(6, 6, rng=0),
    "BatchNorm": lambda: nn.BatchNorm(6, momentum=None),
    "LayerNorm": lambda: nn.LayerNorm(6),
    "RMSNorm": lambda: nn.RMSNorm(6),
    "GroupNorm": lambda: nn.GroupNorm(2, 6),
    "InstanceNorm": lambda: nn.Sequential(nn.Embedding(5, 6, rng=0), nn.InstanceNorm(6, axis=2)),
    "Embedding": lambda: nn.Embedding(7, 3, padding_idx=1, rng=0),
    "PReLU": lambda: nn.PReLU(6),
    "ELU": lambda: nn.ELU(learn_alpha=True),
    "StochasticDepth": lambda: nn.StochasticDepth(nn.Dense(6, 6, rng=0), rng=1),
    "Sequential": lambda: nn.Sequential(nn.Dense(6, 6, rng=0), nn.ReLU(), nn.Dropout(0.3, rng=1)),
    "of the user": Doubled,
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
@every_way
def test_a_layer_alone(make: Callable[[], nn.Layer], way: Way, tmp_path: Path) -> None:
    layer = make()
    x = inputs(layer, (8, 6))
    x = x.astype(np.float32) if x.dtype == np.float64 else x

    def step(layer: nn.Layer, opt: Any) -> None:
        layer.backward(layer.forward(x, training=True))
        opt.step(layer.grads)

    opt = nf.optim.SGD(layer.params, lr=0.01, momentum=0.9)
    step(layer, opt)
    copied, theirs = way((layer, opt), tmp_path)
    step(layer, opt)
    step(copied, theirs)
    for name, array in (layer.named_params() | layer.named_statistics()).items():
        assert_same_bits((copied.named_params() | copied.named_statistics())[name], array)
    assert_same_bits(copied.forward(x), layer.forward(x))


@every_kernel
@pytest.mark.parametrize("way", [by_joblib, by_messages])
def test_an_optimizer_of_a_network(rule: Rule, way: Way, tmp_path: Path) -> None:
    def step(net: nn.Sequential, opt: Any) -> None:
        net.backward(net.forward(numbers((4, 3)), training=True))
        opt.step(net.grads)

    net = nn.Sequential(nn.Dense(3, 4, rng=0), nn.Tanh(), nn.Dense(4, 2, rng=1))
    opt = rule.optimizer(net.params, ema_decay=0.5)
    step(net, opt)
    copied, theirs = way((net, opt), tmp_path)
    for _ in range(2):
        step(net, opt)
        step(copied, theirs)
    assert_same_state(copied.state_dict(), net.state_dict())
    assert_same_state(theirs.state_dict(), opt.state_dict())


def test_groups_of_a_network_stay_tied(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Dense(3, 4, rng=0), nn.Dense(4, 2, rng=1))
    opt = nf.optim.Adam([{"params": net.params[::2], "lr": 0.1}, {"params": net.params[1::2]}])
    copied, theirs = by_joblib((net, opt), tmp_path)
    assert {id(p) for p in theirs.params} == {id(p) for p in copied.params}


def test_two_of_one_network(tmp_path: Path) -> None:
    """Optimizers that share parameters, and a list of both, are of one network afterwards."""
    net = nn.Sequential(nn.Dense(3, 4, rng=0))
    opts = [nf.optim.SGD(net.params), nf.optim.Adam(net.params)]
    copied = by_joblib([*opts, net], tmp_path)
    assert copied[0].params[0] is copied[1].params[0] is copied[2][0].weight


# ---- shallow copies ----


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_a_shallow_copy_shares_the_arrays_but_no_memory(make: Callable[[], nn.Layer]) -> None:
    layer = make()
    copied = copy.copy(layer)
    for a, b in zip(layer.params, copied.params, strict=True):
        assert a is b
    if isinstance(layer, nn.Sequential | nn.StochasticDepth | Doubled):
        return
    x, other = inputs(layer, (8, 6)), inputs(layer, (8, 6), 1)
    y = np.array(layer.forward(x, training=True))
    copied.backward(copied.forward(other, training=True))
    again = make()
    again.backward(again.forward(x, training=True))
    layer.backward(y)
    for a, b in zip(layer.grads, again.grads, strict=True):
        assert_same_bits(a, b)


def test_shallow_copies_of_networks_optimizers_and_averages() -> None:
    run, same = Run(), Run()
    for each in (run, same):
        each.step(0)
    for name in ("net", "opt", "ema", "swa"):
        setattr(same, name, copy.copy(getattr(same, name)))
    for each in (run, same):
        each.step(1)
    assert_same_state(same.state(), run.state())


# ---- layers of the user's own ----


class Keeps(nn.Layer):
    """Holds its arrays in several places, and other things as well."""

    def __init__(self) -> None:
        self.w, self.dw = np.ones(3), np.zeros(3)
        self.in_dict, self.in_list = {"w": self.w}, [(self.dw, 3)]
        self.itself: list[Any] = []
        self.itself.append(self.itself)
        self.notes = ["no array"]
        self.again = self.notes

    def forward(self, x: Any, training: bool = False) -> Any:
        self.x = x
        return x * self.w

    def backward(self, dy: Any) -> Any:
        self.in_list[0][0][...] = (dy * self.x).sum(axis=0)
        return dy * self.w

    def named_params(self) -> dict[str, Any]:
        return dict(self.in_dict)

    def named_grads(self) -> dict[str, Any]:
        return {"w": self.dw}


class Slotted(Keeps):
    """Has a slot."""

    __slots__ = ("more",)

    def __init__(self) -> None:
        super().__init__()
        self.more = [self.w]


class Described(Keeps):
    """Says itself what is pickled of it."""

    def __getstate__(self) -> Any:
        return super().__getstate__() | {"x": None}

    def __setstate__(self, state: Any) -> None:
        vars(self).update(state)


@pytest.mark.parametrize("kind", [Keeps, Slotted, Described])
@pytest.mark.parametrize("way", [*WAYS.values(), lambda t, _: copy.copy(t)], ids=[*WAYS, "copy"])
def test_arrays_shared_by_a_user_defined_layer_stay_shared(
    kind: Any, way: Way, tmp_path: Path
) -> None:
    layer = kind()
    copied = way(layer, tmp_path)
    assert copied.w is copied.in_dict["w"]
    assert copied.dw is copied.in_list[0][0]
    assert copied.again is copied.notes
    assert copied.itself[0] is copied.itself or way is not WAYS["deepcopy"]
    if kind is Slotted:
        assert copied.more[0] is copied.w
    net, opt = way((nn.Sequential(layer), nf.optim.SGD(layer.params, lr=0.1)), tmp_path)
    net.backward(net.forward(np.ones((2, 3)), training=True))
    opt.step(net.grads)
    assert_same_bits(net[0].w, np.full(3, 0.8))


# ---- workers ----


def _trained(net: nn.Sequential, opt: Any, x: Any) -> list[Any]:
    net.backward(net.forward(x, training=True))
    opt.step(net.grads)
    return [array.copy() for array in net.params]


def test_networks_in_workers() -> None:
    """Arrays above 1 MB arrive there as read-only memory maps."""
    net = nn.Sequential(nn.Dense(512, 600, rng=0), nn.ReLU(), nn.Dense(600, 2, rng=1))
    opt = nf.optim.Adam(net.params)
    x = numbers((4, 512)).astype(np.float32)
    results = joblib.Parallel(n_jobs=2)(joblib.delayed(_trained)(net, opt, x) for _ in range(2))
    with threadpool_limits(1):  # as there
        expected = _trained(net, opt, x)
    for result in results:
        for a, b in zip(result, expected, strict=True):
            assert_same_bits(a, b)


# ---- what version 0.1 wrote ----


def of_0_1(name: str) -> Any:
    run = Run()
    parts = (
        joblib.load(KEPT / name)
        if name.endswith("joblib")
        else pickle.loads((KEPT / name).read_bytes())
    )
    run.net, run.opt, run.ema, run.swa = parts
    return run


def test_what_version_0_1_wrote_trains_on_to_the_same_bits() -> None:
    run = of_0_1("all.pickle")
    assert_one(run.net, run.opt)
    of_files = Run(everything())
    of_files.net.load(KEPT / "net.npz")
    of_files.opt.load(KEPT / "optimizer.npz")
    of_files.ema.load(KEPT / "ema.npz")
    of_files.swa.load(KEPT / "swa.npz")
    of_files.opt.betas = run.opt.betas  # settings were not saved
    of_joblib = of_0_1("all.joblib")
    # What joblib took apart between two objects, nobody can put together.
    of_joblib.opt.params = of_joblib.net.params
    # Nor were the states of generators, of which the pickles have some.
    for net in (of_files.net, of_joblib.net):
        for layer, other in zip(_generators(net), _generators(run.net), strict=True):
            layer._rng.bit_generator.state = other._rng.bit_generator.state
    for seed in (5, 6):
        for each in (run, of_files, of_joblib):
            each.step(seed)
    for other in (of_files, of_joblib):
        for name, array in other.state().items():
            if array.dtype.kind != "U":
                assert_same_bits(array, run.state()[name])


def _generators(layer: nn.Layer) -> Iterator[Any]:
    if hasattr(layer, "_rng"):
        yield layer
    for child in layer._children():
        yield from _generators(child)


@pytest.mark.parametrize("name", ["classifier", "regressor"])
@pytest.mark.parametrize("how", ["pickle", "joblib"])
def test_estimators_of_version_0_1_learn_on(name: str, how: str) -> None:
    net = joblib.load(KEPT / f"{name}.{how}")  # which reads both
    epochs = net.n_iter_
    x = numbers((30, net.n_features_in_))
    assert net.partial_fit(x, np.arange(30) % 2).n_iter_ == epochs + 1
    assert not net.get_params()["share_blas_threads"]


def test_groups_that_version_0_1_saved() -> None:
    net = everything()
    opt = nf.optim.NAdam([{"params": net.params[:2], "lr": 0.3}, {"params": net.params[2:]}])
    opt.load(KEPT / "groups.npz")
    assert (opt.step_count, opt.groups[0]["lr"]) == (1, 0.3)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("nnfast._training\nTraining", training.Training),
        ("nnfast._optimizer\nStepStats", nf.optim.StepStats),
        ("nnfast.optim\nAdam", nf.optim.Adam),
        ("nnfast.estimators\nNNClassifier", nf.estimators.NNClassifier),
        ("nnfast.estimators\nNNRegressor", nf.estimators.NNRegressor),
    ],
)
def test_names_in_old_pickles_lead_to_the_moved_classes(old: str, new: type) -> None:
    assert pickle.loads(f"c{old}\n.".encode()) is new


@pytest.mark.parametrize(
    ("module", "names", "now"),
    [
        (
            "optim.rules",
            "SGD Adagrad Adadelta RMSprop Adam AdamW Adamax NAdam RAdam Lion",
            nf.optim,
        ),
        ("init", "zeros normal truncated_normal he_normal xavier_uniform orthogonal", nf.init),
        ("softmax", "softmax log_softmax logsumexp sparsemax masked_softmax", nf),
        ("normalization", "BatchNormSaved BatchNormStats GroupNormSaved", normalization),
        ("normalization", "batch_norm batch_norm_stats group_norm instance_norm", nf),
    ],
)
def test_names_in_pickles_of_version_0_2_lead_to_what_was_moved(
    module: str, names: str, now: Any
) -> None:
    for name in names.split():
        found = pickle.loads(f"cnnfast.{module}\n{name}\n.".encode())
        assert (found.__name__, found) == (name, getattr(now, name))


def test_the_loss_of_an_old_pickle_with_sample_weights_takes_them() -> None:
    weighted = pickle.loads(b"cnnfast._weights\n_of_batch\n.")
    z, y, weights = numbers((6, 3)), np.arange(6) % 3, np.arange(6.0)
    loss, dz = weighted(nf.softmax_cross_entropy, z, y, sample_weight=weights, out=np.empty_like(z))
    expected, slope = nf.softmax_cross_entropy(z, y, sample_weight=weights)
    assert loss == expected
    assert_same_bits(dz, slope)
