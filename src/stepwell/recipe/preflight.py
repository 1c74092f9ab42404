"""Before the first step: does the model take the data, and does the loss mean what the step assumes?"""

from __future__ import annotations

import torch

from stepwell.core.batch import tree_leaves
from stepwell.core.callable_loss import is_mean_over_samples
from stepwell.core.errors import JobError, StepwellError
from stepwell.core.randomness import derive, seeded_defaults
from stepwell.engine.evaluate import evaluating
from stepwell.recipe.run import Assembly


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
            raise JobError(
                f"the model failed on {len(batch)} training examples of shape {shapes}: {type(error).__name__}: {error}",
                expected="a model that takes the inputs as they are",
                fix="Check the first layer's width, the order of dimensions and the dtype (inputs are float32)",
            ) from error
        objective.terms(outputs, batch)
        objective.counts(batch)
    cut = assembly.parts.job.recipe.micro_batch_size is not None
    finding = is_mean_over_samples(objective, step.model, batch) if len(batch) > 1 else None
    if finding is not None and not finding.holds and cut:
        raise JobError(
            finding.message,
            expected="a loss that can be summed over parts of a batch",
            fix="Return one loss per sample, or leave micro_batch_size out",
        )
    if not torch.is_grad_enabled():
        raise JobError("gradients are switched off", expected="grad mode on", fix="Call fit outside of torch.no_grad()")
