"""Markdown → HTML that is safe to show, whoever wrote it.

Raw HTML in the source stays text; what the renderer made passes an allow-list as the last step."""

from functools import lru_cache
from typing import Any

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

TAGS = {
    *("h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "blockquote", "ul", "ol", "li"),
    *("pre", "code", "em", "strong", "s", "a", "span"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "code": {"class"}, "span": {"class"}}
SCHEMES = {"http", "https", "mailto"}


def _highlight(code: str, language: str, _attributes: str) -> str:
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        return ""  # the renderer escapes it itself
    return highlight(code, lexer, HtmlFormatter(nowrap=True, classprefix="hl-"))


def _fence(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """Code as code; a fence around nothing as what was typed, for it would be an empty bar."""
    token = tokens[index]
    if token.content.strip():
        return str(renderer.fence(tokens, index, options, env))
    return f"<p>{escape(token.markup + token.info)}</p>\n"


# No images: an address in a model's answer must not make the reader's browser call it.
_markdown = (
    MarkdownIt("commonmark", {"html": False, "breaks": True, "highlight": _highlight})
    .enable(["table", "strikethrough"])
    .disable("image")
)
_markdown.add_render_rule("fence", _fence)


@lru_cache(maxsize=512)
def markdown(text: str) -> SafeString:
    html = nh3.clean(
        _markdown.render(text),
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html)  # noqa: S308 - cleaned in the line above
