"""Schedules, the one with a memory, and the Recorder, in any order of calls."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np

import nnfast as nf
from fuzz.sequences import Machine, bytes_of
from fuzz.source import Source
from nnfast import nn

JUNK: tuple[Any, ...] = (-1, 0, "x", None, 2.5, float("nan"), float("inf"), (), 1j, 10**30, True)
GOOD: tuple[Any, ...] = (0.1, 0.5, 1, 3, 10, 0.0)
KINDS = tuple(
    name
    for name in nf.schedules.__all__
    if inspect.isclass(getattr(nf.schedules, name)) and name not in ("Schedule", "ReduceOnPlateau")
)


class Scheduling(Machine):
    """A schedule, perhaps of others, and a ReduceOnPlateau."""

    def __init__(self, source: Source, folder: Path) -> None:
        super().__init__(source, folder)
        self.schedule: Any = nf.schedules.Constant(0.1)
        self.plateau = nf.schedules.ReduceOnPlateau(
            source.pick((0.1, *GOOD)),
            mode=source.pick(("min", "max")),
            patience=source.pick((0, 1, 2)),
            cooldown=source.pick((0, 1)),
            threshold_mode=source.pick(("rel", "abs")),
        )

    def objects(self) -> Any:
        return self.schedule, self.plateau

    def take(self, objects: Any) -> None:
        self.schedule, self.plateau = objects

    def state(self) -> dict[str, bytes]:
        return {"schedule": repr(self.schedule).encode(), "plateau": repr(self.plateau).encode()}

    def train(self) -> None:
        self.rates = [self.schedule(step) for step in range(5)]
        for metric in (1.0, 0.5, 0.5, 0.5, float("nan"), 0.5):
            self.plateau.update(metric)

    def do_make(self) -> None:
        kind = getattr(nf.schedules, self.source.pick(KINDS))
        arguments: list[Any] = []
        for parameter in inspect.signature(kind).parameters.values():
            if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
                break
            if parameter.default is not parameter.empty and self.source.below(2):
                break
            arguments.append(self.argument(parameter.name))
        self.schedule = kind(*arguments)

    def argument(self, name: str) -> Any:
        if name == "schedule":
            return self.source.pick((self.schedule, self.schedule, *JUNK))
        if name == "schedules":
            return self.source.pick(
                ([self.schedule, nf.schedules.Constant(1)], [self.schedule], *JUNK)
            )
        if name == "milestones":
            return self.source.pick(([2], [1, 3], [3, 1], *JUNK))
        return self.source.pick((*GOOD, *GOOD, *JUNK))

    def do_call(self) -> None:
        rate = self.schedule(self.source.pick((0, 1, 7, 10**9, np.int64(3), *JUNK)))
        assert isinstance(rate, float)

    def do_values(self) -> None:
        nf.schedules.values(self.schedule, self.source.pick((0, 1, 10, *JUNK[:6])))

    def do_update(self) -> None:
        self.plateau.update(self.source.pick((0.1, 0.2, -1.0, np.float32(0.5), *JUNK)))

    def do_resume(self) -> None:
        state: dict[str, Any] = self.plateau.state_dict()
        name = self.source.pick(sorted(state))
        match self.source.below(4):
            case 0:
                self.plateau.load_state_dict(state)
            case 1:
                self.plateau.load_state_dict(state | {name: self.source.pick((*GOOD, *JUNK))})
            case 2:
                self.plateau.load_state_dict(state | {"more": 1})
            case _:
                del state[name]
                self.plateau.load_state_dict(state)


class Recording(Machine):
    """A Recorder, with what it records."""

    def __init__(self, source: Source, folder: Path) -> None:
        super().__init__(source, folder)
        self.net = nn.Sequential(nn.Dense(3, 4, rng=0), nn.Tanh(), nn.Dense(4, 3, rng=1))
        self.opt = nf.optim.Adam(self.net.params)
        self.recorder = nf.monitor.Recorder(self.net, self.opt)

    def objects(self) -> Any:
        # A Recorder writes to a stream, and is saved to a file of its own.
        return self.net, self.opt

    def take(self, objects: Any) -> None:
        self.net, self.opt = objects

    def state(self) -> dict[str, bytes]:
        parts: dict[str, Any] = {
            **self.net.state_dict(),
            **self.opt.state_dict(),
            "losses": self.recorder.losses,
            "ratios": self.recorder.update_ratios,
            "epochs": self.recorder.epochs,
            "looks": len(self.recorder.looks),
        }
        return {name: bytes_of(value) for name, value in parts.items()}

    def train(self) -> None:
        x, y = np.random.default_rng(0).standard_normal((4, 3)), [0, 1, 2, 0]
        _, dz = nf.softmax_cross_entropy(self.net.forward(x, training=True), y)
        self.net.backward(dz)
        self.opt.step(self.net.grads, stats=True)

    def do_step(self) -> None:
        x, y = np.random.default_rng(0).standard_normal((4, 3)), [0, 1, 2, 0]
        _, dz = nf.softmax_cross_entropy(self.net.forward(x, training=True), y)
        self.net.backward(dz)
        self.recorder.step(1.0, self.opt.step(self.net.grads, stats=True))

    def do_record(self) -> None:
        self.recorder.step(
            self.source.pick((1.0, np.float32(2), *JUNK)), self.source.pick((None, None, 3))
        )

    def do_epoch(self) -> None:
        self.recorder.epoch(
            **{self.source.pick(("loss", "accuracy", "step")): self.source.pick((0.5, 1, *JUNK))}
        )

    def do_look(self) -> None:
        self.recorder.look(self.source.pick((np.ones((2, 3)), np.ones((2, 4)), *JUNK)))

    def do_save_and_load(self) -> None:
        self.recorder.save(self.folder / "run.npz")
        before = self.state()
        other = nf.monitor.Recorder(self.net, self.opt)
        other.load(self.folder / "run.npz")
        self.recorder = other
        self._compare(before, self.state(), "after save and load")

    def do_load_what_is_none(self) -> None:
        self.opt.save(self.folder / "other.npz")
        self.recorder.load(self.folder / "other.npz")
