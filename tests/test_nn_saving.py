"""Networks of nnfast.nn as files and as text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from networks import every_network, everything, inputs, of_images, of_words
from nnfast import nn

# ---- saving ----


def trained(make: Any = everything, sample: tuple[int, ...] = (2, 3)) -> nn.Sequential:
    net: nn.Sequential = make()
    for seed in range(3):
        y = net.forward(inputs(net, (5, *sample), seed), training=True)
        net.backward(y)
        nf.optim.SGD(net.params, lr=1e-3).step(net.grads)
    return net


@every_network
def test_saved_networks_come_back(make: Any, sample: tuple[int, ...], tmp_path: Path) -> None:
    net, other = trained(make, sample), make()
    x = inputs(net, (5, *sample))
    path = tmp_path / "net.npz"
    net.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["net.npz"]
    assert not np.array_equal(net.forward(x), other.forward(x))
    other.load(path)
    np.testing.assert_array_equal(net.forward(x), other.forward(x))
    state = net.state_dict()
    some = {
        everything: {"2.running_mean", "2.running_var", "5.branch.0.weight", "6.1.alpha"},
        of_images: {"0.weight", "1.running_mean", "3.branch.0.bias", "6.weight", "9.bias"},
        of_words: {"0.weight", "1.gamma", "1.beta", "2.branch.0.gamma", "3.beta", "5.gamma"},
    }
    assert some[make] <= state.keys()
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == set(state)


def test_state_dict_copies() -> None:
    net = trained()
    state = net.state_dict()
    net.params[0][...] = 0
    assert state["1.weight"].any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s.pop("2.running_var"), ValueError, "state lacks 2.running_var"),
        (lambda s: s.update(more=np.zeros(1)), ValueError, "state has more"),
        (
            lambda s: s.update({"14.bias": np.zeros(4)}),
            ValueError,
            r"state\['14.bias'\] must have shape \(3,\), got \(4,\)",
        ),
        (
            lambda s: s.update({"2.running_var": np.ones(8, "f")}),
            TypeError,
            r"state\['2.running_var'\] must have dtype float64, got float32",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
    change: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    net, state = everything(), trained().state_dict()
    before = net.state_dict()
    change(state)
    np.savez(tmp_path / "net.npz", **state)
    for load in (lambda: net.load_state_dict(state), lambda: net.load(tmp_path / "net.npz")):
        with pytest.raises(error, match=message):
            load()
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_save_that_fails_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.npz"
    everything().save(path)
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space left"):
        trained().save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", **{"0.weight": np.array([{}], object)})
    with pytest.raises(ValueError, match="has elements of dtype object"):
        nn.Sequential(nn.PReLU()).load(tmp_path / "net.npz")


# ---- summary ----


def test_summary() -> None:
    net = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Dense(12, 1000, bias=False), nn.BatchNorm(1000)),
        nn.StochasticDepth(nn.Dense(1000, 1000), 0.1),
    )
    assert net.summary((3, 2, 2)).splitlines() == [
        "          layer                        output     parameters",
        "0         Flatten()                    (N, 12)             0",
        "1.0       Dense(12, 1000, bias=False)  (N, 1000)      12,000",
        "1.1       BatchNorm(1000)              (N, 1000)       2,000",
        "2         StochasticDepth(0.1)         (N, 1000)           0",
        "2.branch  Dense(1000, 1000)            (N, 1000)   1,001,000",
        "          total                                    1,015,000",
    ]


def test_a_summary_of_indices_with_an_output() -> None:
    net = nn.Sequential(
        nn.Sequential(nn.Embedding(50, 8), nn.LayerNorm(8), output=nn.Tanh()),
        nn.GroupNorm(3, 3),
        nn.Dense(8, 50),
        output=nn.Softmax(),
    )
    assert net.summary(3).splitlines() == [
        "        layer             output      parameters",
        "0.0     Embedding(50, 8)  (N, 3, 8)          400",
        "0.1     LayerNorm(8)      (N, 3, 8)           16",
        "1       GroupNorm(3, 3)   (N, 3, 8)            6",
        "2       Dense(8, 50)      (N, 3, 50)         450",
        "output  Softmax()                              0",
        "        total                                872",
    ]


def test_layers_describe_themselves() -> None:
    for layer, text in (
        (nn.Dense(2, 3, bias=False), "Dense(2, 3, bias=False)"),
        (nn.DropConnect(2, 3, 0.25), "DropConnect(2, 3, p=0.25)"),
        (nn.BatchNorm(3, axis=-1), "BatchNorm(3, axis=-1)"),
        (nn.Dropout(0.5, mode="vanilla"), "Dropout(0.5, mode='vanilla')"),
        (nn.StochasticDepth(nn.ReLU(), mode="batch"), "StochasticDepth(ReLU(), 0.5, mode='batch')"),
        (nn.ELU(0.5), "ELU(alpha=0.5)"),
        (nn.ELU(learn_alpha=True), "ELU(alpha=1, learn_alpha=True)"),
        (nn.GELU("tanh"), "GELU(approximate='tanh')"),
        (nn.LayerNorm(3), "LayerNorm(3)"),
        (nn.LayerNorm((2, 3)), "LayerNorm((2, 3))"),
        (nn.LayerNorm((2, 3), axis=(-2, -1)), "LayerNorm((2, 3))"),
        (nn.RMSNorm((2, 3), axis=(1, 3)), "RMSNorm((2, 3), axis=(1, 3))"),
        (nn.RMSNorm(3, axis=1), "RMSNorm(3, axis=1)"),
        (nn.GroupNorm(2, 4), "GroupNorm(2, 4)"),
        (nn.GroupNorm(2, 4, axis=-1), "GroupNorm(2, 4, axis=-1)"),
        (nn.InstanceNorm(4), "InstanceNorm(4)"),
        (nn.InstanceNorm(4, axis=2), "InstanceNorm(4, axis=2)"),
        (nn.Embedding(5, 3), "Embedding(5, 3)"),
        (nn.Embedding(5, 3, padding_idx=0), "Embedding(5, 3, padding_idx=0)"),
        (nn.Conv2d(3, 4, 2), "Conv2d(3, 4, 2)"),
        (
            nn.Conv2d(4, 4, (3, 1), (2, 1), padding=(1, 0), groups=4, bias=False, axis=-1),
            "Conv2d(4, 4, (3, 1), stride=(2, 1), padding=(1, 0), groups=4, axis=-1, bias=False)",
        ),
        (
            nn.Conv1d(3, 4, 5, padding="same", dilation=2),
            "Conv1d(3, 4, 5, padding='same', dilation=2)",
        ),
        (nn.MaxPool2d(2), "MaxPool2d(2)"),
        (
            nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
            "MaxPool2d(3, stride=2, padding=1, ceil_mode=True)",
        ),
        (nn.MaxPool1d(2, dilation=2, axis=-1), "MaxPool1d(2, axis=-1, dilation=2)"),
        (
            nn.AvgPool2d((2, 1), count_include_pad=False),
            "AvgPool2d((2, 1), count_include_pad=False)",
        ),
        (nn.GlobalAvgPool2d(), "GlobalAvgPool2d()"),
        (nn.GlobalAvgPool1d(axis=-1), "GlobalAvgPool1d(axis=-1)"),
        (nn.PReLU(4), "PReLU(4)"),
        (nn.Maxout(2), "Maxout(2)"),
        (nn.GLU(axis=1), "GLU(axis=1)"),
        (nn.Sequential(nn.ReLU(), nn.Flatten()), "Sequential(ReLU(), Flatten())"),
        (nn.Sequential(nn.ReLU(), output=nn.Tanh()), "Sequential(ReLU(), output=Tanh())"),
        (nn.Sequential(nn.ReLU(), output=nf.softmax), "Sequential(ReLU(), output=softmax)"),
    ):
        assert repr(layer) == text


def test_a_summary_for_a_shape_that_does_not_fit() -> None:
    net = nn.Sequential(nn.Dense(3, 4))
    with pytest.raises(ValueError, match=r"layers\[0\], Dense: x must have shape \(N, ..., 3\)"):
        net.summary(4)
    with pytest.raises(TypeError, match="shape must be an int"):
        net.summary("3")
    with pytest.raises(ValueError, match="shape must not be negative"):
        net.summary(-3)
