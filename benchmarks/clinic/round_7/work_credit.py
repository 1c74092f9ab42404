"""Credit scoring and lending that fail."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_7.work_parts import Rows, applicants, cut, dense, patient, seeded, taken


def _model(seed: int, num_inputs: int, num_outputs: int = 1, norm: str = "none") -> nn.Sequential:
    with seeded(seed):
        if norm == "none":
            return dense(num_inputs, 32, 32, num_outputs)
        first = [nn.Linear(num_inputs, 32), nn.BatchNorm1d(32), nn.ReLU()]
        return nn.Sequential(*first, nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, num_outputs))


def _defaults(risk: Tensor, share: float = 0.3) -> Tensor:
    return (risk > risk.quantile(1 - share)).float().unsqueeze(1)


def _coded_gaps(seed: int) -> Setup:
    """Incomes in euros beside shares; a fifth of two columns was never asked: -999."""
    table, risk = applicants(seed, scaled="raw")
    unknown = torch.rand(len(table), 2, generator=drawn(seed, "unknown")) < 0.2
    table[:, 2:4] = torch.where(unknown, -999.0, table[:, 2:4])
    split = cut(table, _defaults(risk), 1400)
    return patient(_model(seed, 9), split, nn.BCEWithLogitsLoss(), {"name": "sgd", "lr": 0.02, "momentum": 0.9}, 64, 20)


def _standardised(setup: Setup) -> Setup:
    table = setup["train"].inputs
    mean, std = table.mean(0), table.std(0)
    return {
        **setup,
        "train": Rows((table - mean) / std, setup["train"].targets),
        "val": Rows((setup["val"].inputs - mean) / std, setup["val"].targets),
    }


def _left_outer_join(seed: int) -> Setup:
    """The bureau knows nothing of 3 in 100 people: NaN after the join. Numbers and channel come as a dict."""
    table, risk = applicants(seed)
    channel = torch.randint(5, (len(table),), generator=drawn(seed, "channel"))
    table[torch.rand(len(table), generator=drawn(seed, "no record")) < 0.03, 5] = float("nan")
    with seeded(seed):
        model = _Channelled()
    split = cut({"numbers": table, "channel": channel}, _defaults(risk), 1400)
    return patient(model, split, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 3e-3}, 64, 12)


class _Channelled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.channel, self.body = nn.Embedding(5, 3), dense(12, 32, 32, 1)

    def forward(self, row: dict[str, Tensor]) -> Tensor:
        logits: Tensor = self.body(torch.cat((row["numbers"], self.channel(row["channel"])), 1))
        return logits


def _filled(setup: Setup) -> Setup:
    def mend(rows: Rows) -> Rows:
        assert isinstance(rows.inputs, dict)
        return Rows({name: column.nan_to_num() for name, column in rows.inputs.items()}, rows.targets)

    return {**setup, "train": mend(setup["train"]), "val": mend(setup["val"])}


def _share_of_no_income(seed: int, *, guarded: bool = False) -> Setup:
    """Instalment over income, for some who have none, in a regression of the risk."""
    table, risk = applicants(seed)
    none = torch.rand(len(table), generator=drawn(seed, "no income")) < 0.01
    income = torch.where(none, 0.0, 2.0 + table[:, 0].abs())
    table = torch.cat((table, (1.0 / (income.clamp(min=0.5) if guarded else income)).unsqueeze(1)), 1)
    split = cut(table, risk.unsqueeze(1), 1400)
    return patient(_model(seed, 10), split, nn.MSELoss(), {"name": "adamw", "lr": 3e-3}, 64, 15)


def _fees_of_the_future(seed: int, *, known: str = "all") -> Setup:
    """Two columns are filled by the collectors after a default; for loans still to be judged they are empty."""
    table, risk = applicants(seed)
    bad = _defaults(risk)
    fees = bad * (1.5 + torch.rand(len(bad), 2, generator=drawn(seed, "fees")))
    fees[1400:] = 0.0
    split = cut(torch.cat((table, fees * (known == "all")), 1), bad, 1400)
    return patient(_model(seed, 11), split, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 3e-3}, 64, 12)


def _grades(risk: Tensor) -> Tensor:
    return torch.bucketize(risk, risk.quantile(torch.linspace(0, 1, 6)[1:-1]))


def _grades_from_one(seed: int) -> Setup:
    """Grades 1 to 5 as the file has them, five outputs."""
    table, risk = applicants(seed)
    split = cut(table, _grades(risk) + 1, 1400)
    return patient(_model(seed, 9, 5), split, nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, 64, 12)


def _grades_from_zero(setup: Setup) -> Setup:
    train, val = (Rows(part.inputs, part.targets - 1) for part in (setup["train"], setup["val"]))
    return {**setup, "train": train, "val": val}


def _limits_in_euros(seed: int) -> Setup:
    table, risk = applicants(seed)
    split = cut(table, (12_000.0 - 3_500.0 * risk).unsqueeze(1), 1400)
    return patient(_model(seed, 9), split, nn.MSELoss(), {"name": "adam", "lr": 2e-3}, 64, 20)


def _limits_in_standard(setup: Setup) -> Setup:
    mean, std = setup["train"].targets.mean(), setup["train"].targets.std()
    train, val = (Rows(part.inputs, (part.targets - mean) / std) for part in (setup["train"], setup["val"]))
    return {**setup, "train": train, "val": val}


def _one_client_left(seed: int) -> Setup:
    table, risk = applicants(seed)
    split = cut(table, _defaults(risk), 1409)
    return patient(_model(seed, 9, norm="batch"), split, nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 3e-3}, 128, 12)


def _joined_by_row_number(seed: int, *, joined: str = "by row number") -> Setup:
    """Outcomes were sorted by contract, applications by date."""
    table, risk = applicants(seed)
    bad = _defaults(risk)
    train, val = cut(table, bad, 1400)
    if joined == "by row number":
        train = Rows(train.inputs, train.targets[torch.randperm(1400, generator=drawn(seed, "contract"))])
    loss: Any = nn.BCEWithLogitsLoss()
    return patient(_model(seed, 9), (train, val), loss, {"name": "adam", "lr": 3e-3}, 64, 12)


def _join_on_padded_keys(seed: int, *, keys: str = "padded") -> Setup:
    """'00017' never equals '17': every feature of the right table is missing and was filled with 0."""
    table, risk = applicants(seed)
    table = torch.zeros_like(table) if keys == "padded" else table
    split = cut(table, _grades(risk), 1400)
    return patient(_model(seed, 9, 5), split, nn.CrossEntropyLoss(), {"name": "rmsprop", "lr": 2e-3}, 64, 12)


def _first(setup: Setup, num_rows: int) -> Setup:
    train = setup["train"]
    return {**setup, "train": Rows(taken(train.inputs, slice(0, num_rows)), train.targets[:num_rows])}


CASES: tuple[Case, ...] = (
    Case(
        "borrowers-minus-999-for-never-asked",
        _coded_gaps,
        ("unnormalised_inputs",),
        "balanced_accuracy",
        "datascience.stackexchange 10728: raw borrowers' records, mixed units and gaps with a code, into a network",
        tolerate=("lr_too_high", "dead_relu", "exploding_gradient", "saturated_activation", "class_imbalance"),
        fix=_standardised,
    ),
    Case(
        "borrowers-unknown-to-the-bureau",
        _left_outer_join,
        ("nan_in_inputs",),
        "balanced_accuracy",
        "a left join leaves NaN for people without a record, in one column of a dict input",
        fix=_filled,
    ),
    Case(
        "borrowers-instalment-by-no-income",
        _share_of_no_income,
        ("inf_in_inputs",),
        "r2",
        "a ratio to an income of zero is inf",
        tolerate=("nan_in_inputs",),
    ),
    Case(
        "borrowers-fees-of-the-collectors",
        _fees_of_the_future,
        ("train_val_mismatch", "data_leakage"),
        "balanced_accuracy",
        "a leak from the future: collection fees foretell default in the old loans and are still empty in the new ones",
        tolerate=("overfitting",),
        changes_data=True,
    ),
    Case(
        "borrowers-grades-from-one",
        _grades_from_one,
        ("label_out_of_range", "wrong_num_outputs"),
        "accuracy",
        "grades 1 to 5 of a file under nn.CrossEntropyLoss with five outputs: 'Target 5 is out of bounds'",
        fix=_grades_from_zero,
    ),
    Case(
        "borrowers-limits-in-euros",
        _limits_in_euros,
        ("unscaled_targets",),
        "r2",
        "credit limits of 12,000 +- 3,500 under a mean squared error and Adam's small steps",
        tolerate=("lr_too_low", "too_few_epochs", "underfitting"),
        fix=_limits_in_standard,
    ),
    Case(
        "borrowers-one-left-over",
        _one_client_left,
        ("last_batch_of_one",),
        "balanced_accuracy",
        "GitHub pytorch/pytorch#4534: batch norm meets a last batch of one row (1,409 rows by 128)",
        fix=lambda setup: _first(setup, 1408),
    ),
    Case(
        "borrowers-outcomes-by-row-number",
        _joined_by_row_number,
        ("labels_misaligned",),
        "balanced_accuracy",
        "two exports sorted differently and put side by side",
        tolerate=("overfitting",),
    ),
    Case(
        "borrowers-joined-on-padded-keys",
        _join_on_padded_keys,
        ("constant_features",),
        "accuracy",
        "a join that matched nothing, then fillna(0)",
        tolerate=("underfitting",),
    ),
)

PROOFS = {
    "borrowers-instalment-by-no-income": lambda seed: _share_of_no_income(seed, guarded=True),
    "borrowers-fees-of-the-collectors": lambda seed: _fees_of_the_future(seed, known="none"),
    "borrowers-outcomes-by-row-number": lambda seed: _joined_by_row_number(seed, joined="by contract"),
    "borrowers-joined-on-padded-keys": lambda seed: _join_on_padded_keys(seed, keys="plain"),
}
