"""Synchronised batch norm: the statistics of the whole batch, over all ranks."""

from __future__ import annotations

import logging
from typing import Any, cast, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stepwell.core.catalog import technique
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng

__all__ = ["SyncBatchNorm", "SyncBatchNormLayer", "num_ranks", "summed"]

logger = logging.getLogger("stepwell.sync_batch_norm")


def num_ranks() -> int:
    """How many processes train together, 1 without torch.distributed.

    >>> num_ranks()
    1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Sum(torch.autograd.Function):
    """The sum over ranks; its gradient is the sum over ranks of the gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        total = slopes[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def summed(values: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, through which gradients flow; the tensor itself where there is one rank."""
    return values if num_ranks() == 1 else cast(Tensor, _Sum.apply(values))  # type: ignore[no-untyped-call]


@final
class SyncBatchNormLayer(nn.SyncBatchNorm):
    """torch's SyncBatchNorm, which works on accelerators, and the same statistics on CPUs.

    Shapes: (N, channels, ...) -> same; N may differ between ranks.

    Paper: Ioffe and Szegedy 2015, arXiv:1502.03167.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or not self.training or num_ranks() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        dims, shape = [0, *range(2, input.ndim)], [1, -1, *[1] * (input.ndim - 2)]
        wide = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        # The mean first, then the squares around it: a difference of two large sums would lose the small digits.
        num_values = torch.full((1,), wide.numel() / wide.shape[1], dtype=wide.dtype)
        total = summed(torch.cat([wide.sum(dims), num_values]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = wide - mean.view(shape)
        variance = summed(centred.square().sum(dims)) / count
        self._average(mean.detach(), variance.detach() * count / (count - 1))
        outputs = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            outputs = outputs * self.weight.view(shape)
        if self.bias is not None:
            outputs = outputs + self.bias.view(shape)
        return outputs.to(input.dtype)

    def _average(self, mean: Tensor, variance: Tensor) -> None:
        # As torch does: the running variance is the unbiased one.
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / self.num_batches_tracked
        self.running_mean.add_((mean - self.running_mean) * share)
        self.running_var.add_((variance - self.running_var) * share)


def _synced(norm: _BatchNorm) -> SyncBatchNormLayer:
    # The same tensors, hooks and marks: what holds statistics or was said about them goes on to hold.
    made = SyncBatchNormLayer(norm.num_features, norm.eps, cast(float, norm.momentum), norm.affine, norm.track_running_stats)
    kept = {name: value for name, value in norm.__dict__.items() if name not in made.__dict__ or name.startswith("_forward")}
    made.__dict__.update(kept)
    made._parameters, made._buffers, made.training = norm._parameters, norm._buffers, norm.training
    return made


@technique(id="sync_batch_norm", slot="model", stage="sync", paper="Peng et al. 2018, arXiv:1711.07240")
class SyncBatchNorm:
    """Batch norms that use the statistics of the batch of all ranks together, not of each rank's share alone.

    What: every batch norm becomes torch's SyncBatchNorm (with a version of its own for CPUs) where more than one process
    trains; weights, statistics and names stay. With one process nothing is changed and nothing is communicated. Why:
    few samples per device; the same result whatever the number of ranks. When not: large shares per rank, where local
    statistics do and the communication costs. Micro-batches within a rank still have statistics of their own.

    Raises:
        JobError: a model without batch norm.

    Paper: Peng et al., "MegDet: A Large Mini-Batch Object Detector", CVPR 2018, arXiv:1711.07240, section 3.3 (cross-GPU
    batch norm).

    >>> type(SyncBatchNorm()(nn.Sequential(nn.BatchNorm1d(2)), Rng(0))[0]).__name__  # one process
    'BatchNorm1d'
    """

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        found = [(name, part) for name, part in model.named_modules(remove_duplicate=False) if isinstance(part, _BatchNorm)]
        if not found:
            raise JobError(
                "sync_batch_norm found no batch norm in the model",
                expected="a model with batch norm",
                fix="Leave it out: other norms look at one sample at a time and need no synchronising",
            )
        if num_ranks() == 1:
            logger.info("sync_batch_norm left %d batch norms as they are: one process trains", len(found))
            return model
        made: dict[int, nn.Module] = {}
        for name, norm in found:
            layer = made.setdefault(id(norm), _synced(norm))
            if not name:
                return layer
            above, _, own = name.rpartition(".")
            model.get_submodule(above)._modules[own] = layer
        logger.info("sync_batch_norm synchronises %d batch norms over %d ranks", len(made), num_ranks())
        return model
