"""``python -m bench cliffs``: where a form of the arguments costs many times the plain call, an element.

Each kernel's plain call has contiguous, aligned, native float32 arrays, its last axis as the axis and one number for
each parameter. Beside it stand the same call on arrays of another layout or dtype, and the same function with an array
for a parameter, along another axis or along a short one.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import nnfast as nf
from bench import registry, timing
from bench.case import Array, Call, Case
from bench.timing import Budget

LIMIT = 3.0
ELEMENTS = 100_000
BUDGET = Budget(seconds=0.05, least=5, most=15, slot_ns=1e6)

# What is above the limit and known, by parts of the names of kernel and form: elements at a stride are loaded one
# at a time; short rows of norms and losses, of four elements, cost what a row costs, and batch_norm goes through a few
# neighbours at a time; and some kernels widen float16 by themselves, or let NumPy do it.
KNOWN: tuple[tuple[str, str], ...] = (
    ("", "strided"),
    *((name, "axis ") for name in ("logsumexp", "_norm", "maxout")),
    *((name, "axis ") for name in ("softmax_cross_entropy", "cross_entropy", "svm_loss")),
    *((name, "float16") for name in ("_backward", "maxout", "prelu", "bias_relu", "_loss")),
    *((name, "float16") for name in ("relu6", "hardsigmoid")),
    ("prelu", "big-endian"),
    # Ten elements are too few to hide what a channel, or a row, costs beside passes that are as fast as memory.
    *(
        ("dropout", f"{mode}p a channel, axis 0 of (10000, 10)")
        for mode in ("", "vanilla inference, ")
    ),
    *((name, "sample_weight a row, (10000, 10)") for name in ("mse_loss", "l1_loss")),
    # Few elements of x lie in windows, or few windows in a row, or few channels in a vector; and what is not next to
    # each other is gathered, or added place by place.
    *(("", form) for form in ("with gaps", "small planes", "three channels last")),
    *(("pool2d", form) for form in ("thirds", "quarters", "dilated")),
    ("max_pool2d_backward", "channels last"),
)


class Form(NamedTuple):
    """A form of a kernel's arguments beside the plain one, both over `elements` and `plain_elements`."""

    kernel: str
    form: str
    plain: Call
    call: Call
    plain_elements: int
    elements: int


# ---- layouts and dtypes: every case of the suite ----


def unaligned(array: Array) -> Array:
    """At an address that is no multiple of the item size."""
    made = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def strided(array: Array) -> Array:
    """Every other element of the last axis."""
    made = np.empty((*array.shape, 2), array.dtype)[..., 0]
    made[...] = array
    return made


def read_only(array: Array) -> Array:
    """Not writeable."""
    made = array.copy()
    made.flags.writeable = False
    return made


