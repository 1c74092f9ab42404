"""Two processes over gloo train the weights that one process trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from stepwell.core.clock import Horizon
from stepwell.data.examples import TensorExamples
from stepwell.data.sources import ShuffledSource
from stepwell.engine.parts import Execution
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import AdamW, ClassWeights, ClipNorm, CrossEntropy, LabelSmoothing, Mixup, OneCycle, Sgd

STEPS = 30


def network() -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 4)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    return model


def train(optimizer: Any, group: Any, rank: int, world_size: int, micro: int | None) -> tuple[torch.Tensor, list[float]]:
    generator = torch.Generator().manual_seed(2)
    # 100 samples in batches of 32: the epoch's last batch holds 4, fewer than one block for the second rank.
    examples = TensorExamples(
        torch.randn(100, 10, generator=generator, dtype=torch.float64), torch.randint(0, 4, (100,), generator=generator)
    )
    source = ShuffledSource(examples, batch_size=32, seed=7, rank=rank, world_size=world_size)
    step = TrainStep(
        network(),
        objective=CrossEntropy(),
        optimizer=optimizer,
        techniques=[
            Mixup(alpha=0.3, num_classes=4),
            ClassWeights(weights=[1.0, 2.0, 0.5, 1.5]),
            LabelSmoothing(epsilon=0.1),
            ClipNorm(max_norm=0.5),
            OneCycle(),
        ],
        horizon=Horizon.of(f"{STEPS} steps"),
        execution=Execution(process_group=group, micro_batch_size=micro),
    )
    losses = [float(step(source.next(cursor)).loss) for cursor in range(STEPS)]
    return torch.cat([p.detach().reshape(-1) for p in step.model.parameters()]), losses


def worker(rank: int, world_size: int, folder: str, name: str, micro: int | None) -> None:
    torch.set_num_threads(1)
    # They meet over a file: a server on a port needs one that stays free, and its thread can outlive the group.
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size)
    weights, losses = train(OPTIMIZERS[name], dist.group.WORLD, rank, world_size, micro)
    torch.save({"weights": weights, "losses": losses}, Path(folder) / f"{rank}.pt")
    dist.barrier()  # the last message is through before anyone goes
    dist.destroy_process_group()


OPTIMIZERS = {"sgd": Sgd(lr=0.1), "adamw": AdamW(lr=3e-3)}


@pytest.mark.parametrize(("name", "micro"), [("sgd", None), ("adamw", 5)])
def test_two_ranks_equal_one_process_in_float64(tmp_path: Path, name: str, micro: int | None) -> None:
    mp.spawn(worker, args=(2, str(tmp_path), name, micro), nprocs=2)  # type: ignore[no-untyped-call]
    expected, losses = train(OPTIMIZERS[name], None, 0, 1, None)
    for rank in range(2):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert float((got["weights"] - expected).abs().max()) <= 1e-10
        assert max(abs(a - b) for a, b in zip(got["losses"], losses)) <= 1e-10
