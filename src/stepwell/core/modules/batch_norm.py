"""Batch-norm statistics of weights that no forward pass has seen: those of an average."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stepwell.core.batch import Batch
from stepwell.core.modules.freezing import moves
from stepwell.core.slots import call_model

__all__ = ["estimate_batch_norm_", "estimated_norms"]


def estimated_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms whose statistics `estimate_batch_norm_` estimates: those that nothing holds."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and moves(module)]


@torch.no_grad()
def estimate_batch_norm_(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Estimate batch-norm statistics anew: the mean over batches of each batch's statistics, without gradients.

    Only the batch-norm layers are in training mode meanwhile: dropout is off, as it is when the statistics are used,
    and nothing random is drawn. Statistics that are held (of frozen parts) stay as they are; a model without batch norm, or
    no batches, changes nothing.

    Args:
        model: modes and momenta are as before afterwards, also after an error.
        batches: their inputs are what the model is called with; all count alike, as in torch's update_bn.

    >>> norm = nn.BatchNorm1d(1)
    >>> estimate_batch_norm_(norm, [Batch(torch.tensor([[1.0], [3.0]])), Batch(torch.tensor([[5.0], [7.0]]))])
    >>> norm.running_mean.tolist(), norm.running_var.tolist()
    ([4.0], [2.0])
    """
    norms = estimated_norms(model)
    remaining = iter(batches)
    first = next(remaining, None) if norms else None
    if first is None:
        return
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    device = next(chain(model.parameters(), model.buffers())).device
    try:
        model.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None
        for batch in chain([first], remaining):
            # A short last batch of one sample has no variance: torch would refuse it.
            if batch is first or len(batch) > 1:
                call_model(model, batch.to(device).inputs)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