def floats(change: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The change, of floating-point arrays alone."""
    return lambda array: change(array) if array.dtype.kind == "f" else array


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "float16": floats(lambda array: array.astype(np.float16)),
    "big-endian": floats(lambda array: array.astype(">f4")),
    "unaligned": floats(unaligned),
    "strided": floats(strided),
    "read-only": read_only,
}


def form_of(case: Case, arrays: dict[str, Array]) -> Call:
    """The call that allocates its results: what is given as `out` has a dtype and a layout of its own."""
    forms = case.forms(**arrays)
    return forms.get("allocating") or next(iter(forms.values()))


def layout_forms(case: Case) -> Iterator[Form]:
    """Layouts that the function takes; what is written must have the exact dtype, so that some are refused."""
    arrays = case.problem(ELEMENTS, np.dtype(np.float32)).arrays
    plain = form_of(case, {name: array.copy() for name, array in arrays.items()})
    for name, change in LAYOUTS.items():
        try:
            call = form_of(case, {key: change(array) for key, array in arrays.items()})
            call()
        except (TypeError, ValueError):
            continue
        yield Form(case.kernel, name, plain, call, 1, 1)


# ---- arrays for numbers ----


def numbers(*shape: int, dtype: type = np.float32) -> Array:
    """Standard normal."""
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def parameter_forms() -> Iterator[Form]:
    """Parameters that may be arrays."""
    yield from dropout_forms()
    yield from weighted_losses()
    for shape, axis in (((200, 500), 1), ((20, 50, 10, 10), 1)):
        x = numbers(*shape)
        along = np.full((shape[axis], *(1,) * (x.ndim - 1 - axis)), 0.25, np.float32)
        yield form(
            "prelu",
            f"a slope a channel of {shape}",
            lambda x: nf.prelu(x, 0.25),
            x,
            lambda x, w=along: nf.prelu(x, w),
        )
        yield form(
            "prelu_backward",
            f"a slope a channel of {shape}",
            lambda x: nf.prelu_backward(x, x, 0.25),
            x,
            lambda x, w=along: nf.prelu_backward(x, x, w),
        )


def form(
    kernel: str,
    name: str,
    plain: Callable[[Array], Any],
    x: Array,
    call: Callable[[Array], Any],
    other: Array | None = None,
) -> Form:
    """A form on x, or on another array, beside the plain one on x."""
    y = x if other is None else other
    return Form(kernel, name, lambda: plain(x), lambda: call(y), x.size, y.size)


def dropout_forms() -> Iterator[Form]:
    """A probability for each channel."""
    for shape, axis in (
        ((200, 500), 1),
        ((200, 500), 0),
        ((20, 50, 10, 10), 1),
        ((10_000, 10), 1),
        ((10_000, 10), 0),
    ):
        x = numbers(*shape)
        p = np.linspace(0.1, 0.9, shape[axis])
        name = f"p a channel, axis {axis} of {shape}"
        mask = nf.dropout_mask(shape, p, rng=0, axis=axis)
        yield form(
            "dropout",
            name,
            lambda x: nf.dropout(x, 0.5, rng=0),
            x,
            lambda x, p=p, axis=axis: nf.dropout(x, p, rng=0, axis=axis),
        )
        yield form(
            "dropout_mask",
            name,
            lambda x: nf.dropout_mask(x.shape, 0.5, rng=0),
            x,
            lambda x, p=p, axis=axis: nf.dropout_mask(x.shape, p, rng=0, axis=axis),
        )
        yield form(
            "dropout_backward",
            name,
            lambda x, mask=mask: nf.dropout_backward(x, mask, 0.5),
            x,
            lambda x, p=p, mask=mask, axis=axis: nf.dropout_backward(x, mask, p, axis=axis),
        )
        yield form(
            "dropout",
            f"vanilla inference, {name}",
            lambda x: nf.dropout(x, 0.5, training=False, mode="vanilla"),
            x,
            lambda x, p=p, axis=axis: nf.dropout(x, p, training=False, mode="vanilla", axis=axis),
        )


ELEMENT_LOSSES = (
    "mse_loss",
    "l1_loss",
    "huber_loss",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "log_cosh_loss",
    "poisson_nll_loss",
    "kl_div",
    "hinge_loss",
    "squared_hinge_loss",
    "sigmoid_focal_loss",
)
CLASS_LOSSES = ("softmax_cross_entropy", "cross_entropy", "svm_loss", "nll_loss")


def weighted_losses() -> Iterator[Form]:
    """Weights of samples, of classes and of the positive class, and a loss for each row or element."""
    rng = np.random.default_rng(0)
    for shape in ((200, 500), (10_000, 10)):
        p = rng.dirichlet(np.ones(shape[1]), shape[0]).astype(np.float32)
        t = rng.random(shape).astype(np.float32)
        labels, rows = rng.integers(0, shape[1], shape[0]), rng.random(shape[0])
        each, columns = rng.random(shape), rng.random(shape[1])
        weights: dict[str, dict[str, Any]] = {
            "sample_weight a row": {"sample_weight": rows},
            "reduction none": {"reduction": "none"},
        }
        of_elements = weights | {"sample_weight an element": {"sample_weight": each}}
        of_logits = of_elements | {
            "pos_weight": {"pos_weight": 2.0},
            "pos_weight a column": {"pos_weight": columns},
            "pos_weight a row": {"pos_weight": rows[:, np.newaxis]},
            "pos_weight an element": {"pos_weight": each},
        }
        of_classes = weights | {
            "class_weight": {"class_weight": columns},
            "label_smoothing": {"label_smoothing": 0.1},
            "both": {"class_weight": columns, "label_smoothing": 0.1},
        }
        for name in ELEMENT_LOSSES:
            options = of_logits if name.endswith("logits") else of_elements
            yield from loss_forms(name, shape, p, t, options)
        for name in CLASS_LOSSES:
            of_targets = name.endswith("cross_entropy")
            options = of_classes if of_targets else weights
            yield from loss_forms(name, shape, p, labels, options)
            if of_targets:
                yield from loss_forms(f"{name} of targets", shape, p, p, options)


def loss_forms(
    name: str, shape: tuple[int, ...], x: Array, t: Array, options: dict[str, dict[str, Any]]
) -> Iterator[Form]:
    """A loss with options."""
    function = getattr(nf, name.split()[0])
    for option, given in options.items():
        yield form(
            name,
            f"{option}, {shape}",
            lambda x: function(x, t),
            x,
            lambda x, given=given: function(x, t, **given),
        )


# ---- axes ----


def axis_forms() -> Iterator[Form]:
    """Axes that are not the last, and short ones, beside the last of (200, 500)."""
    x = numbers(200, 500)
    for shape, axis in (
        ((500, 200), 0),
        ((20, 500, 10), 1),
        ((500, 20, 10), 0),
        ((25_000, 4), 1),
        ((4, 25_000), 0),
    ):
        other = numbers(*shape)
        name = f"axis {axis} of {shape}"
        for kernel in ("softmax", "log_softmax", "logsumexp"):
            function = getattr(nf, kernel)
            yield form(kernel, name, function, x, lambda x, f=function, a=axis: f(x, axis=a), other)
        for kernel in ("glu", "geglu", "swiglu"):
            function = getattr(nf, kernel)
            yield form(kernel, name, function, x, lambda x, f=function, a=axis: f(x, axis=a), other)
        for kernel in ("layer_norm", "rms_norm"):
            function = getattr(nf, kernel)
            yield form(kernel, name, function, x, lambda x, f=function, a=axis: f(x, axis=a), other)
        yield form(
            "batch_norm",
            name,
            lambda x: nf.batch_norm(x, training=True),
            x,
            lambda x, a=axis: nf.batch_norm(x, training=True, axis=a),
            other,
        )
        yield form(
            "maxout",
            name,
            lambda x: nf.maxout(x, 2),
            x,
            lambda x, a=axis: nf.maxout(x, 2, axis=a),
            other,
        )
        yield from loss_axes(x, other, axis, name)


def loss_axes(x: Array, other: Array, axis: int, name: str) -> Iterator[Form]:
    """Axes of classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 500, 200)
    shape = (*other.shape[:axis], *other.shape[axis + 1 :])
    other_labels = rng.integers(0, other.shape[axis], shape)
    x, other = np.abs(x) / 10, np.abs(other) / 10
    for kernel in CLASS_LOSSES:
        function = getattr(nf, kernel)
        yield form(
            kernel,
            name,
            lambda x, f=function: f(x, labels),
            x,
            lambda x, f=function, a=axis: f(x, other_labels, axis=a),
            other,
        )


