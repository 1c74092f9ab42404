"""Steps that raise."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, mlp, said, signs
from torch import Tensor, nn


class _Huge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.inner(inputs)
        return outputs + torch.empty(10**15, device="cpu").sum()


class _Copied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.tensor(self.inner(inputs).tolist())


def test_a_healthy_step_raises_nothing() -> None:
    assert said("crash", bench_of(mlp(4, 8, 2), signs())) == []


def test_a_tensor_of_10_to_the_15_numbers_is_out_of_memory_and_its_line_is_named() -> None:
    (found,) = said("crash", bench_of(_Huge(), signs()))
    assert (found.id, found.proof, found.blocks) == ("out_of_memory", "certain", True)
    assert found.remedy.line is not None
    assert "torch.empty" in found.remedy.line


def test_a_last_row_alone_under_batch_norm_is_named_and_the_mended_batches_leave_none() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    (found,) = said("crash", bench_of(model, signs(65)))  # 65 = 2 * 32 + 1
    assert (found.id, found.evidence["rows_in_batch"]) == ("last_batch_of_one", 1)
    bench = bench_of(model, signs(65))
    assert found.remedy.change is not None
    assert 65 % found.remedy.change(bench.setup).batch_size != 1


def test_outputs_without_a_graph_are_a_detached_graph() -> None:
    (found,) = said("crash", bench_of(_Copied(), signs()))
    assert (found.id, found.remedy.change) == ("detached_graph", None)


def test_a_model_that_is_frozen_altogether_is_told_as_frozen_and_unfreezing_mends_it() -> None:
    model = mlp(4, 8, 2).requires_grad_(False)
    (found,) = said("crash", bench_of(model, signs()))
    assert found.id == "frozen_params"
    assert found.remedy.change is not None
    mended = found.remedy.change(bench_of(model, signs()).setup)
    assert all(part.requires_grad for part in mended.model.parameters())
    assert not any(part.requires_grad for part in model.parameters())


@pytest.mark.parametrize(
    ("loss", "train", "word"),
    [
        (nn.CrossEntropyLoss(), (signs()[0], signs()[1].unsqueeze(1)), "target_shape_mismatch"),
        (nn.CrossEntropyLoss(), (signs()[0], signs()[1].float()), "wrong_loss"),
        (nn.MSELoss(), signs(), "wrong_loss"),
        (nn.BCEWithLogitsLoss(), signs(), "wrong_loss"),
        (nn.CrossEntropyLoss(), (signs()[0], signs()[1] + 1), "label_out_of_range"),
    ],
)
def test_a_loss_that_raises_is_named_by_its_message(loss: nn.Module, train: tuple[Tensor, Tensor], word: str) -> None:
    (found,) = said("crash", bench_of(mlp(4, 8, 2), train, loss=loss))
    assert found.id == word


def test_scores_under_bce_miss_their_activation_and_the_mended_loss_is_that_of_scores() -> None:
    inputs, labels = signs()
    train = (inputs, labels.float().unsqueeze(1))
    model = mlp(4, 8, 1)
    (found,) = said("crash", bench_of(model, train, loss=nn.BCELoss()))
    assert found.id == "missing_output_activation"
    assert found.remedy.change is not None
    mended = found.remedy.change(bench_of(model, train, loss=nn.BCELoss()).setup)
    outputs = model(inputs)
    torch.testing.assert_close(mended.loss(outputs, train[1]), nn.functional.softplus(outputs * (1 - 2 * train[1])).mean())


def test_an_index_error_inside_of_the_model_is_a_crash_without_a_known_cause() -> None:
    tokens = torch.arange(40).reshape(10, 4) % 9
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 2))
    (found,) = said("crash", bench_of(model, (tokens, torch.arange(10) % 2), batch_size=5))
    assert found.id == "crash"


def test_a_loss_that_counts_wrong_answers_has_no_gradient_and_gets_one_that_has() -> None:
    def count(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) != targets).float().mean()

    bench = bench_of(mlp(4, 8, 2), signs(), loss=count)
    (found,) = said("crash", bench)
    assert found.id == "detached_graph"
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    mended.loss(mended.model(signs()[0]), signs()[1]).backward()
