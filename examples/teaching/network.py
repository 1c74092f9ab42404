"""Backpropagation in plain numpy: a network of two layers, its gradient by the chain rule, and its training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Network:
    """x (N, D) -> hidden = sigmoid(x W1 + b1) (N, H) -> output = hidden W2 + b2 (N, K)."""

    weight_1: Array
    bias_1: Array
    weight_2: Array
    bias_2: Array


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), written so that nothing overflows."""
    return 0.5 * (1 + np.tanh(0.5 * z))


def initial(num_inputs: int, num_hidden: int, num_outputs: int, rng: np.random.Generator) -> Network:
    """Xavier's draw, which is the one for sigmoids; biases are 0."""

    def drawn(fan_in: int, fan_out: int) -> Array:
        return rng.normal(size=(fan_in, fan_out)) * np.sqrt(2 / (fan_in + fan_out))

    return Network(drawn(num_inputs, num_hidden), np.zeros(num_hidden), drawn(num_hidden, num_outputs), np.zeros(num_outputs))


def forward(net: Network, x: Array) -> tuple[Array, Array]:
    """What the hidden layer and the output layer say."""
    hidden = sigmoid(x @ net.weight_1 + net.bias_1)
    return hidden, hidden @ net.weight_2 + net.bias_2


def loss(output: Array, targets: Array) -> float:
    """Mean squared error over all N * K numbers."""
    if output.shape != targets.shape:  # (N, 1) - (N,) would broadcast to (N, N), and the loss would still be a number
        raise ValueError(f"outputs {output.shape} and targets {targets.shape} differ in shape")
    return float(np.mean((output - targets) ** 2))


def backward(net: Network, x: Array, targets: Array) -> Network:
    """The loss's derivative by every parameter: the forward pass walked back, one factor of the chain rule a line."""
    hidden, output = forward(net, x)
    d_output = 2 * (output - targets) / output.size
    d_hidden = d_output @ net.weight_2.T
    d_z = d_hidden * hidden * (1 - hidden)
    return Network(x.T @ d_z, d_z.sum(axis=0), hidden.T @ d_output, d_output.sum(axis=0))


def step(net: Network, gradients: Network, lr: float) -> Network:
    """One step of gradient descent."""
    return Network(
        net.weight_1 - lr * gradients.weight_1,
        net.bias_1 - lr * gradients.bias_1,
        net.weight_2 - lr * gradients.weight_2,
        net.bias_2 - lr * gradients.bias_2,
    )


if __name__ == "__main__":
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([[0.0], [1.0], [1.0], [0.0]])  # exclusive or, which no linear model can say
    net = initial(2, 8, 1, np.random.default_rng(0))
    for number in range(1001):
        if number % 250 == 0:
            print(f"step {number:>4}  mean squared error {loss(forward(net, x)[1], y):.4f}")
        net = step(net, backward(net, x, y), lr=0.5)
    print("answers:", forward(net, x)[1][:, 0].round(2))
