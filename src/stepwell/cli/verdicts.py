"""What verify, replay and diff have found, as a few aligned lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stepwell.report.text import aligned, amount, number

if TYPE_CHECKING:
    from stepwell.engine.records.same_bytes import RowDifference, TensorDifference
    from stepwell.recipe.evidence.compared import Compared, Part
    from stepwell.recipe.evidence.diff import RunDifference
    from stepwell.recipe.evidence.fingerprint import Difference
    from stepwell.recipe.evidence.replay import Replay
    from stepwell.recipe.evidence.verify import Verification

__all__ = ["difference_text", "replay_text", "verification_text"]

WIDTH = 100
SHOWN = 12  # lines of one kind
_UNEXPLAINED = (
    "Either stepwell has a fault, or code or data of your own isn't as it was or isn't determined by the\n"
    "seed. Whether a file of the run was changed since: stepwell audit RUN"
)


def verification_text(found: Verification, run: str) -> str:
    """The answer first, then what it rests on."""
    compared = found.compared
    done = "computed again" if compared.num_rows or compared.parts else "not computed again"
    head = _verdict(found, f"steps {found.first_step:,} to {found.last_step:,} of {run}, {done}")
    facts = [["ended", found.stopped]] if found.stopped else []
    if done == "computed again":
        facts += _facts(compared)
    facts += [["damaged", f"{name} was passed over; resume puts it aside"] for name in found.damaged]
    if found.repeated:
        facts.append(["again", _chance(found)])
    return "\n\n".join([head, _table(facts), *_changes(found.changes, found.verdict)])


def replay_text(found: Replay) -> str:
    """The answer first, then what it rests on."""
    head = _verdict(found, f"{found.folder}, trained again into {found.out}")
    steps = ", ".join(f"{step:,}" for step in found.checkpoints)
    facts = [*_facts(found.compared), ["checkpoints", f"of steps {steps} compared" if steps else "none that both have"]]
    return "\n\n".join([head, _table(facts), *_changes(found.changes, found.verdict)])


def difference_text(found: RunDifference) -> str:
    """One block for each kind of difference; a kind without any in one line."""
    same = []
    blocks = []
    for label, rows in (
        ("job", [[item.path, _short(item.before), _short(item.after)] for item in found.job]),
        ("environment", [[item.path, _short(item.before), _short(item.now)] for item in found.environment]),
        ("packages", [[item.path, _short(item.before), _short(item.now)] for item in found.packages]),
        ("data", [] if found.data is None else [["fingerprint", _short(found.data.before), _short(found.data.now)]]),
        ("events", [[kind, str(a), str(b)] for kind, (a, b) in found.events.items()]),
    ):
        if rows:
            blocks.append(_block(label, rows))
        else:
            same.append(label)
    metrics = [[item.name, _value(item.a), _value(item.b)] for item in found.metrics]
    blocks.append(_block("metrics", metrics, also=[_first_row(found.compared)]) if metrics else _first_row(found.compared))
    blocks.append(_weights_line(found.compared))
    head = [f"A  {found.a}", f"B  {found.b}"] + ([f"the same: {', '.join(same)}"] if same else [])
    return "\n\n".join(["\n".join(head), *blocks])


def _verdict(found: Any, what: str) -> str:
    if found.verdict == "identical":
        return f"identical: {what}"
    if found.verdict == "changed":
        names = [change.path for change in found.causes]
        named = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        return f"different, because {named} changed: {what}"
    return f"different with equal fingerprint: {what}\n{_UNEXPLAINED}"


def _chance(found: Verification) -> str:
    if found.chance is None:
        return "a second time, the same bits: no chance, but a cause that isn't on record"
    return f"a second time, other bits from step {found.chance + 1:,} on: something there isn't determined"


def _changes(changes: Sequence[Difference], verdict: str) -> list[str]:
    if not changes:
        return []
    heading = "not as it was, without effect:" if verdict == "identical" else "not as it was:"
    rows = [[item.path, _short(item.before), _short(item.now), item.affects] for item in changes[:SHOWN]]
    more = [f"and {len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
    return ["\n".join([heading, _table(rows, header=["what", "then", "now", "can change"]), *more])]


def _facts(found: Compared) -> list[list[str]]:
    rows = [[part.name, _hash_pair(part)] for part in found.parts]
    rows.append(
        ["metrics", f"{amount(found.num_rows, 'row')} compared, " + ("the same" if found.row is None else "not the same")]
    )
    if found.tensors:
        more = f"; {amount(len(found.tensors) - 1, 'more tensor')}" if len(found.tensors) > 1 else ""
        rows.append(["first tensor", _tensor(found.tensors[0]) + more])
    if found.row is not None:
        rows.append(["first row", _row(found.row)])
    return rows + [["value", f"{item} differs"] for item in found.values[:SHOWN]]


def _tensor(tensor: TensorDifference) -> str:
    if tensor.what == "values":
        how = f"{tensor.num_different:,} of {tensor.num_elements:,} elements, by {tensor.largest:.3g} at most"
    else:
        how = {"missing": "in one of the two only", "shape": "another shape", "dtype": "another dtype"}[tensor.what]
    return f"{tensor.name.removeprefix('step/')}: {how}"


def _row(row: RowDifference) -> str:
    since = f", all the same up to step {row.after:,}" if row.after is not None else ""
    if row.column == "row":
        side = "now only" if row.before is None else "then only"
        return f"{row.file}, step {row.step:,}: {side}{since}"
    return f"{row.file}, step {row.step:,}: {row.column} {row.before!r} and {row.now!r}{since}"


def _first_row(found: Compared) -> str:
    if found.row is not None:
        return f"first difference: {_row(found.row)}"
    return (
        f"no difference in the {amount(found.num_rows, 'row')} that both logged" if found.num_rows else "no step logged by both"
    )


def _weights_line(found: Compared) -> str:
    part = found.parts[0]
    if not part.before or not part.now:
        none = part.before == part.now
        return "weights: " + (
            "neither run has delivered any" if none else f"only {'A' if part.before else 'B'} has delivered any"
        )
    if part.before == part.now:
        return f"weights: equal, sha256 {part.now[:16]}"
    return f"weights: {amount(len(found.tensors), 'tensor')} not the same, furthest apart {_tensor(found.tensors[0])}"


def _hash_pair(part: Part) -> str:
    same = part.before == part.now
    return f"sha256 {part.now[:16]}, the same" if same else f"sha256 {part.before[:16]} then, {part.now[:16]} now"


def _block(label: str, rows: list[list[str]], *, also: Sequence[str] = ()) -> str:
    more = [f"and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return "\n".join([_table(rows[:SHOWN], header=[label, "A", "B"]), *more, *also])


def _table(rows: Sequence[Sequence[str]], *, header: Sequence[str] | None = None) -> str:
    return aligned(rows, header=header, width=WIDTH)


def _value(value: float | None) -> str:
    return "" if value is None else number(value)


def _short(value: Any) -> str:
    text = "" if value is None else str(value)
    most = 16 if len(text) == 64 and set(text) <= set("0123456789abcdef") else 32
    return text if len(text) <= most else text[: most - 1] + "…"
