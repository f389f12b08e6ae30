"""The answer is HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from .check import Check

# https://html.spec.whatwg.org/multipage/syntax.html: elements without an end, and those whose end
# may be left out.
VOID = frozenset(
    re.findall(r"\w+", "area base br col embed hr img input link meta source track wbr")
)
ENDS_BY_ITSELF = frozenset(
    re.findall(
        r"\w+",
        "li dt dd p rt rp optgroup option colgroup caption thead tbody tfoot tr td th html head"
        " body",
    )
)
OTHERS = frozenset(
    re.findall(
        r"\w+",
        "a abbr address article aside audio b bdi bdo blockquote button canvas cite code data"
        " datalist del details dfn dialog div dl em fieldset figcaption figure footer form h1 h2 h3"
        " h4 h5 h6 header hgroup i iframe ins kbd label legend main map mark menu meter nav"
        " noscript object ol output picture pre progress q ruby s samp script search section select"
        " slot small span strong style sub summary sup svg table template textarea time title u ul"
        " var video",
    )
)
KNOWN = VOID | ENDS_BY_ITSELF | OTHERS


class HTML(Check):
    name = "html"
    meaning = "HTML, and nothing around it: known elements, each closed in its turn"

    def passes(self, completion: str, reference: str) -> bool:
        text = completion.strip()
        if not (text.startswith("<") and text.endswith(">")):
            return False
        reader = _Reader()
        reader.feed(text)
        reader.close()
        return (
            reader.has_elements and not reader.is_wrong and not (set(reader.open) - ENDS_BY_ITSELF)
        )


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.has_elements = self.is_wrong = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.has_elements = True
        self.is_wrong |= tag not in KNOWN
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.has_elements = True
        self.is_wrong |= tag not in KNOWN

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] != tag and self.open[-1] in ENDS_BY_ITSELF:
            self.open.pop()
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.is_wrong = True
