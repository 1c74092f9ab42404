"""One optimizer step, top to bottom. Techniques act where their slot says; nothing else changes weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.clock import Clock, Horizon
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng, SeededDefaults, derive
from stepwell.core.reports import StepReport, Term
from stepwell.core.slots import Counts, Objective, Terms
from stepwell.core.updates.elementwise import ElementwiseOptimizer
from stepwell.core.updates.gradients import Gradients, global_norm
from stepwell.engine.backward import backward
from stepwell.engine.parts import Execution, assemble, float_buffers
from stepwell.parallel.group import rank_of, size_of, sum_numbers, sum_tensors_
from stepwell.precision import Precision


class TrainStep:
    """The training step: call it with a batch, get a report. Use it in a loop of your own, or let `fit` run it.

    Args:
        model: any nn.Module; changed by the model techniques, and trained in place.
        objective: what is minimised, e.g. `CrossEntropy()`.
        optimizer: a technique such as `AdamW(lr=1e-3)`, or a callable (groups) -> torch optimizer.
        techniques: technique objects in list order: schedules, clipping, mixup, averages, ...
        horizon: the planned length, which schedules and relative durations need: `Horizon.of("1000 steps")`.
        seed: every draw derives from it.
        execution: precision, micro-batches, memory, process group.

    >>> from stepwell.techniques import AdamW, ClipNorm, CrossEntropy
    >>> model = nn.Linear(4, 3)
    >>> step = TrainStep(model, objective=CrossEntropy(), optimizer=AdamW(lr=1e-2), techniques=[ClipNorm(max_norm=1.0)])
    >>> report = step(Batch(torch.randn(8, 4), torch.randint(0, 3, (8,))))
    >>> report.step, report.samples
    (1, 8)
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        objective: Objective,
        optimizer: Any,
        techniques: Iterable[Any] = (),
        horizon: Horizon | None = None,
        seed: int = 0,
        execution: Execution | None = None,
    ) -> None:
        self.execution = execution or Execution()
        self.seed, self.horizon = seed, horizon or Horizon(math.inf)
        self.precision = Precision.of(self.execution.precision)
        self.group = self.execution.process_group
        self.rank = rank_of(self.group)
        self.parts = assemble(
            model,
            objective=objective,
            optimizer=optimizer,
            techniques=techniques,
            horizon=self.horizon,
            seed=seed,
            memory=self.execution.memory,
        )
        self.model, self.optimizer = self.parts.model, self.parts.optimizer
        self._require_decomposable()
        self.device = next(self.model.parameters()).device
        self.clock, self.cursor = Clock(), 0
        self.held = -1  # the cursor of the step whose buffers from before are in `_saved_buffers`
        self.updating = False  # weights may be half updated
        self._defaults = SeededDefaults(self.device)
        self._flat = self.optimizer if isinstance(self.optimizer, ElementwiseOptimizer) and self.optimizer.layouts else None
        self._buffers = float_buffers(self.model)
        self._saved_buffers = [buffer.clone() for buffer in self._buffers]
        self._late = self._checks_late()
        self._gradients: Gradients | None = None
        self._unread: Tensor | None = None
        self._known_slopes: dict[tuple[float, torch.dtype, torch.Size], Tensor] = {}
        self.model.train()

    def __call__(self, batch: Batch) -> StepReport:
        """Train on the step's batch (this rank's share of it), and report. A non-finite step leaves the weights alone."""
        parts, model, clock, cursor = self.parts, self.model, self.clock, self.cursor

        # What the clock decides: schedule values, and which tensors train.
        done = self.horizon.done(clock)
        for write in parts.drives:
            write(done)
        for technique in parts.moving.values():
            if technique.at(model, clock, self.horizon):
                self._trainable_changed()
        # The whole batch first: what mixes samples sees all of them, and every denominator is known before any loss.
        for key, technique in parts.batch.items():
            batch = getattr(technique, "on_batch", technique)(batch, Rng(derive(self.seed, key, cursor)))
        counts, num_samples = self._counts(batch)
        num_tokens = int(counts.get("tokens", 0))
        if self._buffers:
            torch._foreach_copy_(self._saved_buffers, self._buffers)
        self.held = cursor
        probes = [probe for probe in parts.probes if probe.due(clock.steps)]
        for probe in probes:
            probe.begin(model)

        # Gradients of sum / count, however the batch is cut.
        terms = self._accumulate(batch, counts)
        gradients = self._synchronised_gradients()
        if self.precision.loss_scale is not None:
            gradients.scale_(1.0 / self.precision.loss_scale.scale)
        grad_norm = gradients.norm()
        finite = self._finite(terms, grad_norm)
        for probe in probes:
            probe.gradients(model) if finite else probe.cancel()

        measured: dict[str, Tensor] = {}
        layers: dict[str, dict[str, Tensor]] = {}
        if finite:
            with torch.no_grad():
                for key, technique in parts.grad.items():
                    for name, value in technique(gradients).items():
                        measured[f"{key}.{name}"] = value
                self.updating = True
                self._update(batch, counts)
                for probe in probes:
                    layers |= probe.end(model)
                clock.tick(samples=num_samples, tokens=num_tokens)
                for average in parts.averages.values():
                    average.update(clock)
        elif self._buffers:
            torch._foreach_copy_(self._buffers, self._saved_buffers)
        if self.precision.loss_scale is not None:
            self.precision.loss_scale.update(overflow=not finite)
        self.cursor, self.updating = cursor + 1, False
        return StepReport(
            step=clock.steps,
            cursor=cursor,
            terms=terms,
            counts=counts,
            grad_norm=grad_norm,
            lr=self.optimizer.param_groups[0]["lr"],
            measured=measured,
            samples=num_samples,
            tokens=num_tokens,
            skipped=None if finite else "non-finite loss or gradient",
            layers=layers,
        )

    def _counts(self, batch: Batch) -> tuple[Counts, int]:
        """Each unit's count and the number of samples, over all ranks."""
        counts = self.parts.objective.counts(batch)
        if self.group is None:
            return counts, len(batch)
        counts = sum_numbers({**counts, "samples ": len(batch)}, self.group, self.device)
        return counts, int(counts.pop("samples "))

    def _accumulate(self, batch: Batch, counts: Counts) -> Terms:
        """Forward and backward, micro-batch by micro-batch, into fresh gradients; the detached terms of the whole step."""
        self._zero_gradients()
        objective, precision, size = self.parts.objective, self.precision, self.execution.micro_batch_size
        total: Terms = {}
        self._defaults.hold()
        try:
            for number, micro in enumerate([batch] if size is None else batch.split(size)):
                # Dropout and attention draw from torch's default generators: derived, so a resumed step draws the same.
                self._defaults.seed(derive(self.seed, "forward", self.cursor, number, self.rank))
                with precision.forward(self.device):
                    outputs = objective.forward(self.model, micro)
                terms = objective.terms(precision.full(outputs), micro)
                backward([term.sum for term in terms.values()], self._slopes(terms, counts))
                for name, term in terms.items():
                    before = total[name].sum if name in total else 0.0
                    total[name] = Term(before + term.sum.detach(), term.unit, term.weight) if number else _detached(term)
        finally:
            self._defaults.put_back()
        sums = sum_numbers({name: term.sum for name, term in total.items()}, self.group, self.device)
        return {name: Term(sums[name], term.unit, term.weight) for name, term in total.items()} if self.group else total

    def _slopes(self, terms: Terms, counts: Counts) -> list[Tensor]:
        """How the loss changes with each term's sum: weight / count, times the loss scale."""
        scale = 1.0 if self.precision.loss_scale is None else self.precision.loss_scale.scale
        slopes = []
        for term in terms.values():
            count = counts[term.unit]
            if isinstance(count, Tensor):
                # An integer count would be divided in fp32, whatever the terms' own precision. Nothing to count: no pull.
                exact = count if count.is_floating_point() else count.to(term.sum.dtype)
                slope = torch.where(exact > 0, term.weight * scale / exact, 0.0)
                slopes.append(slope.to(term.sum.dtype).expand(term.sum.shape))
                continue
            key = (term.weight * scale / count if count else 0.0, term.sum.dtype, term.sum.shape)
            if key not in self._known_slopes:
                if len(self._known_slopes) > 64:  # counts that differ in every step, as tokens do
                    self._known_slopes.clear()
                self._known_slopes[key] = torch.full_like(term.sum, key[0]).detach()
            slopes.append(self._known_slopes[key])
        return slopes

    def _zero_gradients(self) -> None:
        if self._flat is None:
            self.optimizer.zero_grad(set_to_none=True)
            return
        for layout in self._flat.layouts:
            layout.attach()
            layout.gradients.zero_()
        for parameter in self._flat.outside:
            parameter.grad = None

    def _synchronised_gradients(self) -> Gradients:
        if self._flat is None:
            gradients = Gradients.of(p for group in self.optimizer.param_groups for p in group["params"])
        else:
            if self._gradients is None:
                members = [p for layout in self._flat.layouts for p in layout.parameters if p.requires_grad]
                self._gradients = Gradients(members, self._flat.gradient_spans)
            gradients = self._gradients
            gradients.changed()
            outside = [p for p in self._flat.outside if p.grad is not None]
            if outside:
                loose = Gradients(outside)
                gradients = Gradients([*gradients.parameters, *outside], [*gradients.spans, *loose.tensors])
        sum_tensors_(gradients.spans, self.group)
        return gradients

    def _finite(self, terms: Terms, grad_norm: Tensor) -> bool:
        """Whether this step is sound; where the check is late, whether the one before was (the device guards itself)."""
        if not self._late:
            return math.isfinite(grad_norm.item()) and all(_is_finite(term.sum) for term in terms.values())
        assert self._flat is not None, "only laid-out optimizers check late"
        sound = torch.isfinite(grad_norm)
        for term in terms.values():
            sound = sound & torch.isfinite(term.sum).all()
        self._flat.skip = 1.0 - sound.float()
        for buffer, saved in zip(self._buffers, self._saved_buffers, strict=True):
            buffer.copy_(torch.where(sound, buffer, saved))
        before, self._unread = self._unread, sound
        return before is None or bool(before.item())

    def _checks_late(self) -> bool:
        guarded = self._flat is not None and self.precision.loss_scale is None
        if self.execution.finite_check == "late" and not guarded:
            raise JobError(
                "finite_check is late, but this optimizer or precision has to know at once",
                expected="a laid-out optimizer of stepwell's without loss scaling",
                fix='Set finite_check="at_once"',
            )
        wished = {"late": True, "at_once": False, "auto": self.device.type != "cpu"}
        return guarded and wished[self.execution.finite_check]

    def _update(self, batch: Batch, counts: Counts) -> None:
        optimizer = self.optimizer
        hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
        if isinstance(optimizer, ElementwiseOptimizer) and not hooks:
            optimizer.update_()
        elif getattr(optimizer, "needs_closure", False):

            def replay() -> Terms:
                with torch.enable_grad():
                    terms = self._accumulate(batch, counts)
                self._synchronised_gradients()
                return terms

            optimizer.step(replay)  # type: ignore[arg-type]
        else:
            optimizer.step()

    def parameter_norm(self) -> Tensor:
        """The global L2 norm of the parameters that train, a scalar on their device."""
        flat = self._flat
        loose = self.model.parameters() if flat is None else flat.outside
        trained = [parameter.detach() for parameter in loose if parameter.requires_grad]
        return global_norm(trained if flat is None else [*flat.value_spans, *trained])

    def _trainable_changed(self) -> None:
        self._gradients = None
        if self._flat is not None:
            self._flat.relayout()

    def _require_decomposable(self) -> None:
        cut = self.execution.micro_batch_size is not None or size_of(self.group) > 1
        if cut and not self.parts.objective.decomposable:
            raise JobError(
                "the objective is defined over a whole batch and can't be summed over parts of it",
                expected="no micro-batches and one process",
                fix="Leave micro_batch_size out, or take the per-sample form of the loss",
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training, with ordinary names and shapes. See `load_state_dict`."""
        from stepwell.engine.state import step_state

        return step_state(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state: the next step has the bits that the saved run's next step had."""
        from stepwell.engine.state import load_step_state

        load_step_state(self, state)


def _detached(term: Term) -> Term:
    return Term(term.sum.detach(), term.unit, term.weight)


def _is_finite(sums: Tensor) -> bool:
    return math.isfinite(sums.item()) if sums.dim() == 0 else bool(sums.isfinite().all())
