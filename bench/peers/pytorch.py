"""PyTorch, eager: the operators themselves with out= where they have it, the fused optimizers."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from bench import activations, axes, normalization, optim_whole
from bench.case import Arrays, Forms

NAME, VERSION = "PyTorch", torch.__version__
aten = torch.ops.aten
Values = dict[str, float]


def set_threads(n: int) -> bool:
    """PyTorch takes it for its own kernels."""
    torch.set_num_threads(n)
    return True


def tensors(arrays: Arrays) -> list[Any]:
    """Tensors on the arrays' memory."""
    return [torch.from_numpy(array) for array in arrays.values()]


def writing(function: Callable[..., Any], *arguments: Any, name: str = "out") -> Any:
    """A factory of a call that writes into an array of its own, shaped like the first input."""

    def make(arrays: Arrays, values: Values) -> Forms:
        inputs = tensors(arrays)
        out = torch.empty_like(inputs[0])
        chosen = [values[a] if isinstance(a, str) else a for a in arguments]
        places = [inputs[a.index] if isinstance(a, Input) else a for a in chosen]
        keyword = {name: out}
        return {"out": lambda: function(*places, **keyword)}

    return make


class Input:
    """The place of an input among an operator's arguments."""

    def __init__(self, index: int) -> None:
        self.index = index


X, SECOND = Input(0), Input(1)


def prelu(arrays: Arrays, values: Values) -> Forms:
    x, weight = tensors(arrays)
    return {"allocating": lambda: torch.prelu(x, weight)}


def prelu_backward(arrays: Arrays, values: Values) -> Forms:
    dy, x, weight = tensors(arrays)
    return {
        "both gradients": lambda: aten._prelu_kernel_backward(dy, x, weight)[0],
        "where": lambda: torch.where(x > 0, dy, weight * dy),
    }


def prelu_weight_backward(arrays: Arrays, values: Values) -> Forms:
    dy, x, weight = tensors(arrays)
    return {
        "both gradients": lambda: aten._prelu_kernel_backward(dy, x, weight)[1].sum(0),
        "clamp": lambda: (dy * torch.clamp_max(x, 0)).sum(0),
    }


def convolution(dims: int) -> Callable[[Arrays, Values], Forms]:
    function = getattr(functional, f"conv{dims}d")

    def forms(arrays: Arrays, values: Values) -> Forms:
        x, w, b = tensors(arrays)
        return {"allocating": lambda: function(x, w, b, padding="same")}

    return forms


def convolution_backward(dims: int) -> Callable[[Arrays, Values], Forms]:
    def forms(arrays: Arrays, values: Values) -> Forms:
        dy, x, w = tensors(arrays)
        ones = [1] * dims
        options = [len(w)], ones, ones, ones, False, [0] * dims, 1, [True] * 3
        return {"all gradients": lambda: aten.convolution_backward(dy, x, w, *options)}

    return forms


def maxout(arrays: Arrays, values: Values) -> Forms:
    (x,) = tensors(arrays)
    groups = x.reshape(len(x), -1, int(values["pieces"]))
    y, which = groups.max(dim=-1)
    return {
        "out": lambda: torch.max(groups, dim=-1, out=(y, which)),
        "allocating": lambda: groups.max(dim=-1),
    }


def maxout_backward(arrays: Arrays, values: Values) -> Forms:
    dy, which = tensors(arrays)
    index, source = which.long()[..., None], dy[..., None]
    dx = dy.new_empty(*dy.shape, int(values["pieces"]))
    return {"out": lambda: dx.zero_().scatter_(-1, index, source).reshape(len(dy), -1)}


def with_gradient(loss: Callable[[Any, Any], Any]) -> Any:
    """A loss of two tensors and its gradient with respect to the first."""

    def factory(arrays: Arrays, values: Values) -> Forms:
        x, t = tensors(arrays)
        leaf = x.clone().requires_grad_()

        def autograd() -> tuple[Any, Any]:
            leaf.grad = None
            value = loss(leaf, t)
            value.backward()
            return value.detach(), leaf.grad

        return {"autograd": autograd}

    return factory


