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
from markdown_it.utils import OptionsDict
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
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return ""  # the renderer escapes it itself
    return highlight(code, lexer, HtmlFormatter(nowrap=True, classprefix="hl-"))


def _fence(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """Code as code, under the name of its language; a fence around nothing as what was typed, for
    it would be an empty bar. Code that is still being written has no colours yet."""
    token = tokens[index]
    if not token.content.strip():
        return f"<p>{escape(token.markup + token.info)}</p>\n"
    code = renderer.fence(tokens, index, UNCOLOURED if env.get(GROWS) else options, env)
    if not token.info.strip():
        return str(code)
    name = escape(token.info.strip())
    return f'<div class="code"><div class="language">{name}</div>{code.rstrip()}</div>\n'


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
        token = state.push("hr", "hr", 0)
        token.markup, token.map = line, [start, state.line]
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

GROWS = "grows"
_without_colours: Any = {**_markdown.options, "highlight": None}
UNCOLOURED = OptionsDict(_without_colours)
ENDED_BY_AN_EMPTY_LINE = {
    *("paragraph_open", "heading_open", "blockquote_open", "table_open", "fence", "hr"),
}
LINE_END = re.compile(r"\r\n|\r(?!\Z)")  # a CR at the end may be the first half of a CRLF


@lru_cache(maxsize=512)
def markdown(text: str) -> SafeString:
    """Renders a text as safe HTML."""
    return _safe(_markdown.render(text))


def _safe(html: str) -> SafeString:
    clean = nh3.clean(
        html,
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(clean)  # noqa: S308 - cleaned in the line above


class Growing:
    """Renders a text while it is being written, block by block: a block that another one follows
    is finished, and stays as it is. In the end all blocks together are what `markdown` renders."""

    def __init__(self) -> None:
        self.open = ""  # from the start of the last block on
        self.has_news = False

    def add(self, piece: str) -> None:
        self.open = LINE_END.sub("\n", self.open + piece)
        self.has_news |= bool(piece)

    def take(self) -> tuple[str, str]:
        """What was finished since the last call, and the block that may go on, as safe HTML."""
        start = _start_of_last_block(self.open)
        finished, self.open = self.open[:start], self.open[start:]
        self.has_news = False
        fixed = _safe(_markdown.render(finished)) if finished else ""
        return fixed, _safe(_markdown.render(self.open, {GROWS: True}))


def _start_of_last_block(text: str) -> int:
    """Where the block begins that what comes may still belong to. Only whole lines tell: `1` may
    become an item of the list above. After an empty line, most blocks are finished."""
    whole = text[: text.rfind("\n") + 1]
    blocks: list[Any] = []
    _markdown.block.parse(whole, _markdown, {}, blocks)
    tops = [each for each in blocks if each.level == 0 and each.nesting >= 0 and each.map]
    if not tops:
        return 0
    lines = whole.split("\n")
    start, end = tops[-1].map
    is_finished = tops[-1].type in ENDED_BY_AN_EMPTY_LINE and end < len(lines) - 1
    return len(whole) if is_finished else sum(len(line) + 1 for line in lines[:start])


def shown(text: str) -> SafeString:
    """Renders a text twice: as Markdown and, for the view of the source, letter by letter. A page
    shows one of them. A line that is the same in both is there once."""
    rendered, raw = markdown(text), escape(text)
    if unescape(rendered) == f'<p dir="auto">{text}</p>\n':
        return rendered
    return mark_safe(  # noqa: S308 - both are clean
        f'<div class="rendered">{rendered}</div><pre class="raw" dir="auto">{raw}</pre>'
    )
