"""A diagnosis in words: for a terminal, and as plain values."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stepwell.doctor.findings import Finding
from stepwell.doctor.repair import Repair, trial_text
from stepwell.report.text import amount, number, plain

if TYPE_CHECKING:
    from stepwell.doctor.diagnose import Diagnosis

WIDTH = 100
SHOWN = 6  # items of a list

STAGE_WORDS = {
    "data": "the rows",
    "static": "shapes and tensors",
    "start": "the untrained model",
    "fit": "a few steps",
    "course": "the training",
    "run": "its remedies",
    "records": "the records of the run",
}


def verdict(findings: Sequence[Finding]) -> str:
    """The answer in one line."""
    told = [finding for finding in findings if finding.severity != "note"]
    if not told:
        return "healthy: nothing was found"
    first = told[0]
    more = f", and {amount(len(told) - 1, 'more finding')}" if len(told) > 1 else ""
    return f"{first.id} (confidence {first.confidence:.0%}){more}"


def text_of(diagnosis: Diagnosis) -> str:
    """All of a diagnosis as lines of at most 100 letters."""
    asked = ", ".join(STAGE_WORDS.get(name, name) for name in diagnosis.asked)
    cost = f"asked: {asked}; {amount(diagnosis.num_steps, 'step')} of trials, {diagnosis.seconds:.1f} s"
    part = "" if diagnosis.whole else beginning_text(diagnosis)
    left_out = f"left out of the job: {', '.join(diagnosis.notes)}" if diagnosis.notes else ""
    advice = [_wrapped(f"advice    {advice_text(one)}", indent=10) for one in diagnosis.advice]
    last = "\n".join(_wrapped(line) for line in (cost, part, left_out) if line)
    return "\n\n".join([findings_text(diagnosis.findings), *(["\n".join(advice)] if advice else []), last])


def beginning_text(diagnosis: Diagnosis) -> str:
    """How much of a long training was tried."""
    setup, bench = diagnosis.setup, diagnosis.bench
    return f"trials ran the first {bench.trial_steps:,} of {amount(setup.num_steps, 'step')}: what shows later isn't found"


def advice_text(finding: Finding) -> str:
    """What may be tried next, why, and what it did where it was tried."""
    tried = "" if finding.tried is None else f"; tried: {trial_text(finding.tried)}"
    return f"{finding.remedy.text} ({finding.symptom}{tried})"


def findings_text(findings: Sequence[Finding]) -> str:
    """The verdict, then a block for each finding."""
    return "\n\n".join([verdict(findings), *(_block(place, one) for place, one in enumerate(findings, start=1))])


def repair_text(repair: Repair) -> str:
    """What was applied, what it brought, what is left."""
    if not repair.steps:
        lines = ["repair: nothing was applied that helps"]
    else:
        lines = ["repair:"]
        for step in repair.steps:
            lines += [_wrapped(f"applied   {step}", indent=10), _wrapped(f"          {step.verified}", indent=10)]
        if len(repair.steps) > 1:
            lines.append(_wrapped(f"in all    {repair.verified}", indent=10))
    lines += [_wrapped(f"left      {item}", indent=10) for item in repair.left]
    return "\n".join(lines)


def tried_text(finding: Finding) -> str:
    """Whether the remedy was tried, and what it did."""
    return "not tried" if finding.tried is None else trial_text(finding.tried)


def numbers_text(evidence: Mapping[str, Any]) -> str:
    """Evidence as "name value" pairs."""
    return "; ".join(f"{name.replace('_', ' ')} {value_text(value)}" for name, value in evidence.items() if value is not None)


def value_text(value: Any) -> str:
    """A number, a word, or the first few of a list."""
    if isinstance(value, (list, tuple)):
        more = f" and {len(value) - SHOWN} more" if len(value) > SHOWN else ""
        return ", ".join(value_text(item) for item in value[:SHOWN]) + more
    return number(value)


def job_text(changes: Mapping[str, Any]) -> str:
    """Changes of a job as `--set` would take them."""
    return ", ".join(f"{path} = {value_text(value)}" for path, value in changes.items())


def mapping_of(diagnosis: Diagnosis, repair: Repair | None = None) -> dict[str, Any]:
    """Plain values, as JSON takes them; what isn't finite becomes text."""
    told = {
        "healthy": diagnosis.healthy,
        "findings": [finding_mapping(finding) for finding in diagnosis.findings],
        "advice": [finding_mapping(finding) for finding in diagnosis.advice],
        "asked": diagnosis.asked,
        "num_steps": diagnosis.num_steps,
        "whole": diagnosis.whole,
        "seconds": round(diagnosis.seconds, 3),
        "left_out": diagnosis.notes,
    }
    return told if repair is None else {**told, "repair": repair_mapping(repair)}


def finding_mapping(finding: Finding) -> dict[str, Any]:
    """A finding without the functions that it holds."""
    return finite(
        {
            "id": finding.id,
            "confidence": round(finding.confidence, 3),
            "severity": finding.severity,
            "symptom": finding.symptom,
            "cause": finding.cause,
            "evidence": dict(finding.evidence),
            "remedy": {"text": finding.remedy.text, "job": dict(finding.remedy.job), "line": finding.remedy.line},
            "tried": None if finding.tried is None else {**asdict(finding.tried), "gain": finding.tried.gain},
        }
    )


def repair_mapping(repair: Repair) -> dict[str, Any]:
    """A repair without the setup itself."""
    verified = repair.verified
    return finite(
        {
            "applied": repair.applied,
            "job": repair.job,
            "left": repair.left,
            "verified": {
                "by": verified.by,
                "measure": verified.measure,
                "before": list(verified.before),
                "after": list(verified.after),
                "gain": verified.gain,
                "interval": list(verified.interval),
            },
        }
    )


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Strict JSON knows no infinity: it becomes text."""
    return {key: _finite(value) for key, value in values.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _block(place: int, finding: Finding) -> str:
    note = ", a note" if finding.severity == "note" else ", nothing is learnt" if finding.severity == "blocker" else ""
    rows = [
        ("seen", finding.symptom),
        ("numbers", numbers_text(finding.evidence)),
        ("cause", finding.cause),
        ("remedy", finding.remedy.text),
        ("line", finding.remedy.line or ""),
        ("in a job", job_text(finding.remedy.job)),
        ("tried", tried_text(finding)),
    ]
    head = f"{place}. {finding.id}  confidence {finding.confidence:.0%}{note}"
    return "\n".join([plain(head), *(_wrapped(f"   {name:<9}{text}", indent=12) for name, text in rows if text)])


def _wrapped(text: str, *, indent: int = 0) -> str:
    return textwrap.fill(
        plain(text),
        WIDTH,
        subsequent_indent=" " * indent,
        break_long_words=False,
        drop_whitespace=True,
        break_on_hyphens=False,
    )
