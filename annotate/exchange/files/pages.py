"""The text of documents that people read by the page: HTML and PDF. Rows are `{"text": …}`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any, BinaryIO

from annotate.exchange.files.bad_row import Unreadable

LARGEST_HTML = 20 * 2**20  # bytes
MOST_PAGES = 5000
UNSEEN = frozenset({"script", "style", "template", "noscript", "head", "svg", "iframe", "object"})
VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "wbr", "source", "col", "embed"})
INLINE = frozenset(
    {
        *("a", "abbr", "b", "bdi", "bdo", "cite", "code", "del", "dfn", "em", "font", "i", "ins"),
        *("kbd", "mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tt"),
        *("u", "var", "wbr"),
    }
)
HEADING = re.compile(r"h([1-6])")
BLANKS = re.compile(r"[ \t\r\f\v]*\n[ \t\r\f\v]*|[ \t\r\f\v]+")
LIGATURE = re.compile("[\ufb00-\ufb06]")  # as PDF has them: ffi is one character
SPACES = re.compile(r"\s+")
CHARSET = re.compile(rb"""<meta[^>]{0,200}charset=["']?([\w-]{1,30})""", re.IGNORECASE)


def _html_rows(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    content = file.read(LARGEST_HTML + 1)
    if len(content) > LARGEST_HTML:
        yield 1, Unreadable(f"Larger than {LARGEST_HTML // 2**20} MB.")
        return
    named = CHARSET.search(content[:4096])
    try:
        text = content.decode(named[1].decode() if named else "utf-8-sig")
    except (UnicodeDecodeError, LookupError):
        yield 1, Unreadable("Its letters are not in the encoding it names, nor UTF-8.")
        return
    page = _Page()
    page.feed(text)
    page.close()
    yield 1, {"text": page.text}


class _Page(HTMLParser):
    """Collects what a browser would show: blocks apart by empty lines, headings as in Markdown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden: str = ""  # the element whose end shows text again
        self.depth = 0  # of elements of that name

    @property
    def text(self) -> str:
        said = BLANKS.sub(lambda run: "\n" if "\n" in run[0] else " ", "".join(self.parts))
        return re.sub(r"\n{3,}", "\n\n", said).strip()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if self.hidden:
            self.depth += tag == self.hidden
        elif tag in UNSEEN:
            self.hidden, self.depth = tag, 1
        elif tag == "br":
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")
        elif heading := HEADING.fullmatch(tag):
            self.parts.append("\n\n" + "#" * int(heading[1]) + " ")
        elif tag not in INLINE | VOID:
            self.parts.append("\n" if tag in ("li", "tr", "dd", "dt") else "\n\n")

    def handle_endtag(self, tag: str) -> None:
        if self.hidden:
            self.depth -= tag == self.hidden
            if not self.depth:
                self.hidden = ""
        elif tag not in INLINE | VOID | {"td", "th", "li", "tr", "dd", "dt"}:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(SPACES.sub(" ", data))


def _pdf_rows(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Page by page."""
    import logging

    import pypdf

    logging.disable()  # it complains of most files
    number = 0
    try:
        document = pypdf.PdfReader(file)
        if document.is_encrypted and not document.decrypt(""):
            yield 1, Unreadable("It needs a password. Save it without one.")
            return
        for number, page in enumerate(document.pages, start=1):
            if number > MOST_PAGES:
                yield number, Unreadable(f"It has more than {MOST_PAGES:,} pages. Split it.")
                return
            yield number, {"text": _readable(page.extract_text())}
    except MemoryError:
        raise
    except Exception:  # whatever a file that is none brings its parser to
        yield number + 1, Unreadable("Not a PDF that can be read. Save it again, or as plain text.")


def _readable(text: str) -> str:
    """Without the characters that no text of PostgreSQL contains; ligatures as their letters."""
    text = LIGATURE.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return re.sub("[\x00\ud800-\udfff]", "", text)


READERS = {"html": _html_rows, "pdf": _pdf_rows}
