"""What there is to say about each activation: tests, benchmarks and docstrings come out of this table."""

from typing import Literal, NamedTuple


class Activation(NamedTuple):
    """An activation function.

    name        of the public function; its gradient is <name>_backward
    title       what it is called
    formula     as in NumPy
    gradient    dy/dx, by what is saved
    saves       what the gradient takes after dy: the input "x" or the output "y"
    params      optional parameters, after x, with their defaults
    ulp         bound of the error over all inputs where the machine has FMA, in units in the last place; without FMA it
                may be 1 more, except where it is at most 0.5
    exact       pairs (x, y) that hold exactly
    low, high   bounds of y that no rounding leaves
    source      the paper
    note        what else a user should know
    """

    name: str
    title: str
    formula: str
    gradient: str
    saves: Literal["x", "y"]
    params: dict[str, float]
    ulp: float
    exact: tuple[tuple[float, float], ...]
    low: float
    high: float
    source: str
    note: str = ""

    @property
    def ufunc(self) -> str:
        """The name of the ufunc: the function's own where it takes nothing but arrays."""
        own = not self.params and self.name not in ("gelu", "gelu_tanh", "prelu")
        return self.name if own else f"_{self.name}"


INF = float("inf")
ELU = 'Clevert, Unterthiner, Hochreiter, "Fast and accurate deep network learning by exponential linear units", 2015'
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
            {},
            0,
            ((-INF, 0), (-0.0, 0.0), (INF, INF)),
            0,
            INF,
            'Nair, Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010',
            "-0.0 gives 0.0; the gradient at 0 is 0.",
        ),
        Activation(
            "relu6",
            "Rectified linear unit with a ceiling",
            "min(max(x, 0), 6)",
            "dy where 0 < y < 6, else 0",
            "y",
            {},
            0,
            ((-INF, 0), (-0.0, 0.0), (INF, 6)),
            0,
            6,
            'Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010',
            "The gradient at both kinks is 0.",
        ),
        Activation(
            "hardtanh",
            "Tanh's piecewise linear stand-in",
            "min(max(x, min_val), max_val)",
            "dy where min_val < y < max_val, else 0",
            "y",
            {"min_val": -1.0, "max_val": 1.0},
            0,
            ((-INF, -1), (0, 0), (INF, 1)),
            -1,
            1,
            'Collobert, "Large scale machine learning", 2004',
            "The gradient at both kinks is 0.",
        ),
        Activation(
            "leaky_relu",
            "Leaky rectified linear unit",
            "x where x > 0, else negative_slope * x",
            "dy where y > 0, else negative_slope * dy",
            "y",
            {"negative_slope": 0.01},
            0.5,
            ((-INF, -INF), (0, 0), (-0.0, -0.0), (INF, INF)),
            -INF,
            INF,
            'Maas, Hannun, Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013',
            "Keras uses a slope of 0.3.",
        ),
        Activation(
            "prelu",
            "Leaky rectified linear unit with a learned slope",
            "x where x > 0, else weight * x",
            "dy where x > 0, else weight * dy",
            "x",
            {},
            0.5,
            (),
            -INF,
            INF,
            'He, Zhang, Ren, Sun, "Delving deep into rectifiers", 2015',
        ),
        Activation(
            "hardsigmoid",
            "The logistic function's piecewise linear stand-in",
            "min(max(x + 3, 0), 6) / 6",
            "dy / 6 where -3 < x < 3, else 0",
            "x",
            {},
            1.5,
            ((-INF, 0), (-3, 0), (0, 0.5), (3, 1), (INF, 1)),
            0,
            1,
            'Courbariaux, Bengio, David, "BinaryConnect", 2015',
            "Old Keras uses a slope of 0.2. The gradient at both kinks is 0.",
        ),
        Activation(
            "hardswish",
            "Silu's piecewise stand-in",
            "x * min(max(x + 3, 0), 6) / 6",
            "dy * (x / 3 + 1 / 2) where -3 < x < 3, dy above, 0 below",
            "x",
            {},
            2,
            ((-INF, 0), (-3, 0), (0, 0), (3, 3), (INF, INF)),
            -0.375,
            INF,
            'Howard et al., "Searching for MobileNetV3", 2019',
        ),
        Activation(
            "elu",
            "Exponential linear unit",
            "x where x > 0, else alpha * expm1(x)",
            "dy where y > 0, else dy * (y + alpha)",
            "y",
            {"alpha": 1.0},
            1,
            ((-INF, -1), (0, 0), (-0.0, -0.0), (INF, INF)),
            -1,
            INF,
            ELU,
            "With another alpha than 1 within 2 ULP.",
        ),
        Activation(
            "celu",
            "Exponential linear unit with a continuous slope",
            "x where x > 0, else alpha * expm1(x / alpha)",
            "dy where y > 0, else dy * (y + alpha) / alpha",
            "y",
            {"alpha": 1.0},
            1,
            ((-INF, -1), (0, 0), (-0.0, -0.0), (INF, INF)),
            -1,
            INF,
            'Barron, "Continuously differentiable exponential linear units", 2017',
            "With another alpha than 1 within 2 ULP.",
        ),
        Activation(
            "selu",
            "Scaled exponential linear unit",
            "scale * (x where x > 0, else alpha * expm1(x))",
            "dy * scale where y > 0, else dy * (y + scale * alpha)",
            "y",
            {},
            2,
            ((0, 0), (-0.0, -0.0), (INF, INF)),
            -1.7580993408473769,
            INF,
            'Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing neural networks", 2017',
            "scale = 1.0507009873554805, alpha = 1.6732632423543772, which keep mean 0 and variance 1.",
        ),
        Activation(
            "sigmoid",
            "Logistic function",
            "1 / (1 + exp(-x))",
            "dy * y * (1 - y)",
            "y",
            {},
            1,
            ((-INF, 0), (0, 0.5), (-0.0, 0.5), (INF, 1)),
            0,
            1,
            'Verhulst, "Recherches mathématiques sur la loi d\'accroissement de la population", 1845',
            TAIL,
        ),
        Activation(
            "logsigmoid",
            "Logarithm of the logistic function",
            "-log1p(exp(-x))",
            "dy / (1 + exp(x))",
            "x",
            {},
            2,
            ((-INF, -INF), (INF, 0)),
            -INF,
            0,
            'Mächler, "Accurately computing log(1 - exp(-|a|))", 2012',
            TAIL,
        ),
        Activation(
            "softplus",
            "Smooth rectified linear unit",
            "log1p(exp(beta * x)) / beta",
            "dy / (1 + exp(-beta * x))",
            "x",
            {"beta": 1.0},
            2,
            ((-INF, 0), (INF, INF)),
            0,
            INF,
            'Dugas et al., "Incorporating second-order functional knowledge", 2000',
            TAIL + " The bound is that of beta 1: another one rounds beta * x first.",
        ),
        Activation(
            "tanh",
            "Hyperbolic tangent",
            "tanh(x)",
            "dy * (1 - y**2)",
            "y",
            {},
            1,
            ((-INF, -1), (0, 0), (-0.0, -0.0), (INF, 1)),
            -1,
            1,
            'LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998',
        ),
        Activation(
            "tanhshrink",
            "What tanh takes away",
            "x - tanh(x)",
            "dy * tanh(x)**2",
            "x",
            {},
            2,
            ((-INF, -INF), (0, 0), (-0.0, -0.0), (INF, INF)),
            -INF,
            INF,
            'Gregor, LeCun, "Learning fast approximations of sparse coding", 2010',
            "Near 0, where the difference would lose all digits, a series.",
        ),
        Activation(
            "silu",
            "Sigmoid linear unit, swish",
            "x / (1 + exp(-x))",
            "dy * s * (1 + x * (1 - s)), s = sigmoid(x)",
            "x",
            {},
            2,
            ((-INF, 0), (0, 0), (-0.0, -0.0), (INF, INF)),
            -0.2784645427610738,
            INF,
            'Elfwing, Uchibe, Doya, "Sigmoid-weighted linear units", 2017',
            TAIL,
        ),
        Activation(
            "mish",
            "Mish",
            "x * tanh(log1p(exp(x)))",
            "dy * (t + x * s * (1 - t**2)), t = tanh(softplus(x)), s = sigmoid(x)",
            "x",
            {},
            2,
            ((-INF, 0), (0, 0), (-0.0, -0.0), (INF, INF)),
            -0.30884228,
            INF,
            'Misra, "Mish: a self regularized non-monotonic activation function", 2019',
            TAIL,
        ),
        Activation(
            "softsign",
            "Softsign",
            "x / (1 + abs(x))",
            "dy / (1 + abs(x))**2",
            "x",
            {},
            1,
            ((-INF, -1), (0, 0), (-0.0, -0.0), (1, 0.5), (INF, 1)),
            -1,
            1,
            'Bergstra et al., "Quadratic polynomials learn better image features", 2009',
        ),
        Activation(
            "gelu",
            "Gaussian error linear unit",
            "x * erfc(-x / sqrt(2)) / 2",
            "dy * (Phi(x) + x * phi(x))",
            "x",
            {},
            2,
            ((-INF, 0), (0, 0), (-0.0, -0.0), (INF, INF)),
            -0.16997120747990369,
            INF,
            GELU,
            TAIL + " By 1 + erf, as elsewhere, half of them are lost at -5.5.",
        ),
        Activation(
            "gelu_tanh",
            "Gaussian error linear unit by its tanh approximation",
            "x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2",
            "dy * (s + x * s * (1 - s) * z'), s = sigmoid(z), z = 2 * sqrt(2 / pi) * (x + 0.044715 * x**3)",
            "x",
            {},
            2,
            ((-INF, 0), (0, 0), (-0.0, -0.0), (INF, INF)),
            -0.170041,
            INF,
            GELU,
            TAIL,
        ),
    )
}
