"""Distillation: Hinton's formula, a teacher that is left alone, and its place among other modifiers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.core.slots import Objective
from stepwell.techniques.batch.mixup import Mixup
from stepwell.techniques.objective.class_weights import ClassWeights
from stepwell.techniques.objective.cross_entropy import CrossEntropy
from stepwell.techniques.objective.distillation import Distillation, distillation_losses
from stepwell.techniques.objective.label_smoothing import LabelSmoothing

WEIGHTS = [0.5, 2.0, 3.0]
TABLE = torch.tensor(WEIGHTS, dtype=torch.float64)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(seed: int) -> nn.Module:
    made = nn.Linear(4, 3).double()
    with torch.no_grad():
        made.weight.copy_(draws(3, 4, seed=seed))
        made.bias.zero_()
    return made


def kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    return temperature**2 * (p * (p / q).log()).sum(-1)


def loss(objective: Objective, model: nn.Module, batch: Batch) -> Tensor:
    counts = objective.counts(batch)
    return sum(term.weight * term.sum / counts[term.unit] for term in objective(model, batch).values())


@pytest.fixture
def batch() -> Batch:
    return Batch(draws(6, 4, seed=9), torch.tensor([0, 1, 2, 2, 1, 0]))


def test_two_classes_worked_by_hand() -> None:
    # Teacher (4/5, 1/5), student (1/2, 1/2) at T = 2: logits are twice the logs.
    teacher, student = 2 * torch.tensor([[4.0, 1.0]]).log(), torch.zeros(1, 2)
    expected = 4 * (0.8 * math.log(1.6) + 0.2 * math.log(0.4))
    assert distillation_losses(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_the_loss_is_hinton_s_mixture(batch: Batch, temperature: float) -> None:
    student, teacher = layer(0), layer(1)
    objective = Distillation(CrossEntropy(), teacher=teacher, temperature=temperature, weight=0.7)
    soft = kl(student(batch.inputs), teacher(batch.inputs), temperature).mean()
    expected = 0.3 * F.cross_entropy(student(batch.inputs), batch.targets) + 0.7 * soft
    torch.testing.assert_close(loss(objective, student, batch), expected)


def test_the_gradient_keeps_its_size_as_the_temperature_grows() -> None:
    # The paper's limit: with zero-mean logits the gradient tends to (student - teacher) / K.
    student = (draws(1, 3) - draws(1, 3).mean()).requires_grad_()
    teacher = draws(1, 3, seed=1) - draws(1, 3, seed=1).mean()
    distillation_losses(student, teacher, 1e4).sum().backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 3, rtol=0, atol=1e-3)


def test_the_teacher_runs_in_evaluation_mode_without_gradient_and_is_no_part_of_the_student(batch: Batch) -> None:
    seen: list[tuple[bool, bool]] = []
    teacher = nn.Sequential(layer(1), nn.Dropout(0.9))
    teacher.register_forward_hook(lambda module, args, out: seen.append((module[1].training, out.requires_grad)))
    student = layer(0)
    names = list(student.state_dict())
    objective = Distillation(CrossEntropy(), teacher=teacher)
    student.train()
    loss(objective, student, batch).backward()
    assert seen == [(False, False)]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert list(student.state_dict()) == names
    assert student.training


def test_the_teacher_sees_the_mixed_inputs(batch: Batch) -> None:
    seen: list[Tensor] = []
    teacher = layer(1)
    teacher.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    mixed = Mixup(alpha=0.4, num_classes=3)(batch, Rng(1))
    loss(Distillation(CrossEntropy(), teacher=teacher), layer(0), mixed)
    assert len(seen) == 1
    assert seen[0] is mixed.inputs


def test_terms_of_outputs_from_elsewhere_ask_the_teacher_again(batch: Batch) -> None:
    student, teacher = layer(0), layer(1)
    objective = Distillation(CrossEntropy(), teacher=teacher, temperature=1.0)
    objective.forward(student, Batch(batch.inputs + 1, batch.targets))
    term = objective.terms(student(batch.inputs), batch)["distillation"]
    torch.testing.assert_close(term.sum, kl(student(batch.inputs), teacher(batch.inputs), 1.0).sum())


def test_class_weights_inside_leave_the_teacher_s_term_alone(batch: Batch) -> None:
    student, teacher = layer(0), layer(1)
    objective = Distillation(teacher=teacher, temperature=2.0, weight=0.4)(ClassWeights(weights=WEIGHTS)(CrossEntropy()))
    soft = kl(student(batch.inputs), teacher(batch.inputs), 2.0).mean()
    expected = 0.6 * F.cross_entropy(student(batch.inputs), batch.targets, weight=TABLE) + 0.4 * soft
    torch.testing.assert_close(loss(objective, student, batch), expected)


@pytest.mark.parametrize("soft", ["numbers", "mass"])
def test_class_weights_around_weigh_the_teacher_s_term_too(batch: Batch, soft: str) -> None:
    student, teacher = layer(0), layer(1)
    given = batch if soft == "numbers" else Batch(batch.inputs, F.one_hot(batch.targets, 3).double())
    objective = ClassWeights(weights=WEIGHTS)(Distillation(teacher=teacher, temperature=2.0, weight=0.4)(CrossEntropy()))
    own = TABLE[batch.targets]
    each = kl(student(batch.inputs), teacher(batch.inputs), 2.0)
    expected = 0.6 * F.cross_entropy(student(batch.inputs), batch.targets, weight=TABLE) + 0.4 * (each * own).sum() / own.sum()
    torch.testing.assert_close(loss(objective, student, given), expected)


@pytest.mark.parametrize("order", ["inside", "around"])
def test_smoothing_touches_only_the_labels_term(batch: Batch, order: str) -> None:
    student, teacher = layer(0), layer(1)
    distillation, smoothing = Distillation(teacher=teacher, temperature=2.0, weight=0.4), LabelSmoothing(epsilon=0.2)
    objective = distillation(smoothing(CrossEntropy())) if order == "inside" else smoothing(distillation(CrossEntropy()))
    soft = kl(student(batch.inputs), teacher(batch.inputs), 2.0).mean()
    expected = 0.6 * F.cross_entropy(student(batch.inputs), batch.targets, label_smoothing=0.2) + 0.4 * soft
    torch.testing.assert_close(loss(objective, student, batch), expected)


def test_all_three_modifiers_with_mixup_follow_one_formula(batch: Batch) -> None:
    student, teacher = layer(0), layer(1)
    mixed = Mixup(alpha=0.4, num_classes=3)(batch, Rng(1))
    objective: Objective = ClassWeights(weights=WEIGHTS)(CrossEntropy())
    objective = LabelSmoothing(epsilon=0.2)(Distillation(teacher=teacher, temperature=2.0, weight=0.4)(objective))
    mass = (0.8 * mixed.targets.double() + 0.2 / 3) * TABLE
    scores = student(mixed.inputs)
    expected = 0.6 * -(mass * scores.log_softmax(-1)).sum() / mass.sum() + 0.4 * kl(scores, teacher(mixed.inputs), 2.0).mean()
    # The mixed targets are held in single precision.
    torch.testing.assert_close(loss(objective, student, mixed), expected, rtol=1e-6, atol=0)


def test_ignored_tokens_are_not_distilled() -> None:
    student, teacher = layer(0), layer(1)
    batch = Batch(draws(2, 5, 4), torch.tensor([[0, 1, -100, -100, -100], [2, 1, 0, 1, -100]]))
    kept = batch.targets != -100
    objective = Distillation(CrossEntropy(), teacher=teacher, temperature=2.0, weight=0.5)
    soft = kl(student(batch.inputs), teacher(batch.inputs), 2.0)[kept].mean()
    hard = F.cross_entropy(student(batch.inputs)[kept], batch.targets[kept])
    torch.testing.assert_close(loss(objective, student, batch), 0.5 * hard + 0.5 * soft)
    assert int(objective.counts(batch)["distilled"]) == 6


def test_sample_weights_weigh_both_terms(batch: Batch) -> None:
    student, teacher, weights = layer(0), layer(1), draws(6, seed=5).abs()
    batch = Batch(batch.inputs, batch.targets, weights)
    scores = student(batch.inputs)
    each = 0.5 * F.cross_entropy(scores, batch.targets, reduction="none") + 0.5 * kl(scores, teacher(batch.inputs), 2.0)
    objective = Distillation(CrossEntropy(), teacher=teacher, temperature=2.0, weight=0.5)
    torch.testing.assert_close(loss(objective, student, batch), (each * weights).sum() / weights.sum())


def test_parts_add_up_to_the_whole(batch: Batch) -> None:
    student = layer(0)
    objective = ClassWeights(weights=WEIGHTS)(Distillation(teacher=layer(1))(CrossEntropy()))
    parts = batch.split([1, 3, 2])
    for name, term in objective(student, batch).items():
        torch.testing.assert_close(sum(objective(student, part)[name].sum for part in parts), term.sum, rtol=1e-12, atol=0)
    for unit, count in objective.counts(batch).items():
        assert float(sum(objective.counts(part)[unit] for part in parts)) == pytest.approx(float(count), rel=1e-12)


def test_gradcheck() -> None:
    teacher = draws(4, 3, seed=1)
    assert torch.autograd.gradcheck(lambda x: distillation_losses(x, teacher, 3.0), (draws(4, 3).requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_ten_thousand_stay_finite(dtype: torch.dtype) -> None:
    outputs = torch.tensor([[1e4, -1e4]], dtype=dtype)
    teacher = nn.Identity()
    objective = Distillation(CrossEntropy(), teacher=teacher, temperature=1.0)
    term = objective.terms(outputs, Batch(-outputs, torch.tensor([0])))["distillation"]
    # All the teacher's mass is where the student is 20000 below.
    assert term.sum.item() == pytest.approx(2 * outputs[0, 0].item(), rel=1e-6)


def test_a_teacher_of_other_classes_is_refused(batch: Batch) -> None:
    with pytest.raises(JobError, match=r"\(6, 3\) from the model and \(6, 5\)"):
        Distillation(CrossEntropy(), teacher=nn.Linear(4, 5).double())(layer(0), batch)


def test_scores_of_a_single_class_are_refused_and_sequences_of_a_single_token_are_not(batch: Batch) -> None:
    one = Distillation(CrossEntropy(), teacher=nn.Linear(4, 1).double())
    with pytest.raises(JobError, match="two or more classes"):
        one.terms(torch.zeros(6, 1, dtype=torch.float64), batch)
    tokens = Batch(batch.inputs[:, None], batch.targets[:, None])
    objective = Distillation(CrossEntropy(), teacher=layer(1), temperature=2.0, weight=0.5)
    torch.testing.assert_close(loss(objective, layer(0), tokens), loss(objective, layer(0), batch))


def test_the_teacher_follows_the_inputs_to_their_device(batch: Batch) -> None:
    elsewhere = Batch(batch.inputs.to("meta"), batch.targets.to("meta"))
    teacher = layer(1)
    Distillation(CrossEntropy(), teacher=teacher).forward(layer(0).to("meta"), elsewhere)
    assert {parameter.device.type for parameter in teacher.parameters()} == {"meta"}


def test_the_student_cannot_be_its_own_teacher(batch: Batch) -> None:
    student = layer(0)
    with pytest.raises(JobError, match="another model"):
        Distillation(CrossEntropy(), teacher=student)(student, batch)


@pytest.mark.parametrize(
    "settings",
    [{"teacher": 3}, {"teacher": ""}, {"temperature": 0.0}, {"weight": -0.1}, {"weight": 1.1}, {"temperature": float("nan")}],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(JobError, match="distillation"):
        Distillation(**{"teacher": nn.Identity(), **settings})


def test_a_run_folder_must_be_loaded_first() -> None:
    with pytest.raises(JobError, match="no job has loaded"):
        Distillation(teacher="runs/a")(CrossEntropy())


def test_two_teachers_are_refused() -> None:
    once = Distillation(CrossEntropy(), teacher=nn.Identity())
    with pytest.raises(JobError, match="one teacher"):
        Distillation(LabelSmoothing()(once), teacher=nn.Identity())


def test_without_any_weight_the_teacher_is_not_asked_and_the_objective_is_the_same() -> None:
    objective = CrossEntropy()
    assert Distillation(teacher=nn.Linear(4, 3), weight=0.0)(objective) is objective