def with_gradients(loss: Callable[..., Any], *of: int) -> Any:
    """A loss of tensors and its gradients with respect to some of them."""

    def factory(arrays: Arrays, values: Values) -> Forms:
        given = list(tensors(arrays))
        leaves = []
        for k in of:
            given[k] = given[k].clone().requires_grad_()
            leaves.append(given[k])

        def autograd() -> tuple[Any, ...]:
            for leaf in leaves:
                leaf.grad = None
            value = loss(*given)
            value.backward()
            return value.detach(), *(leaf.grad for leaf in leaves)

        return {"autograd": autograd}

    return factory


def sigmoid_focal_loss(x: Any, t: Any) -> Any:
    """As in torchvision.ops."""
    p = torch.sigmoid(x)
    entropy = functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    right = p * t + (1 - p) * (1 - t)
    return ((0.25 * t + 0.75 * (1 - t)) * entropy * (1 - right) ** 2).mean()


def softmax_focal_loss(z: Any, labels: Any) -> Any:
    log_p = functional.log_softmax(z, 1).gather(1, labels[:, None])[:, 0]
    return -((1 - log_p.exp()) ** 2 * log_p).mean()


def softmax_cross_entropy(arrays: Arrays, values: Values) -> Forms:
    z, labels = tensors(arrays)
    leaf = z.clone().requires_grad_()
    one = torch.ones((), dtype=z.dtype)

    def autograd() -> tuple[Any, Any]:
        leaf.grad = None
        loss = functional.cross_entropy(leaf, labels)
        loss.backward()
        return loss.detach(), leaf.grad

    def operators() -> tuple[Any, Any]:
        log_p = aten._log_softmax(z, 1, False)
        loss, weight = aten.nll_loss_forward(log_p, labels, None, 1, -100)
        d_log_p = aten.nll_loss_backward(one, log_p, labels, None, 1, -100, weight)
        return loss, aten._log_softmax_backward_data(d_log_p, log_p, 1, z.dtype)

    return {"autograd": autograd, "operators": operators}


def batch_norm(training: bool) -> Any:
    """In training or in inference."""

    def make(arrays: Arrays, values: Values) -> Forms:
        x, gamma, beta, *running = tensors(arrays)
        arguments = [x, gamma, beta, *(r.clone() for r in running), training, 0.1, 1e-5]
        return {"allocating": lambda: torch.native_batch_norm(*arguments)[0]}

    return make


def batch_norm_backward(arrays: Arrays, values: Values) -> Forms:
    dy, x, gamma = tensors(arrays)
    _, mean, inv_std = torch.native_batch_norm(x, gamma, None, None, None, True, 0.1, 1e-5)
    arguments = [dy, x, gamma, None, None, mean, inv_std, True, 1e-5, [True] * 3]
    return {"allocating": lambda: aten.native_batch_norm_backward(*arguments)}


def group_norm(of: Callable[[Any], int]) -> Any:
    """With so many groups."""

    def make(arrays: Arrays, values: Values) -> Forms:
        x, gamma, beta = tensors(arrays)
        sizes = x.shape[0], x.shape[1], x[0, 0].numel(), of(x)
        return {"allocating": lambda: torch.native_group_norm(x, gamma, beta, *sizes, 1e-5)[0]}

    return make


def group_norm_backward(of: Callable[[Any], int]) -> Any:
    """With so many groups."""

    def make(arrays: Arrays, values: Values) -> Forms:
        dy, x, gamma = tensors(arrays)
        sizes = x.shape[0], x.shape[1], x[0, 0].numel(), of(x)
        _, mean, inv_std = torch.native_group_norm(x, gamma, None, *sizes, 1e-5)
        arguments = [dy, x, mean, inv_std, gamma, *sizes, [True] * 3]
        return {"allocating": lambda: aten.native_group_norm_backward(*arguments)}

    return make


def instance_norm(arrays: Arrays, values: Values) -> Forms:
    x, gamma, beta = tensors(arrays)
    groups = group_norm(lambda x: int(x.shape[1]))(arrays, values)
    return {
        "as groups": groups["allocating"],
        "instance_norm": lambda: functional.instance_norm(x, weight=gamma, bias=beta),
    }


def layer_norm(arrays: Arrays, values: Values) -> Forms:
    x, gamma, beta = tensors(arrays)
    shape = [x.shape[-1]]
    return {"allocating": lambda: torch.native_layer_norm(x, shape, gamma, beta, 1e-5)[0]}


