"""Gradients of tables by their rows: only these change, as by an array of their sums, and only these cost."""

import copy
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnfast as nf
from conftest import SAME_BITS_ISAS
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from nnfast.optim import Rows
from optim_rules import TABLE, Array, Rule, assert_same_arrays, every_dtype, everything, label

TAKES = ("SGD", "Adagrad", "Adam", "AdamW")
of_rows = [rule for rule in TABLE if rule.kind in TAKES]
every_rule = pytest.mark.parametrize("rule", of_rows, ids=label)
N, D = 40, 19


def numbers(shape: Any, dtype: type = np.float64, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def batch(seed: int, dtype: type = np.float64, few: int = 12) -> tuple[Array, Array]:
    """Indices, some of them equal, and values."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, few, (5, 4)), numbers((5, 4, D), dtype, seed)


# ---- the formula ----


@every_rule
@every_dtype
def test_all_rows_are_the_array(isa: str, rule: Rule, dtype: type) -> None:
    whole, rows = (rule.optimizer([numbers((N, D), dtype), numbers(3, dtype)]) for _ in range(2))
    order = np.random.default_rng(3).permutation(N)
    for t in range(4):
        g, other = numbers((N, D), dtype, t + 1), numbers(3, dtype, t)
        whole.step([g, other])
        rows.step([Rows(order, g[order]), other])
    assert_same_arrays(everything(rows), everything(whole))


def lazily(rule: Rule, p: Array, state: dict[str, Array], rows: Rows, t: int) -> None:
    """A step of the rows that are named by the rule's formula; the state lies in whole arrays."""
    sums = np.zeros_like(p)
    np.add.at(sums, rows.indices, rows.values)
    named = np.unique(rows.indices)
    of_rows: dict[str, Any] = {name: array[named] for name, array in state.items()}
    p[named] = rule.follow(p[named], sums[named], of_rows, t)
    for name, values in of_rows.items():
        if name not in state:
            first = getattr(rule.optimizer([]), "initial_accumulator_value", 0.0)
            state[name] = np.full_like(p, first if name == "sum" else 0.0)
        state[name][named] = values


@every_rule
def test_fifty_steps_are_the_lazy_formula(rule: Rule) -> None:
    table = numbers((N, D))
    expected, state = table.copy(), {}
    opt = rule.optimizer([table])
    for t in range(1, 51):
        rows = Rows(*batch(t, few=N))
        opt.step([rows])
        lazily(rule, expected, state, rows, t)
    np.testing.assert_allclose(table, expected, rtol=1e-10, atol=1e-12)


@every_rule
@every_dtype
def test_other_rows_and_their_state_stay(rule: Rule, dtype: type) -> None:
    opt = rule.optimizer([numbers((N, D), dtype)], ema_decay=0.9, ema_bias_correction=False)
    opt.step([numbers((N, D), dtype, 5)])
    before = everything(opt)
    for t in range(3):
        opt.step([Rows(*batch(t, dtype))])
    after = everything(opt)
    changed = np.unique(np.concatenate([batch(t)[0].reshape(-1) for t in range(3)]))
    others = np.setdiff1d(np.arange(N), changed)
    arrays = [name for name, array in after.items() if array.shape == (N, D)]
    assert "ema.0" in arrays
    for name in arrays:
        assert_same_bits(after[name][others], before[name][others])
        assert (after[name][changed] != before[name][changed]).any(axis=1).all()


@settings(max_examples=40)
@given(data=st.data())
def test_sums_of_equal_indices_are_those_of_embedding_backward(data: Any) -> None:
    n, d = data.draw(st.integers(1, 50)), data.draw(st.integers(0, 9))
    shape = data.draw(st.sampled_from([(), (0,), (7,), (3, 0), (4, 6), (2, 3, 2)]))
    dtype = data.draw(st.sampled_from([np.float16, np.float32, np.float64]))
    kind = data.draw(st.sampled_from([np.int8, np.uint8, np.int32, np.uint64]))
    seed = data.draw(st.integers(0, 1000))
    indices = np.random.default_rng(seed).integers(0, n, shape).astype(kind)
    values = numbers((*shape, d), dtype, seed)
    table, other = np.zeros((n, d), dtype), np.zeros((n, d), dtype)
    nf.optim.SGD([table], lr=1.0).step([Rows(indices, values)], grad_scale=0.5)
    dense = nf.embedding_backward(values, indices, n)
    nf.optim.SGD([other], lr=1.0).step([dense], grad_scale=0.5)
    np.testing.assert_array_equal(table, other)
    assert_same_bits(Rows(indices, values).to_array(n), dense)


def test_bits_do_not_depend_on_threads_and_layout() -> None:
    def run(layout: str = "contiguous") -> dict[str, Array]:
        opt = nf.optim.AdamW([layouts(numbers((N, D), np.float32))[layout]], clip_norm=0.1)
        for t in range(3):
            indices, values = batch(t, np.float32)
            opt.step([Rows(layouts(indices)[layout], layouts(values)[layout])])
        return everything(opt)

    expected = run()
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_arrays(run(), expected)
    for name in layouts(numbers((N, D))):
        assert_same_arrays(run(name), expected)


@every_rule
@pytest.mark.parametrize("d", [15, 16, 64, 4096, 4097])  # around the least and the most of a row
@pytest.mark.parametrize("few", [1, 6, 60])  # one row with all the work, neighbours, some far apart
def test_rows_that_are_stepped_where_they_lie_have_the_bits_of_copies(
    rule: Rule, d: int, few: int
) -> None:
    for dtype in (np.float32, np.float64):
        # With names, rows are copied, stepped together and written back.
        where, copied = (numbers((60, d), dtype) for _ in range(2))
        one, other = rule.optimizer([where]), rule.optimizer({"w": copied})
        for t in range(3):
            indices = np.random.default_rng(t).integers(0, few, 30).astype(np.int32)
            values = numbers((30, d), dtype, t)
            one.step([Rows(indices, values)], grad_scale=0.5)
            other.step({"w": Rows(indices, values)}, grad_scale=0.5)
        assert_same_bits(where, copied)
        for name, arrays in one.state.items():
            assert_same_bits(arrays[0], other.state[name][0])
        assert one.step_count == 3


def test_values_that_lie_in_the_table_are_read_first() -> None:
    table = numbers((8, 32))
    copied = table.copy()
    nf.optim.SGD([table], lr=1.0).step([Rows([6, 7, 0], table[[7, 6, 5]])])
    nf.optim.SGD([copied], lr=1.0).step([Rows([6, 7, 0], copied[5:][::-1])])
    assert_same_bits(copied, table)


def test_a_wrong_gradient_in_a_list_changes_nothing() -> None:
    w, table = np.ones(3), np.ones((4, 8))
    opt = nf.optim.Adam([w, table])
    opt.step([np.ones(3), Rows([1], np.ones((1, 8)))])
    before = everything(opt)
    wrong: list[tuple[Any, type[Exception], str]] = [
        ([np.ones(3), Rows([4], np.ones((1, 8)))], IndexError, "must be in"),
        ([np.ones(3), Rows([-1], np.ones((1, 8)))], IndexError, "must be in"),
        ([np.ones(3), Rows([1], np.ones((1, 7)))], ValueError, "rows of shape"),
        ([np.ones(3), Rows([1], np.ones((1, 8), "f"))], TypeError, "dtype float64"),
        ([np.ones(2), Rows([1], np.ones((1, 8)))], ValueError, "must have shape"),
        ([Rows([1], np.ones((1, 8)))], ValueError, "one array for each"),
    ]
    for grads, error, message in wrong:
        with pytest.raises(error, match=message):
            opt.step(grads)
        assert_same_arrays(everything(opt), before)


def test_sums_that_overflow_are_reported() -> None:
    table = np.zeros((4, 32), np.float32)
    opt = nf.optim.SGD([table], lr=1.0)
    with pytest.warns(RuntimeWarning, match="overflow"):
        opt.step([Rows([1, 1], np.full((2, 32), 3e38, np.float32))])
    assert (table[1] == -np.inf).all()
    assert (table[[0, 2, 3]] == 0).all()


@pytest.mark.parametrize("row", [(), (3,), (2, 3)])
def test_rows_of_any_shape(row: tuple[int, ...]) -> None:
    table = np.zeros((4, *row))
    nf.optim.SGD([table], lr=1.0).step([Rows([[2, 0], [2, 2]], np.ones((2, 2, *row)))])
    assert_same_bits(
        table,
        np.broadcast_to(np.reshape([-1.0, 0, -3, 0], (4,) + (1,) * len(row)), table.shape).copy(),
    )
    before = table.copy()
    nf.optim.SGD([table], lr=1.0, momentum=0.9).step([Rows([], np.ones((0, *row)))])
    assert_same_bits(table, before)


# ---- with other gradients and options ----


@pytest.mark.parametrize("option", ["clip_norm", "clip_global_norm", "clip_value"])
@every_dtype
def test_clipping_and_statistics_count_them(option: str, dtype: type) -> None:
    """A rule without state moves no other rows, so that it tells nothing but the gradients apart."""
    made = [
        nf.optim.SGD([numbers((N, D), dtype), numbers(50, dtype, 1)], lr=0.5, **{option: 0.75})
        for _ in range(2)
    ]
    for t in range(3):
        indices, values = batch(t, dtype)
        other = numbers(50, dtype, t + 9)
        whole = made[0].step([nf.embedding_backward(values, indices, N), other], stats=True)
        rows = made[1].step([Rows(indices, values), other], stats=True)
        for name in ("grad_norm", "update_norm", "param_norm"):
            np.testing.assert_allclose(getattr(rows, name), getattr(whole, name), rtol=1e-5)
    for a, b in zip(made[0].params, made[1].params, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=8 * np.finfo(dtype).eps)


def test_groups_names_and_missing_gradients() -> None:
    table, w, b = np.zeros((4, 2)), np.zeros(3), np.zeros(2)
    opt = nf.optim.SGD(
        [{"params": {"w": w, "table": table}, "lr": 1.0}, {"params": {"b": b}, "lr": 10.0}]
    )
    opt.step({"table": Rows([1], np.ones((1, 2))), "b": np.ones(2), "w": None})
    assert (w.any(), table.tolist()) == (False, [[0, 0], [-1, -1], [0, 0], [0, 0]])
    assert b.tolist() == [-10, -10]


def test_a_step_with_infinities_is_skipped() -> None:
    table = np.ones((4, 2))
    opt = nf.optim.Adam([table], skip_nonfinite=True)
    assert opt.step([Rows([1], np.full((1, 2), np.inf))], stats=True).skipped
    assert table.min() == table.max() == 1
    assert not opt.state["exp_avg"][0].any()


def test_keras_averages_begin_with_the_whole_table() -> None:
    table = np.full((3, 1), 4.0)
    opt = nf.optim.SGD([table], lr=1.0, ema_decay=0.5, convention="keras")
    for _ in range(2):
        opt.step([Rows([1], np.ones((1, 1)))])
    assert opt.averaged_params()[0].tolist() == [[4], [2.5], [4]]


def test_sums_of_rows() -> None:
    one, other = Rows([0, 1], np.ones((2, 3))), Rows([[1]], np.full((1, 1, 3), 2.0))
    both = one + other
    assert both.indices.tolist() == [0, 1, 1]
    assert both.to_array(3).tolist() == [[1] * 3, [3] * 3, [0] * 3]
    assert repr(both) == "Rows(3 of shape (3,), float64)"
    with pytest.raises(ValueError, match="both must have rows of one shape and dtype"):
        one + Rows([0], np.ones((1, 2)))
    with pytest.raises(TypeError):
        one + 1


@pytest.mark.parametrize("way", ["none", "dict", "file", "pickle", "copy"])
def test_rows_accumulate_and_are_resumed(way: str, tmp_path: Path) -> None:
    def make() -> Any:
        return nf.optim.Adam({"table": numbers((N, D)), "w": numbers(3)})

    def first(opt: Any) -> None:
        opt.accumulate({"table": Rows(*batch(1)), "w": numbers(3, seed=1)})
        opt.accumulate({"table": Rows(*batch(2)), "w": numbers(3, seed=2)})

    opt, expected = make(), make()
    first(opt)
    if way in ("dict", "file"):
        other = make()
        if way == "dict":
            other.load_state_dict(opt.state_dict())
        else:
            opt.save(tmp_path / "state")
            other.load(tmp_path / "state")
        opt = other
    elif way != "none":
        opt = {"pickle": lambda o: pickle.loads(pickle.dumps(o)), "copy": copy.deepcopy}[way](opt)
    opt.step({"table": Rows(*batch(3)), "w": numbers(3, seed=3)}, grad_scale=0.5)
    joined = Rows(*batch(1)) + Rows(*batch(2)) + Rows(*batch(3))
    total = numbers(3, seed=1) + numbers(3, seed=2) + numbers(3, seed=3)
    expected.step({"table": joined, "w": total}, grad_scale=0.5)
    assert_same_arrays(everything(opt), everything(expected))
    opt.accumulate({"table": Rows(*batch(1)), "w": None})
    opt.step()
    assert opt.step_count == 2


# ---- errors ----


def ones(*shape: int, dtype: Any = np.float64) -> Array:
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("indices", "values", "error", "message"),
    [
        ([0.5], ones(1, 2), TypeError, "indices must be an array of integers, got dtype float64"),
        ([0, 1], ones(1, 2), ValueError, r"values must have the axes of indices first, \(2,\), go"),
        ([0], 1.0, ValueError, "values must have the axes of indices first"),
        ([0], np.array(["x"]), TypeError, "values must be"),
    ],
)
def test_rows_are_checked(indices: Any, values: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Rows(indices, values)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (Rows([4], ones(1, 2)), IndexError, r"grads\['table'\].indices must be in \[0, 4\), got 4"),
        (Rows([0, -1], ones(2, 2)), IndexError, r"must be in \[0, 4\), got -1"),
        (Rows([0], ones(1, 3)), ValueError, r"grads\['table'\] must have rows of shape \(2,\), go"),
        (Rows([0], ones(1)), ValueError, r"must have rows of shape \(2,\), got \(\)"),
        (Rows([0], ones(1, 2, dtype="f")), TypeError, "values must have dtype float64, got float3"),
    ],
)
def test_a_wrong_gradient_changes_nothing(rows: Rows, error: type[Exception], message: str) -> None:
    opt = nf.optim.Adam({"w": ones(3), "table": ones(4, 2)})
    opt.step({"w": ones(3), "table": Rows([1], ones(1, 2))})
    before = everything(opt)
    for call in (opt.step, opt.accumulate, partial(opt.step, stats=True)):
        with pytest.raises(error, match=message):
            call({"w": ones(3), "table": rows})
        assert_same_arrays(everything(opt), before)
    with pytest.raises(ValueError, match=r"grads\['w'\] must have shape \(3,\), got \(2,\)"):
        opt.step({"w": ones(2), "table": Rows([1], ones(1, 2))})
    assert_same_arrays(everything(opt), before)
    opt.params[1].flags.writeable = False
    with pytest.raises(ValueError, match=r"params\['table'\] must be writeable"):
        opt.step({"w": ones(3), "table": Rows([1], ones(1, 2))})
    opt.params[1].flags.writeable = True
    assert_same_arrays(everything(opt), before)


