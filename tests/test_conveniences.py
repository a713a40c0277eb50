"""What people reach for: net(x), gradients of None, objects that show themselves, files that are open, any rng."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nnfast as nf
from layouts import assert_same_bits

Array = NDArray[Any]
X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def network() -> nf.nn.Sequential:
    """Two layers with statistics and noise."""
    return nf.nn.Sequential(
        nf.nn.Dense(4, 5, rng=0), nf.nn.BatchNorm(5), nf.nn.ReLU(), nf.nn.Dropout(0.5, rng=1),
        nf.nn.Dense(5, 3, rng=2),
    )  # fmt: skip


# ---- net(x) ----


class Double(nf.nn.Layer):
    """A layer of the user's own, without a parameter for training."""

    def forward(self, x: Any) -> Any:  # type: ignore[override]
        return 2 * x


def test_a_network_is_called() -> None:
    net, same = network(), network()
    assert_same_bits(net(X), same.forward(X))
    assert_same_bits(net(X, training=True), same.forward(X, training=True))
    net.backward(np.ones((6, 3)))
    assert_same_bits(nf.nn.Dense(4, 2, rng=0)(X), nf.nn.Dense(4, 2, rng=0).forward(X))
    assert_same_bits(Double()(X), 2 * X)


def test_a_layer_in_place_of_a_function_is_refused() -> None:
    with pytest.raises(
        TypeError, match="activation must be a name or a function that makes a layer"
    ):
        nf.estimators.NNClassifier(activation=nf.nn.ReLU()).fit(X, [0, 1] * 3)


# ---- gradients of None ----

RULES = [
    lambda p: nf.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    lambda p: nf.optim.Adam(p, lr=0.1),
    lambda p: nf.optim.AdamW(p, lr=0.1, ema_decay=0.9),
    lambda p: nf.optim.NAdam(p, lr=0.1),
    lambda p: nf.optim.RMSprop(p, lr=0.1, clip_global_norm=1.0),
]


def arrays(dtype: Any = np.float32) -> list[Array]:
    """Parameters, or gradients."""
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((3, 4), (5,), (2, 2))]


