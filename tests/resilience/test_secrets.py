"""T14: 40 shapes of secrets and 8 places where one could come to rest; 20 look-alikes that must stay as they are."""

from __future__ import annotations

import json
import random
import string
import sys
from pathlib import Path

import counted
import pytest
import torch
from torch import nn

import stepwell
from stepwell.core.errors import JobError
from stepwell.recipe.evidence.fingerprint import VARIABLES, environment
from stepwell.recipe.files import parse_job, read_job
from stepwell.recipe.record import start_folder
from stepwell.recipe.values.secrets import redacted, redacted_words, refuse_secrets, secret_in
from stepwell.report.card import write_card

LETTERS = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
FORMS = ["{}", "--set note={}", "note={}"]


def drawn(number: int, length: int, letters: str = LETTERS) -> str:
    """Some characters with a digit and a letter among them, other ones for each number; none is anybody's secret."""
    return "7" + "".join(random.Random(number).choices(letters, k=length - 2)) + letters[3]


def block(number: int, kind: str) -> str:
    first, last = (f"-----{word} {kind}PRIVATE KEY-----" for word in ("BEGIN", "END"))
    return f"{first}\n{drawn(number, 64)}\n{drawn(number + 500, 40)}==\n{last}"


def shapes() -> dict[str, tuple[str, str]]:
    """Name -> the text that holds a secret, and the part of it that nobody may see."""
    issued = {
        "hugging face": ("hf_", 34, LETTERS),
        "hugging face, organisation": ("api_org_", 34, LETTERS),
        "github, personal": ("ghp_", 36, LETTERS),
        "github, oauth": ("gho_", 36, LETTERS),
        "github, server": ("ghs_", 36, LETTERS),
        "github, fine-grained": ("github_pat_", 60, LETTERS + "_"),
        "gitlab": ("glpat-", 20, LETTERS + "-_"),
        "aws": ("AKIA", 16, string.ascii_uppercase + string.digits),
        "aws, temporary": ("ASIA", 16, string.ascii_uppercase + string.digits),
        "slack, bot": ("xoxb-", 40, LETTERS + "-"),
        "slack, user": ("xoxp-", 60, LETTERS + "-"),
        "slack, app": ("xapp-1-", 40, LETTERS + "-"),
        "slack, hook": ("https://hooks.slack.com/services/", 40, LETTERS),
        "secret key": ("sk-", 48, LETTERS),
        "secret key, project": ("sk-proj-", 60, LETTERS + "-_"),
        "secret key, api": ("sk-ant-api03-", 80, LETTERS + "-_"),
        "payment, live": ("sk_live_", 24, LETTERS),
        "payment, restricted": ("rk_live_", 24, LETTERS),
        "payment, hook": ("whsec_", 32, LETTERS),
        "google": ("AIza", 35, LETTERS + "-_"),
        "google, oauth": ("ya29.", 60, LETTERS + "-_"),
        "npm": ("npm_", 36, LETTERS),
        "pypi": ("pypi-Ag", 80, LETTERS + "-_"),
        "docker": ("dckr_pat_", 27, LETTERS + "-_"),
        "groq": ("gsk_", 52, LETTERS),
        "replicate": ("r8_", 37, LETTERS),
        "nvidia": ("nvapi-", 64, LETTERS + "-_"),
    }
    made = {
        name: (start + drawn(number, length, letters), drawn(number, length, letters))
        for number, (name, (start, length, letters)) in enumerate(issued.items())
    }
    made["mail service"] = (f"SG.{drawn(40, 22)}.{drawn(41, 43)}", drawn(41, 43))
    made["json web token"] = (f"eyJ{drawn(42, 30)}.eyJ{drawn(43, 60)}.{drawn(44, 43)}", drawn(43, 60))
    made["rsa key"], made["openssh key"] = (block(45, "RSA "), drawn(45, 64)), (block(46, "OPENSSH "), drawn(46, 64))
    named = {
        "password in a url": ("https://anna:{}@host.org/data.csv", drawn(47, 12)),
        "password of a database": ("postgres://anna:{}@db.host.org:5432/rows", drawn(48, 12)),
        "token in a url": ("https://{}@host.org/data.git", drawn(49, 30)),
        "hex beside api_key": ("api_key={}", drawn(50, 32, HEX)),
        "hex beside an environment name": ("WANDB_API_KEY={}", drawn(51, 40, HEX)),
        "aws secret": ("aws_secret_access_key={}", drawn(52, 40, LETTERS + "/+")),
        "password": ("password={}", drawn(53, 10)),
        "bearer": ("Authorization: Bearer {}", drawn(54, 40)),
        "access token": ("access_token={}", drawn(55, 40)),
    }
    return made | {name: (text.format(secret), secret) for name, (text, secret) in named.items()}