def layer_norm_backward(arrays: Arrays, values: Values) -> Forms:
    dy, x, gamma = tensors(arrays)
    shape = [x.shape[-1]]
    _, mean, inv_std = torch.native_layer_norm(x, shape, gamma, None, 1e-5)
    arguments = [dy, x, shape, mean, inv_std, gamma, torch.zeros_like(gamma), [True] * 3]
    return {"allocating": lambda: aten.native_layer_norm_backward(*arguments)}


def rms_norm(arrays: Arrays, values: Values) -> Forms:
    x, gamma = tensors(arrays)
    return {"allocating": lambda: functional.rms_norm(x, [x.shape[-1]], gamma, 1e-5)}


def rms_norm_backward(arrays: Arrays, values: Values) -> Forms:
    dy, x, gamma = (tensor.clone() for tensor in tensors(arrays))
    y = functional.rms_norm(x.requires_grad_(), [x.shape[-1]], gamma.requires_grad_(), 1e-5)
    return {"autograd": lambda: torch.autograd.grad(y, (x, gamma), dy, retain_graph=True)}


def dropout(arrays: Arrays, values: Values) -> Forms:
    (x,) = tensors(arrays)
    p = values["p"]
    return {
        "with mask": lambda: torch.native_dropout(x, p, True),
        "functional": lambda: functional.dropout(x, p, True),
    }


def dropout_backward(arrays: Arrays, values: Values) -> Forms:
    dy, packed = tensors(arrays)
    bits = torch.arange(8, dtype=torch.uint8)
    mask = (packed[:, None] >> bits & 1).reshape(-1)[: dy.numel()].bool()
    scale = 1 / (1 - values["p"])
    return {"its own mask": lambda: aten.native_dropout_backward(dy, mask, scale)}


def bias_relu_dropout(arrays: Arrays, values: Values) -> Forms:
    x, bias = tensors(arrays)
    p = values["p"]
    return {"composed": lambda: functional.dropout(functional.relu(x + bias), p, True)}


def in_training(function: Callable[..., Any]) -> Any:
    """A relative of dropout, of x and p."""

    def factory(arrays: Arrays, values: Values) -> Forms:
        (x,) = tensors(arrays)
        return {"allocating": lambda: function(x, values["p"], True)}

    return factory


def filling(fill: Callable[[Any], Any]) -> Any:
    """Random numbers into a tensor."""

    def factory(arrays: Arrays, values: Values) -> Forms:
        into = torch.from_numpy(arrays["into"].copy())
        return {"in place": lambda: fill(into)}

    return factory


def drawing(draw: Callable[[int], Any]) -> Any:
    """A new tensor of as many random numbers."""

    def factory(arrays: Arrays, values: Values) -> Forms:
        n = arrays["into"].size
        return {"allocating": lambda: draw(n)}

    return factory


def rrelu(arrays: Arrays, values: Values) -> Forms:
    (x,) = tensors(arrays)
    out, noise = torch.empty_like(x), torch.empty_like(x)
    return {
        "out": lambda: aten.rrelu_with_noise(x, noise, 1 / 8, 1 / 3, True, out=out),
        "allocating": lambda: functional.rrelu(x, training=True),
    }


def stepping(name: str, fused: bool, many: bool = False) -> Any:
    """Steps of an optimizer in each of the forms it has, on an array or on its rows."""
    make = getattr(torch.optim, name)
    kinds = {"foreach": {"foreach": True}, "loop": {"foreach": False}}
    if fused:
        kinds = {"fused": {"fused": True}, **kinds}

    def factory(arrays: Arrays, values: Values) -> Forms:
        def form(kind: dict[str, bool]) -> Callable[[], Any]:
            own, grad = (torch.from_numpy(arrays[key].copy()) for key in ("param", "grad"))
            params, grads = (list(own), list(grad)) if many else ([own], [grad])
            for param, slope in zip(params, grads, strict=True):
                param.grad = slope
            optimizer = make(params, **values, **kind)

            def step() -> Any:
                optimizer.step()
                return own

            return step

        return {kind: form(chosen) for kind, chosen in kinds.items()}

    return factory


