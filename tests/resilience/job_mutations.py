"""Job files that went wrong: every shipped example and preset, changed by what the format allows, by noise and on purpose.

Everything is drawn from (kind, number), so that a case can be made again from its name.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepwell.presets import names, preset
from stepwell.recipe.values.yaml_reader import parse
from stepwell.recipe.values.yaml_writer import dump

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Case:
    """A job file, and the name that its refusal must bring up, where there is one."""

    kind: str
    number: int
    content: bytes
    misspelt: str = ""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _shipped() -> dict[str, str]:
    found = {path.stem: path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.yaml")) if path.stem != "own_model"}
    whole = _plain(parse(found["digits"], str))
    for name in names():
        recipe = {"objective": {"name": "cross_entropy"}} | _plain(preset(name))
        found[f"preset {name}"] = dump(whole | {"recipe": recipe})
        found[f"preset {name}, named"] = dump(whole | {"recipe": {"objective": "cross_entropy", "preset": name}})
    return found


GOOD = _shipped()
TREES = {name: _plain(parse(text, str)) for name, text in GOOD.items()}

WORDS = [
    *("null", "~", "true", "no", "yes", ".inf", "-.nan", "1e999", "-1", "0", "0x10", "0o17", "010", "1_0", "1:30", "'3'"),
    *("- ", ": ", "? ", "<<: ", "|\n", ">\n", "---\n", "...\n", "%YAML 1.1\n", "%TAG ! tag:x,2000:\n", "\t", "\n", "\r", "  "),
    *("&a ", "*a", "!x ", "!!python/name:os.system ", "!!binary ", "!!set ", "!!timestamp ", "!<tag:yaml.org,2002:int> "),
    *("\ufeff", "\x00", "\x85", "\u2028", "\u202e", "\u200b", "\U0001f600", "e\u0301", "\u0430dam", "\\ud800", '"\\UFFFFFFFF"'),
    *("name: ", "source: ", "recipe: ", "drives: a.b", "path: /etc/passwd", "..", "#", "full", "%", "5%", "1e300 epochs"),
    *("3 parsecs", "9" * 401, "x" * 2000, '"', "'", "[", "]", "{", "}", "[]", "{}", ",", "@", "`", "\\"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 10**399, 0.0, -0.0, 1e-320, 1e308, float("inf"), float("nan")),
    *("", " ", "no", "3", "1e-3", "5%", "0 epochs", "-3 epochs", "1e400 epochs", "nan epochs", "5%%", "3 parsecs", "full"),
    *([], {}, [[]], [None], [{}], {"name": None}, {"name": []}, {"name": "sgd"}, {"name": "mixup", "alpha": {}}, ["sgd"] * 3),
    *("../../etc/passwd", "/dev/zero", "~root", "\x00", "a\nb", "x" * 5000, "é", "\u202egpj.exe", "\U0001f600", "%s%n{0}"),
]
CODE: list[Any] = [
    "os.system",
    "os:system",
    "__import__('os').system('touch canary')",
    "$(touch canary)",
    "`touch canary`",
    "{{ 7*7 }}",
    "${env:HOME}",
    "${jndi:x}",
    "file:///etc/passwd",
    "import canary_module",
    "canary_module",
    "canary_module.run",
    "torch.nn.Linear",
    "builtins.eval",
    "lambda: 0",
    {"python": "os.system"},
    {"_target_": "os.system", "command": "touch canary"},
    {"target": "canary_module.run"},
    {"class_path": "canary_module.Run", "init_args": {}},
    {"_component_": "subprocess.call", "args": ["touch", "canary"]},
    {"name": "os.system"},
    {"name": "canary_module:run"},
    {"name": "stepwell.techniques.batch.mixup"},
    {"name": "__class__"},
    {"source": "canary_module"},
    {"source": "python", "path": "canary_module.py"},
    {"name": "mixup", "alpha": {"__reduce__": ["os.system", ["touch canary"]]}},
    {"name": "mixup", "__class__": "canary_module.Run"},
    {"name": "sgd", "lr": {"$eval": "1+1"}},
    {"auto_map": {"AutoModel": "canary_module.Run"}, "trust_remote_code": True},
]
TAGS = [
    "!!python/object/apply:os.system ['touch canary']",
    "!!python/object/new:os.system ['touch canary']",
    "!!python/object:canary_module.Run {}",
    "!!python/name:canary_module.run ''",
    "!!python/module:canary_module ''",
    "!!python/object/new:type {args: ['x', !!python/tuple [], {}]}",
    "!!python/tuple [1, 2]",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch canary']",
    "!canary {a: 1}",
    "!!map {a: 1}",
]


def with_technique(name: str) -> str:
    """A job whose recipe has one technique more, however little that fits."""
    tree = copy.deepcopy(TREES["digits"])
    tree["recipe"]["techniques"] = [{"name": name}]
    return dump(tree)


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _written(tree: Any, rng: random.Random) -> str:
    if rng.random() < 0.25:
        return json.dumps(tree, ensure_ascii=rng.random() < 0.5)  # JSON is YAML, but for its words for infinity
    return dump(tree) if isinstance(tree, dict) else json.dumps(tree)


def _retyped(tree: Any, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 3))):
        path = rng.choice(list(_places(tree)))
        _at(tree, path[:-1])[path[-1]] = copy.deepcopy(rng.choice(VALUES))


def _moved(tree: Any, rng: random.Random) -> None:
    source, target = rng.choice(list(_places(tree))), rng.choice(list(_places(tree)))
    value = copy.deepcopy(_at(tree, source))
    if rng.random() < 0.5:
        parent = _at(tree, source[:-1])
        del parent[source[-1]]
    try:
        _at(tree, target[:-1])[target[-1]] = value
    except (KeyError, IndexError):  # the target went with the source
        tree["recipe"] = value


def _wrapped(tree: Any, rng: random.Random) -> None:
    path = rng.choice(list(_places(tree)))
    parent, value = _at(tree, path[:-1]), _at(tree, path)
    for _ in range(rng.choice((1, 1, 2, 5, 40))):
        value = [value] if rng.random() < 0.5 else {rng.choice(("name", "recipe", "python", "x")): value}
    parent[path[-1]] = value


def _dropped(tree: Any, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2))):
        places = list(_places(tree))
        if places:
            path = rng.choice(places)
            del _at(tree, path[:-1])[path[-1]]


def _added(tree: Any, rng: random.Random) -> None:
    path = rng.choice([(), *(path for path in _places(tree) if isinstance(_at(tree, path), (dict, list)))])
    container, value = _at(tree, path), copy.deepcopy(rng.choice(VALUES + CODE))
    if isinstance(container, dict):
        container[rng.choice(("python", "target", "name", "__class__", "self", "preset", "*", "\u202e", "x" * 300, "lr "))] = (
            value
        )
    else:
        container.insert(rng.randint(0, len(container)), value)


def _coded(tree: Any, rng: random.Random) -> None:
    path = rng.choice(list(_places(tree)))
    _at(tree, path[:-1])[path[-1]] = copy.deepcopy(rng.choice(CODE))


def tagged(text: str, rng: random.Random) -> str:
    """A value replaced by one with a tag."""
    lines = text.split("\n")
    places = [number for number, line in enumerate(lines) if ": " in line]
    place = rng.choice(places)
    lines[place] = lines[place].split(": ", 1)[0] + ": " + rng.choice(TAGS)
    return "\n".join(lines)


def text_changed(text: str, rng: random.Random) -> str:
    """One to four changes of the text, without regard to what it means."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(text) + 1)
        stop = min(len(text), start + rng.randint(1, 12))
        kind, word = rng.choice(("insert", "delete", "replace", "duplicate", "swap")), rng.choice(WORDS)
        if kind == "insert":
            text = text[:start] + word + text[start:]
        elif kind == "delete":
            text = text[:start] + text[stop:]
        elif kind == "replace":
            text = text[:start] + word + text[stop:]
        elif kind == "duplicate":
            text = text[:stop] + text[start:stop] + text[stop:]
        else:
            lines = text.split("\n")
            first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[first], lines[second] = lines[second], lines[first]
            text = "\n".join(lines)
    return text


