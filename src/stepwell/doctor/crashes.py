"""What an exception of a training step says about its cause."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.asking import sums_to_one
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.losses import Entropy, Reshaped, Squares, YesOrNo, with_loss
from stepwell.doctor.remedies.modules import hold_all
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Loss

Where = Literal["forward", "loss", "backward", "step"]


@dataclass(frozen=True)
class Failed:
    """A step that raised.

    Args:
        error: what it raised.
        where: in which part.
        num_rows: of its batch.
        outputs: of the model, where it came to that.
        targets: of the batch.
        split: which rows they are.
    """

    error: Exception
    where: Where
    num_rows: int
    outputs: Any = None
    targets: Any = None
    split: Literal["training", "validation"] = "training"


# Words of torch's messages, asked in this order: the first that fits names the cause.
_WORDS: tuple[tuple[str, str], ...] = (
    (
        r"not enough memory|out of memory|can't allocate|cannot allocate|bad alloc|Storage size calculation overflow",
        "out_of_memory",
    ),
    (r"more than 1 (value|spatial element)", "last_batch_of_one"),
    (r"elements? of (input|the input) should be between 0 and 1|should be between 0 and 1", "missing_output_activation"),
    (r"does not require grad", "detached_graph"),
    (r"numpy\(\) on (a )?tensor that requires grad", "detached_graph"),
    (r"Target -?\d+ is out of bounds|class values must be (smaller|non-negative)|Class values must be", "label_out_of_range"),
    (r"target tensor expected, multi-target not supported|only batches of spatial targets", "target_shape_mismatch"),
    (
        r"Target size .* must be the same as input size|[Uu]sing a target size|batch_size .* to match target",
        "target_shape_mismatch",
    ),
    (
        r"shape mismatch|size mismatch|must match the size|[Ss]izes? .*(match|broadcast)|not broadcastable",
        "target_shape_mismatch",
    ),
    (
        r"expected scalar type|Found dtype|not implemented for|must be (float|long|floating)|[Ee]xpected .*dtype|result type",
        "wrong_loss",
    ),
    (r"index out of range|out of bounds|index .* is out of", "label_out_of_range"),
)
_CAUSES: Mapping[str, str] = {
    "out_of_memory": "an intermediate tensor is far larger than memory",
    "last_batch_of_one": "batch norm takes mean and spread over the batch, and one row has no spread",
    "missing_output_activation": "the loss is made for chances, and the model gives raw scores",
    "detached_graph": "nothing that trains is connected with the loss, so there is no gradient",
    "frozen_params": "no parameter trains, so there is no gradient",
    "label_out_of_range": "a label has no output that stands for it",
    "target_shape_mismatch": "the loss can't pair outputs with targets of that shape",
    "wrong_loss": "the loss is made for targets of another kind",
    "params_not_in_optimizer": "the optimizer holds nothing",
    "crash": "the step can't be taken as it is",
}


def id_of(bench: Bench, failed: Failed) -> str:
    """The cause's word in the vocabulary; "crash" where none is known."""
    message = f"{type(failed.error).__name__}: {failed.error}"
    found = next((word for pattern, word in _WORDS if re.search(pattern, message)), "crash")
    if isinstance(failed.error, MemoryError):
        found = "out_of_memory"
    if "empty parameter list" in message:
        found = "params_not_in_optimizer"
    if found == "detached_graph" and not any(part.requires_grad for part in bench.setup.model.parameters()):
        found = "frozen_params"
    if failed.where == "forward" and found in ("target_shape_mismatch", "wrong_loss", "label_out_of_range"):
        return "crash"  # of the model's own making: shapes and indices inside of it
    if found == "target_shape_mismatch" and _one_of_many(failed):
        return "wrong_loss"
    return found


def _one_of_many(failed: Failed) -> bool:
    """A class number each, against several outputs each, in a loss that wants as many of both."""
    outputs, targets = failed.outputs, failed.targets
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or targets.is_floating_point():
        return False
    return targets.numel() == len(outputs) and outputs.dim() >= 2 and outputs.numel() > len(outputs) and targets.dim() == 1


def suspicion_of(bench: Bench, failed: Failed) -> Suspicion:
    """A crash as a certain finding that stops all further questions."""
    found = id_of(bench, failed)
    lines = str(failed.error).strip().splitlines() or [""]
    of_validation = " validation rows" if failed.split == "validation" else ""
    evidence: dict[str, Any] = {"error": type(failed.error).__name__, "message": lines[0][:300], "rows_in_batch": failed.num_rows}
    if isinstance(failed.outputs, Tensor):
        evidence["outputs"] = list(failed.outputs.shape)
    if isinstance(failed.targets, Tensor):
        evidence |= {"targets": list(failed.targets.shape), "targets_dtype": str(failed.targets.dtype).removeprefix("torch.")}
    return Suspicion(
        found,
        f"the {failed.where} of a batch of {failed.num_rows}{of_validation} raises "
        f"{type(failed.error).__name__}: {lines[0][:200]}",
        _CAUSES[found],
        evidence,
        _remedy(bench, found, failed),
        proof="certain",
        weight=0.99,
        blocks=True,
    )


