"""overfitting: training rows are learnt by heart, and unseen ones are judged worse for it.

Rule: at the end the training rows are judged better than validation rows, and than always saying the same, by 0.1 of skill, in
evaluation mode for both (what dropout or mixup add to the training loss is no gap); or validation rows are judged worse by 0.1
than at their best look, and training rows better (labels that are wrong in training are learnt by heart like others); and
stopping at the best look, weight decay or a smaller network judge validation rows better.
Source: seed 002 section 7.8.1; Prechelt, "Early stopping - but when?", 1998.
"""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.probes.split_shift import is_beyond

GAP, WIDE_GAP = 0.1, 0.25
BY_HEART = 0.95  # of training skill
DECAYS = (1.0, 0.1)


def probe(bench: Bench) -> Iterator[Suspicion]:
    own, setup = bench.own, bench.setup
    if own.failed or setup.val is None or not own.looks:
        return
    train_skill, val_skill = own.last.train_skill, own.last.val_skill
    if train_skill is None or val_skill is None:
        return
    best = max(own.looks, key=lambda look: look.val_skill or 0.0)
    turned = (best.val_skill or 0.0) - val_skill >= GAP and train_skill - (best.train_skill or 0.0) >= GAP
    if train_skill - val_skill < GAP and not turned:
        return
    if is_beyond(bench):  # rows of another kind: that is told as train_val_mismatch
        return
    if train_skill - bench.task.trivial(setup.train.targets) < GAP:  # nothing was learnt: validation only differs by chance
        return
    evidence = {
        "train_skill": round(train_skill, 4),
        "val_skill": round(val_skill, 4),
        "best_val_skill": round(best.val_skill or 0.0, 4),
        "best_step": best.step,
        "val_loss_rise": round(own.last.val_loss / max(min(look.val_loss for look in own.looks), 1e-9), 3),
        "num_rows": len(setup.train),
        "num_parameters": sum(part.numel() for part in setup.model.parameters()),
    }
    remedies = list(_remedies(bench, best.step))
    if train_skill >= BY_HEART and train_skill - val_skill >= WIDE_GAP:
        remedies.append(Remedy("Take more rows, a smaller network, weight decay, dropout, or stop early"))
    for remedy in remedies:
        yield Suspicion(
            "overfitting",
            f"training rows are judged at {train_skill:.2f}, validation rows at {val_skill:.2f}",
            "the network has learnt the training rows by heart, noise included",
            evidence,
            remedy,
            proof="symptom" if remedy.change is not None else "mechanism",
            weight=0.7,
            explains=("lr_too_high", "lr_too_low", "too_few_epochs"),
        )


def _remedies(bench: Bench, best_step: int) -> Iterator[Remedy]:
    setup = bench.setup
    epochs = max(1, round(best_step / setup.steps_per_epoch))
    if epochs < setup.epochs:
        yield Remedy(
            f"Stop after {epochs} epochs, or keep the best weights (early_stopping)",
            lambda given: given.change(epochs=epochs),
            job={"budget": f"{epochs} epochs"},
        )
    adam = setup.optimizer["name"] in ("adam", "adamw")
    for decay in DECAYS if adam else (0.01,):
        settings = {"name": "adamw", "weight_decay": decay} if adam else {"weight_decay": decay}
        yield Remedy(
            f"Use weight decay {decay:g}, decoupled" if adam else f"Use weight decay {decay:g}",
            lambda given, settings=settings: given.with_optimizer(**settings),  # type: ignore[misc]
            job={f"recipe.optimizer.{key}": value for key, value in settings.items()},
        )