def test_where_rows_are_not_taken() -> None:
    rows = Rows([1], ones(1, 2))
    for kind in nf.optim.rules.__all__:
        opt = getattr(nf.optim, kind)([ones(4, 2)])
        if kind not in TAKES:
            with pytest.raises(TypeError, match=rf"grads\[0\] must be an array, as {kind} takes"):
                opt.step([rows])
    for option in ("clip_block_rms", "clip_adaptive"):
        opt = nf.optim.SGD([ones(4, 2)], **{option: 1.0})
        with pytest.raises(TypeError, match=f"must be an array where {option} is given"):
            opt.step([rows])
    with pytest.raises(ValueError, match="ema_bias_correction must be False where"):
        nf.optim.SGD([ones(4, 2)], ema_decay=0.5).step([rows])
    with pytest.raises(TypeError, match="dw must be a numpy.ndarray, got Rows"):
        nf.optim.sgd(ones(4, 2), rows)
    for first, second in ((rows, ones(4, 2)), (ones(4, 2), rows)):
        opt = nf.optim.SGD([ones(4, 2)])
        opt.accumulate([first])
        for call in (opt.accumulate, opt.step):
            with pytest.raises(TypeError, match="as what was accumulated is, got"):
                call([second])
        assert opt.step_count == 0


