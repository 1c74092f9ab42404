"""Synchronised batch norm: two ranks compute what one process computes on the whole batch."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.modules.freezing import allow_holding, set_held
from stepwell.core.modules.norms import AnyBatchNorm
from stepwell.core.randomness import Rng
from stepwell.techniques.model.sync_batch_norm import SyncBatchNorm, SyncBatchNormLayer, num_ranks, summed

CUT = 5  # samples of the first rank; the second has the other 7


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = [nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3, momentum=None, affine=False), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(12, 4), AnyBatchNorm(4, momentum=0.3), nn.Linear(4, 1)).double()


def batch() -> Tensor:
    return torch.randn(12, 2, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 + 1


def trained(model: nn.Module, inputs: Tensor, ranks: int) -> dict[str, Tensor]:
    """Three steps on the sum of squares over all ranks' samples; then the state and the outputs at evaluation."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        for parameter in model.parameters():
            if ranks > 1:
                dist.all_reduce(parameter.grad)
        optimizer.step()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return {**state, "outputs": model.eval()(batch()).detach()}


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = network()
    held = copy.deepcopy(model[1])
    allow_holding(held)
    set_held(held, True)
    synced = SyncBatchNorm()(nn.Sequential(held), Rng(0))
    share = batch()[:CUT] if rank == 0 else batch()[CUT:]
    outputs = synced.train()(torch.randn(2, 3, 2, 2, dtype=torch.float64))
    facts = {
        "held": torch.tensor(float(synced[0].running_mean.any() or synced[0].num_batches_tracked)),
        "held_shape": torch.tensor(outputs.shape),
        "alone": SyncBatchNorm()(nn.BatchNorm1d(3).double(), Rng(0)).train()(share[:, 0].flatten(1)[:, :3]).detach(),
        "half": torch.tensor(float(SyncBatchNormLayer(3)(torch.ones(2, 3).bfloat16()).dtype == torch.bfloat16)),
    }
    result = trained(SyncBatchNorm()(model, Rng(0)), share, ranks=2)
    assert [type(part) for part in model if isinstance(part, nn.SyncBatchNorm)] == [SyncBatchNormLayer] * 3
    if rank == 0:
        torch.save({**result, **facts}, Path(folder) / "result.pt")
    dist.barrier()  # the last message is through before anyone goes
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, args=(str(folder),), nprocs=2, join=True)
    return torch.load(folder / "result.pt", weights_only=True)


def test_two_ranks_with_uneven_shares_train_the_weights_and_statistics_of_one_process(two_ranks: dict[str, Tensor]) -> None:
    for name, value in trained(network(), batch(), ranks=1).items():
        torch.testing.assert_close(two_ranks[name], value, rtol=1e-10, atol=1e-10, msg=name)


def test_vectors_are_normalised_with_the_statistics_of_both_ranks(two_ranks: dict[str, Tensor]) -> None:
    whole = nn.BatchNorm1d(3).double()(batch()[:, 0].flatten(1)[:, :3])
    torch.testing.assert_close(two_ranks["alone"], whole[:CUT].detach())


def test_held_statistics_are_still_held_after_the_conversion(two_ranks: dict[str, Tensor]) -> None:
    assert two_ranks["held"].item() == 0
    assert two_ranks["held_shape"].tolist() == [2, 3, 2, 2]


def test_16_bit_numbers_stay_16_bit_numbers(two_ranks: dict[str, Tensor]) -> None:
    assert two_ranks["half"].item() == 1


def test_one_process_keeps_its_batch_norms_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    with caplog.at_level(logging.INFO, logger="stepwell.sync_batch_norm"):
        assert SyncBatchNorm()(model, Rng(0)) is model
    assert [type(part).__name__ for part in model][1] == "BatchNorm2d"
    assert "left 3 batch norms as they are: one process trains" in caplog.text


def test_the_synchronised_layer_in_one_process_is_batch_norm() -> None:
    layer = SyncBatchNormLayer(2).double()
    inputs = batch()
    torch.testing.assert_close(layer(inputs), nn.BatchNorm2d(2).double()(inputs))


def test_without_a_group_there_is_one_rank_and_a_sum_is_the_tensor_itself() -> None:
    values = torch.ones(2)
    assert num_ranks() == 1
    assert summed(values) is values


def test_a_model_without_batch_norm_is_refused() -> None:
    with pytest.raises(JobError, match="sync_batch_norm found no batch norm"):
        SyncBatchNorm()(nn.LayerNorm(2), Rng(0))