# ---- windows ----


def window_forms() -> Iterator[Form]:
    """Windows of other sizes and steps, and other layouts, beside 3 x 3 by two; an element is one of a window's."""
    plain = {name: (made, count) for name, made, count in windowed(PLANES, PLAIN)}
    for form, shape, options in WINDOWS:
        for kernel, call, elements in windowed(shape, options):
            if call is None:
                continue
            yield Form(kernel, form, plain[kernel][0], call, plain[kernel][1], elements)


PLANES = (4, 16, 40, 40)
PLAIN: dict[str, Any] = {"kernel_size": 3, "stride": 2, "padding": 1}
WINDOWS: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
    ("halves", PLANES, {"kernel_size": 2}),
    ("thirds", (4, 16, 39, 39), {"kernel_size": 3}),
    ("quarters", PLANES, {"kernel_size": 4}),
    ("by one", PLANES, {**PLAIN, "stride": 1}),
    ("by three, 5 x 5", PLANES, {"kernel_size": 5, "stride": 3, "padding": 2}),
    ("with gaps", PLANES, {"kernel_size": 2, "stride": 4}),
    ("dilated", PLANES, {**PLAIN, "dilation": 2}),
    ("ceil_mode", PLANES, {**PLAIN, "ceil_mode": True}),
    ("without padding in the mean", PLANES, {**PLAIN, "count_include_pad": False}),
    ("small planes", (50, 64, 6, 6), PLAIN),
    ("one plane", (1, 1, 320, 320), PLAIN),
    ("channels last", (4, 40, 40, 16), {**PLAIN, "axis": -1}),
    ("three channels last", (20, 40, 40, 3), {**PLAIN, "axis": -1}),
    ("long windows", (4, 16, 1, 1600), {"kernel_size": (1, 50)}),
)


