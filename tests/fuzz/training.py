"""A network, its optimizer, averages and a plateau, in any order of calls."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import nnfast as nf
from fuzz.sequences import EXPECTED, Interrupted, Machine, bytes_of
from fuzz.source import Source
from nnfast import nn

WIDTH = 4
RULES = (
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
)
PACKED_RULES = tuple(name for name in RULES if getattr(nf.optim, name)._packs)
ELEMENTWISE = (
    *("ReLU", "Tanh", "GELU", "SiLU", "Sigmoid", "ReLU6", "Hardtanh", "LeakyReLU", "Hardsigmoid"),
    *("Hardswish", "CELU", "SELU", "LogSigmoid", "Softplus", "Tanhshrink", "Mish", "Softsign"),
    *("ELU", "Softmax", "LogSoftmax"),
)
JUNK: tuple[Any, ...] = (
    -1.0,
    float("nan"),
    float("inf"),
    "x",
    None,
    2.0,
    (0.5, 0.5),
    1j,
    [1],
    True,
)


class Scaled(nn.Layer):
    """A layer as a user writes it, which may be told to raise."""

    def __init__(self, dtype: Any) -> None:
        self.scale, self.dscale = np.full(WIDTH, 1.5, dtype), np.zeros(WIDTH, dtype)
        self.held = {"all": [self.scale, self.dscale]}
        self.seen = np.zeros((), np.int64)
        self.fails_in = ""
        self.x: Any = None

    def forward(self, x: Any, training: bool = False) -> Any:
        if self.fails_in == "forward":
            raise Interrupted
        if training:
            self.x = x
            self.seen += 1
        return x * self.held["all"][0]

    def backward(self, dy: Any) -> Any:
        if self.fails_in == "backward":
            raise Interrupted
        self.dscale[...] = (dy * self.x).sum(axis=tuple(range(dy.ndim - 1)))
        return dy * self.scale

    def named_params(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def named_grads(self) -> dict[str, Any]:
        return {"scale": self.held["all"][1]}

    def named_statistics(self) -> dict[str, Any]:
        return {"seen": self.seen}


class Training(Machine):
    """See the module."""

    def __init__(self, source: Source, folder: Path) -> None:
        super().__init__(source, folder)
        self.dtype = source.pick((np.float32, np.float64))
        self.rng = np.random.default_rng(0)
        self.batches = 0
        self.make = bytes(source.below(256) for _ in range(24))
        self.net = self.network()
        self.names = source.below(2) == 1
        self.opt = self.optimizer(source, self.net)
        self.ema = nf.averaging.EMA(
            self.net.named_params(), 0.5, bias_correction=source.below(2) == 0
        )
        self.swa = nf.averaging.SWA(self.net.named_params())
        self.plateau = nf.schedules.ReduceOnPlateau(0.01, patience=1)
        self.saved: list[dict[str, Any]] = []
        self.written = False

    # ---- what there is ----

    def network(self) -> nn.Sequential:
        source = Source(self.make)
        layers = [self.layer(source, 2) for _ in range(1 + source.below(5))]
        first = self.make[-1] % 4
        if first == 0:
            # The larger table has as many elements as state in 8 bits takes.
            words = nn.Embedding((8, 1100)[self.make[-2] % 2], WIDTH, padding_idx=1, rng=9)
            return nn.Sequential(words, *layers, dtype=self.dtype, output=nn.Softmax())
        return nn.Sequential(nn.Dense(WIDTH, WIDTH, dtype=self.dtype, rng=9), *layers)

    def layer(self, source: Source, depth: int) -> nn.Layer:
        seed: Any = source.below(3)
        rng = self.rng if seed == 2 else int(seed)
        match source.below(14):
            case 0:
                return nn.Dense(WIDTH, WIDTH, bias=seed != 1, dtype=self.dtype, rng=seed)
            case 1:
                return nn.BatchNorm(WIDTH, momentum=(0.1, None, 0.5)[seed], dtype=self.dtype)
            case 2:
                return nn.Dropout(0.3, mode=("inverted", "vanilla")[seed % 2], rng=rng)
            case 3:
                return nn.DropConnect(WIDTH, WIDTH, 0.3, dtype=self.dtype, rng=rng)
            case 4:
                return nn.PReLU((1, WIDTH)[seed % 2], dtype=self.dtype)
            case 5:
                return nn.ELU(0.5, learn_alpha=True, dtype=self.dtype)
            case 6:
                return Scaled(self.dtype)
            case 7 if depth:
                return nn.StochasticDepth(self.layer(source, depth - 1), 0.3, rng=rng)
            case 8 if depth:
                return nn.Sequential(*(self.layer(source, depth - 1) for _ in range(1 + seed)))
            case 9:
                wide = nn.Dense(WIDTH, 2 * WIDTH, dtype=self.dtype, rng=seed)
                half = source.pick((nn.GLU, nn.GEGLU, nn.SwiGLU, lambda: nn.Maxout(2)))
                return nn.Sequential(wide, half())
            case 10:
                return source.pick(  # type: ignore[no-any-return]
                    (
                        nn.Flatten,
                        lambda: nn.LayerNorm(WIDTH, dtype=self.dtype),
                        lambda: nn.RMSNorm(WIDTH, dtype=self.dtype),
                        lambda: nn.GroupNorm(2, WIDTH, dtype=self.dtype),
                    )
                )()
            case _:
                return getattr(nn, source.pick(ELEMENTWISE))()  # type: ignore[no-any-return]

    def optimizer(self, source: Source, net: nn.Sequential) -> Any:
        dtypes = ("float32", "bfloat16", "uint8") if self.dtype == np.float32 else ("float32",)
        state_dtype = source.pick(dtypes)
        name = source.pick(RULES if state_dtype == "float32" else PACKED_RULES)
        options: dict[str, Any] = source.pick(
            (
                {},
                {"ema_decay": 0.5},
                {"clip_global_norm": 0.1},
                {"skip_nonfinite": True},
                {"maximize": True},
            )
        )
        named = net.named_params()
        arrays: Any = named if self.names else list(named.values())
        if source.below(3) == 2 and not self.names and len(arrays) > 1:
            arrays = [{"params": arrays[:1], "weight_decay": 0.1}, {"params": arrays[1:]}]
        if state_dtype != "float32" and name in ("SGD", "RMSprop"):
            options["momentum"] = source.pick((0.0, 0.9))
        return getattr(nf.optim, name)(arrays, state_dtype=state_dtype, **options)

    def objects(self) -> Any:
        return self.net, self.opt, self.ema, self.swa, self.plateau, self.rng

    def take(self, objects: Any) -> None:
        self.net, self.opt, self.ema, self.swa, self.plateau, self.rng = objects

    def state(self) -> dict[str, bytes]:
        parts: dict[str, Any] = {
            **{f"net.{name}": value for name, value in self.net.state_dict().items()},
            **{f"opt.{name}": value for name, value in self.opt.state_dict().items()},
            **{f"opt.params.{i}": value for i, value in enumerate(self.opt.params)},
            **{f"ema.{name}": value for name, value in self.ema.state_dict().items()},
            **{f"swa.{name}": value for name, value in self.swa.state_dict().items()},
            **self.plateau.state_dict(),
            "rng": str(self.rng.bit_generator.state),
            "repr": repr(self.net),
            "generators": [
                str(layer._rng.bit_generator.state)
                for layer in self.all_layers()
                if getattr(layer, "_rng_is_own", False)
            ],
            "probabilities": str([layer.p for layer in self.all_layers() if hasattr(layer, "p")]),
            "tied": {id(p) for p in self.opt.params} == {id(p) for p in self.net.params},
            "own": [id(p) for p in self.net.params]
            == [id(p) for p in self.net.named_params().values()],
        }
        return {name: bytes_of(value) for name, value in parts.items()}

    def all_layers(self) -> list[Any]:
        todo, found = [self.net], []
        while todo:
            found.append(todo.pop())
            todo += found[-1]._children()
        return found

    # ---- actions ----

    def train(self) -> None:
        for seed in range(3):
            self.step(np.random.default_rng(seed).standard_normal((5, WIDTH)))
        self.ema.update(self.net.named_params())
        self.opt.lr = self.plateau.update(1.0)
        self.net.predict(self.taken(np.ones((2, WIDTH))))

    def taken(self, x: Any) -> Any:
        """x, or indices by its first column for a network that takes these."""
        if not isinstance(self.net[0], nn.Embedding) or x.dtype.kind != "f":
            return x
        return np.abs(2 * x[..., 0]).astype(int)

    def step(self, x: Any) -> None:
        y = self.net.forward(self.taken(x), training=True)
        self.net.backward(y)
        self.opt.step(self.net.named_grads() if self.names else self.net.grads)

    def batch(self) -> Any:
        shape = self.source.pick(
            ((5, WIDTH), (2, WIDTH), (9, WIDTH), (1, WIDTH), (0, WIDTH), (5, 3), (WIDTH,))
        )
        dtype = self.source.pick((np.float32, np.float64, np.float16, np.int8, complex, object))
        self.batches += 1
        return np.random.default_rng(self.batches).normal(0, 2, shape).astype(dtype)

    # A step that a layer refuses has been through the layers before it.
    def break_train(self) -> None:
        self.train()

    # Whether a step of an odd batch is refused before anything has changed is what forward promises for its own layer.
    def break_step(self) -> None:
        self.step(self.batch())

    def do_infer(self) -> None:
        self.net.predict(self.taken(self.batch()))

    def break_in_the_middle(self) -> None:
        own = [layer for layer in self.all_layers() if isinstance(layer, Scaled)]
        where = self.source.pick(("forward", "backward"))
        for layer in own:
            layer.fails_in = where
        try:
            self.step(np.ones((3, WIDTH)))
        finally:
            for layer in own:
                layer.fails_in = ""

    def do_backward_again(self) -> None:
        params = [param.copy() for param in self.net.params]
        try:
            self.net.backward(np.ones((5, WIDTH), self.dtype), input_gradient=True)
        finally:
            assert all(
                np.array_equal(a, b, equal_nan=True)
                for a, b in zip(params, self.net.params, strict=True)
            )

    def do_step_by_what_is_none(self) -> None:
        grads: Any = self.net.grads
        junk = self.source.pick(
            ([], grads[:-1], [g.astype(complex) for g in grads], None, {"a": 1})
        )
        self.opt.step(junk)

    def do_accumulate(self) -> None:
        grads: Any = self.net.named_grads() if self.names else self.net.grads
        self.opt.accumulate(self.source.pick((grads, grads, self.net.grads[:-1], [], None)))

    def do_step_by_what_was_accumulated(self) -> None:
        self.opt.step(grad_scale=self.source.pick((0.5, 1.0, *JUNK)))

    def do_save(self) -> None:
        self.saved.append(
            {
                "net": self.net.state_dict(),
                "opt": self.opt.state_dict(),
                "ema": self.ema.state_dict(),
            }
        )

    def do_restore(self) -> None:
        """The last saved state comes back, by the dict or by files, also into objects that were made anew."""
        for path, part in (("net", self.net), ("opt", self.opt), ("ema", self.ema)):
            part.save(self.folder / path)
        before = self.state()
        if self.source.below(2):
            self.net = self.network()
            opt = self.opt
            self.opt = self.like(opt)
            self.ema = nf.averaging.EMA(self.net.named_params(), 0.25)
        else:
            with suppress(*EXPECTED):  # a learned alpha may be of no use any more
                self.train()
        for path, part in (("net", self.net), ("opt", self.opt), ("ema", self.ema)):
            part.load(self.folder / path)
        after = self.state()
        for name in (
            "rng",
            "lr",
            "best",
            "num_bad_epochs",
            "cooldown_counter",
            "probabilities",
            "repr",
        ):
            before.pop(name, None)
            after.pop(name, None)
        swa = [name for name in before if name.startswith("swa.")]
        self._compare(
            {name: value for name, value in before.items() if name not in swa},
            {name: value for name, value in after.items() if name not in swa},
            "after save and load",
        )

    def like(self, opt: Any) -> Any:
        """An optimizer of the same arrays of state for the present network."""
        named = self.net.named_params()
        params: Any = named if self.names else list(named.values())
        if opt.groups:
            params = [{"params": params[:1], "weight_decay": 0.9}, {"params": params[1:]}]
        kinds = {n: getattr(opt, n) for n in ("momentum", "centered", "amsgrad") if hasattr(opt, n)}
        ema_decay = None if opt.ema is None else 0.75
        return type(opt)(params, lr=0.5, ema_decay=ema_decay, state_dtype=opt.state_dtype, **kinds)

    def do_load_saved(self) -> None:
        if self.saved:
            state = self.saved[-1]
            self.net.load_state_dict(state["net"])
            self.ema.load_state_dict(state["ema"], keep_settings=self.source.below(2) == 1)
            self.opt.load_state_dict(state["opt"], keep_settings=self.source.below(2) == 1)

    def do_load_net_that_does_not_fit(self) -> None:
        self.net.load_state_dict(self.damaged(self.net.state_dict()))

    def do_load_opt_that_does_not_fit(self) -> None:
        self.opt.load_state_dict(self.damaged(self.opt.state_dict()))
        assert self.opt.step_count >= 0
        assert self.opt.skipped_count >= 0

    def do_load_ema_that_does_not_fit(self) -> None:
        self.ema.load_state_dict(self.damaged(self.ema.state_dict()))
        assert self.ema.update_count >= 0

    def do_load_plateau_that_does_not_fit(self) -> None:
        self.plateau.load_state_dict(self.damaged(self.plateau.state_dict()))

    def damaged(self, state: dict[str, Any]) -> dict[str, Any]:
        state = dict(state)
        name = self.source.pick(sorted(state))
        value: Any = state[name]
        match self.source.below(8):
            case 0:
                del state[name]
            case 1:
                state["more"] = np.ones(2)
            case 2:
                state[name] = np.asarray(value)[None]
            case 3:
                state[name] = np.array(
                    self.source.pick(("", "{}", "[]", '{"lr": -1}', "\x00", '{"decay": 7}'))
                )
            case 4:
                state[name] = np.array(-5)
            case 5:
                state[name] = np.array([None, 1j], object)
            case 6:
                state[name] = (
                    np.full_like(value, -5) if np.asarray(value).dtype.kind in "if" else -5
                )
            case _:
                state[name] = self.source.pick(JUNK)
        return state

    def do_set_an_array(self) -> None:
        layer = self.source.pick(self.all_layers())
        name = self.source.pick(
            (
                "weight",
                "bias",
                "gamma",
                "beta",
                "running_mean",
                "running_var",
                "alpha",
                "num_batches_tracked",
            )
        )
        if not hasattr(type(layer), name):
            return
        there = getattr(layer, name)
        if isinstance(there, np.ndarray):
            value: Any = self.source.pick(
                (
                    np.abs(there) + there.dtype.type(1),
                    there.tolist(),
                    np.atleast_1d(there)[..., :1],
                    *JUNK,
                )
            )
            setattr(layer, name, value)
            assert getattr(layer, name) is there
        else:
            setattr(layer, name, self.source.pick((there, *JUNK)))

    def do_change_probability(self) -> None:
        layer = self.source.pick(self.all_layers())
        if hasattr(layer, "p"):
            layer.p = self.source.pick((0.5, 0.0, 1.0, *JUNK))

    def do_change_an_optimizers_setting(self) -> None:
        name = self.source.pick(tuple(self.opt.defaults["torch"]))
        group = self.source.pick((None, *self.opt.groups))
        before = getattr(self.opt, name) if group is None else group.get(name)
        value = self.source.pick((0.01, 0.5, *JUNK))
        if group is None:
            setattr(self.opt, name, value)
        else:
            group[name] = value
        try:
            self.opt.step(self.zeros())
        except Exception:
            # A setting that is refused by the step stays the caller's to mend.
            if group is None:
                setattr(self.opt, name, before)
            elif before is None:
                del group[name]
            else:
                group[name] = before
            raise

    def zeros(self) -> Any:
        named = {name: np.zeros_like(grad) for name, grad in self.net.named_grads().items()}
        return named if self.names else list(named.values())

    def do_change_decay(self) -> None:
        before = self.ema.decay
        self.ema.decay = self.source.pick((0.9, 0.0, *JUNK))
        try:
            self.ema.update(self.net.named_params())
        except Exception:
            self.ema.decay = before
            raise

    def do_average(self) -> None:
        self.ema.update(self.net.named_params())
        self.swa.update(self.net.named_params())

    def do_average_what_is_none(self) -> None:
        average: Any = self.source.pick((self.ema, self.swa))
        named = self.net.named_params()
        junk: Any = self.source.pick(
            ({}, None, list(named.values()), named | {"more": np.ones(1)}, self.net)
        )
        self.source.pick(
            (average.update, average.copy_to, lambda p: average.applied(p).__enter__())
        )(junk)

    def do_apply_to_copies(self) -> None:
        average: Any = self.source.pick((self.ema, self.swa))
        state = self.net.state_dict()
        self.source.pick((average.copy_to, lambda p: average.applied(p).__enter__()))(state)
        raise AssertionError("copies were written to")

    def do_apply_and_raise(self) -> None:
        before = self.state()
        try:
            with self.source.pick((self.ema, self.swa)).applied(self.net.named_params()):
                self.net.forward(self.taken(np.ones((2, WIDTH))))
                raise Interrupted
        except Interrupted:
            self._compare(before, self.state(), "after applied")

    def do_copy_the_average(self) -> None:
        self.source.pick((self.ema, self.swa)).copy_to(self.net.named_params())

    def do_look(self) -> None:
        before = self.state()
        x = np.ones((3, WIDTH))
        nf.monitor.look(self.net, self.taken(x), x, loss=nf.mse_loss)
        self._compare(before, self.state(), "after look")

    def do_gradient_check(self) -> None:
        if self.source.below(4) == 3:
            before = self.state()
            x = np.random.default_rng(0).standard_normal((3, WIDTH))
            given = self.taken(x)
            nf.checks.gradient_check(self.net, given, x, loss=nf.mse_loss, samples=1)
            self._compare(before, self.state(), "after gradient_check")

    def do_find_a_rate(self) -> None:
        if self.source.below(4) == 3:
            before = self.state()
            x = np.random.default_rng(0).standard_normal((8, WIDTH))
            nf.checks.learning_rate_range(
                self.net, self.taken(x), x, loss=nf.mse_loss, optimizer=self.opt, steps=10
            )
            self._compare(before, self.state(), "after learning_rate_range")
