"""The tables of activations and gates, from which tests, benchmarks and docstrings are made."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

INF = float("inf")


class Activation(NamedTuple):
    """An activation function.

    name        of the public function; its gradient is <name>_backward
    title       what it is called
    formula     as in NumPy
    gradient    dy/dx, by what is saved
    saves       what the gradient takes after dy: the input "x" or the output "y"
    ulp         bound of the error over all inputs where the machine has FMA, in units in the last place; without FMA it
                may be 1 more, except where it is at most 0.5
    source      the paper
    params      optional parameters, after x, with their defaults
    exact       pairs (x, y) that hold exactly
    low, high   bounds of y that no rounding leaves, for the default parameters
    lowest, highest  the bounds as expressions of the parameters, where they follow from these
    note        what else a user should know
    slope_of_y  dy/dx by y, where the gradient takes x but follows from y too
    """

    name: str
    title: str
    formula: str
    gradient: str
    saves: Literal["x", "y"]
    ulp: float
    source: str
    params: Mapping[str, float] = MappingProxyType({})
    exact: tuple[tuple[float, float], ...] = ()
    low: float = -INF
    high: float = INF
    note: str = ""
    slope_of_y: str = ""
    lowest: str = ""
    highest: str = ""

    @property
    def takes(self) -> tuple[str, ...]:
        """What the gradient can be computed from, what it takes by position first."""
        if self.saves == "y":
            return ("y", "x")
        return ("x", "y") if self.slope_of_y else ("x",)

    @property
    def ufunc(self) -> str:
        """The name of the ufunc: the function's own where it takes nothing but arrays."""
        own = not self.params and self.name not in ("gelu", "gelu_tanh", "prelu")
        return self.name if own else f"_{self.name}"


ELU = 'Clevert, Unterthiner, Hochreiter, "Fast and accurate deep network learning by exponential linear units", 2015'
DONOHO = 'Donoho, Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994'
GELU = 'Hendrycks, Gimpel, "Gaussian error linear units", 2016'
TAIL = "The tail keeps its digits down to the subnormal range."

