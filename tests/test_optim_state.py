"""State of optimizers: public arrays, save and resume, and states that do not fit, which change nothing."""

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from layouts import assert_same_bits
from optim_rules import (
    DTYPES,
    KERNELS,
    Rule,
    assert_same_arrays,
    draw,
    every_dtype,
    every_kind,
    every_rule,
    everything,
    start,
    train,
)
from pairs import in_pairs

# ---- state arrays ----

STATES = {
    "SGD": [],
    "Adagrad": ["sum"],
    "Adadelta": ["square_avg", "acc_delta"],
    "RMSprop": ["square_avg"],
    "Adam": ["exp_avg", "exp_avg_sq"],
    "AdamW": ["exp_avg", "exp_avg_sq"],
    "Adamax": ["exp_avg", "exp_inf"],
    "NAdam": ["exp_avg", "exp_avg_sq"],
    "RAdam": ["exp_avg", "exp_avg_sq"],
    "Lion": ["exp_avg"],
    "AdaBelief": ["exp_avg", "exp_avg_var"],
    "Yogi": ["exp_avg", "exp_avg_sq"],
    "Adan": ["exp_avg", "exp_avg_diff", "exp_avg_sq", "last_grad"],
    "Rprop": ["prev", "step_size"],
    "ASGD": ["ax"],
    "Ftrl": ["accumulator", "linear"],
    "LAMB": ["exp_avg", "exp_avg_sq"],
    "LARS": ["momentum_buffer"],
}


@every_rule
@every_dtype
def test_state_arrays_are_public(rule: Rule, dtype: type) -> None:
    optimizer = rule.optimizer(start(dtype))
    settings = rule.settings
    momentum = settings.get("momentum") or (rule.kind, rule.convention) == ("SGD", "cs231n")
    added = {
        "grad_avg": settings.get("centered"),
        "max_exp_avg_sq": settings.get("amsgrad"),
        "momentum_buffer": momentum and rule.kind != "LARS",
    }
    expected = STATES[rule.kind] + [name for name, there in added.items() if there]
    assert list(optimizer.state) == expected
    accumulators = {"Adagrad": ["sum"], "Yogi": STATES["Yogi"], "Ftrl": ["accumulator"]}
    for name, arrays in optimizer.state.items():
        begins = 0.0
        if name in accumulators.get(rule.kind, []):
            begins = optimizer.initial_accumulator_value
        elif name == "step_size":
            begins = optimizer.lr
        for array, p in zip(arrays, optimizer.params, strict=True):
            assert array.dtype == (np.float32 if dtype is np.float16 else dtype)
            assert array.shape == p.shape
            assert (array == array.dtype.type(begins)).all()
    assert optimizer.step_count == optimizer.skipped_count == 0


def test_state_of_a_step() -> None:
    g = draw(np.float64, 1)
    adam, centered = (
        nf.optim.Adam(start(np.float64)),
        nf.optim.RMSprop(start(np.float64), centered=True, momentum=0.9),
    )
    for optimizer in (adam, centered):
        optimizer.step(g)
    np.testing.assert_allclose(adam.state["exp_avg"][0], 0.1 * g[0])
    np.testing.assert_allclose(adam.state["exp_avg_sq"][0], 0.001 * g[0] ** 2)
    np.testing.assert_allclose(centered.state["square_avg"][0], 0.01 * g[0] ** 2)
    np.testing.assert_allclose(centered.state["grad_avg"][0], 0.01 * g[0])


# ---- resuming ----

KEPT = [{}, {"ema_decay": 0.9}, {"ema_decay": 0.9, "ema_bias_correction": False}]


def through_dict(first: Any, second: Any, path: Path) -> None:
    second.load_state_dict(first.state_dict())


def through_file(first: Any, second: Any, path: Path) -> None:
    first.save(path)
    second.load(path)


@in_pairs(rule=KERNELS, dtype=DTYPES, options=KEPT, way=[through_dict, through_file])
def test_a_resumed_run_continues_with_the_same_bits(
    rule: Rule, dtype: type, options: Any, way: Any, tmp_path: Path
) -> None:
    expected = rule.optimizer(start(dtype), **options)
    train(expected, range(8), dtype)
    first = rule.optimizer(start(dtype), **options)
    train(first, range(4), dtype)
    # The parameters are the caller's to save; whatever else the second has is the other's.
    second = rule.optimizer([np.full_like(p, 3) for p in first.params], **options)
    train(second, range(2), dtype)
    way(first, second, tmp_path / "state")
    for mine, theirs in zip(second.params, first.params, strict=True):
        mine[...] = theirs
    train(second, range(4, 8), dtype)
    assert_same_arrays(everything(second), everything(expected))
    if options:
        for a, b in zip(second.averaged_params(), expected.averaged_params(), strict=True):
            assert_same_bits(a, b)


