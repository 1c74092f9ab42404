"""A run: resolved recipe, data and model put together, trained, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stepwell.core.batch import Batch, tree_leaves
from stepwell.core.catalog import record_of
from stepwell.core.errors import JobError, nearest
from stepwell.core.facts import DataFacts
from stepwell.core.slots import Source, call_model
from stepwell.data.examples import Examples
from stepwell.data.sampling import Sampling
from stepwell.data.sources import ShuffledSource, eval_batches
from stepwell.engine.evaluate import evaluate, evaluating, is_text
from stepwell.engine.memory import Cut
from stepwell.engine.metrics.confusion import Confusion, ConfusionMatrix
from stepwell.engine.metrics.streaming import Accumulator, make_metrics
from stepwell.engine.parts import Execution
from stepwell.engine.records.history import History, Progress, Recorder, Watch
from stepwell.engine.records.run_folder import RunFolder
from stepwell.engine.train_step import TrainStep
from stepwell.engine.trainer import Trainer
from stepwell.recipe.compatibility import check_recipe
from stepwell.recipe.job import Job
from stepwell.recipe.resolve import Derived, Resolved, class_counts, resolve
from stepwell.recipe.tasks import Task, metric_names

logger = logging.getLogger("stepwell.run")
EVALUATION_BATCH = 1024
EVALUATION_NUMBERS = 4 << 20
REFRESH_BATCHES = 100


@dataclass
class Run:
    """What training gives back.

    Args:
        model: the trained module, holding the delivered weights (the average's or the best evaluation's, where the
            recipe has them).
        history: rows of training windows and evaluations, and events.
        best: the best evaluation: metric, value, step, epoch, metrics. Empty without validation data.
        metrics: of the delivered weights on the validation data. Empty without.
        test_metrics: of the delivered weights on the untouched test part. Empty without.
        stop_reason: why training ended.
        steps: completed optimizer steps.
        folder: where the run is on disk, or None.
        derived: values that were derived, with reasons.
        task: what is predicted, or None where only the loss is known.
    """

    model: nn.Module
    history: History
    best: dict[str, Any]
    metrics: dict[str, float]
    stop_reason: str
    steps: int
    test_metrics: dict[str, float] = field(default_factory=dict)
    folder: Path | None = None
    derived: list[Derived] = field(default_factory=list)
    task: Task | None = None


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What the numbers of the data stand for, as far as that is known.

    Args:
        num_outputs: width of the model's output.
        target_scale: what a unit of the (standardised) target is worth in original units: a number, one per column, or
            {task: number}.
        classes: their names, where the data has some.
        vocabulary: the word of each token id, where inputs are token ids; padding: the id that fills short ones up.
    """

    num_outputs: int | None = None
    target_scale: Any = 1.0
    classes: list[str] | None = None
    vocabulary: list[str] | None = None
    padding: int | None = None


@dataclass
class Ingredients:
    """What a run is made of, from a job file or from Python alike.

    Args:
        train: examples with a known length, or a ready source.
        validation, test: examples or a callable that gives fresh batches.
        meaning: of inputs and targets.
        sampling: how often an epoch draws each training example, see `stepwell.data.sampling`.
    """

    job: Job
    model: nn.Module
    train: Examples | Source
    validation: Examples | Callable[[], Iterable[Batch]] | None = None
    test: Examples | None = None
    meaning: Meaning = field(default_factory=Meaning)
    sampling: Sampling = "once"
    derived: list[Derived] = field(default_factory=list)


