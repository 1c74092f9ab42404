"""Losses that see directions alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from small_setups import bench_of, ids, law, mlp, said
from torch import Tensor


def _directions(lengths: Tensor) -> tuple[Tensor, Tensor]:
    inputs = law()[0]
    return inputs, F.normalize(inputs[:, :3], dim=1) * lengths


def _apart(outputs: Tensor, targets: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(outputs, targets, dim=1)).mean()


def test_a_loss_of_directions_cannot_teach_lengths_and_is_right_where_all_are_one() -> None:
    lengths = torch.linspace(0.5, 4.0, 200).unsqueeze(1)
    (found,) = said("loss_lengths", bench_of(mlp(4, 8, 3), _directions(lengths), loss=_apart))
    assert (found.id, found.proof) == ("wrong_loss", "mechanism")
    assert ids("loss_lengths", bench_of(mlp(4, 8, 3), _directions(torch.ones(200, 1)), loss=_apart)) == []
