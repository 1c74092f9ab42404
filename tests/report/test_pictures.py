"""Curves are drawn for every kind of run: one point, a million, none finite, no validation, odd names."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from stepwell.report.curves import DARK, LIGHT, pictures, png
from stepwell.report.tables import RunTables


def run_of(train: Mapping[str, list[float]], validation: Mapping[str, list[float]] | None = None) -> RunTables:
    def columns(table: Mapping[str, list[float]]) -> dict[str, np.ndarray]:
        return {name: np.asarray(values, dtype=float) for name, values in table.items()}

    return RunTables(Path("run"), columns(train), columns(validation or {}), {}, [], {}, {}, {}, "")


def size(content: bytes) -> tuple[int, int]:
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_a_run_with_everything_has_four_pictures() -> None:
    train = {"step": [1, 2], "epoch": [1, 2], "loss": [2, 1], "lr": [0.1, 0.2], "grad_norm": [3, 1]}
    run = run_of(train, {"step": [2], "epoch": [2], "loss": [1.5], "accuracy": [0.7]})
    assert [picture.name for picture in pictures(run)] == ["loss", "validation", "learning_rate", "gradient_norm"]


def test_what_was_not_logged_has_no_picture() -> None:
    assert pictures(run_of({})) == []
    assert [picture.name for picture in pictures(run_of({"step": [1], "loss": [2]}))] == ["loss"]


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [np.inf], [np.inf, 2.0, np.inf], [-1.0, 1e300], [1e-300, 1.0, 5.0]])
def test_any_values_can_be_drawn(values: list[float]) -> None:
    steps = [float(step + 1) for step in range(len(values))]
    run = run_of(
        {"step": steps, "loss": values, "lr": values, "grad_norm": values}, {"step": steps, "loss": values, "r2": values}
    )
    for picture in pictures(run):
        assert size(png(picture))[0] == 1360


def test_a_long_run_is_drawn_from_few_points() -> None:
    steps = np.arange(1.0, 200_001)
    noise = np.random.default_rng(0).normal(1, 0.1, len(steps))
    run = run_of({"step": steps, "loss": noise, "grad_norm": noise})  # type: ignore[dict-item]
    for picture in pictures(run):
        assert len(png(picture)) < 400_000


def test_names_with_markup_are_drawn_as_they_are_written() -> None:
    # matplotlib reads $...$ as mathematics, and would fail on an unknown command in it
    run = run_of({}, {"step": [1, 2], "$\\undefined{$": [1, 2], "_hidden": [1, 2], "\u4e2d\u6587": [1, 2], "a\nb\x1b[0m": [1, 2]})
    [picture] = pictures(run)
    assert size(png(picture))[0] == 1360


def test_more_than_six_metrics_are_left_to_the_file_and_said_so() -> None:
    run = run_of({}, {"step": [1, 2], **{f"m{number}": [0.0, 1.0] for number in range(9)}})
    [picture] = pictures(run)
    assert picture.note == "3 more in metrics/validation.csv."


def test_light_and_dark_pictures_differ_and_each_is_the_same_every_time() -> None:
    [picture] = pictures(run_of({"step": [1, 2, 3], "loss": [3, 2, 1]}))
    assert png(picture, LIGHT) == png(picture, LIGHT)
    assert png(picture, LIGHT) != png(picture, DARK)


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.1."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_text_and_lines_stand_out_from_their_background(theme: object) -> None:
    background = theme.background  # type: ignore[attr-defined]
    for name in ("text", "muted"):
        assert contrast(getattr(theme, name), background) >= 4.5, name  # WCAG 1.4.3, text
    for name in ("train", "validation", "alarm"):
        assert contrast(getattr(theme, name), background) >= 3.0, name  # WCAG 1.4.11, graphics
