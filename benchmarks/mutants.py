"""Mutants of a source file: each is the file with one token changed, where a test should notice it."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Mutant", "mutants"]

# Operators by how they are written; what isn't here (@, <<, ~ ...) is left alone.
SWAPS = {
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "//": "/",
    "%": "*",
    "**": "*",
    "&": "|",
    "|": "&",
    "+=": "-=",
    "-=": "+=",
    "*=": "/=",
    "/=": "*=",
    "//=": "/=",
    "&=": "|=",
    "|=": "&=",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "is": "is not",
    "is not": "is",
    "in": "not in",
    "not in": "in",
    "and": "or",
    "or": "and",
}
TYPES = {"Literal", "Callable", "Any", "Sequence", "Mapping", "Iterable", "Iterator", "list", "dict", "tuple", "set", "type"}


@dataclass(frozen=True)
class Mutant:
    """One changed token.

    Args:
        line: its line, from 1.
        start: where it begins in that line, in characters.
        old: the token.
        new: what stands there instead.
        before: the line as it is, without the spaces around it.
        after: the line with the change, likewise.
    """

    line: int
    start: int
    old: str
    new: str
    before: str
    after: str

    def applied(self, source: str) -> str:
        """The source with this change."""
        lines = source.splitlines(keepends=True)
        text = lines[self.line - 1]
        lines[self.line - 1] = text[: self.start] + self.new + text[self.start + len(self.old) :]
        return "".join(lines)


@dataclass(frozen=True)
class Token:
    """An operator or a keyword of an expression: its place and how it is written."""

    line: int
    start: int
    text: str


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a file, in the order of the text.

    Signs, operators, comparisons, `and` / `or` / `not` and numbers (n -> n + 1) are changed. Left alone are docstrings and
    all other text, with what stands inside f-strings; what makes an error (a call of a name that ends in Error);
    annotations and aliases of types; decorators and the record in them; blocks under `if TYPE_CHECKING`.

    >>> [mutant.after for mutant in mutants("def f(a, b):\\n    return a - 2 * b\\n")]
    ['return a + 2 * b', 'return a - 3 * b', 'return a - 2 / b']
    """
    tree, lines = ast.parse(source), source.splitlines()
    tokens = [
        Token(token.start[0], token.start[1], token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in (tokenize.OP, tokenize.NAME)
    ]
    found = set()
    for node in behaviour(tree):
        for token, new in changes(node, tokens, lines):
            text = lines[token.line - 1]
            after = text[: token.start] + new + text[token.start + len(token.text) :]
            found.add(Mutant(token.line, token.start, token.text, new, text.strip(), after.strip()))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.start))


def behaviour(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below this one that say what the code does."""
    skipped: list[ast.AST | None] = []
    match node:
        case ast.JoinedStr():
            return
        case ast.Call(func=ast.Name(id=name)) if name.endswith("Error"):
            return
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.Subscript(value=ast.Name(id=name)) if name in TYPES:
            return
        case ast.Assign(value=ast.BinOp(op=ast.BitOr())):  # Tree = Tensor | dict
            return
        case ast.Call(func=ast.Name(id="isinstance")):
            skipped = list(node.args[1:])
        case ast.FunctionDef():
            skipped = [node.returns, *node.decorator_list]
        case ast.ClassDef():
            skipped = list(node.decorator_list)
        case ast.AnnAssign():
            skipped = [node.annotation]
        case ast.arg():
            skipped = [node.annotation]
    yield node
    for child in ast.iter_child_nodes(node):
        if child not in skipped:
            yield from behaviour(child)


def changes(node: ast.AST, tokens: list[Token], lines: list[str]) -> Iterator[tuple[Token, str]]:
    """The changes of one node: which token becomes what."""
    match node:
        case ast.BinOp() if not (is_text(node.left) or is_text(node.right)):
            yield from swapped(between(node.left, node.right, tokens, lines))
        case ast.AugAssign():
            yield from swapped(between(node.target, node.value, tokens, lines))
        case ast.Compare():
            for left, right in zip([node.left, *node.comparators], node.comparators):
                yield from swapped(between(left, right, tokens, lines))
        case ast.BoolOp():
            for left, right in zip(node.values, node.values[1:]):
                yield from swapped(between(left, right, tokens, lines))
        case ast.UnaryOp(op=ast.USub()):
            yield Token(node.lineno, column(node.lineno, node.col_offset, lines), "-"), "+"
        case ast.UnaryOp(op=ast.Not()):
            yield Token(node.lineno, column(node.lineno, node.col_offset, lines), "not "), ""
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            start = column(node.lineno, node.col_offset, lines)
            text = lines[node.lineno - 1][start : column(node.lineno, node.end_col_offset or 0, lines)]
            yield Token(node.lineno, start, text), repr(value + 1 if value + 1 != value else value * 2)


def swapped(token: Token | None) -> Iterator[tuple[Token, str]]:
    if token is not None and token.text in SWAPS:
        yield token, SWAPS[token.text]


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def between(left: ast.expr, right: ast.expr, tokens: list[Token], lines: list[str]) -> Token | None:
    """The operator between two expressions; the syntax tree doesn't say where it stands.

    `is not` and `not in` are two tokens; they are given back as one where a single space parts them.
    """
    assert left.end_lineno is not None
    assert left.end_col_offset is not None
    low = (left.end_lineno, column(left.end_lineno, left.end_col_offset, lines))
    high = (right.lineno, column(right.lineno, right.col_offset, lines))
    inside = [token for token in tokens if low <= (token.line, token.start) < high and token.text not in ("(", ")")]
    if not inside:
        return None
    words = " ".join(token.text for token in inside[:2])
    first = inside[0]
    if words in ("is not", "not in") and lines[first.line - 1].startswith(words, first.start):
        return Token(first.line, first.start, words)
    return first


def column(line: int, offset: int, lines: list[str]) -> int:
    """A place in a line in characters, from one in bytes of UTF-8."""
    return len(lines[line - 1].encode()[:offset].decode())
