"""The gradient of every objective and modifier in the catalog is that of finite differences, in float64."""

from __future__ import annotations

import pytest
import torch
from loss_cases import Case, every_case, loss, rebuilt
from torch import Tensor

from stepwell.core.batch import tree_leaves
from stepwell.core.catalog import discover

CASES = every_case()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_gradient_is_that_of_finite_differences(case: Case) -> None:
    leaves = [leaf.clone().requires_grad_() for leaf in tree_leaves(case.outputs)]

    def value(*tensors: Tensor) -> Tensor:
        return loss(case.objective, rebuilt(case.outputs, tensors), case.batch)

    assert value(*leaves).dtype == torch.float64
    assert value(*leaves).abs() > 0
    assert torch.autograd.gradcheck(value, leaves)


def test_every_objective_of_the_catalog_is_checked() -> None:
    ids = {record.id for record in discover().values() if record.slot == "objective"}
    assert len(ids) >= 14
    assert {case.name.split("-")[0] for case in CASES} >= ids


def test_a_wrong_gradient_is_found() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.square()

        @staticmethod
        def backward(ctx: object, slope: Tensor) -> Tensor:
            return slope * 4

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(Doubled.apply, (torch.ones(2, dtype=torch.float64, requires_grad=True),))