def pickled_and_back(given: Any) -> Any:
    return pickle.loads(pickle.dumps(given))


@in_pairs(rule=KERNELS, dtype=DTYPES, options=KEPT, way=[copy.deepcopy, pickled_and_back])
def test_copies_go_on_with_the_same_bits(rule: Rule, dtype: type, options: Any, way: Any) -> None:
    optimizer = rule.optimizer(start(dtype), **options)
    train(optimizer, range(4), dtype)
    network, copied = way((list(optimizer.params), optimizer))
    assert all(a is b for a, b in zip(network, copied.params, strict=True))
    train(optimizer, range(4, 8), dtype)
    train(copied, range(4, 8), dtype)
    assert_same_arrays(everything(copied), everything(optimizer))


@every_kind
def test_groups_are_resumed(kind: str, tmp_path: Path) -> None:
    """Each group of NAdam has a product of its own."""
    own: dict[str, Any] = {"lr": 0.1} if kind in ("SGD", "Adagrad") else {"weight_decay": 0.1}
    own |= {"betas": (0.5, 0.6)} if kind.removesuffix("W") in ("Adam", "NAdam", "Lion") else {}

    def make() -> Any:
        w, *rest = start(np.float32)
        names = [str(i) for i in range(len(rest))]
        groups = [{"params": {"w": w}, **own}, {"params": dict(zip(names, rest, strict=True))}]
        return getattr(nf.optim, kind)(groups, ema_decay=0.5)

    def run(optimizer: Any, steps: range) -> None:
        for step in steps:
            optimizer.step(
                dict(zip(["w", "0", "1", "2", "3"], draw(np.float32, step), strict=True))
            )

    expected, first, second = make(), make(), make()
    run(expected, range(6))
    run(first, range(3))
    through_file(first, second, tmp_path / "state.npz")
    for mine, theirs in zip(second.params, first.params, strict=True):
        mine[...] = theirs
    run(second, range(3, 6))
    assert_same_arrays(everything(second), everything(expected))
    names = {name.partition(".")[2] for name in first.state_dict() if "." in name}
    assert names == {"w", "0", "1", "2", "3"}


def test_state_dict_is_a_copy_and_loading_writes_in_place() -> None:
    optimizer = nf.optim.Adam([np.ones(3)], ema_decay=0.5)
    saved = optimizer.state_dict()
    kept = optimizer.state["exp_avg"][0]
    optimizer.step([np.ones(3)])
    assert not saved["exp_avg.0"].any()
    optimizer.load_state_dict(saved)
    assert optimizer.state["exp_avg"][0] is kept
    assert not kept.any()
    assert type(optimizer.step_count) is int
    saved["exp_avg.0"][...] = 7
    assert not kept.any()


def test_state_goes_by_name() -> None:
    first, second = (nf.optim.Adam([np.ones(3)]) for _ in range(2))
    for _ in range(2):
        first.step([np.full(3, 5.0)])
        second.step([np.full(3, 5.0)])
        second.state = {name: second.state[name] for name in reversed(second.state)}
    assert_same_arrays(everything(second), everything(first))


# ---- files ----


def test_a_file_of_arrays_under_its_exact_name(tmp_path: Path) -> None:
    """Numbers alone, which need no pickle, at that very name, with the rights of any other file."""
    optimizer = nf.optim.NAdam({"layer/w": np.ones(3, np.float16)}, ema_decay=0.5)
    optimizer.step({"layer/w": np.ones(3, np.float16)})
    for path in (tmp_path / "plain", str(tmp_path / "text.npz")):
        optimizer.save(path)
        with np.load(path, allow_pickle=False) as file:
            assert_same_arrays({name: file[name] for name in file.files}, optimizer.state_dict())
    (tmp_path / "other").write_bytes(b"")
    assert len(list(tmp_path.iterdir())) == 3
    assert (tmp_path / "plain").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_name_may_end_as_numpys_files_do(tmp_path: Path) -> None:
    def make() -> Any:
        return nf.optim.SGD({"w": np.zeros(2), "w.npy": np.zeros(2)}, momentum=0.9)

    first, second = make(), make()
    first.step({"w": np.full(2, 1.0), "w.npy": np.full(2, 2.0)})
    through_file(first, second, tmp_path / "state")
    assert_same_arrays(second.state_dict(), first.state_dict())


def test_savez_of_numpy_2_0_takes_nothing_but_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    savez, names = np.savez, set()

    def older(file: Any, **arrays: Any) -> None:
        names.update(arrays)
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", older)
    optimizer = nf.optim.Adam([np.ones(3)])
    optimizer.save(tmp_path / "state")
    assert names == optimizer.state_dict().keys()


def fail_in_the_middle(file: Any, **arrays: Any) -> None:
    file.write(b"half of it")
    raise OSError("disk full")