class Assembly:
    """Everything built and ready to train: what `fit`, `train`, `resume`, `check` and `explain` share.

    Attributes:
        confusion: after `finish`, which classes the delivered weights take for which on the test part, else the
            validation part. None without a folder to write it to, for other tasks and for more than 50 classes.
    """

    confusion: Confusion | None = None

    def __init__(
        self,
        parts: Ingredients,
        *,
        folder: RunFolder | None = None,
        progress: Progress | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.parts, self.folder, job = parts, folder, parts.job
        self.device = device_of(job.device)
        self.source = self._source()
        facts = DataFacts(
            num_samples=None if self._endless else len(parts.train),  # type: ignore[arg-type]
            steps_per_epoch=self.source.steps_per_epoch,
            sample=self._sample(),
            batch_size=self.source.batch_size,
            class_counts=self._class_counts(),
            num_outputs=parts.meaning.num_outputs or self._probed_outputs(),
            validated=parts.validation is not None,
            vocabulary=parts.meaning.vocabulary,
            padding=parts.meaning.padding,
        )
        self.facts = facts
        self.resolved: Resolved = resolve(job, facts)
        self.resolved.derived[:0] = parts.derived
        task = self.resolved.task
        check_recipe(replace(job.recipe, objective=self.resolved.base), task=task.name if task else None)
        self._check_monitors()
        self.model = parts.model.to(self.device)
        self.step = self._train_step()
        validation = parts.validation
        recorder = Recorder(
            folder=folder,
            log_every=self.resolved.log_every,
            progress=progress,
            watch=watch,
            param_norm=self.step.parameter_norm,
        )
        self.trainer = Trainer(
            self.step,
            self.source,
            plan=self.resolved.plan,
            recorder=recorder,
            evaluator=None if validation is None else lambda: self.evaluate(validation),
            refresh=self._refresh if self.step.parts.averages else None,
            folder=folder,
        )
        if progress is not None:
            progress.start(self.resolved.horizon.total_steps, self.source.steps_per_epoch)
        if watch is not None:
            watch.start(job.to_mapping(), self.resolved.horizon.total_steps)

    def _train_step(self) -> TrainStep:
        recipe = self.parts.job.recipe
        return TrainStep(
            self.model,
            objective=self.resolved.base,
            optimizer=self.resolved.optimizer,
            techniques=self.resolved.techniques,
            horizon=self.resolved.horizon,
            seed=self.parts.job.seed,
            execution=Execution(
                precision=recipe.precision,
                micro_batch_size=recipe.micro_batch_size,
                memory=recipe.plan,
                # Going on after a bad step needs to know before the clock ticks; stopping can wait a step.
                finite_check="auto" if recipe.on_nonfinite == "stop" else "at_once",
            ),
        )

    def _check_monitors(self) -> None:
        """Refuse a monitor that no evaluation will have, before the first one is waited for."""
        names = metric_names(self.resolved.task, self.facts.sample.targets, self.resolved.base)
        known = ["loss", *make_metrics(names, target_scale=self.parts.meaning.target_scale)]
        if is_text(self.facts.sample.targets):
            known.append("perplexity")
        for item in self.resolved.techniques:
            monitor, record = getattr(item, "monitor", None), record_of(item)
            if record is not None and isinstance(monitor, str) and monitor not in known:
                raise JobError(
                    f"{record.id}.monitor is {monitor!r}", expected="a metric that is evaluated", fix=nearest(monitor, known)
                )

    @property
    def _endless(self) -> bool:
        return not hasattr(self.parts.train, "batch")

    def _source(self) -> Source:
        job = self.parts.job
        if self._endless:
            return self.parts.train  # type: ignore[return-value]
        return ShuffledSource(
            self.parts.train,  # type: ignore[arg-type]
            batch_size=job.recipe.batch_size,
            seed=job.seed,
            workers=job.workers,
            sampling=self.parts.sampling,
        )

    def _sample(self) -> Batch:
        if self._endless:
            return self.source.next(0).part(0, 8)
        train: Examples = self.parts.train  # type: ignore[assignment]
        return train.batch(torch.arange(min(8, len(train))))

    def _class_counts(self) -> list[int] | None:
        targets = getattr(self.parts.train, "targets", None)
        return class_counts(targets)

    def _probed_outputs(self) -> int | None:
        """The width of the model's output, found by calling it, where a technique asks for the number of classes."""
        techniques = self.parts.job.recipe.techniques
        heads = [item for item in techniques if (record := record_of(item)) is not None and record.stage == "head"]
        if heads:  # what the model has now is replaced
            return getattr(heads[-1], "num_outputs", None) or len(self._class_counts() or ()) or None
        if all(getattr(item, "num_classes", 0) is not None for item in techniques):
            return None
        with evaluating(self.parts.model):
            try:
                outputs = call_model(self.parts.model, self._sample().inputs)
            except Exception:  # preflight calls it again and says what is wrong
                return None
        if not isinstance(outputs, torch.Tensor) or outputs.dim() < 2:
            return None
        targets = self._sample().targets
        if isinstance(targets, torch.Tensor) and targets.dim() == 3:  # masks: scores (N, C, H, W), or (N, H, W) of one class
            return int(outputs.shape[1]) if outputs.dim() == 4 else 1
        return int(outputs.shape[-1])

    def _refresh(self) -> Iterable[Batch]:
        """Training batches in order, for averages that re-estimate statistics."""
        if self._endless:
            return [self.source.next(cursor) for cursor in range(min(REFRESH_BATCHES, 10))]
        size = min(self.source.batch_size, EVALUATION_BATCH)
        batches = islice(eval_batches(self.parts.train, batch_size=size), REFRESH_BATCHES)  # type: ignore[arg-type]
        if getattr(self.resolved.base, "model_takes", None) != "one":
            return batches
        # A model that embeds one element at a time is called with one at a time.
        return (
            Batch(part) for batch in batches for part in (batch.inputs if isinstance(batch.inputs, tuple) else [batch.inputs])
        )

    def evaluate(self, part: Examples | Callable[[], Iterable[Batch]], *, also: Iterable[Accumulator] = ()) -> dict[str, float]:
        """The base loss and the task's metrics of the model as it stands; `also` is fed with the same outputs."""
        job, step, fed = self.parts.job, self.step, list(also)
        names = metric_names(self.resolved.task, self.facts.sample.targets, self.resolved.base)

        def once(cut: Cut) -> dict[str, float]:
            """One pass, with accumulators of its own: where memory runs out, another pass begins from nothing."""
            if callable(part):
                batches = part()
            else:
                size, watch = evaluation_size(part), self.trainer.watch
                batches = eval_batches(part, batch_size=size, workers=job.workers, seed=job.seed, watch=watch)
            metrics = make_metrics(names, target_scale=self.parts.meaning.target_scale)
            mine = deepcopy(fed)
            batches = cut(self.trainer.flag.polled(batches))
            base, precision = self.resolved.base, step.precision
            found = evaluate(step.model, batches, objective=base, metrics=metrics, also=mine, precision=precision)
            for item, done in zip(fed, mine, strict=True):
                vars(item).update(vars(done))
            return found

        return self.trainer.sparing.evaluation(once)

    def finish(self) -> Run:
        """Train to the end and gather the results. The state is as the trainer left it: new, or resumed."""
        try:
            return self._gathered(self.trainer.run())
        finally:
            if isinstance(self.source, ShuffledSource):
                self.source.close()

    def _gathered(self, reason: str) -> Run:
        trainer, parts = self.trainer, self.parts
        metrics: dict[str, float] = {}
        if parts.validation is not None:
            last = next(trainer.recorder.history.newest_first("validation"), None)
            if last is not None and trainer.plan.deliver == "last" and last["step"] == self.step.clock.steps:
                metrics = {key: value for key, value in last.items() if key not in ("step", "epoch")}
            else:
                metrics = dict(trainer.best.get("metrics") or self.evaluate(parts.validation))
        matrix = ConfusionMatrix()
        counted = [matrix] if self._counts_classes else []
        test = self.evaluate(parts.test, also=counted) if parts.test is not None and len(parts.test) else {}
        if counted and not test and parts.validation is not None:
            self.evaluate(parts.validation, also=counted)
        self.confusion = self._confusion(matrix.counts, "test" if test else "validation")
        self.step.model.eval()
        if trainer.recorder.progress is not None:
            trainer.recorder.progress.finish()
        return Run(
            model=self.step.model,
            history=trainer.recorder.history,
            best=trainer.best,
            metrics=metrics,
            stop_reason=reason,
            steps=self.step.clock.steps,
            test_metrics=test,
            folder=self.folder.path if self.folder else None,
            derived=self.resolved.derived,
            task=self.resolved.task,
        )

    @property
    def _counts_classes(self) -> bool:
        task = self.resolved.task
        return self.folder is not None and task is not None and task.name in ("classification", "binary")

    def _confusion(self, counts: list[list[int]], part: str) -> Confusion | None:
        if not counts:
            return None
        names = self.parts.meaning.classes or []
        return Confusion(part, names if len(names) == len(counts) else [str(index) for index in range(len(counts))], counts)


def evaluation_size(examples: Examples) -> int:
    """Samples per batch of an evaluation: fewer where a sample is large, whose activations would fill the memory."""
    leaves = tree_leaves(examples.batch(torch.zeros(1, dtype=torch.int64)).inputs)
    return max(min(EVALUATION_BATCH, EVALUATION_NUMBERS // max(sum(leaf.numel() for leaf in leaves), 1)), 1)


def device_of(name: str) -> torch.device:
    """The device of a job; "auto" takes the first accelerator that is there.

    Raises:
        JobError: it isn't there.
    """

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if not there[name]:
        raise JobError(f"device is {name} but this machine has none", expected="a device that is there", fix="Set device: auto")
    return torch.device(name)