SHAPES = shapes()
ALIKE = {
    "model.use_cls_token": "true",
    "model.num_memory_tokens": "16",
    "tokenizer": "bert-base-uncased-2019",
    "pad_token": "<pad>",
    "eos_token_id": "50256",
    "sort_key": "customer_id_2024_quarter",
    "token_dropout": "0.1",
    "commit": drawn(60, 40, HEX),
    "sha256": drawn(61, 64, HEX),
    "fingerprint": drawn(62, 64, HEX),
    "previous": drawn(63, 64, HEX),
    "data.path": "runs/sk-image-segmentation-resnet50/train_2024.csv",
    "note": "task-sk-learn-baseline with hf_transformer_model_large_v2",
    "group_key": "hospital_site_0123456789abcdef",
    "url": "https://host.org:8080/data.csv?rows=100",
    "clone": "ssh://git@host.org/team/data.git",
    "target": "npm_downloads_per_week",
    "secretary": "AKIAHARA",
    "name": "eyJustAName.and.another",
    "password": "${DB_PASSWORD}",
}
JOB = """data: {source: table, target: y, path: a.csv}
model: mlp
task: regression
recipe: {optimizer: sgd}
budget: 1 epochs
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was started by a command line and in an environment full of secrets; with its report and its card."""
    folder = tmp_path_factory.mktemp("secrets") / "run"
    words = [form.format(text) for text, _ in SHAPES.values() for form in FORMS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["stepwell", "train", "job.yaml", *words, "--password", SHAPES["password"][1]])
        for index, (text, _) in enumerate(SHAPES.values()):
            patch.setenv(f"SERVICE_{index}", text)
        rows = (torch.arange(64.0).view(32, 2) / 64, torch.arange(32.0).view(32, 1))
        stepwell.fit(nn.Linear(2, 1), rows, val=rows, budget="1 epochs", out=folder)
    stepwell.write_report(folder)
    write_card(folder, folder / "card.md")
    return folder


def test_there_are_forty_shapes_and_twenty_look_alikes() -> None:
    assert (len(SHAPES), len({secret for _, secret in SHAPES.values()}), len(ALIKE)) == (40, 40, 20)


def test_a_secret_in_a_job_file_is_refused_at_its_line_and_not_repeated(tmp_path: Path) -> None:
    refused = 0
    for text, secret in SHAPES.values():
        for line in (f"  path: {json.dumps(text)}", f"  {json.dumps(text)}: 1"):
            (tmp_path / "job.yaml").write_text(f"data:\n  source: table\n{line}\nbudget: 1 epochs\n", encoding="utf-8")
            with pytest.raises(JobError) as caught:
                read_job(tmp_path / "job.yaml")
            assert str(caught.value.where).endswith("job.yaml:3")
            assert secret not in str(caught.value)
            assert "holds a" in caught.value.what
            refused += 1
    counted.report("T14 secrets refused in job files, as value and as key", floors={"refused": 80}, refused=refused)


def test_a_secret_in_an_override_is_refused_and_not_repeated() -> None:
    refused = 0
    for text, secret in SHAPES.values():
        with pytest.raises(JobError) as caught:
            parse_job(JOB, [f"data.path={json.dumps(text)}"])
        assert secret not in str(caught.value)
        refused += 1
    counted.report("T14 secrets refused in --set", floors={"refused": 40}, refused=refused)


def test_a_secret_in_a_job_from_python_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    refused = 0
    for text, secret in SHAPES.values():
        data = {"source": "table", "path": text, "target": "y"}
        job = stepwell.Job(data=data, model="mlp", task="regression", recipe={"optimizer": "sgd"}, budget="1 epochs")
        with pytest.raises(JobError) as caught:
            start_folder(tmp_path / "run", job)
        assert secret not in str(caught.value)
        assert "holds a" in caught.value.what
        assert not (tmp_path / "run").exists()
        refused += 1
    counted.report("T14 secrets refused in jobs from Python", floors={"refused": 40}, refused=refused)


@pytest.mark.parametrize("name", ["manifest.json", "report.html", "card.md"])
def test_no_secret_of_the_command_line_comes_to_rest(run: Path, name: str) -> None:
    content = (run / name).read_text(encoding="utf-8")
    assert "[redacted]" in content  # the command is there
    leaks = [shape for shape, (_, secret) in SHAPES.items() if secret in content]
    assert leaks == []
    counted.report(f"T14 secrets of the command line kept out of {name}", floors={"looked_for": 40}, looked_for=len(SHAPES))


def test_no_file_of_a_run_holds_a_secret_of_the_command_line_or_the_environment(run: Path) -> None:
    files = [path for path in run.rglob("*") if path.is_file()]
    assert {"job.yaml", "manifest.json", "events.jsonl", "result.json"} <= {path.name for path in files}
    contents = [path.read_bytes() for path in files]
    leaks = [shape for shape, (_, secret) in SHAPES.items() if any(secret.encode() in content for content in contents)]
    assert leaks == []
    counted.report("T14 files of a run searched", floors={"files": 8, "secrets": 40}, files=len(files), secrets=len(SHAPES))


def test_even_in_a_variable_that_is_recorded_no_secret_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (text, secret) in enumerate(SHAPES.values()):
        with monkeypatch.context() as patch:
            patch.setenv(VARIABLES[number % len(VARIABLES)], text)
            assert secret not in json.dumps(environment())
    counted.report("T14 secrets in recorded variables", floors={"tried": 40}, tried=len(SHAPES))


def test_look_alikes_stay_as_they_are() -> None:
    changed = []
    for name, value in ALIKE.items():
        words = ["--set", f"{name}={value}", f"--{name}", value]
        kept = redacted(f"{name}={value}") == f"{name}={value}" and redacted(f"{name}: {value}") == f"{name}: {value}"
        refuse_secrets({name: value})
        if not kept or secret_in(value, name=name) or redacted_words(words) != words:
            changed.append(name)
    assert changed == []
    counted.report("T14 look-alikes", floors={"kept": 20}, kept=len(ALIKE), changed=len(changed))


def test_a_text_of_nothing_but_near_misses_is_read_in_a_moment() -> None:
    # Each start of a shape many times over, never its end: patterns that try every split would take hours.
    starts = ["https://a:", "-----BEGIN PRIVATE KEY-----", "eyJaaaaaaaaa.", "eyJ-", "api_key=", "sk-proj-", "Bearer "]
    for start in [*starts, "a_key:  ", "SG.aaaaaaaaaaaaaaaa-", "a-", "token ", "a" * 100]:
        assert redacted(start * (250_000 // len(start)))
