"""What is float64 among float32 arrays is named: by errors, and by check_dtypes."""

from typing import Any

import numpy as np
import pytest

import nnfast as nf

ADVICE = (
    r"must have dtype float32, got float64: NumPy makes float64 where no dtype is given .*check_d"
)
F4, F8 = np.ones(3, np.float32), np.ones(3)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: nf.optim.Adam({"w": F4.copy()}).step({"w": F8}), r"grads\['w'\]"),
        (lambda: nf.optim.Adam([F4.copy()]).step([F4], params=[F8]), r"params\[0\]"),
        (lambda: nf.optim.adam(F4.copy(), F8), "dw"),
        (lambda: nf.optim.adam({"w": F4.copy()}, {"w": F8}), r"dw\['w'\]"),
        (lambda: nf.optim.adam(F8, F4, out=F4.copy()), "w"),
        (lambda: nf.penalties.l2({"w": F4}, 0.1, grads={"w": F8.copy()}), r"grads\['w'\]"),
        (lambda: nf.averaging.EMA({"w": F4}).update({"w": F8}), r"params\['w'\]"),
        (lambda: nf.averaging.mean_of_predictions([F4, F8]), r"predictions\[1\]"),
        (lambda: nf.layer_norm(F4, out=F8.copy()), "out"),
        (
            lambda: nf.batch_norm(F4[:, None], None, None, np.zeros(1), np.ones(1), training=True),
            "running_mean",
        ),
    ],
)
def test_an_error_names_the_argument_and_where_float64_comes_from(call: Any, name: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} {ADVICE}"):
        call()


def test_the_other_way_round_there_is_no_such_advice() -> None:
    with pytest.raises(TypeError, match="must have dtype float64, got float32$"):
        nf.optim.Adam([F8.copy()]).step([F4])


def test_a_float64_mask_in_a_network_by_hand() -> None:
    """The trap: h is float64 from there on, and so is the gradient of the weights."""
    rng = np.random.default_rng(0)
    x, w = np.ones((8, 4), np.float32), np.ones((4, 2), np.float32)
    mask = (rng.random(x.shape) < 0.5) / 0.5
    h = x * mask
    dw = h.T @ (h @ w)
    with pytest.raises(TypeError, match=rf"grads\['w'\] {ADVICE}"):
        nf.optim.SGD({"w": w}).step({"w": dw})
    assert (w == 1).all()
    report = nf.checks.check_dtypes({"x": x, "w": w, "mask": mask, "h": h})
    assert report.others == {"mask": "float64", "h": "float64"}
    assert not report.passed
    for call in (nf.dropout, nf.dropout_backward):
        with pytest.raises(TypeError, match="mask must be"):
            call(x, mask=mask)


class Network:
    """As people write it."""

    def __init__(self) -> None:
        self.weights = [np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)]
        self.params = {"b": np.zeros(3), "g": F4}
        self.scale = np.sqrt(np.float64(0.5))
        self.rate, self.name, self.count = 0.1, "net", np.arange(3)
        self.me = self

    def __call__(self, x: Any) -> Any:
        return x


def test_networks_of_your_own() -> None:
    report = nf.checks.check_dtypes(Network())
    assert report.expected == "float32"
    assert list(report.dtypes) == ["weights.0", "weights.1", "params.b", "params.g", "scale"]
    assert report.others == {"params.b": "float64", "scale": "float64"}
    assert str(report).splitlines()[:3] == [
        "3 arrays of float32, 2 others",
        "FAILED   params.b           float64",
        "FAILED   scale              float64",
    ]


def test_layers_and_optimizers() -> None:
    net = nf.nn.Sequential(nf.nn.Dense(3, 2), nf.nn.BatchNorm(2))
    opt = nf.optim.Adam(net.named_params())
    report = nf.checks.check_dtypes({"net": net, "opt": opt})
    assert report.passed
    assert str(report) == f"{len(report.dtypes)} arrays of float32"
    assert {"net.0.weight", "net.0.weight.grad", "net.1.running_var"} <= report.dtypes.keys()
    assert {"opt.params.0.weight", "opt.exp_avg.1.gamma"} <= report.dtypes.keys()
    half = nf.optim.Adam([np.ones(3, np.float16)])
    assert nf.checks.check_dtypes(half).passed  # its state is float32
    assert not nf.checks.check_dtypes(half, np.float32).passed
    assert nf.checks.check_dtypes(F4).dtypes == {"array": "float32"}
    assert nf.checks.check_dtypes([F8, F8]).passed
    assert nf.checks.check_dtypes([F8], np.float32).others == {"0": "float64"}
    assert nf.checks.check_dtypes([]).dtypes == {}


def test_deep_and_endless_collections() -> None:
    deep: Any = [F8]
    for _ in range(5000):
        deep = [deep]
    endless: list[Any] = [F4]
    endless.append(endless)
    assert len(nf.checks.check_dtypes([deep, endless]).dtypes) == 2


@pytest.mark.parametrize("wrong", [3, "net", None, 1.5])
def test_what_holds_no_arrays(wrong: Any) -> None:
    with pytest.raises(TypeError, match="net_or_arrays must be a network, array, mapping or seq"):
        nf.checks.check_dtypes(wrong)
    with pytest.raises(TypeError, match="dtype must be a dtype of floats, got int64"):
        nf.checks.check_dtypes([F4], np.int64)


def test_arrays_of_one_name_are_told_apart() -> None:
    for both in ({"a": {"b": F8}, "a.b": F4}, {1: F8, "1": F4}):
        assert len(nf.checks.check_dtypes(both).others) == 1


def test_what_is_no_array_is_not_walked_through() -> None:
    class Slotted:
        __slots__ = ("w",)

        def __init__(self) -> None:
            self.w = F8

    class Net:
        steps = range(10**9)

        def __init__(self) -> None:
            self.again, self.bytes = range(10**9), bytearray(10**7)
            self.memory = memoryview(np.zeros((2, 2)))
            self.slotted, self.objects = Slotted(), np.array([F4, None], object)

    assert nf.checks.check_dtypes(Net()).dtypes == {"slotted.w": "float64", "objects.0": "float32"}


def test_the_state_of_a_float16_optimizer_is_float32() -> None:
    assert nf.checks.check_dtypes(nf.optim.Adam([np.ones(2, np.float16)]), np.float16).passed
