"""Knowledge distillation: a student learns from the softened predictions of a teacher."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree, tree_leaves
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.errors import JobError
from stepwell.core.objectives.loss_shapes import as_scores
from stepwell.core.objectives.soft_targets import Modifier, class_targets, position_mass
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms, call_model

__all__ = ["Distillation", "distillation_losses"]


def distillation_losses(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student), both softened by T, for each position, (...,).

    T^2 keeps the size of the gradient as T grows: soft ones shrink by 1 / T^2.

    Args:
        logits: (..., K) of the student.
        teacher_logits: (..., K).
        temperature: T > 0.

    >>> distillation_losses(torch.ones(2, 3), torch.zeros(2, 3), 4.0).tolist()
    [0.0, 0.0]
    """
    student = F.log_softmax(logits / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1) * temperature**2


class _Distilled(Modifier):
    def __init__(self, inner: Objective, settings: Distillation) -> None:
        super().__init__(inner)
        self.settings = settings
        # Of the last forward pass, until its terms are asked for: (inputs it was made from, teacher's outputs).
        self._made: tuple[Tree, Tree] | None = None

    def forward(self, model: nn.Module, batch: Batch) -> Tree:
        if model is self.settings.teacher:
            raise JobError(
                "distillation.teacher is the model that is trained",
                expected="another model",
                fix="Give a trained copy, e.g. copy.deepcopy(model)",
            )
        outputs = self.inner.forward(model, batch)
        # Here and not in terms(), so that the teacher runs under the same precision policy as the student.
        self._made = (batch.inputs, self._teach(batch.inputs))
        return outputs

    def _teach(self, inputs: Tree) -> Tree:
        teacher: nn.Module = self.settings.teacher
        if teacher.training:
            teacher.eval()
        parameter, leaf = next(teacher.parameters(), None), next(iter(tree_leaves(inputs)), None)
        if parameter is not None and leaf is not None and parameter.device != leaf.device:
            teacher.to(leaf.device)
        with torch.no_grad():
            return call_model(teacher, inputs)

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        made, self._made = self._made, None
        taught = made[1] if made is not None and made[0] is batch.inputs else self._teach(batch.inputs)
        scores, goal = as_scores(outputs, "distillation"), as_scores(taught, "distillation")
        if scores.shape != goal.shape or scores.ndim < 2 or scores.shape[-1] < 2:
            raise JobError(
                f"distillation got outputs {tuple(scores.shape)} from the model and {tuple(goal.shape)} from the teacher",
                expected="scores of the same two or more classes",
                fix="Use a teacher that was trained on the same classes",
            )
        losses = distillation_losses(scores, goal.to(scores.dtype), self.settings.temperature)
        mass = self._mass(batch)
        loss = losses.sum() if mass is None else (losses * mass.to(losses.dtype)).sum()
        share = self.settings.weight
        terms = {name: term._replace(weight=term.weight * (1 - share)) for name, term in self.inner.terms(outputs, batch).items()}
        return {**terms, "distillation": Term(loss, "distilled", share)}

    def counts(self, batch: Batch) -> Counts:
        mass = self._mass(batch)
        # A unit of its own: weights per class further in change what the labels' terms are divided by, not this one.
        distilled = class_targets(batch, "distillation").numel() if mass is None else mass.sum()
        return {**self.inner.counts(batch), "distilled": distilled}

    def _mass(self, batch: Batch) -> Tensor | None:
        targets = class_targets(batch, "distillation")
        return position_mass(batch, ignored=None if targets.is_floating_point() else self.ignored_label(targets))


@technique(
    id="distillation",
    slot="objective",
    role="modifier",
    paper="Hinton et al. 2015, arXiv:1503.02531",
    needs=("class_scores",),
    search={"temperature": (1.0, 20.0, "log"), "weight": (0.1, 0.9, "linear")},
)
class Distillation:
    """Learn from a teacher's softened predictions beside the labels.

    What: (1 - weight) * loss + weight * T^2 * KL(teacher || student), both softened by the temperature T. The
    teacher sees the same (mixed) inputs, in evaluation mode and without gradients; it is no part of the model. Why:
    a small model that keeps more of a large one's accuracy. When not: a teacher trained with label smoothing (it
    distils worse), or one that is no better than the student.

    Args:
        teacher: a trained model (nn.Module), put into evaluation mode and moved to the inputs' device; in a job file the
            folder of the run that trained it, loaded by the job.
        temperature: T, no unit, > 0. Paper: 20 on MNIST, 2 to 5 are common.
        weight: share of the teacher's term, in [0, 1]; with 0 the teacher isn't asked.

    Shapes: outputs of model and teacher (N, K) or (N, T, K) logits.

    Raises:
        JobError: no teacher; temperature or weight out of range; outputs of different shapes.

    Paper: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531.

    >>> Distillation(teacher=nn.Linear(4, 3), temperature=4.0, weight=0.5).weight
    0.5
    """

    teacher: Any
    temperature: float = 4.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        require(
            isinstance(self.teacher, nn.Module) or (isinstance(self.teacher, str) and bool(self.teacher)),
            "distillation.teacher",
            self.teacher,
            "a trained model (torch.nn.Module), or in a job file the folder of the run that trained it",
            "Train the teacher first",
        )
        require(self.temperature > 0, "distillation.temperature", self.temperature, "a number above 0", "The default is 4.0")
        require_between("distillation.weight", self.weight, 0, 1, "0.5 is usual")

    def __call__(self, objective: Objective) -> Objective:
        if isinstance(self.teacher, str):
            raise JobError(
                f"distillation.teacher is the run folder {self.teacher!r}, which no job has loaded",
                expected="a trained model (torch.nn.Module)",
                fix="Outside a job, load the teacher first and pass the model itself",
            )
        link: Objective | None = objective
        while link is not None:
            require(not isinstance(link, _Distilled), "distillation", "there twice", "one teacher", "Leave one of them out")
            link = link.inner if isinstance(link, Modifier) else None
        if self.weight == 0:
            return objective
        self.teacher.eval()
        return _Distilled(objective, self)