def noisy(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, put in, cut off, or written in another encoding."""
    kind = rng.randrange(5)
    if kind == 0:
        return content.decode().encode(rng.choice(("utf-16", "utf-32", "utf-7", "utf-16-le")))
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        place = rng.randrange(len(changed) or 1)
        if kind == 1 and changed:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            changed[place:place] = rng.randbytes(rng.choice((1, 2, 7)))
        elif kind == 3:
            del changed[place:]
        elif changed:
            changed[place] = rng.choice(b"\x00\x07\x1b\x7f\x80\xc0\xe2\xed\xf4\xff\t\r:-[{&*!|>'\"%@`#?")
    return bytes(changed)


def misspelt(tree: Any, rng: random.Random) -> str:
    """Change a letter of a key or of a name; returns the word as it was. Short words have too many neighbours."""
    keys = [path for path in _places(tree) if isinstance(path[-1], str) and len(path[-1]) >= 5 and "settings" not in path]
    values = [path for path in _places(tree) if path[-1] in ("name", "source", "preset") and isinstance(_at(tree, path), str)]
    values = [path for path in values if len(_at(tree, path)) >= 5]
    path = rng.choice(keys + values * 3)
    parent = _at(tree, path[:-1])
    word: str = path[-1] if path in keys and path not in values else _at(tree, path)
    place = rng.randrange(1, len(word) - 1)
    wrong = rng.choice(
        (word[:place] + word[place + 1 :], word[:place] + word[place] + word[place:], word[:place] + "q" + word[place + 1 :])
    )
    if word == path[-1]:
        # In place, so that the line stays where it was.
        items = list(parent.items())
        parent.clear()
        parent.update({wrong if key == word else key: value for key, value in items})
    else:
        parent[path[-1]] = wrong
    return word


TREE_KINDS: dict[str, Callable[[Any, random.Random], None]] = {
    "retyped": _retyped,
    "moved": _moved,
    "wrapped": _wrapped,
    "dropped": _dropped,
    "added": _added,
    "code": _coded,
}
KINDS = (*TREE_KINDS, "misspelt", "tagged", "text", "bytes")


def case(number: int) -> Case:
    """The case of a number; the kinds take turns."""
    kind = KINDS[number % len(KINDS)]
    rng = random.Random(f"{kind} {number}")
    name = rng.choice(sorted(GOOD))
    tree, text = copy.deepcopy(TREES[name]), GOOD[name]
    if kind in TREE_KINDS:
        TREE_KINDS[kind](tree, rng)
        return Case(kind, number, _written(tree, rng).encode("utf-8", "surrogatepass"))
    if kind == "misspelt":
        word = misspelt(tree, rng)
        return Case(kind, number, dump(tree).encode(), misspelt=word)
    if kind == "tagged":
        return Case(kind, number, tagged(text, rng).encode())
    if kind == "text":
        return Case(kind, number, text_changed(text, rng).encode("utf-8", "surrogatepass"))
    return Case(kind, number, noisy(text.encode(), rng))


def bombs() -> dict[str, bytes]:
    """Small files that would grow, dig or take long."""
    digits = GOOD["digits"]
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
    merged = "b0: &b0 {x: 1}\n" + "".join(f"b{i}: &b{i} {{<<: [*b{i - 1}, *b{i - 1}]}}\n" for i in range(1, 30))
    found = {
        "aliases": laughs + digits,
        "aliases in a recipe": digits.replace("epsilon: 0.1", "epsilon: &e 0.1, <<: *e"),
        "an alias of itself": "a: &a [*a]\n" + digits,
        "merge keys": merged + digits,
        "many anchors": "".join(f"k{i}: &a{i} 1\n" for i in range(9000)),
        "many documents": "---\n" * 60_000,
        "many directives": "%YAML 1.2\n" * 20_000 + "---\n" + digits,
        "a long number": digits.replace("seed: 0", "seed: " + "9" * 100_000),
        "a number at the limit": digits.replace("seed: 0", "seed: " + "9" * 400),
        "a long float": digits.replace("lr: 3e-3", "lr: 0." + "3" * 100_000),
        "a long exponent": digits.replace("lr: 3e-3", "lr: 1e" + "9" * 390),
        "a long negative exponent": digits.replace("lr: 3e-3", "lr: 1e-" + "9" * 390),
        "a long hex number": digits.replace("seed: 0", "seed: 0x" + "f" * 100_000),
        "a long octal number": digits.replace("seed: 0", "seed: 0o" + "7" * 100_000),
        "a long duration": digits.replace("60 epochs", "9" * 100_000 + " epochs"),
        "a duration of spaces": digits.replace("60 epochs", "'6" + " " * 100_000 + "epochs'"),
        "a duration of dots": digits.replace("60 epochs", "." * 50_000),
        "a long name": digits.replace("cross_entropy", "c" * 100_000),
        "a long name of pairs": digits.replace("cross_entropy", "cross_entropy" * 8_000),
        "a long key": "k" * 100_000 + ": 1\n" + digits,
        "a long key in a recipe": digits.replace("batch_size", "batch_size" * 9_000),
        "a long quoted key": '"' + "k" * 100_000 + '": 1\n' + digits,
        "a long explicit key": "? " + "k" * 100_000 + "\n: 1\n" + digits,
        "many keys": "".join(f"k{i}: 1\n" for i in range(19_000)),
        "many keys too many": "".join(f"k{i}: 1\n" for i in range(24_000)),
        "one key many times": "a: 1\n" * 19_000,
        "keys that hash alike": "".join(f"'{'x' * (i % 7)}{i}': 1\n" for i in range(9_000)),
        "many techniques": digits.replace("  batch_size", "    - {name: mixup}\n" * 4_000 + "  batch_size"),
        "many unknown techniques": digits.replace("  batch_size", "    - mixupp\n" * 8_000 + "  batch_size"),
        "many layers": digits.replace("[128, 64]", "[" + "8, " * 9_000 + "8]"),
        "many excepted": digits + "init_from: {path: x, except: [" + "'*a*a*a*a*b', " * 3_000 + "x]}\n",
        "a wide list": "[" + "1," * 18_000 + "1]",
        "empty lists": "a: [" + "[]," * 18_000 + "]",
        "a long comment": "#" + "x" * 200_000 + "\n" + digits,
        "many comments": "#\n" * 100_000 + digits,
        "a long block": "a: |\n" + "  x\n" * 50_000,
        "a long folded block": "a: >\n" + "  x\n\n" * 40_000,
        "a block indented by 9": "a: |9\n" + " " * 9 + "x\n" * 1000,
        "long quotes": 'a: "' + "\\x41" * 60_000 + '"',
        "open quotes": 'a: "' + "x " * 100_000,
        "spaces": " " * 200_000,
        "line ends": "\n" * 200_000,
        "carriage returns": "\r" * 200_000,
        "colons": ":" * 200_000,
        "colons and spaces": ": " * 100_000,
        "dashes": "- " * 100_000,
        "question marks": "? " * 100_000,
        "open lists": "[" * 200_000,
        "open mappings": "{" * 200_000,
        "lists in keys": "[" * 30 + "]: " * 30,
        "mappings in mappings": "{a: " * 50_000,
        "deep blocks": "\n".join(" " * i + "a:" for i in range(500)),
        "deep lists": "\n".join(" " * i + "- " for i in range(500)),
        "closed too often": "a: 1" + "]" * 100_000,
        "tags": "! " * 60_000,
        "a long tag": "a: !<" + "x" * 100_000 + "> 1",
        "a long anchor": "a: &" + "x" * 100_000 + " 1",
        "a long alias": "a: *" + "x" * 100_000,
        "percent signs": "%" * 200_000,
        "escapes without end": 'a: "' + "\\" * 99_999,
        "too large": "# " + "x" * 400_000,
    }
    made = {name: text.encode() for name, text in found.items()}
    made["zeros"] = b"\0" * 200_000
    made["bytes of one value"] = b"\xff" * 200_000
    made["overlong encodings"] = b"\xc0\xaf" * 50_000
    made["byte order marks"] = b"\xef\xbb\xbf" * 50_000
    return made
