"""The demo: both networks compute the same, learn the digits, and save their picture."""

from pathlib import Path

import numpy as np
import pytest

import nnfast as nf
from nnfast.__main__ import main
from nnfast.demo.digits import FastNetwork, PlainNetwork, run

SIZES = [64, 48, 32, 10]


def networks() -> tuple[FastNetwork, PlainNetwork]:
    """Both, without dropout, whose masks differ."""
    return FastNetwork(SIZES, 0.0, 1), PlainNetwork(SIZES, 0.0, 1)


def batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((32, 64), dtype=np.float32), rng.integers(0, 10, 32)


def test_networks_agree_step_by_step() -> None:
    fast, plain = networks()
    for seed in range(5):
        x, labels = batch(seed)
        assert fast.train_step(x, labels) == pytest.approx(plain.train_step(x, labels), rel=1e-4)
    # Adam divides by small roots at first, which enlarges the difference of two roundings.
    for a, b in zip(fast.params, plain.params, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    for a, b in zip(fast.means + fast.variances, plain.means + plain.variances, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_predictions_agree() -> None:
    fast, plain = networks()
    x, labels = batch(0)
    fast.train_step(x, labels)
    plain.train_step(x, labels)
    np.testing.assert_array_equal(fast.predict(x), plain.predict(x))


def test_both_learn_the_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "curves.png"
    trainings = run(epochs=15, seed=0, picture=str(picture))
    with nf.share_blas_threads() as sharing:
        threads = (
            "run on nnfast's threads" if sharing else f"have threads of their own: {sharing.reason}"
        )
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = capsys.readouterr().out
    assert f"The matrix products of both {threads}." in table
    accuracies = {
        name: float(line.split()[-1].rstrip("%"))
        for name in trainings
        for line in table.splitlines()
        if line.startswith(name) and "%" in line
    }
    assert accuracies.keys() == {"nnfast", "NumPy"}
    assert min(accuracies.values()) >= 97
    assert trainings["nnfast"].seconds < trainings["NumPy"].seconds


def test_command_line_without_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    assert main(["demo"]) == 1
    assert "pip install 'nnfast[demo]'" in capsys.readouterr().err
