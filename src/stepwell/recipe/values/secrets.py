"""Secrets have no place in a job or a run folder: found by their shape, refused in jobs, blotted out in what is recorded.

A shape is a prefix that its issuer gave it (hf_, ghp_, AKIA, ...), a form (a JSON web token, a private key, a URL with a
password), or a value that looks drawn beside a name such as api_key. A name alone makes no secret: `use_cls_token` is a
setting, and a hash under `commit` or `sha256` is a hash.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from stepwell.core.errors import JobError
from stepwell.recipe.values.places import place_of

HIDDEN = "[redacted]"
_EDGE = r"(?<![A-Za-z0-9])"
# Issuers' shapes. Each demands a stretch of letters and digits too long for a word, so that names with such a start stay.
_SHAPES: dict[str, str] = {
    "a Hugging Face token": r"(?:hf|api_org)_[A-Za-z0-9]{30,}",
    "a GitHub token": r"gh[oprsu]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}",
    "a GitLab token": r"gl(?:pat|dt|rt|ptt|cbt)-(?=[A-Za-z_-]{0,100}+[0-9])[\w-]{20,}",
    "an AWS key": r"(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    "a Slack token": r"xox[abeoprs](?:\.xox[a-z])?-(?=[A-Za-z-]{0,100}+[0-9])[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}",
    "a secret key": (
        r"sk-(?:proj|svcacct|admin|or-v1|ant-[a-z]+[0-9]*)-(?=[A-Za-z_-]{0,100}+[0-9])[\w-]{20,}|sk-(?=[A-Za-z_]{0,100}+[0-9])[A-Za-z0-9_]{20,}"
    ),
    "a payment key": r"(?:sk|rk|pk|whsec)_(?:(?:live|test)_)?(?=[A-Za-z]{0,100}+[0-9])[A-Za-z0-9]{20,}",
    "a Google key": r"AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}",
    "a registry token": r"npm_[A-Za-z0-9]{36}|pypi-Ag[\w-]{30,}|dckr_pat_[\w-]{20,}",
    "a service token": (
        r"(?:gsk|r8|pplx|nvapi|dop_v1|doo_v1|lin_api|fw|xai)[_-](?=[A-Za-z_-]{0,100}+[0-9])[A-Za-z0-9_-]{32,}"
        r"|SG\.[\w-]{16,}\.[\w-]{16,}|tskey-[a-z]+-[A-Za-z0-9-]{16,}"
    ),
    "a JSON web token": r"eyJ[\w-]{8,500}+\.[\w-]{8,}+\.[\w-]*",
}
_TOKENS = re.compile("|".join(f"(?P<s{index}>{_EDGE}(?:{shape}))" for index, shape in enumerate(_SHAPES.values())))
_KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----END)[\s\S])*(?:-----END [A-Z ]{0,40}-----)?"
)
_PASSWORD_IN_URL = re.compile(r"(?P<kept>[A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s/?#@:]*:[^\s/]*@")
_USER_IN_URL = re.compile(r"(?P<kept>(?:https?|ftp)://)[^\s/?#@]+@")
_HOOK = re.compile(r"(?P<kept>https://hooks\.slack\.com/(?:services|workflows)/)[\w/-]{16,}")
_BEARER = re.compile(r"(?P<kept>\b(?:[Bb]earer|[Bb]asic|[Tt]oken)\s+)(?P<value>[\w.+/=~-]{16,})")
_NAMED = re.compile(r"(?<![A-Za-z0-9_.])(?P<name>[A-Za-z][\w.-]{0,80})[\"']?\s{0,4}(?:=|:(?!//))\s{0,4}[\"']?")
_VALUE = re.compile(r"[^\s\"'&;,]+")
_ENOUGH = 100  # characters of a value that are looked at: what is longer is judged by its start

# Names whose value is a secret whatever it looks like, and names beside which a drawn value is one.
_PASSWORDS = re.compile(r"(?:^|[_.-])(?:password|passwd|passphrase|pwd|client[_-]?secret|account[_-]?key|secret[_-]?key)$", re.I)
_KEYS = re.compile(
    r"(?:^|[_.-])(?:[a-z0-9]*token|[a-z]*secret|(?:[a-z0-9]+[_-]?)?key|auth|authorization|credentials?|sig(?:nature)?|pat)$", re.I
)
# Settings of models and data that end like that.
_SETTINGS = re.compile(
    r"(?:^|[_.-])(?:cls|sep|pad|eos|bos|unk|mask|special|memory|class|sort|group|join|row|primary)[_-]?(?:token|key)$", re.I
)
_EMPTY = re.compile(r"(?:|true|false|yes|no|none|null|[~*x.]+|\$\{?\w+\}?|<[\w -]*>|-?[0-9][0-9.e+-]{0,15}|\[redacted\].*)", re.I)


def redacted(text: str) -> str:
    """The same text with every secret that can be told by its shape blotted out; the rest stays as it is.

    >>> redacted("clone https://anna:pa55word@host.org/x with --api-key=9f86d081884c7d659a2feaa0c55ad015")
    'clone https://[redacted]@host.org/x with --api-key=[redacted]'
    >>> redacted("--set model.use_cls_token=true --set model.num_memory_tokens=16")
    '--set model.use_cls_token=true --set model.num_memory_tokens=16'
    """
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    return _hide_named(text)


def redacted_words(words: Sequence[str]) -> list[str]:
    """The words of a command line, redacted; the word after an option such as --token is the option's value.

    >>> redacted_words(["train", "job.yaml", "--password", "hunter2", "--out", "run"])
    ['train', 'job.yaml', '--password', '[redacted]', '--out', 'run']
    """
    told: list[str] = []
    for word, before in zip(words, ["", *words], strict=False):
        name = before.lstrip("-") if before.startswith("-") and "=" not in before else ""
        told.append(HIDDEN if name and _is_secret_value(name, word) else redacted(word))
    return told


def secret_in(text: str, *, name: str = "") -> str | None:
    """What kind of secret a text holds, or None.

    Args:
        text: a value.
        name: of the setting that holds it.

    >>> secret_in("ghp_" + "a1B2" * 9), secret_in("mixup"), secret_in("hunter2", name="db_password")
    ('a GitHub token', None, 'a password or key')
    """
    match = _TOKENS.search(text)
    if match is not None:
        return list(_SHAPES)[int(str(match.lastgroup)[1:])]
    if name and _is_secret_value(name, text):
        return "a password or key"
    return None if redacted(text) == text else "a password or key"


def refuse_secrets(values: Any) -> None:
    """Refuse a job that holds a secret: whatever is in a job is written into run folders and reports.

    Args:
        values: a job as plain values; what was read from a file knows its lines.

    Raises:
        JobError: it holds one. The message says where, and doesn't repeat it.
    """
    for path, text, name, place in _texts(values, "", None):
        kind = secret_in(text, name=name)
        if kind is not None:
            raise JobError(
                f"{path or 'the job'} holds {kind}",
                expected="a job without secrets: it is written into run folders and reports",
                fix="Take it out, and give it to what needs it by an environment variable; revoke it if it was shared",
                where=place,
            )


def _texts(value: Any, path: str, place: str | None, name: str = "") -> Iterator[tuple[str, str, str, str | None]]:
    """Every text of a tree: where it is, the text, the name beside it, its line. Keys are texts too."""
    if isinstance(value, str):
        yield path, value, name, place
    elif isinstance(value, Mapping):
        for key, item in value.items():
            where = place_of(value, key) or place
            yield f"a name in {path}" if path else "a name", str(key), "", where
            yield from _texts(item, redacted(f"{path}.{key}" if path else str(key)), where, str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]", place_of(value, index) or place, name)


def _is_secret_value(name: str, value: str) -> bool:
    if _EMPTY.fullmatch(value):
        return False
    if _PASSWORDS.search(name):
        return True
    return bool(_KEYS.search(name)) and not _SETTINGS.search(name) and _looks_drawn(value)


def _looks_drawn(value: str) -> bool:
    """Whether nobody would choose such a text: long, of letters and digits mixed, and hardly a character predictable."""
    if len(value) < 16 or not re.fullmatch(r"[A-Za-z0-9+/=_.~:%-]+", value):
        return False
    if re.fullmatch(r"[0-9a-fA-F]{32,}", value):
        return True
    counts = Counter(value)
    entropy = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
    switches = sum(a.isdigit() != b.isdigit() or a.isupper() != b.isupper() for a, b in pairwise(value))
    return entropy >= 3.2 and any(letter.isdigit() for letter in value) and switches >= len(value) // 5


def _hide_named(text: str) -> str:
    """Values beside names that say so. A value may hold a name itself: `note=api_key=...`."""
    told, done = [], 0
    for match in _NAMED.finditer(text):
        found = _VALUE.match(text, match.end(), match.end() + _ENOUGH)
        if found is not None and match.end() >= done and _is_secret_value(match.group("name"), found.group()):
            whole = _VALUE.match(text, match.end())
            assert whole is not None
            told += [text[done : match.end()], HIDDEN]
            done = whole.end()
    return "".join([*told, text[done:]])


def _hide_drawn(match: re.Match[str]) -> str:
    return match.group("kept") + (HIDDEN if _looks_drawn(match.group("value")) else match.group("value"))


def _keep_start(match: re.Match[str]) -> str:
    return match.group("kept") + HIDDEN + ("@" if match.group().endswith("@") else "")


_REPLACED: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (_KEY_BLOCK, HIDDEN),
    (_TOKENS, HIDDEN),
    (_PASSWORD_IN_URL, _keep_start),
    (_USER_IN_URL, _keep_start),
    (_HOOK, _keep_start),
    (_BEARER, _hide_drawn),
)
