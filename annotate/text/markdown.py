"""Markdown → HTML that is safe to show, whoever wrote it, and that hides nothing people judge.

Raw HTML in the source stays text; what the renderer made passes an allow-list as the last step.
Mathematics, escapes, entities, images and what only looks like markup come out as they were
written: two answers that differ by a backslash must not look the same."""

import re
from functools import lru_cache
from html import unescape
from typing import Any

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

TAGS = {
    *("h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "blockquote", "ul", "ol", "li"),
    *("pre", "code", "em", "strong", "s", "a", "span", "div"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {
    "a": {"href", "title"},
    "ol": {"start", "dir"},
    "code": {"class"},
    "span": {"class"},
    "div": {"class", "dir"},
    **{
        tag: {"dir"}
        for tag in ("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "li", "blockquote", "th", "td")
    },
}
SCHEMES = {"http", "https", "mailto"}
# A formula on one paragraph: \( … \), \[ … \], $$ … $$, and $ … $ that is not an amount of money.
MATHEMATICS = re.compile(
    r"\\\((?:.+?)\\\)|\\\[(?:.+?)\\\]|\$\$(?:.+?)\$\$"
    r"|\$(?![\s$])(?:[^$\n]*?[^\s$\\])\$(?!\d)",
    re.DOTALL,
)
IMAGE = re.compile(r"!\[[^\]\n]*\]\([^)\n]*\)")
RULE = re.compile(r"(\*[ \t]*){3,}|(-[ \t]*){3,}|_{3,}[ \t]*")  # `_ _ _` is a gap to fill in


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


def _as_written(state: StateInline, silent: bool) -> bool:
    """Formulas, escapes and images, which no other rule may take to pieces."""
    source, start = state.src, state.pos
    if source[start] not in "\\$!":
        return False
    formula = MATHEMATICS.match(source, start)
    found = formula or IMAGE.match(source, start)
    end = found.end() if found else start + 2
    if not found and (source[start] != "\\" or source[start + 1 : end] in ("", "\n")):
        return False
    if not silent:
        token = state.push("formula" if formula else "text", "", 0)
        token.content = source[start:end]
    state.pos = end
    return True


def _formula(_renderer: Any, tokens: Any, index: int, _options: Any, _env: Any) -> str:
    return f'<span class="math">{escape(tokens[index].content)}</span>'


def _no_emphasis_in_words(state: StateInline, silent: bool) -> bool:
    """2*3*4 and a_b: what stands between letters or digits is no markup."""
    source, start = state.src, state.pos
    if source[start] not in "*_":
        return False
    end = start + 1
    while end < len(source) and source[end] == source[start]:
        end += 1
    if not (start and source[start - 1].isalnum() and source[end : end + 1].isalnum()):
        return False
    if not silent:
        state.push("text", "", 0).content = source[start:end]
    state.pos = end
    return True


def _thematic_break(state: Any, start: int, _end: int, silent: bool) -> bool:
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    if state.is_code_block(start) or not RULE.fullmatch(line):
        return False
    if not silent:
        state.line = start + 1
        state.push("hr", "hr", 0).markup = line
    return True


def _direction(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """Each paragraph runs as its own first letter says."""
    tokens[index].attrSet("dir", "auto")
    return str(renderer.renderToken(tokens, index, options, env))


# No images: an address in a model's answer must not make the reader's browser call it.
_markdown = (
    MarkdownIt("commonmark", {"html": False, "breaks": True, "highlight": _highlight})
    .enable(["table", "strikethrough"])
    .disable(["image", "escape", "entity", "autolink", "reference"])
)
_markdown.inline.ruler.before("backticks", "as_written", _as_written)
_markdown.inline.ruler.before("emphasis", "no_emphasis_in_words", _no_emphasis_in_words)
_markdown.block.ruler.at("hr", _thematic_break, {"alt": ["paragraph", "blockquote", "list"]})
_markdown.add_render_rule("fence", _fence)
_markdown.add_render_rule("formula", _formula)
for _block in ("paragraph", "heading", "bullet_list", "ordered_list", "list_item", "blockquote"):
    _markdown.add_render_rule(f"{_block}_open", _direction)
for _cell in ("th", "td"):
    _markdown.add_render_rule(f"{_cell}_open", _direction)


@lru_cache(maxsize=512)
def markdown(text: str) -> SafeString:
    """Renders a text as safe HTML."""
    html = nh3.clean(
        _markdown.render(text),
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html)  # noqa: S308 - cleaned in the line above


def shown(text: str) -> SafeString:
    """Renders a text twice: as Markdown and, for the view of the source, letter by letter. A page
    shows one of them. A line that is the same in both is there once."""
    rendered, raw = markdown(text), escape(text)
    if unescape(rendered) == f'<p dir="auto">{text}</p>\n':
        return rendered
    return mark_safe(  # noqa: S308 - both are clean
        f'<div class="rendered">{rendered}</div><pre class="raw" dir="auto">{raw}</pre>'
    )
