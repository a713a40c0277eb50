"""Optimizers: classes and arguments named as in PyTorch, one kernel call for all arrays of a step.

Parameters are float16, float32 or float64 arrays of any shapes, updated in place, in a list, in a dict, or in groups
with settings of their own: ``[{"params": weights, "weight_decay": 1e-4}, {"params": biases}]``. The state lies in
``opt.state``, a dict of lists of arrays that the caller may read, save and replace; of float16 parameters it is
float32, and so is the master copy of them that is updated, which takes whatever else is written to a parameter. Those
of ml_dtypes' bfloat16 are treated like those of float16.
``opt.step_count`` is an int; ``opt.lr`` and the other settings may be changed before every step, those of a group in
``opt.groups``. Whether there is momentum, and centered and amsgrad, are fixed at construction.

``Muon`` and ``Adafactor`` make their steps of whole matrices. ``Lookahead(optimizer)`` has slow weights beside those of
any rule. ``ScheduleFreeSGD`` and ``ScheduleFreeAdamW`` are evaluated with ``opt.averaged_params()``. ``LBFGS`` is of
another kind: its step takes a function that computes loss and gradients.

All rules take these arguments by name:

maximize : bool, default False
    Climb instead of descend.
decoupled_weight_decay : bool, optional
    Whether weight_decay shrinks the parameters by the factor 1 - lr weight_decay, as AdamW's does, or is the L2
    penalty, whose gradient weight_decay p joins the gradient. By default true of AdamW, Lion, Adan, LAMB,
    ScheduleFreeAdamW, Keras's rules, and Muon and Adafactor, which have no other, and of these alone.
clip_value : float, optional
    Gradients are clipped to [-clip_value, clip_value].
clip_norm : float, optional
    A gradient of a larger norm is scaled down to it, each array by itself.
clip_global_norm : float, optional
    Gradients are scaled down together so that the norm of all of them as one vector is at most this. Here and with
    clip_norm the factor is ``min(1, limit / norm)``, PyTorch's ``limit / (norm + 1e-6)`` under its convention and
    CS231n's. Where the norm is infinite finite gradients become 0, but NaN under Keras' convention.
clip_block_rms : float, optional
    A gradient whose root mean square is larger is scaled down to it, each array by itself: optax'
    ``clip_by_block_rms``.
clip_adaptive : float, optional
    The weights of each unit have their gradient scaled down to this share of their own norm, or of clip_adaptive_eps
    where that is larger: Brock et al., "High-performance large-scale image recognition without normalization", 2021.
    Units are the columns of a matrix (in, out) and the first axis of what has more axes, as in nnfast.nn, and what
    optax takes them for under its convention. It is NumPy's work, before the step, where the other forms of clipping
    belong to its passes. At most one of the five may be given.
clip_adaptive_eps : float, default 1e-3
    The least norm of a unit that clip_adaptive counts with; not negative.
skip_nonfinite : bool, default False
    Whether a step with a NaN or an infinity among its gradients is skipped; ``opt.skipped_count`` counts such steps.
ema_decay : float in [0, 1), optional
    Keep a running average of the parameters, ``opt.averaged_params()``, in the same pass.
ema_bias_correction : bool, default True
    Whether the average begins at zero and is corrected for that, or begins at the parameters. Under Keras' convention
    the default is False, and the average begins at the parameters of the first step, as its ``ema_momentum`` has it.
ema_overwrite_frequency : int, optional
    After every so many steps the parameters become their average, as Keras has it.
state_dtype : "float32", "bfloat16" or "uint8", default "float32"
    How SGD, RMSprop, Adam, AdamW and Lion store the state of float16 and float32 parameters: bfloat16 takes half the
    memory, uint8 a quarter, and steps of arrays beyond the caches take less time. Rounding is stochastic, so that
    averages keep moving by less than the last digit. "float32" leaves float64 parameters their float64.
    ``opt.unpacked_state()`` has the numbers, ``opt.state`` what is stored: the bits of bfloat16 as uint16; or rows of
    130 bytes, 128 codes with a base and a flag of their own, in which no average of squares becomes zero unless all of
    them are. Arrays below 4,096 elements have float32 in place of uint8.
rounding_seed : int, default 0
    In [0, 2**64): how a number of the state is rounded is a function of it, the count of steps and the number's place.
convention : "torch", "keras", "optax" or "cs231n", default "torch"
    The system whose defaults hold, and whose placement of eps, learning rate and corrections, so that results match.

What ``state_dict`` and ``save`` give has the settings, too, those of groups included; ``load_state_dict`` and ``load``
restore them, unless ``keep_settings=True`` leaves all as they are.

Subnormal numbers count as zero inside a step, so that dead units do not slow it down.

A batch that is too large for memory goes in parts: ``opt.accumulate(grads)`` for each but the last, then
``opt.step(grads, grad_scale=1 / parts)``, or ``opt.step(grad_scale=1 / parts)`` after all of them. grad_scale
multiplies gradients inside the step, as the scale of a loss is undone, too. The gradient of a table of which a batch
names few rows may be ``nnfast.optim.Rows(indices, values)``: the step costs what these rows do.

In place means that a step writes to the arrays which the optimizer was given, ``opt.params``. It does not see that a
network has put another array where one of them was, by ``self.w = best`` or ``d["w"] = d["w"].copy()``. So either write
into them, ``self.w[...] = best``; or hand them over at every step, ``opt.step(grads, params=params)``. Networks have an
optimizer each, which ``opt.clone(params)`` makes with the same settings.

Where the state is kept by hand there are functions, ``w, state = nnfast.optim.adam(w, dw, state, lr=1e-3)``, with the
settings of the classes and the same bits: of one array, a list or a dict. They update w in place, or leave it and
return ``out``. The state is a dict of arrays and numbers with names as in ``opt.state_dict()``: pickle and copy take
it, ``np.savez(file, **state)`` saves it, and ``dict(np.load(file))`` is what was saved.
"""