def windowed(
    shape: tuple[int, ...], options: dict[str, Any]
) -> Iterator[tuple[str, Call | None, int]]:
    """Each function that takes these options, and None for others; elements of windows."""
    x = numbers(*shape)
    axis = options.get("axis", 1)
    of_mean = {k: v for k, v in options.items() if k != "dilation"}
    of_max = {k: v for k, v in options.items() if k != "count_include_pad"}
    plain = {k: v for k, v in of_max.items() if k != "ceil_mode"}
    y, which = nf.max_pool2d(x, **of_max)
    size = options["kernel_size"]
    elements = y.size * (size[0] * size[1] if isinstance(size, tuple) else size**2)
    dilated, plain_mean = "dilation" in options, "count_include_pad" not in options
    yield "max_pool2d", (lambda: nf.max_pool2d(x, **of_max)) if plain_mean else None, elements
    yield (
        "max_pool2d_backward",
        (lambda: nf.max_pool2d_backward(y, which, shape, axis=axis)) if plain_mean else None,
        elements,
    )
    yield "avg_pool2d", None if dilated else lambda: nf.avg_pool2d(x, **of_mean), elements
    yield (
        "avg_pool2d_backward",
        None if dilated else lambda: nf.avg_pool2d_backward(y, shape, **of_mean),
        elements,
    )
    if not plain_mean or "ceil_mode" in options:
        return
    columns = nf.im2col(x, **plain)
    yield "im2col", lambda: nf.im2col(x, **plain), columns.size
    yield "col2im", lambda: nf.col2im(columns, shape, **plain), columns.size


# ---- the sweep ----


class Row(NamedTuple):
    """A form, nanoseconds an element, and how many times the plain call's they are."""

    kernel: str
    form: str
    ns: float
    times: float

    @property
    def known(self) -> bool:
        """Whether KNOWN has it."""
        return any(kernel in self.kernel and self.form.startswith(form) for kernel, form in KNOWN)


def measure(given: Form) -> Row:
    """Both calls in turn; ratios of rounds, of which the median counts."""
    times = timing.rounds({"plain": given.plain, "form": given.call}, BUDGET)
    ratio = float(np.median(times["form"] / times["plain"]))
    ns = float(np.median(times["form"])) / (given.elements if given.elements > 1 else ELEMENTS)
    return Row(given.kernel, given.form, ns, ratio * given.plain_elements / given.elements)


def forms(only: list[str]) -> Iterator[Form]:
    """All of them, or those of the kernels named."""
    made = (
        *parameter_forms(),
        *axis_forms(),
        *window_forms(),
        *(found for case in registry.cases() for found in layout_forms(case)),
    )
    yield from (found for found in made if not only or found.kernel.split()[0] in only)


def main(only: list[str]) -> bool:
    """Print the table; whether nothing is above the limit that is not known."""
    high = []
    with nf.num_threads(1):
        for given in forms(only):
            row = measure(given)
            if row.times > LIMIT:
                # Once more: a busy machine is no cliff.
                row = min(row, measure(given), key=lambda row: row.times)
            mark = "" if row.times <= LIMIT else "  known" if row.known else "  ABOVE"
            print(
                f"{row.kernel:36}{row.form:48}{row.ns:9.2f} ns{row.times:8.2f} x{mark}", flush=True
            )
            if row.times > LIMIT:
                high.append(row)
    new = [row for row in high if not row.known]
    print(f"{len(high)} above {LIMIT:g} times the plain call, {len(new)} of them not known")
    return not new