# ---- layers ----


@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sparse_layer_learns_as_the_other(padding: int | None, dtype: type) -> None:
    def make(sparse: bool) -> nf.nn.Sequential:
        return nf.nn.Sequential(
            nf.nn.Embedding(30, 4, padding_idx=padding, sparse=sparse, rng=0),
            nf.nn.Dense(4, 3, rng=1),
            dtype=dtype,
        )

    made = [make(False), make(True)]
    opts = [nf.optim.SGD(net.params, lr=0.1) for net in made]
    for step in range(5):
        x = np.random.default_rng(step).integers(0, 30, (6, 5))
        for net, opt in zip(made, opts, strict=True):
            net.backward(net.forward(x, training=True))
            opt.step(net.grads)
    assert isinstance(made[1].grads[0], Rows)
    for a, b in zip(made[0].params, made[1].params, strict=True):
        assert_same_bits(a, b)
    assert "sparse=True" in repr(made[1].layers[0])


def test_a_sparse_layer_is_copied_and_pickled() -> None:
    net = nf.nn.Sequential(nf.nn.Embedding(30, 4, sparse=True, rng=0), nf.nn.Dense(4, 3, rng=1))
    x = np.array([[1, 2, 1]])
    net.backward(net.forward(x, training=True))
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        opt = nf.optim.Adam(other.params)
        other.backward(other.forward(x, training=True))
        opt.step(other.grads)
        assert (other.params[0] != net.params[0]).any(axis=1).nonzero()[0].tolist() == [1, 2]


