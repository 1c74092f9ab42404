"""The strict reader: every refusal names its line, and nothing can explode."""

from __future__ import annotations

import pytest

from stepwell.core.errors import JobError
from stepwell.recipe.values.places import place_of
from stepwell.recipe.values.yaml_reader import MAX_DEPTH, parse


def read(text: str) -> object:
    return parse(text, lambda line: f"job.yaml:{line}")


def refusal(text: str) -> JobError:
    with pytest.raises(JobError) as caught:
        read(text)
    return caught.value


def test_mappings_lists_and_scalars_are_read_with_their_lines() -> None:
    value = read("a: 1\nb:\n  - x\n  - {c: 3e-3,\n     d: 'no'}\n")
    assert value == {"a": 1, "b": ["x", {"c": 0.003, "d": "no"}]}
    assert (place_of(value, "a"), place_of(value, "b")) == ("job.yaml:1", "job.yaml:2")
    items = value["b"]
    assert (place_of(items, 0), place_of(items, 1)) == ("job.yaml:3", "job.yaml:4")
    assert (place_of(items[1], "c"), place_of(items[1], "d")) == ("job.yaml:4", "job.yaml:5")


def test_a_quoted_number_stays_text() -> None:
    assert read("a: '3'\nb: \"1e5\"\nc: |\n  7\n") == {"a": "3", "b": "1e5", "c": "7\n"}


def test_a_byte_order_mark_comment_or_document_marker_holds_no_value() -> None:
    assert read("# only a comment\n") is None
    assert read("---\na: 1\n") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "what", "fix"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' stands twice", "Remove one"),
        ("x: {a: 1, a: 2}\n", 1, "'a' stands twice", "Remove one"),
        ("a:\n\tb: 1\n", 2, "tab", "two spaces"),
        ("a: 1\n \tb: 1\n", 2, "tab", "two spaces"),
        ("a: 1\nb: [\n\t1]\n", 3, "tab", "two spaces"),
        ("a: &x 1\n", 1, "&x is an anchor", "Remove the anchor"),
        ("a: 1\nb: *x\n", 2, "*x is an alias", "Write the value again"),
        ("a: 1\nb: !!python/object/apply:os.system ['true']\n", 2, "python/object/apply:os.system is a YAML tag", "never code"),
        ("a: !!str 5\n", 1, "is a YAML tag", "Remove the tag"),
        ("a: !mine {b: 1}\n", 1, "!mine is a YAML tag", "Remove the tag"),
        ("a: 1\n---\nb: 1\n", 2, "second document", "own file"),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML", "bracket"),
        ("a: b: c\n", 1, "not valid YAML", "quotes"),
        ("a: 'b\n", 2, "not valid YAML", "quotes"),
        ("a: 1\n1: 2\n", 2, "1 stands as a key", "quotes"),
        ("? [a, b]\n: 1\n", 1, "a list or mapping stands as a key", "name: value"),
        ("null: 1\n", 1, "null stands as a key", "name: value"),
        ("true: 1\n", 1, "true stands as a key", "name: value"),
        ("a: 1\nb: \x07\n", 2, "'\\x07'", "Delete"),
        ("a: 1\nb: " + "9" * 5000 + "\n", 2, "5000 digits", "fewer digits"),
        ('a: "\\ud800"\n', 1, "surrogate", "character itself"),
        ('a: "\\UFFFFFFFF"\n', 1, "not valid YAML", "quotes"),
    ],
)
def test_what_a_job_may_not_hold_is_refused_at_its_line(text: str, line: int, what: str, fix: str) -> None:
    error = refusal(text)
    assert error.where == f"job.yaml:{line}"
    assert what in error.what
    assert fix in error.fix
    assert error.expected
    assert error.exit_code == 2


def test_the_second_of_two_equal_keys_is_told_where_the_first_stands() -> None:
    assert "first at job.yaml:1" in refusal("lr: 1\nmomentum: 0\nlr: 2\n").what


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    rows = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    rows += [f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)]
    assert refusal("\n".join(rows)).where == "job.yaml:1"


def test_nesting_is_limited_and_never_overflows_the_stack() -> None:
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert "nested too deeply" in refusal("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)).what
    assert "nested too deeply" in refusal("[" * 100_000).what
    assert "nested too deeply" in refusal("{a: " * 50_000).what
    assert "nested too deeply" in refusal("\n".join(" " * i + "a:" for i in range(200))).what


def test_the_number_of_values_and_bytes_is_limited() -> None:
    assert "too many values" in refusal("a: [" + "1," * 30_000 + "]").what
    assert "too long" in refusal("a: " + "x" * 300_000).what


@pytest.mark.parametrize(
    "piece", ["[", "{", "- ", "? ", "a: ", "'", '"', "#", "&a ", "*a ", "!a ", "%", "\n", "a:\n ", "|", "> ", "a\n\n", "{a: 1},"]
)
def test_a_quarter_megabyte_of_anything_ends_in_a_value_or_a_refusal(piece: str) -> None:
    text = (piece * 262_144)[: 256 * 1024 - 64]
    try:
        result = read(text)
    except JobError as error:
        result = error.where
    assert result is None or isinstance(result, (str, dict, list))
