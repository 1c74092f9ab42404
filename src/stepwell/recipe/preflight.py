"""Before the first step: does the model take the data, and does the loss mean what the step assumes?"""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from stepwell.core.batch import Tree, tree_leaves
from stepwell.core.errors import JobError, StepwellError
from stepwell.core.objectives.callable_loss import is_mean_over_samples
from stepwell.core.randomness import derive, seeded_defaults
from stepwell.engine.evaluate import evaluating
from stepwell.recipe.run import Assembly
from stepwell.recipe.yes_or_no import refuse_no_probabilities

logger = logging.getLogger("stepwell.preflight")


def preflight(assembly: Assembly) -> None:
    """One forward pass of a few examples, leaving no trace.

    Raises:
        JobError: the model fails on the data, the objective on the outputs, or a loss is no mean over samples.
    """
    step, resolved = assembly.step, assembly.resolved
    batch = assembly.facts.sample.to(step.device)
    objective = resolved.base
    with evaluating(step.model), seeded_defaults(derive(step.seed, "preflight"), step.device):
        try:
            outputs = step.precision.full(objective.forward(step.model, batch))
        except StepwellError:
            raise
        except Exception as error:
            shapes = [tuple(leaf.shape) for leaf in tree_leaves(batch.inputs)]
            types = ", ".join(sorted({str(leaf.dtype).removeprefix("torch.") for leaf in tree_leaves(batch.inputs)}))
            raise JobError(
                f"the model failed on {len(batch)} training examples of shape {shapes}: {type(error).__name__}: {error}",
                expected="a model that takes the inputs as they are",
                fix=f"Check the first layer's width, the order of dimensions and the dtype (inputs are {types})",
            ) from error
        refuse_no_probabilities(assembly)
        try:
            objective.terms(outputs, batch)
            objective.counts(batch)
        except StepwellError:
            raise
        except Exception as error:
            raise _loss_failed(outputs, batch.targets, error) from error
        for item in resolved.techniques:
            if hasattr(item, "check_forward"):
                item.check_forward(step.model, lambda: objective.forward(step.model, batch))
    for item in resolved.techniques:
        if hasattr(item, "check_times"):
            item.check_times(step.model, resolved.horizon)
    _refuse_lone_samples(assembly)
    _check_gradients(assembly)
    cut = assembly.parts.job.recipe.micro_batch_size is not None
    finding = is_mean_over_samples(objective, step.model, batch) if len(batch) > 1 else None
    if finding is not None and not finding.holds:
        _refuse_broadcast(outputs, batch.targets)
    if finding is not None and not finding.holds and cut:
        raise JobError(
            finding.message,
            expected="a loss that can be summed over parts of a batch",
            fix="Return one loss per sample, or leave micro_batch_size out",
        )
    if not torch.is_grad_enabled():
        raise JobError("gradients are switched off", expected="grad mode on", fix="Call fit outside of torch.no_grad()")


def _loss_failed(outputs: Tree, targets: Tree, error: Exception) -> JobError:
    shapes = [
        [f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}" for leaf in tree_leaves(tree)]
        for tree in (outputs, targets)
    ]
    what = " against targets ".join(", ".join(found) or "none" for found in shapes)
    return JobError(
        f"the loss failed on outputs {what}: {type(error).__name__}: {error}",
        expected="a loss that takes the model's outputs and the targets as they are",
        fix="Check their shapes, types and range; a loss on probabilities needs a sigmoid or softmax at the model's end",
    )


def _check_gradients(assembly: Assembly) -> None:
    """Every tensor that is meant to train has a gradient and stands in the optimizer; a gradient of zero is one.

    A zero is no alarm: behind a branch that starts at zero (zero-gamma, LoRA) nothing moves in the first step yet.
    """
    step = assembly.step
    trained = {name: p for name, p in step.model.named_parameters() if p.requires_grad}
    if not trained:
        raise JobError(
            "no tensor of the model is meant to train",
            expected="parameters with requires_grad",
            fix="Freeze less, or unfreeze from the first step on",
        )
    batch = assembly.facts.sample.to(step.device)
    objective = step.parts.objective
    with evaluating(step.model), seeded_defaults(derive(step.seed, "preflight"), step.device), torch.enable_grad():
        terms = objective.terms(step.precision.full(objective.forward(step.model, batch)), batch)
        total = torch.stack([term.sum.sum() * term.weight for term in terms.values()]).sum()
        if not total.requires_grad:
            raise JobError(
                "the loss doesn't depend on any tensor that is meant to train",
                expected="a loss with a gradient",
                fix="Check forward() and the loss for detach(), no_grad() and .item()",
            )
        gradients = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
    unused = [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]
    held = {id(p) for group in step.optimizer.param_groups for p in group["params"]}
    left_out = [name for name, p in trained.items() if id(p) not in held]
    for names, why in ((unused, "the loss doesn't depend on"), (left_out, "the optimizer doesn't hold")):
        if names:
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            logger.warning("%d of %d tensors that are meant to train will not: %s %s", len(names), len(trained), why, shown)
    if len({*unused, *left_out}) == len(trained):
        raise JobError(
            "no tensor that is meant to train can move",
            expected="tensors that the loss depends on, in the optimizer",
            fix="Check forward() for detach() and no_grad(), and what the optimizer is given",
        )


def _refuse_broadcast(outputs: Tree, targets: Tree) -> None:
    """Outputs (N, 1) against targets (N,) give N * N differences, whose mean looks like a loss."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or outputs.numel() != targets.numel():
        return
    if sorted((outputs.dim(), targets.dim())) == [1, 2] and targets.is_floating_point():
        raise JobError(
            f"the loss broadcasts outputs {tuple(outputs.shape)} against targets {tuple(targets.shape)}",
            expected="outputs and targets of one shape",
            fix="Give the loss outputs.squeeze(1), or targets of shape (N, 1)",
        )


def _refuse_lone_samples(assembly: Assembly) -> None:
    """Batch norm has no variance of one value: a (micro-)batch of one sample would fail in the middle of an epoch."""
    job, num = assembly.parts.job, assembly.facts.num_samples
    if num is None or not any(isinstance(module, _BatchNorm) for module in assembly.step.model.modules()):
        return
    size = assembly.source.batch_size
    micro = job.recipe.micro_batch_size
    parts = {whole % micro or micro if micro else whole for whole in {min(size, num), num % size or size}}
    if 1 not in parts:
        return
    with evaluating(assembly.step.model), seeded_defaults(0, assembly.step.device):
        saved = {name: buffer.clone() for name, buffer in assembly.step.model.named_buffers()}
        assembly.step.model.train()
        try:
            lone = assembly.facts.sample.part(0, 1).to(assembly.step.device)
            assembly.resolved.base.forward(assembly.step.model, lone)
        except ValueError as error:
            cut = f" and micro-batches of {micro}" if micro else ""
            raise JobError(
                f"{num} samples in batches of {size}{cut} leave one sample alone, and the model has batch norm",
                expected="two samples or more in every (micro-)batch",
                fix=f"Set batch_size: {_better_size(num, size)}" if not micro else "Change micro_batch_size, or leave it out",
            ) from error
        finally:
            for name, buffer in assembly.step.model.named_buffers():
                buffer.copy_(saved[name])


def _better_size(num: int, size: int) -> int:
    """The nearest batch size that leaves no sample alone."""
    sizes = sorted(range(2, max(num, 3)), key=lambda other: abs(other - size))
    return next((other for other in sizes if num % other != 1), num)
