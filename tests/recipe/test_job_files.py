"""Job files: what is refused, with which words, at which line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stepwell.core.errors import JobError
from stepwell.recipe.files import parse_job, read_job
from stepwell.recipe.job import Job

GOOD = """\
data: {source: digits}
split: {validation: 0.2, test: 0.2, by: stratified}
model: {name: mlp, hidden: [128, 64]}
task: classification
recipe:
  objective: {name: cross_entropy}
  optimizer: {name: adamw, lr: 3e-3, weight_decay: 0.01}
  schedule: {name: one_cycle}
  techniques:
    - {name: label_smoothing, epsilon: 0.1}
    - {name: mixup, alpha: 0.2}
    - {name: clip_norm, max_norm: 1.0}
    - {name: ema, half_life: 5%}
  batch_size: 64
  micro_batch_size: 32
budget: 60 epochs
seed: 0
"""


def changed(line: int, text: str) -> str:
    """The good job with one line (from 1) replaced."""
    lines = GOOD.splitlines()
    lines[line - 1] = text
    return "\n".join(lines) + "\n"


def refusal(text: str) -> JobError:
    with pytest.raises(JobError) as caught:
        parse_job(text)
    return caught.value


def test_the_job_of_the_readme_means_what_it_says() -> None:
    job = parse_job(GOOD)
    recipe = job.recipe
    assert (recipe.optimizer.lr, recipe.optimizer.betas, recipe.batch_size, recipe.micro_batch_size) == (
        0.003,
        (0.9, 0.999),
        64,
        32,
    )
    assert [type(item).__name__ for item in recipe.techniques] == ["LabelSmoothing", "Mixup", "ClipNorm", "Ema"]
    assert (job.model.name, job.model.settings["hidden"]) == ("mlp", [128, 64])
    assert (job.split.validation, job.split.by, job.budget, job.device) == (0.2, "stratified", "60 epochs", "auto")


@pytest.mark.parametrize(
    ("line", "text", "what", "expected", "fix"),
    [
        # unknown keys and names: the nearest known one, and all of them
        (17, "sed: 0", "unknown key 'sed'", "known key", "Did you mean 'seed'? Known: budget, "),
        (15, "  micro_batchsize: 32", "unknown key 'micro_batchsize' in recipe", "known key", "Did you mean 'micro_batch_size'?"),
        (
            7,
            "  optimizer: {name: adamw, learning_rate: 3e-3}",
            "'learning_rate' in recipe.optimizer",
            "known key",
            "Known: betas, eps, lr,",
        ),
        (
            7,
            "  optimizer: {name: adamww}",
            "unknown optimizer technique 'adamww'",
            "known optimizer",
            "Did you mean 'adamw'? Known:",
        ),
        (
            7,
            "  optimizer: {name: mixup}",
            "'mixup' is a technique of the batch slot",
            "optimizer slot",
            "Known: adagrad, adam, adamw",
        ),
        (
            7,
            "  optimizer: {name: decay_groups}",
            "optimizer (groups) slot",
            "optimizer slot (base)",
            "Known: adagrad, adam, adamw",
        ),
        (6, "  objective: {name: label_smoothing}", "objective (modifier) slot", "(base)", "cross_entropy"),
        (8, "  schedule: {name: onecycle}", "recipe.schedule: unknown schedule technique 'onecycle'", "schedule", "'one_cycle'"),
        (11, "    - {name: mixpu}", "recipe.techniques[1]: unknown technique 'mixpu'", "known", "Did you mean 'mixup'?"),
        (11, "    - {name: mixup, alhpa: 0.2}", "unknown key 'alhpa' in recipe.techniques[1] (mixup)", "known key", "'alpha'"),
        (1, "data: {source: digit}", "unknown source 'digit'", "known source", "Did you mean 'digits'?"),
        (1, "data: {source: digits, colour: red}", "unknown key 'colour' in data", "known key", "Known: "),
        (3, "model: {name: mpl}", "unknown model 'mpl'", "known model", "Did you mean 'mlp'?"),
        (3, "model: {name: mlp, hiden: [1]}", "unknown key 'hiden' in model", "known key", "'hidden'"),
        (2, "split: {validaton: 0.2}", "unknown key 'validaton' in split", "known key", "'validation'"),
        (4, "task: classificaton", "unknown task 'classificaton'", "known task", "'classification'"),
        (16, "budget: 60 epocs", "budget is '60 epocs'", "3 epochs", "unit"),
        # wrong types
        (
            7,
            '  optimizer: {name: adamw, lr: "3e-3"}',
            "recipe.optimizer.lr is '3e-3' (text)",
            "a number, e.g. 0.001",
            "Remove the quotes: lr: 3e-3",
        ),
        (7, "  optimizer: {name: adamw, lr: 1e-3x}", "recipe.optimizer.lr is '1e-3x'", "a number", "lr: 0.001"),
        (7, "  optimizer: {name: adamw, lr: true}", "recipe.optimizer.lr is true", "a number", "lr: 0.001"),
        (7, "  optimizer: {name: adamw, lr: .inf}", "recipe.optimizer.lr is .inf", "a number, finite", "lr: 0.001"),
        (7, "  optimizer: {name: adamw, lr: .nan}", "recipe.optimizer.lr is .nan", "a number, finite", "lr: 0.001"),
        (7, "  optimizer: {name: adamw, lr: 1e999}", "recipe.optimizer.lr is .inf", "a number, finite", "lr: 0.001"),
        (7, "  optimizer: {name: adamw, lr: }", "recipe.optimizer.lr is null", "a number", "lr: 0.001"),
        (7, "  optimizer: {name: adamw, lr: [1, 2]}", "recipe.optimizer.lr is [1, 2]", "a number", "lr: 0.001"),
        (
            7,
            "  optimizer: {name: adamw, betas: 0.9}",
            "recipe.optimizer.betas is 0.9",
            "a list of 2 numbers, e.g. [0.9, 0.999]",
            "betas:",
        ),
        (7, "  optimizer: {name: adamw, betas: [0.9]}", "recipe.optimizer.betas is [0.9]", "a list of 2 numbers", "betas:"),
        (
            7,
            "  optimizer: {name: sgd, nesterov: yes}",
            "recipe.optimizer.nesterov is 'yes'",
            "true or false",
            "Write nesterov: true",
        ),
        (7, "  optimizer: {name: sgd, nesterov: 1}", "recipe.optimizer.nesterov is 1", "true or false", "nesterov: false"),
        (7, "  optimizer: [adamw]", "recipe.optimizer is [adamw]", "a mapping", "name"),
        (7, "  optimizer: {lr: 1e-3}", "recipe.optimizer has no name", "a mapping with a name", "Add name:"),
        (7, "  optimizer: {name: 3}", "recipe.optimizer.name is 3", "a name", "name:"),
        (14, "  batch_size: 64.0", "recipe.batch_size is 64.0", "a whole number or full", "batch_size: 32"),
        (14, "  batch_size: '64'", "recipe.batch_size is '64' (text)", "a whole number or full", "Remove the quotes"),
        (14, "  batch_size: true", "recipe.batch_size is true", "a whole number or full", "batch_size: 32"),
        (14, "  batch_size: all", "recipe.batch_size is 'all'", "a whole number or full", "batch_size: 32"),
        (
            3,
            "model: {name: mlp, hidden: 128}",
            "model.hidden is 128",
            "a list of whole numbers",
            "Write it as a list: hidden: [128]",
        ),
        (
            3,
            "model: {name: mlp, hidden: [128, '64']}",
            'model.hidden is [128, "64"]',
            "a list of whole numbers",
            "hidden: [128, 64]",
        ),
        (2, "split: 0.2", "split is 0.2", "a mapping", "split: {validation: 0.2, test: 0.2}"),
        (2, "split: {validation: 20%}", "split.validation is '20%'", "a number or null", "validation:"),
        (1, "data: [digits]", "data is [digits]", "a mapping", "data: {source: digits}"),
        (1, "data: {path: x.csv}", "data has no source", "a mapping with a source", "Add source:"),
        (13, "    - {name: ema, half_life: 500}", "half_life is 500", 'a duration such as "5%"', "half_life: 500 steps"),
        (16, "budget: 60", "budget is 60", 'a duration such as "5%"', "budget: 60 steps"),
        (16, "budget: 0", "budget is 0", 'a duration such as "5%"', "budget: 1 steps"),
        (17, "seed: zero", "seed is 'zero'", "a whole number", "seed: 0"),
        (17, "seed: -1", "seed is -1", "from 0", "seed:"),
        (7, "  optimizer: {name: adamw, lr: " + "9" * 399 + "}", "recipe.optimizer.lr is 9999", "a number", "lr: 0.001"),
        # ranges
        (14, "  batch_size: 0", "recipe.batch_size is 0", "at least 1", "batch_size: 32"),
        (15, "  micro_batch_size: 65", "micro_batch_size is 65, more than recipe.batch_size 64", "parts", "at most 64"),
        (11, "    - {name: mixup, alpha: 0}", "mixup.alpha is 0.0", "a number above 0", "leave it out"),
        (2, "split: {validation: 0.6, test: 0.6}", "leave nothing to train on", "less than 1", "validation: 0.2"),
        (16, "budget: 10 minutes", "budget is '10 minutes'", "epochs, steps, samples or tokens", "max_time"),
        (16, "budget: 0 steps", "budget is '0 steps'", "above 0", "60 epochs"),
        (16, "budget: 1e999 steps", "budget is '1e999 steps'", "one that ends", "60 epochs"),
        (16, "budget: 1e30 epochs", "budget is '1e30 epochs'", "one that ends", "60 epochs"),
        (17, "stop: {max_time: 3 epochs}", "stop.max_time is '3 epochs'", "a time", "minutes"),
        (17, "evaluate_every: 10 s", "evaluate_every is '10 s'", "length of training", "1 epochs"),
        (17, "keep: 0", "keep.newest is 0", "from 2", "keep: 2"),
        (17, "device: gpu", "device is 'gpu'", "one of auto, cpu, cuda, mps", "device: auto"),
        # the same thing twice
        (
            12,
            "    - {name: mixup, alpha: 1.0}",
            "recipe.techniques[2] is 'mixup' again, after recipe.techniques[1]",
            "once",
            "Remove one",
        ),
        (12, "    - {name: sgd, lr: 0.1}", "recipe.techniques[2] 'sgd' is a second optimizer", "one optimizer", "optimizer: sgd"),
        (12, "    - mse", "recipe.techniques[2] 'mse' is a second objective", "one objective", "objective: mse"),
        (
            12,
            "    - warmup_cosine",
            "drives optimizer.lr, which recipe.schedule (one_cycle) drives already",
            "one schedule",
            "Remove",
        ),
        # code, in any disguise
        (
            7,
            "  optimizer: {python: torch.optim.SGD}",
            "recipe.optimizer was Python code: 'torch.optim.SGD'",
            "never names code",
            "Python",
        ),
        (7, "  optimizer: torch.optim.SGD", "unknown optimizer technique 'torch.optim.SGD'", "known", "sgd"),
        (3, "model: {name: my_models.py:Net}", "unknown model 'my_models.py:Net'", "known model", "--import"),
    ],
)
def test_a_mistake_is_refused_at_its_line_with_what_was_expected_and_a_fix(
    line: int, text: str, what: str, expected: str, fix: str
) -> None:
    error = refusal(changed(line, text))
    assert error.where == f"job.yaml:{line}"
    assert what in error.what
    assert expected in error.expected
    assert fix in error.fix
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("name", "lines"), [("data", [1]), ("model", [3]), ("task", [4]), ("budget", [16]), ("recipe", range(5, 16))]
)
def test_a_missing_part_of_a_job_is_named(name: str, lines: range | list[int]) -> None:
    text = "\n".join(line for number, line in enumerate(GOOD.splitlines(), start=1) if number not in lines)
    error = refusal(text)
    assert (error.what, error.where) == (f"the job has no {name}", "job.yaml:1")
    assert error.fix.startswith(f"Add {name}:")


def test_several_missing_parts_are_named_at_once() -> None:
    assert refusal("seed: 1").what == "the job has no data and no model and no task and no recipe and no budget"


def test_an_optimizer_that_is_missing_is_asked_for() -> None:
    error = refusal(changed(7, "  precision: bf16"))
    assert error.what == "recipe.optimizer is missing"
    assert "preset: tabular_small" in error.fix


def test_the_line_is_that_of_the_setting_in_a_mapping_over_several_lines() -> None:
    text = changed(7, "  optimizer:\n    name: adamw\n    lr: 1e-3\n    weight_decay: heavy")
    assert refusal(text).where == "job.yaml:10"


def test_a_range_error_of_a_technique_stands_at_the_line_of_the_setting() -> None:
    text = changed(7, "  optimizer:\n    name: adamw\n    lr: 1e-3\n    eps: 0\n    weight_decay: 0")
    error = refusal(text)
    assert (error.where, error.what) == ("job.yaml:10", "adamw.eps is 0.0")


@pytest.mark.parametrize("text", ["", "# nothing here\n", "---\n", "null\n", "   \n\n"])
def test_an_empty_job_is_called_empty(text: str) -> None:
    error = refusal(text)
    assert (error.what, error.where) == ("the job file is empty", "job.yaml:1")


@pytest.mark.parametrize(("text", "kind"), [("- a\n- b\n", "a list"), ("hello\n", "a single value"), ("3\n", "a single value")])
def test_a_job_that_is_no_mapping_is_refused(text: str, kind: str) -> None:
    assert refusal(text).what == f"the job file holds {kind}"


def test_a_missing_file_brings_the_nearest_name_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(JobError) as caught:
        read_job(tmp_path / "digit.yaml")
    assert "digit.yaml does not exist" in caught.value.what
    assert f"Did you mean {tmp_path / 'digits.yaml'}?" in caught.value.fix


def test_a_missing_folder_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"does not exist"):
        read_job(tmp_path / "nowhere" / "job.yaml")


def test_a_folder_in_place_of_a_file_is_refused_and_its_job_offered(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(JobError) as caught:
        read_job(tmp_path)
    assert "is a folder" in caught.value.what
    assert str(tmp_path / "digits.yaml") in caught.value.fix


def test_bytes_that_are_no_utf_8_are_refused_at_their_line(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"seed: 0\n# caf\xe9\n")
    with pytest.raises(JobError) as caught:
        read_job(path)
    assert caught.value.where == f"{path}:2"
    assert "0xe9 is not UTF-8" in caught.value.what


@pytest.mark.parametrize("content", [GOOD.encode("utf-16"), b"\x00" * 100, b"\x7fELF\x02\x01\x01"])
def test_a_binary_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(JobError) as caught:
        read_job(path)
    assert (caught.value.where or "").startswith(f"{path}:1")


def test_a_file_too_large_for_a_job_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"# data\n" * 100_000)
    with pytest.raises(JobError, match="too large"):
        read_job(path)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "job.yaml")
    with pytest.raises(JobError, match="not a regular file"):
        read_job(tmp_path / "job.yaml")


@pytest.mark.parametrize("name", ["job\0.yaml", "x" * 5000])
def test_an_impossible_file_name_is_a_plain_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(JobError):
        read_job(tmp_path / name)


def test_a_file_is_read_to_the_same_job_as_its_text(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_job(tmp_path / "job.yaml") == parse_job(GOOD)
    assert isinstance(read_job(tmp_path / "job.yaml"), Job)
