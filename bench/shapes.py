"""Normalization at the shapes that networks have, beside PyTorch and what memory allows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import nnfast as nf
from bench import limits
from bench.timing import Budget, rounds

EPS = 1e-5
BATCHES = [(128, 512), (256, 1024), (64, 64, 32, 32), (32, 256, 56, 56)]
ROWS = (4096, 768)
BUDGET = Budget(seconds=1.5, least=9, most=60, slot_ns=2e6)


class Timing(NamedTuple):
    """Microseconds, medians; PyTorch's None where it is not installed."""

    what: str
    shape: tuple[int, ...]
    out: float
    allocating: float
    torch: float | None
    floor: float | None


def arrays(shape: tuple[int, ...], channels: int) -> list[Any]:
    """x, dy, gamma, beta, running mean and variance, in float32."""
    rng = np.random.default_rng(0)
    made = [rng.normal(1, 2, shape), rng.standard_normal(shape), *np.ones((2, channels))]
    return [a.astype(np.float32) for a in (*made, np.zeros(channels), np.ones(channels))]


def batch_norm(shape: tuple[int, ...], torch: Any) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """What is timed of a batch: a name, how many arrays move, and the candidates."""
    x, dy, gamma, beta, mean, var = arrays(shape, shape[1])
    y, gradients = np.empty_like(x), (np.empty_like(x), gamma.copy(), gamma.copy())
    _, saved = nf.batch_norm(x, gamma, beta, training=True)
    calls: dict[str, dict[str, Any]] = {"forward": {}, "inference": {}, "backward": {}}
    for name, training in (("forward", True), ("inference", False)):
        calls[name]["out"] = lambda t=training: nf.batch_norm(
            x, gamma, beta, mean, var, training=t, out=y
        )
        calls[name]["allocating"] = lambda t=training: nf.batch_norm(
            x, gamma, beta, mean, var, training=t
        )
    calls["backward"]["out"] = lambda: nf.batch_norm_backward(dy, x, gamma, saved, out=gradients)
    calls["backward"]["allocating"] = lambda: nf.batch_norm_backward(dy, x, gamma, saved)
    if torch:
        tx, tdy, tg, tb = (torch.from_numpy(a) for a in (x, dy, gamma, beta))
        kept = torch.zeros(shape[1]), torch.ones(shape[1])
        _, m, s = torch.native_batch_norm(tx, tg, tb, *kept, True, 0.1, EPS)
        backward = torch.ops.aten.native_batch_norm_backward
        for name, training in (("forward", True), ("inference", False)):
            calls[name]["torch"] = lambda t=training: torch.native_batch_norm(
                tx, tg, tb, *kept, t, 0.1, EPS
            )
        calls["backward"]["torch"] = lambda: backward(
            tdy, tx, tg, *kept, m, s, True, EPS, [True] * 3
        )
    for name, candidates in calls.items():
        yield f"batch_norm {name}", 3 if name == "backward" else 2, candidates


def row_norms(shape: tuple[int, ...], torch: Any) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The case of rows."""
    x, dy, gamma, beta, *_ = arrays(shape, shape[1])
    y, gradients = np.empty_like(x), (np.empty_like(x), gamma.copy(), gamma.copy())
    _, saved = nf.layer_norm(x, gamma, beta)
    layer: dict[str, Any] = {
        "out": lambda: nf.layer_norm(x, gamma, beta, out=y),
        "allocating": lambda: nf.layer_norm(x, gamma, beta),
    }
    rms: dict[str, Any] = {
        "out": lambda: nf.rms_norm(x, gamma, eps=EPS, out=y),
        "allocating": lambda: nf.rms_norm(x, gamma, eps=EPS),
    }
    back: dict[str, Any] = {
        "out": lambda: nf.layer_norm_backward(dy, x, gamma, saved, out=gradients),
        "allocating": lambda: nf.layer_norm_backward(dy, x, gamma, saved),
    }
    if torch:
        tx, tdy, tg, tb = (torch.from_numpy(a) for a in (x, dy, gamma, beta))
        of = [shape[1]]
        _, m, s = torch.native_layer_norm(tx, of, tg, tb, EPS)
        backward = torch.ops.aten.native_layer_norm_backward
        layer["torch"] = lambda: torch.native_layer_norm(tx, of, tg, tb, EPS)
        rms["torch"] = lambda: torch.nn.functional.rms_norm(tx, of, tg, EPS)
        back["torch"] = lambda: backward(tdy, tx, of, m, s, tg, tb, [True] * 3)
    yield "layer_norm", 2, layer
    yield "rms_norm", 2, rms
    yield "layer_norm backward", 3, back


def measure() -> Iterator[Timing]:
    """All shapes, candidates in turn."""
    try:
        import torch
    except ImportError:
        torch = None
    threads = nf.get_num_threads()
    if torch:
        torch.set_num_threads(threads)
    rates = limits.measure(threads, 20)
    cases = [(shape, batch_norm) for shape in BATCHES] + [(ROWS, row_norms)]
    for shape, family in cases:
        nbytes = 4 * int(np.prod(shape))
        for what, moved, candidates in family(shape, torch):
            times = {name: np.median(t) / 1e3 for name, t in rounds(candidates, BUDGET).items()}
            floor = limits.floor_ns(rates, moved * nbytes, moved * nbytes, threads)
            yield Timing(
                what, shape, floor=floor / 1e3 if floor else None, **({"torch": None} | times)
            )


def ratio(value: float | None, base: float) -> str:
    """How many times base, or a gap."""
    return f"{value / base:9.2f}" if value else f"{'':9}"


def main() -> None:
    """A table: microseconds, how many times as fast as PyTorch, how many times what memory allows."""
    print(f"{'':22} {'shape':>18} {'out us':>9} {'alloc us':>9} {'torch us':>9}", end="")
    print(f" {'x torch':>9} {'alloc x':>9} {'x limit':>9}")
    for t in measure():
        shape = ",".join(map(str, t.shape))
        torch = f"{t.torch:9.1f}" if t.torch else f"{'':9}"
        limit = f"{t.out / t.floor:9.2f}" if t.floor else ""
        print(f"{t.what:22} {shape:>18} {t.out:9.1f} {t.allocating:9.1f} {torch}", end="")
        print(f" {ratio(t.torch, t.out)} {ratio(t.torch, t.allocating)} {limit}")
