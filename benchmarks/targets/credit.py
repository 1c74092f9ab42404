"""Who will not pay back: area under the ROC curve, cross-validated, beside logistic regression on the same folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import real_data
from benchmarks.evidence import Finding
from benchmarks.real_data import Table
from benchmarks.targets.fitting import outputs, trained

RECIPE = {
    "objective": "bce",
    "optimizer": {"name": "adamw", "lr": 2e-3, "weight_decay": 0.05},
    "schedule": "one_cycle",
    "techniques": [{"name": "mixup", "alpha": 0.4}, {"name": "clip_norm", "max_norm": 1.0}],
    "batch_size": 64,
}
PROTOCOL = (
    "5 stratified folds, drawn anew for each seed; imputation (training median and a missing flag), scaling and categories "
    "fitted inside the fold; MLP 64-32, dropout 0.3; the mean of the folds' AUC. Seeds vary folds and weights, not the people, "
    "so the interval says nothing about other borrowers."
)


@dataclass(frozen=True)
class Fold:
    """One fold: features (N, D) float32 and targets (N,) float32, of the part that trains and the part that is held out."""

    train: Tensor
    train_targets: Tensor
    test: Tensor
    test_targets: Tensor


@dataclass(frozen=True)
class Scores:
    """Mean AUC over the folds, one per seed."""

    network: list[float]
    logistic: list[float]


def preprocessing() -> Any:
    """Unfitted: numbers imputed, flagged and scaled; words as one column per word seen in training."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    words = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing"), OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    )
    return make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")), (words, make_column_selector(dtype_exclude="number"))
    )


def folds(table: Table, *, seed: int, num_folds: int = 5) -> Iterator[Fold]:
    """Stratified folds; everything fitted sees a fold's training rows only."""
    from sklearn.model_selection import StratifiedKFold

    for train, test in StratifiedKFold(num_folds, shuffle=True, random_state=seed).split(table.features, table.targets):
        fitted = preprocessing().fit(table.features.iloc[train])
        arrays = [fitted.transform(table.features.iloc[rows]) for rows in (train, test)]
        features = [torch.tensor(np.asarray(array), dtype=torch.float32) for array in arrays]
        targets = [torch.tensor(table.targets[rows], dtype=torch.float32) for rows in (train, test)]
        yield Fold(features[0], targets[0], features[1], targets[1])


def network_auc(fold: Fold, *, seed: int, budget: str) -> float:
    """AUC of the network on the held-out part."""
    from sklearn.metrics import roc_auc_score

    from stepwell.core.signature import Signature
    from stepwell.models.registry import build

    model: nn.Module = build(
        "mlp", Signature("vector", (fold.train.shape[1],), 1), {"hidden": [64, 32], "dropout": 0.3}, seed=seed
    )
    model = trained(model, (fold.train, fold.train_targets), recipe=RECIPE, budget=budget, seed=seed)
    return float(roc_auc_score(fold.test_targets.numpy(), outputs(model, fold.test).squeeze(1).numpy()))


def logistic_auc(fold: Fold) -> float:
    """AUC of scikit-learn's logistic regression, at its defaults, on the held-out part."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    fitted = LogisticRegression(max_iter=2000).fit(fold.train.numpy(), fold.train_targets.numpy())
    return float(roc_auc_score(fold.test_targets.numpy(), fitted.predict_proba(fold.test.numpy())[:, 1]))


def cross_validated(table: Table, seeds: Sequence[int], *, budget: str) -> Scores:
    """Both models on the same folds."""
    scores = Scores([], [])
    for seed in seeds:
        parts = list(folds(table, seed=seed))
        scores.network.append(float(np.mean([network_auc(fold, seed=seed, budget=budget) for fold in parts])))
        scores.logistic.append(float(np.mean([logistic_auc(fold) for fold in parts])))
    return scores


def credit_data(seeds: Sequence[int]) -> Finding:
    """4,454 credits."""
    scores = cross_validated(real_data.credit_data(), seeds, budget="25 epochs")
    beside: Mapping[str, list[float]] = {"logistic regression on the same folds": scores.logistic}
    return Finding("credit_data, 5-fold AUC", scores.network, "at least", 0.83, PROTOCOL, dict(beside))


def german_credit(seeds: Sequence[int]) -> Finding:
    """1,000 credits, too few for one AUC to mean much: the difference on the same folds counts."""
    scores = cross_validated(real_data.german_credit(), seeds, budget="20 epochs")
    differences = [ours - theirs for ours, theirs in zip(scores.network, scores.logistic, strict=True)]
    beside = {"network": scores.network, "logistic regression on the same folds": scores.logistic}
    return Finding("German credit, 5-fold AUC minus logistic regression's", differences, "at least", -0.015, PROTOCOL, beside)