def interrupt(*arguments: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    ("module", "name", "replacement", "error"),
    [
        (np, "savez", fail_in_the_middle, OSError),
        (os, "replace", interrupt, KeyboardInterrupt),
    ],
)
def test_a_failing_save_leaves_what_was_there(
    module: Any,
    name: str,
    replacement: Any,
    error: Any,
    there: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    optimizer = nf.optim.Adam([np.ones(3)])
    path = tmp_path / "state.npz"
    if there:
        optimizer.save(path)
    before = [(p.name, p.read_bytes()) for p in tmp_path.iterdir()]
    optimizer.step([np.ones(3)])
    monkeypatch.setattr(module, name, replacement)
    with pytest.raises(error):
        optimizer.save(path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == before


def test_save_to_a_path_that_cannot_exist(tmp_path: Path) -> None:
    optimizer = nf.optim.Adam([np.ones(3)])
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "missing" / "state", tmp_path / "taken"):
        with pytest.raises(OSError, match="missing|taken"):
            optimizer.save(path)
    with pytest.raises(OSError, match="missing"):
        optimizer.load(tmp_path / "missing")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def array_file(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def truncated(path: Path) -> None:
    nf.optim.Adam([np.ones(3)]).save(path)
    path.write_bytes(path.read_bytes()[:-40])


def damaged(path: Path) -> None:
    nf.optim.Adam([np.ones(3)]).save(path)
    content = path.read_bytes()
    one = np.ones(3).tobytes() if np.ones(3).tobytes() in content else b"NUMPY"
    path.write_bytes(content.replace(one, one[::-1], 1))


def pickled(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, optimizer=np.array([object()]))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no state at all"),
        lambda path: path.write_bytes(b"PK\x03\x04" + bytes(40)),
        array_file,
        truncated,
        damaged,
        pickled,
    ],
    ids=["empty", "text", "no archive", "array", "truncated", "damaged", "pickled"],
)
def test_a_file_that_is_no_state(write: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "state"
    write(path)
    optimizer = nf.optim.Adam([np.zeros(3)])
    optimizer.step([np.ones(3)])
    before = everything(optimizer)
    with pytest.raises(ValueError, match="."):
        optimizer.load(path)
    assert_same_arrays(everything(optimizer), before)


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def with_(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: state | {name.replace("__", "."): v for name, v in changes.items()}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (with_(optimizer="AdamW"), ValueError, "state must be of Adam, got AdamW"),
        (without("optimizer"), ValueError, "state must be of Adam, got None"),
        (without("exp_avg_sq.1"), ValueError, "state lacks exp_avg_sq.1"),
        (without("step_count"), ValueError, "state lacks step_count"),
        (without("ema.0"), ValueError, "state lacks ema.0"),
        (without("ema_weight"), ValueError, "state lacks ema_weight"),
        (without("master.0"), ValueError, "state lacks master.0"),
        (with_(mu_product=1.0), ValueError, "state has mu_product"),
        (with_(exp_avg__2=np.ones(3)), ValueError, "state has exp_avg.2"),
        (
            with_(exp_avg_sq__1=np.ones((1, 3))),
            ValueError,
            r"state\['exp_avg_sq.1'\] must have shape \(3,\), got \(1, 3\)",
        ),
        (with_(exp_avg_sq__1=np.ones(3, "f")), TypeError, "must have dtype float64, got float32"),
        (with_(master__0=np.ones(3)), TypeError, "must have dtype float32, got float64"),
        (with_(step_count=1.0), TypeError, r"state\['step_count'\] must have dtype int64"),
        (with_(step_count=[1, 2]), ValueError, r"state\['step_count'\] must have shape \(\)"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
    change: Any, error: type[Exception], message: str
) -> None:
    def make(steps: int) -> Any:
        params = [np.zeros(3, np.float16), np.zeros(3)]
        optimizer = nf.optim.Adam(params, ema_decay=0.5)
        for _ in range(steps):
            optimizer.step([np.ones(3, np.float16), np.ones(3)])
        return optimizer

    optimizer = make(1)
    before = everything(optimizer)
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(change(make(2).state_dict()))
    assert_same_arrays(everything(optimizer), before)
    optimizer.load_state_dict(make(2).state_dict())
    assert optimizer.step_count == 2


def test_a_read_only_array_of_state_is_noticed_before_loading() -> None:
    optimizer = nf.optim.Adam([np.zeros(3)])
    optimizer.step([np.ones(3)])
    saved, before = nf.optim.Adam([np.zeros(3)]).state_dict(), everything(optimizer)
    optimizer.state["exp_avg_sq"][0].flags.writeable = False
    with pytest.raises(ValueError, match="exp_avg_sq.0 must be writeable"):
        optimizer.load_state_dict(saved)
    assert_same_arrays(everything(optimizer), before)
