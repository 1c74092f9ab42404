"""What `stepwell audit` says of a run folder that nothing but stepwell and a kill has touched: never that something is broken."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from stepwell.core.errors import RunFolderError
from stepwell.recipe.evidence.audit import audit

STANDS = ("chain_holds", "torn_end", "no_log_yet", "no_run_yet")


def audited(folder: Path, found: Counter[str], *, ended: bool = False) -> list[str]:
    """Audit a run; what is wrong with the answer, in words.

    Args:
        folder: of a run that was killed, or has come to its end.
        found: counts the audits, and how the event log stood, see STANDS.
        ended: whether the run has come to its end: then every check must hold.
    """
    found["audits"] += 1
    try:
        checks = audit(folder).checks
    except RunFolderError as error:
        found["no_run_yet"] += 1
        return [f"audit: {error}"] if ended else []
    chain = next(check for check in checks if check.name == "event log")
    torn, missing = "the line is not whole" in chain.told, "is missing" in chain.told
    found["chain_holds"] += chain.answer == "holds"
    found["torn_end"] += chain.answer == "not known" and torn
    found["no_log_yet"] += chain.answer == "not known" and missing
    wrong = ("broken", "not known") if ended else ("broken",)
    problems = [f"audit: {check.name} is {check.answer}: {check.told}" for check in checks if check.answer in wrong]
    if chain.answer == "not known" and not (torn or missing):
        problems.append(f"audit: the log is neither whole nor unfinished: {chain.told}")
    return problems