def matrix_steps(name: str) -> Any:
    """Steps of an optimizer of matrices."""
    make = getattr(torch.optim, name, None)

    def factory(arrays: Arrays, values: Values) -> Forms:
        if make is None:  # of an older version
            return {}
        own, grad = (torch.from_numpy(arrays[key].copy()) for key in ("param", "grad"))
        params = list(own)
        for param, slope in zip(params, grad, strict=True):
            param.grad = slope
        optimizer = make(params, **values)

        def step() -> Any:
            optimizer.step()
            return own

        return {"in place": step}

    return factory


def row_steps(name: str) -> Any:
    """Steps by the sparse gradient of a table."""
    make = getattr(torch.optim, name)

    def factory(arrays: Arrays, values: Values) -> Forms:
        own = torch.from_numpy(arrays["param"].copy())
        indices, grad = (torch.from_numpy(arrays[key]) for key in ("indices", "grad"))
        own.grad = torch.sparse_coo_tensor(indices[None], grad, own.shape)
        optimizer = make([own], **values)

        def step() -> Any:
            optimizer.step()
            return own

        return {"in place": step}

    return factory


def accumulating(arrays: Arrays, values: Values) -> Forms:
    """A step of SGD by the sum of gradients, as backward passes add them up."""
    own = torch.from_numpy(arrays["param"].copy())
    parts = list(torch.from_numpy(arrays["grad"]))
    total = own.grad = torch.zeros_like(own)
    optimizer = torch.optim.SGD([own], lr=values["lr"] / len(parts))

    def step() -> Any:
        total.zero_()
        for part in parts:
            total.add_(part)
        optimizer.step()
        return own

    return {"in place": step}


