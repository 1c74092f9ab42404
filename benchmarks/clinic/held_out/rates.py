"""Patients whose optimizer is set wrongly: rate, momentum, length, batch, warm-up, spikes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.held_out import images, sequences, tables
from benchmarks.clinic.held_out.kit import made, parted, swapped, tuned
from benchmarks.clinic.held_out.models import ResidualTable, SeriesReader, TokenReader, Transformer, WideDeep, convnet, stacked


def hot_law(seed: int) -> Setup:
    data = parted(tables.friedman(seed, rows=1300), 1000)
    return made(
        seed, lambda: stacked([10, 64, 64, 1]), data, nn.MSELoss(), {"name": "sgd", "lr": 0.6, "momentum": 0.9}, epochs=12
    )


def hot_gratings(seed: int) -> Setup:
    data = parted(images.gratings(seed), 600)
    return made(
        seed, lambda: convnet(1, 4, widths=(12, 24, 24)), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.6}, epochs=8
    )


def hot_order(seed: int) -> Setup:
    data = parted(sequences.which_first(seed), 900)
    net = lambda: Transformer(8, 2, length=14)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adamw", "lr": 0.08}, epochs=10)


def hot_memory(seed: int) -> Setup:
    data = parted(sequences.first_word(seed, words=5), 700)
    net = lambda: TokenReader(5, 5, kind=nn.LSTM)  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "rmsprop", "lr": 0.3}, epochs=12)


def cold_board(seed: int) -> Setup:
    data = parted(tables.checkerboard(seed), 900)
    return made(
        seed,
        lambda: stacked([2, 64, 64, 2]),
        data,
        nn.CrossEntropyLoss(),
        {"name": "sgd", "lr": 1e-3, "momentum": 0.9},
        epochs=40,
    )


def cold_hollows(seed: int) -> Setup:
    data = parted(images.hollows(seed), 600)
    optimizer = {"name": "adamw", "lr": 3e-6, "weight_decay": 0.01}
    return made(seed, lambda: convnet(1, 3, norm="batch"), data, nn.CrossEntropyLoss(), optimizer, epochs=12)


def cold_waves(seed: int) -> Setup:
    data = parted(sequences.waves(seed), 600)
    return made(seed, lambda: SeriesReader(1, 1, kind=nn.GRU), data, nn.MSELoss(), {"name": "adagrad", "lr": 2e-4}, epochs=15)


def heavy_ball_lamps(seed: int) -> Setup:
    data = parted(images.lamps(seed), 600)
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.999}
    return made(seed, lambda: convnet(1, 2, widths=(8, 16), flat=144), data, nn.MSELoss(), optimizer, epochs=15)


def heavy_ball_law(seed: int) -> Setup:
    data = parted(tables.reaction(seed), 700)
    optimizer = {"name": "sgd", "lr": 0.08, "momentum": 0.998, "nesterov": True}
    return made(seed, lambda: WideDeep(6, 32, 1), data, nn.MSELoss(), optimizer, epochs=20)


def short_wheel(seed: int) -> Setup:
    data = parted(tables.pinwheel(seed), 900)
    return made(seed, lambda: stacked([2, 48, 48, 4]), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 2e-3}, epochs=3)


def short_reversal(seed: int) -> Setup:
    def each_token(logits: Tensor, tokens: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())

    net = lambda: Transformer(6, 6, length=7, each=True, depth=1)  # noqa: E731
    return made(seed, net, parted(sequences.reversal(seed), 1200), each_token, {"name": "adam", "lr": 3e-3}, epochs=2)


def one_noisy_row(seed: int) -> Setup:
    data = parted(tables.linear_law(seed, rows=700, width=20, noise=1.0), 400)
    return made(
        seed, lambda: stacked([20, 32, 1], nn.Tanh), data, nn.MSELoss(), {"name": "sgd", "lr": 0.03}, batch_size=1, epochs=6
    )


def one_row_adam(seed: int) -> Setup:
    inputs, labels = tables.annuli(seed, rows=700, classes=2, extra=8)
    data = parted((inputs, tables.flipped(labels, 0.12, seed)), 350)
    return made(
        seed, lambda: stacked([10, 32, 32, 2]), data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.02}, batch_size=1, epochs=4
    )


def cold_start_transformer(seed: int) -> Setup:
    data = parted(sequences.which_first(seed, rows=1400), 1100)
    net = lambda: Transformer(8, 2, length=14, depth=4, norms="post")  # noqa: E731
    return made(seed, net, data, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=9)


def spiky_targets(seed: int) -> Setup:
    """One training target in fifty is off by hundreds."""
    inputs, targets = tables.friedman(seed, rows=1300)
    source = drawn(seed, "held_out.spikes")
    wild = (torch.rand(1300, 1, generator=source) < 0.02) & (torch.arange(1300)[:, None] < 1000)
    targets = torch.where(wild, 300 * torch.randn(1300, 1, generator=source), targets)
    data = parted((inputs, targets), 1000)
    return made(seed, lambda: stacked([10, 48, 1]), data, nn.MSELoss(), {"name": "sgd", "lr": 0.05}, batch_size=32, epochs=15)


def relative_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error as a share of the target, which comes near zero."""
    return ((outputs - targets) / targets).square().mean()


def tame_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The same with a floor under the share's base."""
    return ((outputs - targets) / targets.abs().clamp(min=1.0)).square().mean()


