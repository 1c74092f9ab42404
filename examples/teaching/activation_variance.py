"""How large activations are after many layers: measured in plain numpy, and what theory says they must be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def relu(z: Array) -> Array:
    return np.maximum(z, 0)


def standard_deviations(width: int) -> dict[str, float]:
    """The draws that are compared, for square layers: name -> standard deviation of a weight."""
    return {
        "0.01": 0.01,
        "torch's default": 1 / np.sqrt(3 * width),  # kaiming_uniform_(a=sqrt(5)), that is uniform within 1 / sqrt(fan_in)
        "Xavier": np.sqrt(2 / (width + width)),
        "He": np.sqrt(2 / width),
        "1": 1.0,
    }


def measured(
    activation: Callable[[Array], Array], std: float, *, width: int, depth: int, num_samples: int, rng: np.random.Generator
) -> Array:
    """The variance over all samples and units after 0, 1, ... depth layers without biases, (depth + 1,)."""
    x = rng.normal(size=(num_samples, width))
    variances = [x.var()]
    for _ in range(depth):
        x = activation(x @ rng.normal(scale=std, size=(width, width)))
        variances.append(x.var())
    return np.array(variances)


def predicted(activation: Callable[[Array], Array], std: float, *, width: int, depth: int) -> Array:
    """The same by theory, for a layer so wide that its sums z are normal, (depth + 1,).

    A sum of `width` products has variance q = width * std^2 * E[x^2]: the second moment of the layer below counts, not
    its variance. The layer then has E[x^2] = E[f(z)^2] and variance E[f(z)^2] - E[f(z)]^2 for z ~ N(0, q).
    """
    nodes, weights = np.polynomial.legendre.leggauss(400)  # on each side of 0, where a rectifier has its corner
    z = np.concatenate([-4.5 * (nodes + 1), 4.5 * (nodes + 1)])  # up to 9 deviations: beyond lies 1e-19 of the mass
    mass = 4.5 * np.tile(weights, 2) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    second_moment, variances = 1.0, [1.0]
    for _ in range(depth):
        x = activation(np.sqrt(width * std**2 * second_moment) * z)
        second_moment = float(mass @ x**2)
        variances.append(second_moment - float(mass @ x) ** 2)
    return np.array(variances)


if __name__ == "__main__":
    print("variance after 20 layers of 512 units, 1,000 samples: measured once, and by theory")
    for name, activation in (("relu", relu), ("tanh", np.tanh)):
        for label, std in standard_deviations(512).items():
            rng = np.random.default_rng(42)
            seen = measured(activation, std, width=512, depth=20, num_samples=1000, rng=rng)[-1]
            print(f"  {name}  weights {label:<15}  {seen:>9.2e}  {predicted(activation, std, width=512, depth=20)[-1]:>9.2e}")