def lbfgs(arrays: Arrays, values: Values) -> Forms:
    param, lowest, curvature = tensors(arrays)
    own = param.clone()

    def closure() -> Any:
        distance = own - lowest
        own.grad = curvature * distance
        return 0.5 * own.grad.dot(distance)

    def step() -> Any:
        own.copy_(param)
        optimizer = torch.optim.LBFGS(
            [own],
            max_iter=optim_whole.ITERATIONS,
            history_size=optim_whole.HISTORY,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(closure)
        return own

    return {"in place": step}


def calling(function: Callable[..., Any], *arguments: Any) -> Any:
    """A factory of a call that allocates its result, for operators without out=."""

    def make(arrays: Arrays, values: Values) -> Forms:
        inputs = tensors(arrays)
        places = [
            inputs[a.index] if isinstance(a, Input) else values[a] if isinstance(a, str) else a
            for a in arguments
        ]
        return {"allocating": lambda: function(*places)}

    return make


def elu_gradient(alpha: float, scale: float) -> Any:
    """elu_backward by the result, into an array of its own."""
    return writing(aten.elu_backward, X, alpha, scale, 1, True, SECOND, name="grad_input")


def logsigmoid_backward(arrays: Arrays, values: Values) -> Forms:
    dy, x = tensors(arrays)
    _, buffer = aten.log_sigmoid_forward(x)  # what the forward pass leaves behind
    out = torch.empty_like(x)
    return {"out": lambda: aten.log_sigmoid_backward(dy, x, buffer, grad_input=out)}


def gated(act: Callable[..., Any]) -> Any:
    """a act(b), the product in the activation's own array."""

    def make(arrays: Arrays, values: Values) -> Forms:
        (x,) = tensors(arrays)
        a, b = x.chunk(2, dim=-1)
        return {"composed": lambda: act(b).mul_(a)}

    return make


def gated_backward(act: Callable[..., Any], slope: Callable[..., Any]) -> Any:
    """Both halves of the gradient, written into one array; slope(dy, b) is dy act'(b)."""

    def make(arrays: Arrays, values: Values) -> Forms:
        dy, x = tensors(arrays)
        a, b = x.chunk(2, dim=-1)
        dx = torch.empty_like(x)
        da, db = dx.chunk(2, dim=-1)

        def composed() -> Any:
            torch.mul(act(b), dy, out=da)
            torch.mul(slope(dy, b), a, out=db)
            return dx

        return {"composed": composed}

    return make


def glu_backward(arrays: Arrays, values: Values) -> Forms:
    dy, x = tensors(arrays)
    dx = torch.empty_like(x)
    return {"out": lambda: aten.glu_backward(dy, x, -1, grad_input=dx)}


def biased(act_: Callable[..., Any]) -> Any:
    """The sum, then the activation in place."""

    def make(arrays: Arrays, values: Values) -> Forms:
        x, bias = tensors(arrays)
        y = torch.empty_like(x)
        return {"in place": lambda: act_(torch.add(x, bias, out=y))}

    return make


def biased_backward(slope: Callable[..., Any]) -> Any:
    """slope(dy, saved[ + bias]) and its sums."""

    def make(arrays: Arrays, values: Values) -> Forms:
        dy, saved, *bias = tensors(arrays)

        def composed() -> Any:
            dx = slope(dy, saved + bias[0] if bias else saved)
            return dx, dx.sum(0)

        return {"composed": composed}

    return make


def at_axis_1(function: Callable[..., Any], *inputs: str) -> Any:
    """A call of the named inputs, along the middle axis."""

    def make(arrays: Arrays, values: Values) -> Forms:
        given = [torch.from_numpy(arrays[name]) for name in inputs]
        return {"allocating": lambda: function(*given)}

    return make


def layer_norm_at_axis_1(x: Any) -> Any:
    return torch.native_layer_norm(x.movedim(1, -1), [x.shape[1]], None, None, 1e-5)[0].movedim(
        -1, 1
    )


def cross_entropy_at_axis_1(z: Any, labels: Any) -> Any:
    log_p = aten._log_softmax(z, 1, False)
    loss, weight = aten.nll_loss2d_forward(log_p[..., None], labels[..., None], None, 1, -100)
    one = torch.ones((), dtype=z.dtype)
    slopes = aten.nll_loss2d_backward(
        one, log_p[..., None], labels[..., None], None, 1, -100, weight
    )
    return loss, aten._log_softmax_backward_data(slopes[..., 0], log_p, 1, z.dtype)


def maxout_at_axis_1(arrays: Arrays, values: Values) -> Forms:
    (x,) = tensors(arrays)
    groups = x.reshape(x.shape[0], -1, int(values["pieces"]), x.shape[2])
    return {"allocating": lambda: groups.max(dim=2)}


def of_axes() -> dict[str, Any]:
    """The operations of bench.axes, in every layout."""
    functions = {
        "softmax": at_axis_1(lambda x: aten._softmax(x, 1, False), "x"),
        "log_softmax": at_axis_1(lambda x: aten._log_softmax(x, 1, False), "x"),
        "softmax_backward": at_axis_1(
            lambda dy, y: aten._softmax_backward_data(dy, y, 1, y.dtype), "dy", "y"
        ),
        "log_softmax_backward": at_axis_1(
            lambda dy, y: aten._log_softmax_backward_data(dy, y, 1, y.dtype), "dy", "y"
        ),
        "logsumexp": at_axis_1(lambda x: torch.logsumexp(x, 1), "x"),
        "glu": at_axis_1(lambda x: aten.glu(x, 1), "x"),
        "geglu": at_axis_1(lambda x: aten.gelu(x.chunk(2, 1)[1]).mul_(x.chunk(2, 1)[0]), "x"),
        "swiglu": at_axis_1(lambda x: aten.silu(x.chunk(2, 1)[1]).mul_(x.chunk(2, 1)[0]), "x"),
        "maxout": maxout_at_axis_1,
        "layer_norm": at_axis_1(layer_norm_at_axis_1, "x"),
        "softmax_cross_entropy": at_axis_1(cross_entropy_at_axis_1, "z", "labels"),
    }
    return {f"{name} {layout}": make for name, make in functions.items() for layout in axes.LAYOUTS}


OPERATIONS = {
    **of_axes(),
    "glu": calling(aten.glu, X, -1),
    "glu_backward": glu_backward,
    "geglu": gated(aten.gelu),
    "geglu_backward": gated_backward(aten.gelu, aten.gelu_backward),
    "swiglu": gated(aten.silu),
    "swiglu_backward": gated_backward(aten.silu, aten.silu_backward),
    "bias_relu": biased(torch.relu_),
    "bias_relu_backward": biased_backward(lambda dy, y: aten.threshold_backward(dy, y, 0)),
    "bias_gelu": biased(aten.gelu_),
    "bias_gelu_backward": biased_backward(aten.gelu_backward),
    "bias_silu": biased(aten.silu_),
    "bias_silu_backward": biased_backward(aten.silu_backward),
    "bias_tanh": biased(torch.tanh_),
    "bias_tanh_backward": biased_backward(aten.tanh_backward),
    "relu": writing(torch.clamp_min, X, 0),
    "relu_backward": writing(aten.threshold_backward, X, SECOND, 0, name="grad_input"),
    "relu6": writing(aten.hardtanh, X, 0, 6),
    "relu6_backward": writing(aten.hardtanh_backward, X, SECOND, 0, 6, name="grad_input"),
    "hardtanh": writing(aten.hardtanh, X, "min_val", "max_val"),
    "hardtanh_backward": writing(
        aten.hardtanh_backward, X, SECOND, "min_val", "max_val", name="grad_input"
    ),
    "leaky_relu": writing(aten.leaky_relu, X, "negative_slope"),
    "leaky_relu_backward": writing(
        aten.leaky_relu_backward, X, SECOND, "negative_slope", True, name="grad_input"
    ),
    "threshold": writing(aten.threshold, X, "threshold", "value"),
    "threshold_backward": writing(
        aten.threshold_backward, X, SECOND, "threshold", name="grad_input"
    ),
    "hardshrink": writing(aten.hardshrink, X, "lambd"),
    "hardshrink_backward": writing(aten.hardshrink_backward, X, SECOND, "lambd", name="grad_input"),
    "softshrink": writing(aten.softshrink, X, "lambd"),
    "softshrink_backward": writing(aten.softshrink_backward, X, SECOND, 0, name="grad_input"),
    "rrelu": rrelu,
    "hardsigmoid": writing(aten.hardsigmoid, X),
    "hardsigmoid_backward": writing(aten.hardsigmoid_backward, X, SECOND, name="grad_input"),
    "hardswish": writing(aten.hardswish, X),
    "hardswish_backward": calling(aten.hardswish_backward, X, SECOND),
    "elu": writing(aten.elu, X, "alpha", 1, 1),
    "elu_backward": elu_gradient(1, 1),
    "celu": writing(aten.elu, X, "alpha", 1, 1),
    "celu_backward": elu_gradient(1, 1),
    "selu": writing(aten.elu, X, activations.SELU_ALPHA, activations.SCALE, 1),
    "selu_backward": elu_gradient(activations.SELU_ALPHA, activations.SCALE),
    "sigmoid": writing(torch.sigmoid, X),
    "sigmoid_backward": writing(aten.sigmoid_backward, X, SECOND, name="grad_input"),
    "logsigmoid": writing(aten.log_sigmoid, X),
    "logsigmoid_backward": logsigmoid_backward,
    "softplus": writing(aten.softplus, X, "beta", 20),
    "softplus_backward": writing(aten.softplus_backward, X, SECOND, "beta", 20, name="grad_input"),
    "tanh": writing(torch.tanh, X),
    "tanh_backward": writing(aten.tanh_backward, X, SECOND, name="grad_input"),
    "tanhshrink": calling(functional.tanhshrink, X),
    "silu": writing(aten.silu, X),
    "silu_backward": writing(aten.silu_backward, X, SECOND, name="grad_input"),
    "mish": writing(aten.mish, X),
    "mish_backward": calling(aten.mish_backward, X, SECOND),
    "softsign": calling(functional.softsign, X),
    "gelu": writing(aten.gelu, X),
    "gelu_backward": writing(aten.gelu_backward, X, SECOND, name="grad_input"),
    "prelu": prelu,
    "prelu_backward": prelu_backward,
    "prelu_weight_backward": prelu_weight_backward,
    "maxout": maxout,
    "conv1d": convolution(1),
    "conv1d_backward": convolution_backward(1),
    "conv2d": convolution(2),
    "conv2d_backward": convolution_backward(2),
    "maxout_backward": maxout_backward,
    "softmax": writing(aten._softmax, X, -1, False),
    "softmax_backward": lambda arrays, values: writing(
        aten._softmax_backward_data,
        X,
        SECOND,
        -1,
        torch.from_numpy(arrays["y"]).dtype,
        name="grad_input",
    )(arrays, values),
    "log_softmax": writing(aten._log_softmax, X, -1, False),
    "log_softmax_backward": lambda arrays, values: writing(
        aten._log_softmax_backward_data,
        X,
        SECOND,
        -1,
        torch.from_numpy(arrays["y"]).dtype,
        name="out",
    )(arrays, values),
    "logsumexp": calling(torch.logsumexp, X, -1),
    "softmin": calling(functional.softmin, X, -1),
    "softmax_cross_entropy": softmax_cross_entropy,
    "mse_loss": with_gradient(functional.mse_loss),
    "l1_loss": with_gradient(functional.l1_loss),
    "huber_loss": with_gradient(functional.huber_loss),
    "poisson_nll_loss": with_gradient(functional.poisson_nll_loss),
    "kl_div": with_gradient(functional.kl_div),
    "nll_loss": with_gradient(functional.nll_loss),
    "hinge_loss": with_gradient(lambda x, t: functional.relu(1 - t * x).mean()),
    "squared_hinge_loss": with_gradient(lambda x, t: functional.relu(1 - t * x).square().mean()),
    "sigmoid_focal_loss": with_gradient(sigmoid_focal_loss),
    "softmax_focal_loss": with_gradient(softmax_focal_loss),
    "gaussian_nll_loss": with_gradients(functional.gaussian_nll_loss, 0, 2),
    "cosine_embedding_loss": with_gradients(functional.cosine_embedding_loss, 0, 1),
    "triplet_margin_loss": with_gradients(functional.triplet_margin_loss, 0, 1, 2),
    "binary_cross_entropy": with_gradient(functional.binary_cross_entropy),
    "svm_loss": with_gradient(
        lambda s, labels: functional.multi_margin_loss(s, labels) * s.shape[1]
    ),
    "binary_cross_entropy_with_logits": with_gradient(functional.binary_cross_entropy_with_logits),
    "batch_norm": batch_norm(training=True),
    "batch_norm images": batch_norm(training=True),
    "batch_norm inference": batch_norm(training=False),
    "batch_norm_backward": batch_norm_backward,
    "batch_norm_backward images": batch_norm_backward,
    "group_norm": group_norm(lambda x: normalization.GROUPS),
    "group_norm_backward": group_norm_backward(lambda x: normalization.GROUPS),
    "group_norm last": group_norm(lambda x: normalization.GROUPS),
    "group_norm_backward last": group_norm_backward(lambda x: normalization.GROUPS),
    "instance_norm": instance_norm,
    "instance_norm_backward": group_norm_backward(lambda x: int(x.shape[1])),
    "layer_norm": layer_norm,
    "layer_norm_backward": layer_norm_backward,
    "rms_norm": rms_norm,
    "rms_norm_backward": rms_norm_backward,
    "dropout": dropout,
    "dropout_backward": dropout_backward,
    "alpha_dropout": in_training(functional.alpha_dropout),
    "bias_relu_dropout": bias_relu_dropout,
    "dropout1d": in_training(functional.dropout1d),
    "dropout2d": in_training(functional.dropout2d),
    "dropout3d": in_training(functional.dropout3d),
    "feature_alpha_dropout": in_training(functional.feature_alpha_dropout),
    "random.uniform": filling(torch.Tensor.uniform_),
    "random.normal": filling(torch.Tensor.normal_),
    "random.exponential": filling(torch.Tensor.exponential_),
    "random.truncated_normal": filling(torch.nn.init.trunc_normal_),
    "random.integers": drawing(lambda n: torch.randint(0, 1000, (n,))),
    "random.permutation": drawing(torch.randperm),
    **{
        name: stepping(name, name in ("SGD", "Adagrad", "Adam", "AdamW"))
        for name in (
            "SGD",
            "Adagrad",
            "Adadelta",
            "RMSprop",
            "Adam",
            "AdamW",
            "Adamax",
            "NAdam",
            "RAdam",
            "ASGD",
            "Rprop",
        )
    },
    "SGD list": stepping("SGD", True, many=True),
    "Adam list": stepping("Adam", True, many=True),
    "Muon": matrix_steps("Muon"),
    "Adafactor": matrix_steps("Adafactor"),
    "SGD rows": row_steps("SGD"),
    "Adam rows": row_steps("SparseAdam"),
    "SGD accumulate": accumulating,
    "LBFGS": lbfgs,
}