def _remedy(bench: Bench, found: str, failed: Failed) -> Remedy:
    line = _line(failed.error)
    if found == "last_batch_of_one":
        size = bench.setup.batch_size
        rows = bench.setup.train.num_there
        fitting = [number for number in range(size - 1, max(size // 2, 1), -1) if rows % number != 1 and number > 1]
        best = next(
            (number for number in fitting if rows % number == 0 or rows % number > number // 2), next(iter(fitting), None)
        )
        if best is None:
            return Remedy("Drop the last batch, or take layer norm", line=line)
        return Remedy(
            f"Take batches of {best}, or drop the last batch",
            lambda setup: setup.change(batch_size=best),
            {"recipe.batch_size": best},
            line,
        )
    if found in ("frozen_params", "params_not_in_optimizer"):
        return Remedy("Let the model's parameters train, and give the optimizer all of them", hold_all, line=line)
    lost = found == "detached_graph" and isinstance(failed.outputs, Tensor) and failed.outputs.requires_grad
    named = found in ("missing_output_activation", "wrong_loss", "target_shape_mismatch")
    loss = _fitting(bench, failed) if named or lost else None
    words = {
        "out_of_memory": "Lower the size of the tensor that is made there: shorter inputs, pooling, smaller batches",
        "detached_graph": "Keep outputs as tensors from the weights to the loss: no detach(), numpy(), item(), torch.tensor() or "
        "no_grad() on the way",
        "label_out_of_range": "Bring labels to 0 to C - 1, or give the model an output for each",
        "missing_output_activation": "Take BCEWithLogitsLoss, or end the model in sigmoid",
        "wrong_loss": "Take the loss that fits the targets: cross-entropy of class numbers, squared error of quantities",
        "target_shape_mismatch": "Give targets the shape that the loss takes",
        "crash": "Mend what the message names",
    }[found]
    if re.search(r"no attribute 'backward'|implicitly created only for scalar", str(failed.error)):
        words = "Let the loss return one number as a tensor: of a value per row its mean"
    if lost:
        words = "Take a loss that has a gradient: argmax, rounding and counts of right answers have none"
    return Remedy(words, None if loss is None else with_loss(loss), line=line)


def _fitting(bench: Bench, failed: Failed) -> Loss | None:
    """The first loss of a usual kind that takes outputs and targets of a batch and gives gradients."""
    outputs, targets = failed.outputs, failed.targets
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or not outputs.is_floating_point():
        return None
    known: list[Loss] = []
    if outputs.numel() == targets.numel():
        known.append(Reshaped(bench.setup.loss))
        whole = bool(((targets == 0) | (targets == 1)).all())
        if whole and outputs.dim() == 2 and outputs.shape[1] > 1 and sums_to_one(targets.float(), -1):
            known = [Entropy(one_hot=True)]
        elif whole:
            known = [*known, YesOrNo()]
        else:
            known = [*known, Squares()]
    elif targets.numel() == outputs.numel() // outputs.shape[-1]:
        known.append(Entropy())
    elif outputs.dim() > 2 and targets.numel() == outputs.numel() // outputs.shape[1]:
        known.append(Entropy(1))
    for loss in known:
        free = outputs.detach().clone().requires_grad_(True)
        try:
            value = loss(free, targets)
            value.backward()  # type: ignore[no-untyped-call]
        except Exception:
            continue
        if math.isfinite(float(value.detach())) and free.grad is not None:
            return loss
    return None


def _line(error: Exception) -> str | None:
    """The deepest line of code that isn't torch's own."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "torch" not in frame.filename]
    users = [frame for frame in own if "stepwell/doctor" not in frame.filename.replace("\\", "/")]
    return f"{users[-1].filename}:{users[-1].lineno}: {users[-1].line}" if users else None


def fails(model: nn.Module, bench: Bench, rows: Any) -> Failed | None:
    """Forward, loss and backward of one batch, in training mode, on a copy."""
    outputs: Any = None
    where: Where = "forward"
    setup = bench.setup
    try:
        outputs = model(rows.inputs)
        where = "loss"
        loss = setup.loss(outputs, rows.targets)
        where = "backward"
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        return Failed(error, where, len(rows), outputs, rows.targets)
    finally:
        for part in model.parameters():
            part.grad = None
    return None


def first_failure(bench: Bench) -> Failed | None:
    """The first batch, the last one (of fewer rows), and then, in evaluation and without gradients, all rows' loss."""
    setup, size = bench.setup, bench.setup.batch_size
    copied = setup.copied()
    with seeded_defaults(0), torch.enable_grad():
        copied.model.train()
        rest = setup.train.num_there % size
        batches = [bench.first_batch] + ([setup.train.take(slice(0, rest))] if rest else [])
        for rows in batches:
            failed = fails(copied.model, bench, rows)
            if failed is not None:
                return failed
        try:
            copied.build_optimizer()
        except Exception as error:
            return Failed(error, "step", size)
        return _over_all(copied.model.eval(), setup.train, bench) or _of_validation(copied.model, bench)


def _of_validation(model: nn.Module, bench: Bench) -> Failed | None:
    val = bench.setup.val
    failed = None if val is None else _over_all(model, val.take(slice(0, bench.setup.batch_size)), bench)
    return None if failed is None else replace(failed, split="validation")


def _over_all(model: nn.Module, split: Rows, bench: Bench) -> Failed | None:
    size = min(bench.setup.batch_size, len(split))
    for at in range(0, min(len(split), 32 * size), size):
        rows = split.take(slice(at, at + size))
        if len(rows) < size:
            break
        outputs: Any = None
        where: Where = "forward"
        try:
            with torch.no_grad():
                outputs = model(rows.inputs)
                where = "loss"
                bench.setup.loss(outputs, rows.targets)
        except Exception as error:
            return Failed(error, where, len(rows), outputs, rows.targets)
    return None
