"""The fingerprint of an environment: what it is made of, that it disturbs nothing, and that it tells machines apart."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from importlib import metadata

import pytest
import torch

from stepwell.recipe.evidence.fingerprint import VARIABLES, Difference, differences, environment, numeric_fingerprint


def test_it_holds_what_is_known_to_change_bits_and_survives_json() -> None:
    found = environment()
    assert found["torch"]["git"] == torch.version.git_version
    assert found["torch"]["capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["threads"]["intra"] == torch.get_num_threads()
    assert found["modes"]["matmul_precision"] == torch.get_float32_matmul_precision()
    assert found["packages"]["installed"]["torch"] == metadata.version("torch")
    assert json.loads(json.dumps(found)) == found


def test_an_equal_environment_has_no_differences() -> None:
    assert differences(json.loads(json.dumps(environment())), environment()) == []


def test_the_global_generators_stay_as_they_are() -> None:
    before = torch.default_generator.get_state()
    environment()
    assert torch.equal(before, torch.default_generator.get_state())


def test_the_numbers_are_the_same_under_whatever_the_caller_has_set() -> None:
    plain = numeric_fingerprint()
    with torch.inference_mode():
        assert numeric_fingerprint() == plain
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert numeric_fingerprint() == plain
    torch.set_default_dtype(torch.float64)
    try:
        assert numeric_fingerprint() == plain
    finally:
        torch.set_default_dtype(torch.float32)


def test_of_the_environment_only_the_listed_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    monkeypatch.setenv("NOBODYS_BUSINESS", "a-private-word")
    found = environment()
    assert found["variables"]["MKL_CBWR"] == "AVX2"
    assert found["variables"].keys() <= set(VARIABLES)
    assert "a-private-word" not in json.dumps(found)


@pytest.mark.parametrize(
    ("path", "now", "affects"),
    [
        (("threads", "intra"), 64, "bits"),
        (("torch", "version"), "9.9", "bits"),
        (("torch", "capability"), "DEFAULT", "bits"),
        (("cpu", "flags"), "another", "bits"),
        (("variables", "ONEDNN_MAX_CPU_ISA"), "SSE41", "bits"),
        (("modes", "deterministic"), "changed", "bits"),
        (("numeric",), "0" * 64, "bits"),
        (("packages", "installed", "numpy"), "0.1", "bits"),
        (("packages", "installed", "a-linter"), "0.1", "nothing known"),
        (("system", "release"), "0.0", "nothing known"),
        (("python", "version"), "4.0", "nothing known"),
        (("variables", "PYTHONHASHSEED"), "7", "nothing known"),
        (("cpu", "processors"), 4096, "nothing known"),
    ],
)
def test_a_difference_says_whether_it_is_known_to_change_bits(path: tuple[str, ...], now: object, affects: str) -> None:
    before = environment()
    after = copy.deepcopy(before)
    *outer, last = path
    place = after
    for name in outer:
        place = place[name]
    old = place.get(last)
    place[last] = now
    assert differences(before, after) == [Difference(".".join(path), old, now, affects)]


def test_what_an_older_version_did_not_record_is_a_difference_from_nothing() -> None:
    now = environment()
    before = {key: value for key, value in now.items() if key != "numeric"}
    assert differences(before, now) == [Difference("numeric", None, now["numeric"], "bits")]


def test_causes_come_before_what_they_show_in_and_bits_before_the_rest() -> None:
    before = {"numeric": "a", "threads": {"intra": 1}, "python": {"version": "3"}}
    now = {"numeric": "b", "threads": {"intra": 2}, "python": {"version": "4"}}
    assert [item.path for item in differences(before, now)] == ["threads.intra", "numeric", "python.version"]


@pytest.mark.slow
def test_another_instruction_set_or_thread_count_shows_in_the_numbers() -> None:
    """Where a setting changes nothing on this processor, nothing need show; the count of those that do is what is asserted."""
    code = "from stepwell.recipe.evidence.fingerprint import numeric_fingerprint; print(numeric_fingerprint())"
    settings = [{}, {"ATEN_CPU_CAPABILITY": "default"}, {"MKL_CBWR": "COMPATIBLE"}, {"ONEDNN_MAX_CPU_ISA": "SSE41"}]
    told = []
    for setting in settings:
        asked = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"} | setting, capture_output=True, text=True
        )
        assert asked.returncode == 0, asked.stderr
        told.append(asked.stdout.strip())
    assert len(set(told)) >= 2
