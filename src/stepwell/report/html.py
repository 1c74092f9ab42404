"""HTML that is escaped unless it was made here: a name that comes from data can only ever be text."""

from __future__ import annotations

import html

from stepwell.report.text import plain

__all__ = ["Html", "document", "escape", "tag"]

_VOID = frozenset({"br", "img", "meta", "source"})

# Nothing is fetched and nothing runs: pictures are data in the page, the style is in the page, and scripts,
# fonts, frames, forms and connections fall under default-src. A base element could redirect links, so none may be.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Html(str):
    """A piece of finished HTML. Only this module makes one from text."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Anything as HTML text: finished pieces as they are, everything else escaped, without control characters.

    >>> escape("<b>&'")
    '&lt;b&gt;&amp;&#x27;'
    """
    return value if isinstance(value, Html) else Html(html.escape(plain(value, keep="\n\t")))


def tag(element: str, /, *children: object, **attributes: object) -> Html:
    """An element. Children and attribute values are escaped; a trailing "_" of an attribute's name is dropped.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in _VOID:
        return Html(f"<{element}{written}>")
    return Html(f"<{element}{written}>{join(*children)}</{element}>")


def join(*children: object) -> Html:
    """Pieces one after the other."""
    return Html("".join(escape(child) for child in children))


def document(title: str, style: str, *body: object) -> str:
    """A whole page under a policy that lets nothing load or run.

    Args:
        title: of the page.
        style: CSS, written by us and free of anything from data.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(style)),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", *body), lang="en") + "\n"