# ruff: noqa: F403
from nnfast import _docs
from nnfast.optim import functions, lbfgs, lookahead, matrices, rules, schedule_free
from nnfast.optim.functions import *
from nnfast.optim.lbfgs import *
from nnfast.optim.lookahead import *
from nnfast.optim.matrices import *
from nnfast.optim.optimizer import Optimizer as Optimizer
from nnfast.optim.rows import Rows
from nnfast.optim.rules import *
from nnfast.optim.schedule_free import *
from nnfast.optim.stats import StepStats

__all__ = ["Rows", "StepStats"]
__all__ += functions.__all__
__all__ += lbfgs.__all__
__all__ += lookahead.__all__
__all__ += matrices.__all__
__all__ += rules.__all__
__all__ += schedule_free.__all__

_docs.finish(
    __name__,
    {
        "lr": "Learning rate; not negative.",
        "eps": "Keeps a divisor away from 0; not negative.",
        "weight_decay": "Strength of the penalty on the parameters, not negative: see decoupled_weight_decay.",
        "momentum": "How much of the last step's v or b the next one keeps; not negative. 0: none is kept.",
        "dampening": "How much of the gradient stays out of v.",
        "rho": "How much of the running averages stays at each step.",
        "alpha": "How much of the running average of squares stays at each step.",
        "lr_decay": "How fast the steps get shorter; not negative.",
        "momentum_decay": "How fast μ climbs from beta1 / 2 to beta1; not negative.",
        "amsgrad": "Whether to divide by the largest v so far.",
        "w": "The updated parameters.",
        "stats": "None unless stats is true.",
        "step_count, skipped_count": "Steps that were taken, and those that skip_nonfinite left out.",
        **_docs.entries(__doc__),
    },
    options=_docs.entries(__doc__, heads=True),
)