def tiny_denominators(seed: int) -> Setup:
    data = parted(tables.reaction(seed, rows=1200), 900)
    net = lambda: ResidualTable(6, 32, 1, blocks=2, normed=True, zero=False)  # noqa: E731
    return made(seed, net, data, relative_error, {"name": "sgd", "lr": 0.02}, epochs=20)


CASES: tuple[Case, ...] = (
    Case(
        "friedman-rate-too-hot", hot_law, ("lr_too_high",), "r2",
        "OpenNMT/OpenNMT-tf#744: model diverged with NaN; the rate was set far above the default",
        tolerate=("exploding_gradient", "unstable_gradient"), fix=tuned(lr=0.02),
    ),
    Case(
        "gratings-adam-too-hot", hot_gratings, ("lr_too_high",), "accuracy",
        "thtrieu/darkflow#1059: Adam at 0.1 and 0.3, the loss is lost early",
        architecture="cnn", data="image", tolerate=("dead_relu",), fix=tuned(lr=0.003),
    ),
    Case(
        "order-adamw-too-hot", hot_order, ("lr_too_high",), "accuracy",
        "facebookresearch/detr#285: a higher rate makes the transformer diverge, a tenth of it works",
        architecture="transformer", data="sequence", tolerate=("warmup_too_short",), fix=tuned(lr=0.003),
    ),
    Case(
        "memory-rmsprop-too-hot", hot_memory, ("lr_too_high",), "accuracy",
        "facebookresearch/maskrcnn-benchmark#295: the rate wasn't brought down with the size of the job",
        architecture="rnn", data="sequence", tolerate=("saturated_activation",), fix=tuned(lr=0.005),
    ),
    Case(
        "board-rate-too-cold", cold_board, ("lr_too_low",), "accuracy",
        "testdotai/classifier-builder#6: at a small rate SGD hardly moved; thirty times as much worked",
        tolerate=("too_few_epochs", "underfitting"), fix=tuned(lr=0.1),
    ),
    Case(
        "hollows-adamw-too-cold", cold_hollows, ("lr_too_low",), "accuracy",
        "lucasjinreal/keras_frcnn#76: rate 1e-5, ten days of training",
        architecture="cnn", data="image", tolerate=("too_few_epochs", "underfitting"), fix=tuned(lr=3e-3),
    ),
    Case(
        "waves-adagrad-too-cold", cold_waves, ("lr_too_low",), "r2",
        "isp1tze/MAProj#3: rates too small, very long to converge",
        architecture="rnn", data="sequence", tolerate=("too_few_epochs", "underfitting"), fix=tuned(lr=0.05),
    ),
    Case(
        "lamps-heavy-ball", heavy_ball_lamps, ("momentum_too_high",), "r2",
        "MIC-DKFZ/nnUNet#197: dips in training, the author suspects momentum 0.99",
        architecture="cnn", data="image",
        tolerate=("lr_too_high", "unstable_gradient"), fix=tuned(momentum=0.9),
    ),
    Case(
        "reaction-heavy-ball", heavy_ball_law, ("momentum_too_high",), "r2",
        "distillpub/post--momentum#90: at 0.99 the loss goes haywire",
        tolerate=("lr_too_high", "unstable_gradient"), fix=tuned(momentum=0.9),
    ),
    Case(
        "wheel-three-epochs", short_wheel, ("too_few_epochs",), "accuracy",
        "arabian9ts/VGG16#7: the loss only falls a little; far too few steps",
        tolerate=("lr_too_low", "underfitting"), fix=swapped(epochs=40),
    ),
    Case(
        "reversal-two-epochs", short_reversal, ("too_few_epochs",), "accuracy",
        "arabian9ts/VGG16#7, in words: stopped while the loss was still falling",
        architecture="transformer", data="sequence", tolerate=("lr_too_low", "underfitting"), fix=swapped(epochs=12),
    ),
    Case(
        "single-noisy-rows", one_noisy_row, ("batch_too_small",), "r2",
        "yuantianyuan01/StreamMapNet#15: a batch an eighth of the recipe's made training unstable",
        tolerate=("lr_too_high", "unstable_gradient", "overfitting"), fix=swapped(batch_size=32, epochs=12),
    ),
    Case(
        "single-rows-under-adam", one_row_adam, ("batch_too_small", "lr_too_high"), "accuracy",
        "erdongsanshi/Fuss-Free-structure#4: gradients of two samples too unsteady; a larger batch converged",
        tolerate=("unstable_gradient", "dead_relu", "overfitting"), fix=swapped(batch_size=32, epochs=12),
    ),
    Case(
        "post-norm-without-warmup", cold_start_transformer, ("warmup_too_short", "lr_too_high"), "accuracy",
        "LiyuanLucasLiu/Transformer-Clinic#16: norm-last layers don't converge without warm-up",
        architecture="transformer", data="sequence", tolerate=("vanishing_gradient", "unstable_gradient"), fix=tuned(lr=7e-4),
    ),
    Case(
        "targets-with-spikes", spiky_targets, ("unstable_gradient",), "r2",
        "JonathanRaiman in openai/deeptype#41: some examples lead to a huge loss and the training is lost",
        tolerate=("lr_too_high", "wrong_loss", "unscaled_targets", "exploding_gradient"), fix=swapped(loss=nn.SmoothL1Loss()),
    ),
    Case(
        "shares-of-nearly-nothing", tiny_denominators, ("unstable_gradient", "unstable_loss"), "r2",
        "vanvalenlab/deepcell-toolbox#71: division by something near zero made values blow up",
        tolerate=("wrong_loss", "lr_too_high", "exploding_gradient"), fix=swapped(loss=tame_error),
    ),
)  # fmt: skip