TABLE = {
    row.name: row
    for row in (
        Activation(
            "relu",
            "Rectified linear unit",
            "max(x, 0)",
            "dy where y > 0, else 0",
            "y",
            0,
            'Nair, Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010',
            exact=((-INF, 0), (-0.0, 0.0), (INF, INF)),
            low=0,
            note="-0.0 gives 0.0; the gradient at 0 is 0.",
        ),
        Activation(
            "relu6",
            "Rectified linear unit with a ceiling",
            "min(max(x, 0), 6)",
            "dy where 0 < y < 6, else 0",
            "y",
            0,
            'Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010',
            exact=((-INF, 0), (-0.0, 0.0), (INF, 6)),
            low=0,
            high=6,
            note="The gradient at both kinks is 0.",
        ),
        Activation(
            "hardtanh",
            "Tanh's piecewise linear stand-in",
            "min(max(x, min_val), max_val)",
            "dy where min_val < y < max_val, else 0",
            "y",
            0,
            'Collobert, "Large scale machine learning", 2004',
            params={"min_val": -1.0, "max_val": 1.0},
            exact=((-INF, -1), (0, 0), (INF, 1)),
            low=-1,
            high=1,
            lowest="min_val",
            highest="max_val",
            note="The gradient at both kinks is 0.",
        ),
        Activation(
            "leaky_relu",
            "Leaky rectified linear unit",
            "x where x > 0, else negative_slope * x",
            "dy where y > 0, else negative_slope * dy",
            "y",
            0.5,
            'Maas, Hannun, Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013',
            params={"negative_slope": 0.01},
            exact=((-INF, -INF), (0, 0), (-0.0, -0.0), (INF, INF)),
            note="Keras uses a slope of 0.3.",
        ),
        Activation(
            "prelu",
            "Leaky rectified linear unit with a learned slope",
            "x where x > 0, else weight * x",
            "dy where x > 0, else weight * dy",
            "x",
            0.5,
            'He, Zhang, Ren, Sun, "Delving deep into rectifiers", 2015',
        ),
        Activation(
            "threshold",
            "Threshold",
            "x where x > threshold, else value",
            "dy where x > threshold, else 0",
            "x",
            0,
            'McCulloch, Pitts, "A logical calculus of the ideas immanent in nervous activity", 1943',
            params={"threshold": 0.0, "value": 0.0},
            exact=((-INF, 0), (0, 0), (INF, INF)),
            note="Without parameters relu. PyTorch and Keras have no defaults.",
        ),
        Activation(
            "hardshrink",
            "Hard shrinkage",
            "x where abs(x) > lambd, else 0",
            "dy where abs(y) > lambd, else 0",
            "y",
            0,
            DONOHO,
            params={"lambd": 0.5},
            exact=((-INF, -INF), (-0.5, 0), (0, 0), (0.5, 0), (INF, INF)),
            note="The gradient at both steps is 0.",
        ),
        Activation(
            "softshrink",
            "Soft shrinkage",
            "x - lambd where x > lambd, x + lambd where x < -lambd, else 0",
            "dy where y != 0, else 0",
            "y",
            0.5,
            DONOHO,
            params={"lambd": 0.5},
            exact=((-INF, -INF), (-0.5, 0), (0, 0), (0.5, 0), (INF, INF)),
            note="The gradient at both kinks is 0.",
        ),
        Activation(
            "relu_squared",
            "Squared rectified linear unit",
            "max(x, 0)**2",
            "2 * dy * max(x, 0)",
            "x",
            0.5,
            'So et al., "Primer: searching for efficient transformers for language modeling", 2021',
            exact=((-INF, 0), (-0.0, 0), (0, 0), (3, 9), (INF, INF)),
            low=0,
        ),
        Activation(
            "hardsigmoid",
            "The logistic function's piecewise linear stand-in",
            "min(max(x + 3, 0), 6) / 6",
            "dy / 6 where -3 < x < 3, else 0",
            "x",
            1.5,
            'Courbariaux, Bengio, David, "BinaryConnect", 2015',
            exact=((-INF, 0), (-3, 0), (0, 0.5), (3, 1), (INF, 1)),
            low=0,
            high=1,
            note="Old Keras uses a slope of 0.2. The gradient at both kinks is 0.",
            slope_of_y="1 / 6 where 0 < y < 1, else 0",
        ),
        Activation(
            "hardswish",
            "Silu's piecewise stand-in",
            "x * min(max(x + 3, 0), 6) / 6",
            "dy * (x / 3 + 1 / 2) where -3 < x < 3, dy above, 0 below",
            "x",
            2,
            'Howard et al., "Searching for MobileNetV3", 2019',
            exact=((-INF, 0), (-3, 0), (0, 0), (3, 3), (INF, INF)),
            low=-0.375,
        ),
        Activation(
            "elu",
            "Exponential linear unit",
            "x where x > 0, else alpha * expm1(x)",
            "dy where y > 0, else dy * (y + alpha)",
            "y",
            1,
            ELU,
            params={"alpha": 1.0},
            exact=((-INF, -1), (0, 0), (-0.0, -0.0), (INF, INF)),
            low=-1,
            lowest="min(-alpha, 0)",
            note="With another alpha than 1 within 2 ULP.",
        ),
        Activation(
            "celu",
            "Exponential linear unit with a continuous slope",
            "x where x > 0, else alpha * expm1(x / alpha)",
            "dy where y > 0, else dy * (y + alpha) / alpha",
            "y",
            1,
            'Barron, "Continuously differentiable exponential linear units", 2017',
            params={"alpha": 1.0},
            exact=((-INF, -1), (0, 0), (-0.0, -0.0), (INF, INF)),
            low=-1,
            lowest="-alpha",
            note="With another alpha than 1 within 2 ULP.",
        ),
        Activation(
            "selu",
            "Scaled exponential linear unit",
            "scale * (x where x > 0, else alpha * expm1(x))",
            "dy * scale where y > 0, else dy * (y + scale * alpha)",
            "y",
            2,
            'Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing neural networks", 2017',
            exact=((0, 0), (-0.0, -0.0), (INF, INF)),
            low=-1.7580993408473769,
            note="scale = 1.0507009873554805, alpha = 1.6732632423543772, which keep mean 0 and variance 1.",
        ),
        Activation(
            "sigmoid",
            "Logistic function",
            "1 / (1 + exp(-x))",
            "dy * y * (1 - y)",
            "y",
            1,
            'Verhulst, "Recherches mathématiques sur la loi d\'accroissement de la population", 1845',
            exact=((-INF, 0), (0, 0.5), (-0.0, 0.5), (INF, 1)),
            low=0,
            high=1,
            note=TAIL,
        ),
        Activation(
            "logsigmoid",
            "Logarithm of the logistic function",
            "-log1p(exp(-x))",
            "dy / (1 + exp(x))",
            "x",
            2,
            'Mächler, "Accurately computing log(1 - exp(-|a|))", 2012',
            exact=((-INF, -INF), (INF, 0)),
            high=0,
            note=TAIL,
            slope_of_y="-expm1(y)",
        ),
        Activation(
            "softplus",
            "Smooth rectified linear unit",
            "log1p(exp(beta * x)) / beta",
            "dy / (1 + exp(-beta * x))",
            "x",
            2,
            'Dugas et al., "Incorporating second-order functional knowledge", 2000',
            params={"beta": 1.0, "threshold": INF},
            exact=((-INF, 0), (INF, INF)),
            low=0,
            note=TAIL
            + " The bound is that of beta 1: another one rounds beta * x first. PyTorch's threshold is 20.",
            slope_of_y="-expm1(-beta * y)",
        ),
        Activation(
            "tanh",
            "Hyperbolic tangent",
            "tanh(x)",
            "dy * (1 - y**2)",
            "y",
            1,
            'LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998',
            exact=((-INF, -1), (0, 0), (-0.0, -0.0), (INF, 1)),
            low=-1,
            high=1,
        ),
        Activation(
            "tanhshrink",
            "What tanh takes away",
            "x - tanh(x)",
            "dy * tanh(x)**2",
            "x",
            2,
            'Gregor, LeCun, "Learning fast approximations of sparse coding", 2010',
            exact=((-INF, -INF), (0, 0), (-0.0, -0.0), (INF, INF)),
            note="Near 0, where the difference would lose all digits, a series.",
        ),
        Activation(
            "silu",
            "Sigmoid linear unit, swish",
            "x / (1 + exp(-x))",
            "dy * s * (1 + x * (1 - s)), s = sigmoid(x)",
            "x",
            2,
            'Elfwing, Uchibe, Doya, "Sigmoid-weighted linear units", 2017',
            exact=((-INF, 0), (0, 0), (-0.0, -0.0), (INF, INF)),
            low=-0.2784645427610738,
            note=TAIL,
        ),
        Activation(
            "mish",
            "Mish",
            "x * tanh(log1p(exp(x)))",
            "dy * (t + x * s * (1 - t**2)), t = tanh(softplus(x)), s = sigmoid(x)",
            "x",
            2,
            'Misra, "Mish: a self regularized non-monotonic activation function", 2019',
            exact=((-INF, 0), (0, 0), (-0.0, -0.0), (INF, INF)),
            low=-0.30884228,
            note=TAIL,
        ),
        Activation(
            "softsign",
            "Softsign",
            "x / (1 + abs(x))",
            "dy / (1 + abs(x))**2",
            "x",
            1,
            'Bergstra et al., "Quadratic polynomials learn better image features", 2009',
            exact=((-INF, -1), (0, 0), (-0.0, -0.0), (1, 0.5), (INF, 1)),
            low=-1,
            high=1,
            slope_of_y="(1 - abs(y))**2",
        ),
        Activation(
            "squareplus",
            "Smooth rectified linear unit without exponentials",
            "(x + sqrt(x**2 + b)) / 2",
            "dy * y**2 / (y**2 + b / 4)",
            "y",
            2,
            'Barron, "Squareplus: a softplus-like algebraic rectifier", 2021',
            params={"b": 4.0},
            exact=((-INF, 0), (-1.5, 0.5), (0, 1), (1.5, 2), (INF, INF)),
            low=0,
            note=TAIL
            + " As written, half of them are lost at -50 in float32, and all below -6000.",
        ),
        Activation(
            "gelu",
            "Gaussian error linear unit",
            "x * erfc(-x / sqrt(2)) / 2",
            "dy * (Phi(x) + x * phi(x))",
            "x",
            2,
            GELU,
            exact=((-INF, 0), (0, 0), (-0.0, -0.0), (INF, INF)),
            low=-0.16997120747990369,
            note=TAIL + " By 1 + erf, as elsewhere, half of them are lost at -5.5.",
        ),
        Activation(
            "gelu_tanh",
            "Gaussian error linear unit by its tanh approximation",
            "x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2",
            "dy * (s + x * s * (1 - s) * z'), s = sigmoid(z), z = 2 * sqrt(2 / pi) * (x + 0.044715 * x**3)",
            "x",
            2,
            GELU,
            exact=((-INF, 0), (0, 0), (-0.0, -0.0), (INF, INF)),
            low=-0.170041,
            note=TAIL,
        ),
    )
}


class Gate(NamedTuple):
    """A gated linear unit, ``a * act(b)``; its gradient is <name>_backward.

    example     what nf.<name>(np.array([3.0, 4.0, 0.0, 50.0])) prints
    gradient    what nf.<name>_backward(np.array([2.0]), np.array([3.0, 0.0])) prints
    """

    name: str
    title: str
    act: str
    authors: str
    paper: str
    year: int
    example: str
    gradient: str


DAUPHIN = ("Dauphin et al.", "Language modeling with gated convolutional networks", 2017)
SHAZEER = ("Shazeer", "GLU variants improve transformer", 2020)
GATES = {
    gate.name: gate
    for gate in (
        Gate("glu", "Gated linear unit", "sigmoid", *DAUPHIN, "[1.5, 4. ]", "[1. , 1.5]"),
        Gate("geglu", "Gated linear unit with gelu", "gelu", *SHAZEER, "[  0., 200.]", "[0., 3.]"),
        Gate("swiglu", "Gated linear unit with silu", "silu", *SHAZEER, "[  0., 200.]", "[0., 3.]"),
    )
}