def test_the_function_is_a_gradient_too() -> None:
    table, indices = numbers((6, 2)), np.array([[0, 3], [3, 5]])
    expected = table.copy()
    y = nf.embedding(indices, table)
    dy = 2 * y
    nf.optim.SGD([table], lr=0.25).step([Rows(indices, dy)])
    nf.optim.SGD([expected], lr=0.25).step([nf.embedding_backward(dy, indices, 6)])
    assert_same_bits(table, expected)


# ---- beside PyTorch ----


def torch_rows(indices: Array, values: Array) -> Any:
    import torch

    flat = torch.tensor(indices.reshape(1, -1))
    dense = torch.tensor(values.reshape(-1, D))
    return torch.sparse_coo_tensor(flat, dense, (N, D), check_invariants=True)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    ("kind", "theirs", "options"),
    [
        ("SGD", "SGD", {"lr": 0.1}),
        ("Adagrad", "Adagrad", {"lr": 0.1}),
        ("Adam", "SparseAdam", {"lr": 0.01, "eps": 0.1}),
        ("Adam", "SparseAdam", {"lr": 0.01, "eps": 1e-8, "betas": (0.8, 0.9)}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fifty_steps_are_pytorchs(kind: str, theirs: str, options: Any, dtype: type) -> None:
    import torch

    convention: Any = {"convention": "keras"} if kind == "Adam" else {}
    table = numbers((N, D), dtype)
    other = torch.tensor(table, requires_grad=True)
    opt = getattr(nf.optim, kind)([table], **options, **convention)
    peer = getattr(torch.optim, theirs)([other], **options)
    for t in range(50):
        indices, values = batch(t, dtype, few=N)
        opt.step([Rows(indices, values)])
        other.grad = torch_rows(indices, values)
        peer.step()
    # Sums of few values of up to 4, by steps of up to 0.5.
    bound = 50 * 16 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(table, other.detach().numpy(), rtol=0, atol=bound)