@pytest.mark.parametrize("make", RULES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_gradient_of_none_leaves_its_parameter(make: Callable[..., Any], dtype: Any) -> None:
    params, grads = arrays(dtype), arrays(dtype)
    opt = make(params)
    opt.step(grads)
    before = [p.copy() for p in params]
    states = {name: state[1].copy() for name, state in opt.state.items()}
    other = make([before[0].copy(), before[2].copy()])  # the same without it, from here on
    other.step_count = 1
    for name, state in other.state.items():
        for mine, theirs in zip(state, (opt.state[name][0], opt.state[name][2]), strict=True):
            mine[...] = theirs
    for attribute in ("_carried", "_products"):
        if hasattr(opt, attribute):
            setattr(other, attribute, getattr(opt, attribute))
    if dtype == np.float16:
        for mine, theirs in zip(other._master, (opt._master[0], opt._master[2]), strict=True):
            mine[...] = theirs
    found = opt.step([grads[0], None, grads[2]], stats=True)
    other.step([grads[0], grads[2]])
    assert_same_bits(params[1], before[1])
    for name, state in states.items():
        assert_same_bits(opt.state[name][1], state)
    if not isinstance(opt, nf.optim.NAdam):
        assert_same_bits(params[0], other.params[0])
        assert_same_bits(params[2], other.params[1])
    assert (params[0] != before[0]).any()
    assert opt.step_count == 2
    assert (found.grad_norm[1], found.update_norm[1], found.nans[1]) == (0, 0, 0)
    np.testing.assert_allclose(
        found.param_norm[1], np.linalg.norm(params[1].astype(float)), rtol=1e-3
    )
    opt.step([None, None, None])
    assert opt.step_count == 3
    opt.step(grads)
    assert (params[1] != before[1]).any()


def test_averages_go_on_without_a_gradient() -> None:
    w, other = np.full(3, 2.0), np.ones(2)
    opt = nf.optim.SGD([w, other], lr=0.1, ema_decay=0.5)
    for _ in range(5):
        opt.step([None, np.ones(2)])
    np.testing.assert_allclose(opt.averaged_params()[0], w, rtol=1e-15)


def test_errors_name_the_gradient_by_its_place() -> None:
    params, grads = arrays(), arrays()
    opt = nf.optim.Adam(params)
    before = [p.copy() for p in params]
    with pytest.raises(ValueError, match=r"grads\[2\] must have shape \(2, 2\)"):
        opt.step([None, grads[1], grads[1]])
    with pytest.raises(TypeError, match=r"grads\[1\] must have dtype float32, got float64"):
        opt.step([None, grads[1].astype(float), None])
    with pytest.raises(TypeError, match=r"grads\[1\] must be a numpy.ndarray, got str"):
        opt.step([None, "x", grads[2]])
    with pytest.raises(
        ValueError, match="grads must have one array for each of the 3 parameters, got 2"
    ):
        opt.step([None, grads[1]])
    for param, was in zip(params, before, strict=True):
        assert_same_bits(param, was)
    assert opt.step_count == 0
    named = nf.optim.Adam({"w": params[0], "b": params[1]})
    named.step({"w": None, "b": grads[1]})
    assert_same_bits(params[0], before[0])


# ---- what objects show ----


def test_reprs() -> None:
    params = arrays()
    adam = nf.optim.Adam(params, lr=0.01, clip_norm=2.0, skip_nonfinite=True, ema_decay=0.9)
    text = repr(adam)
    assert text.startswith("Adam(3 arrays of 21 parameters, lr=0.01, betas=(0.9, 0.999), eps=1e-08")
    assert text.endswith("clip_norm=2.0, skip_nonfinite=True, ema_decay=0.9, step_count=0)")
    adam.step(arrays())
    assert repr(adam).endswith("step_count=1)")
    groups = [{"params": params[:1]}, {"params": params[1:], "weight_decay": 0.1}]
    assert "in 2 groups" in repr(nf.optim.SGD(groups, lr=0.1, convention="keras"))
    for name in nf.optim.rules.__all__:
        made = getattr(nf.optim, name)(arrays(), lr=0.5)
        assert repr(made).startswith(f"{name}(3 arrays of 21 parameters, lr=0.5")
    assert repr(nf.averaging.EMA(params, 0.99)) == (
        "EMA(3 arrays of 21 parameters, decay=0.99, update_count=0)"
    )
    assert repr(nf.averaging.SWA(params)) == "SWA(3 arrays of 21 parameters, update_count=0)"
    schedule = nf.schedules.Warmup(nf.schedules.Cosine(0.1, 90), 10)
    assert repr(schedule).startswith("Warmup(schedule=Cosine(lr=0.1, T_max=90")
    rec = nf.monitor.Recorder()
    assert repr(rec) == "Recorder(0 steps, 0 epochs)"
    rec.step(2.5)
    rec.epoch(accuracy=0.5)
    assert repr(rec) == "Recorder(1 steps, 1 epochs, last loss 2.5, accuracy 0.5)"
    rec.step(float("nan"))
    assert "not finite: loss" in repr(rec)


def test_a_recorder_writes_its_line_in_notebooks() -> None:
    class OutStream(io.StringIO):
        """As the kernel of a notebook has it."""

    for module, writes in (("ipykernel.iostream", True), ("somewhere", False)):
        OutStream.__module__ = module
        stream = OutStream()
        with nf.monitor.Recorder(stream=stream) as rec:
            rec.step(2.5)
        assert ("loss 2.5" in stream.getvalue()) is writes
        with nf.monitor.Recorder(stream=stream, live=False) as rec:
            rec.step(3.5)
        assert "3.5" not in stream.getvalue()


# ---- files that are open ----


def keepers() -> list[tuple[Any, Any, Callable[[Any], Any]]]:
    """What has save and load, one like it that is loaded, and what must then be the same."""
    params, again = arrays(), arrays()
    opt, opt_again = nf.optim.Adam(params), nf.optim.Adam(again)
    opt.step(arrays())
    ema, ema_again = nf.averaging.EMA(params), nf.averaging.EMA(arrays())
    ema.update(params)
    net, net_again = network(), network()
    net(X, training=True)
    rec, rec_again = nf.monitor.Recorder(), nf.monitor.Recorder()
    rec.step(2.5)
    return [
        (net, net_again, lambda n: list(n.state_dict().values())),
        (opt, opt_again, lambda o: [*o.state["exp_avg"], np.array(o.step_count)]),
        (ema, ema_again, lambda e: e.averages()),
        (rec, rec_again, lambda r: [r.losses]),
    ]


@pytest.mark.parametrize("place", range(4))
def test_files_that_are_open(place: int, tmp_path: Any) -> None:
    saved, loaded, arrays_of = keepers()[place]
    memory = io.BytesIO()
    saved.save(memory)
    assert not memory.closed
    loaded.load(memory)
    for one, other in zip(arrays_of(saved), arrays_of(loaded), strict=True):
        assert_same_bits(one, other)
    with open(tmp_path / "state.npz", "w+b") as file:
        saved.save(file)
        keepers()[place][1].load(file)
    keepers()[place][1].load(tmp_path / "state.npz")
    with np.load(tmp_path / "state.npz") as archive:
        assert archive.files
    with pytest.raises(TypeError, match="path must be a path or a binary file, got StringIO"):
        saved.save(io.StringIO())
    with pytest.raises(TypeError, match="path must be a path or a binary file, got int"):
        loaded.load(3)
    with pytest.raises(ValueError, match=r"is no \.npz file of arrays"):
        loaded.load(io.BytesIO(b"nothing"))


def test_checkpoints_that_are_open() -> None:
    files = []
    for weight in (1.0, 3.0):
        net = network()
        net[0].weight[...] = weight
        files.append(io.BytesIO())
        net.save(files[-1])
    assert (nf.averaging.mean_of_checkpoints(files)["0.weight"] == 2).all()
    with pytest.raises(
        TypeError, match=r"checkpoints\[0\] must be a sequence or mapping of arrays, got int"
    ):
        nf.averaging.mean_of_checkpoints([3])


# ---- rng ----

DRAWS: dict[str, Callable[[Any], Any]] = {
    "dropout": lambda rng: nf.dropout(X, rng=rng)[1],
    "dropout of channels": lambda rng: nf.dropout(X, np.full(4, 0.5), rng=rng)[1],
    "dropout_mask": lambda rng: nf.dropout_mask(64, rng=rng),
    "alpha_dropout": lambda rng: nf.alpha_dropout(X, rng=rng)[1],
    "bias_relu_dropout": lambda rng: nf.bias_relu_dropout(X + 9, X[0], rng=rng)[1],
    "stochastic_depth": lambda rng: nf.stochastic_depth(np.ones((64, 2)), rng=rng)[1],
    "dropout1d": lambda rng: nf.dropout1d(np.ones((8, 8, 2)), rng=rng)[1],
    "feature_alpha_dropout": lambda rng: nf.feature_alpha_dropout(np.ones((8, 8)), rng=rng)[1],
    "drop_connect": lambda rng: nf.drop_connect(X, X.T.copy(), rng=rng)[1],
    "he_normal": lambda rng: nf.init.he_normal((3, 4), rng=rng),
    "Philox": lambda rng: nf.random.Philox(rng).bits(4),
    "Dense": lambda rng: nf.nn.Dense(3, 4, rng=rng).weight.copy(),
    "Dropout": lambda rng: nf.nn.Dropout(rng=rng)(np.ones(64), training=True).copy(),
    "DropConnect": lambda rng: nf.nn.DropConnect(4, 8, rng=rng)(X, training=True).copy(),
    "random_noise": lambda rng: nf.augmentation.random_noise(X, 0.1, rng=rng),
    "random_flip": lambda rng: nf.augmentation.random_flip(
        np.arange(96.0).reshape(16, 1, 2, 3), rng=rng
    ),
}
SOURCES: dict[str, Callable[[int], Any]] = {
    "int": int,
    "NumPy's int": np.int64,
    "Generator": np.random.default_rng,
    "BitGenerator": np.random.PCG64,
    "SeedSequence": np.random.SeedSequence,
    "RandomState": np.random.RandomState,
}


def module(seed: int) -> Any:
    """numpy.random with its global state at the beginning of a seed."""
    np.random.seed(seed)  # noqa: NPY002 -- what is meant by the module
    return np.random


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("source", [*SOURCES.values(), module], ids=[*SOURCES, "numpy.random"])
def test_every_source_of_randomness(draw: Any, source: Any) -> None:
    np.testing.assert_array_equal(draw(source(1)), draw(source(1)))
    assert (draw(source(1)) != draw(source(2))).any()
    rng = source(1)
    first, second = draw(rng), draw(rng)
    advances = isinstance(rng, np.random.Generator | np.random.BitGenerator | np.random.RandomState)
    assert (first != second).any() == (advances or rng is np.random)


def test_a_bit_generator_is_advanced_as_its_generator() -> None:
    for draw in DRAWS.values():
        if draw not in (
            DRAWS["Dropout"],
            DRAWS["DropConnect"],
        ):  # which keep a Generator that they are given
            np.testing.assert_array_equal(
                draw(np.random.PCG64(5)), draw(np.random.Generator(np.random.PCG64(5)))
            )


@pytest.mark.parametrize("rng", ["seed", 1.5, True, np.random.rand, [1]])
def test_invalid_rng(rng: Any) -> None:
    for draw in DRAWS.values():
        with pytest.raises(
            TypeError, match="must be an int, a numpy.random.Generator, BitGenerator"
        ):
            draw(rng)
