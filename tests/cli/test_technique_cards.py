"""The catalog on a terminal: every technique is listed, and its card's job line is one that a job takes."""

from __future__ import annotations

import pytest

from stepwell.cli.cards import card, table
from stepwell.core.catalog import discover
from stepwell.core.errors import JobError


def test_the_table_has_one_line_per_technique_with_slot_and_summary() -> None:
    header, *lines = table().splitlines()
    assert header.split() == ["id", "slot", "what", "it", "does"]
    assert [line.split()[0] for line in lines] == list(discover())
    for record, line in zip(discover().values(), lines, strict=True):
        assert record.slot in line
        assert line.endswith(record.summary)


@pytest.mark.parametrize("id", sorted(discover()))
def test_a_card_names_every_setting_the_paper_and_the_example(id: str) -> None:
    record, text = discover()[id], card(id)
    assert record.paper in text
    assert ">>>" in text
    for name in (*record.fields, *record.needs, *record.provides, *record.conflicts):
        assert name in text


def job_line(id: str) -> str:
    return card(id).split("In a job file\n", 1)[1].split("\n\n", 1)[0]


@pytest.mark.parametrize("id", [id for id, record in discover().items() if not any(f.required for f in record.fields.values())])
def test_the_line_for_a_job_file_can_be_put_into_one(id: str) -> None:
    from stepwell.recipe.files import parse_job

    recipe = "\n".join(line.removeprefix("  ") for line in job_line(id).splitlines())
    optimizer = "" if "optimizer:" in recipe else "  optimizer: {name: sgd, lr: 0.1}\n"
    job = parse_job(f"{recipe}\n{optimizer}budget: 3 epochs\n", given=("data", "model", "task"))
    assert id in str(job.to_mapping()["recipe"])


def test_an_unknown_technique_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(JobError, match="Did you mean 'mixup'"):
        card("mixpu")


def test_mixup_s_card_has_its_default_and_its_search_range() -> None:
    text = card("mixup")
    assert "0.05 to 1 (log)" in text
    assert "- {name: mixup, alpha: 0.2, probability: 1.0}" in text
    assert "from stepwell.techniques import Mixup" in text
