"""Template filters and tags that show things. None of them starts a query."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from annotate.labels.kinds import kind_of
from annotate.prompts.passages import Read, Source
from annotate.prompts.passages import sources as passages_of
from annotate.text import markdown as render
from annotate.work.letters import unlike
from annotate.work.tasks import Task

register = template.Library()

MOST_DIGITS = 6


@register.filter
def markdown(text: str) -> SafeString:
    """Markdown as safe HTML, with its source beside it; the page shows one of them."""
    return render.shown(text or "")


@register.simple_tag
@cache
def icon(name: str, label: str = "") -> SafeString:
    """A Lucide icon from the sprite. Without a label it is decoration."""
    sprite = static("annotate/vendor/icons.svg")
    if label:
        return format_html(
            '<svg class="icon" role="img" aria-label="{}"><use href="{}#{}"/></svg>',
            label,
            sprite,
            name,
        )
    return format_html(
        '<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>', sprite, name
    )


@register.simple_tag
def sources(answer: str, passages: list[Read] | None) -> list[Source]:
    """The passages that an answer was given, those it cites first."""
    return passages_of(answer, passages or [])


@register.filter
def lookup(mapping: dict[Any, Any], key: Any) -> Any:
    return mapping.get(key)


@register.filter
def beside(these: Iterable[Any], those: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Cells with the columns they stand in."""
    return list(zip(these, those, strict=True))


@register.filter
def letters_unlike(author: Any, here: Any) -> list[tuple[str, str]]:
    """(the letter in what `author` wrote, the one on this page) of each completion with two. Both
    are rankings or assignments; `author` may be none."""
    return unlike(author.letters, here.letters) if author else []


@register.filter
def label_kind(task: Task) -> str:
    """demonstration, ranking …: what the task asks for, or the review is of."""
    return kind_of(task).words.one


@register.filter
def percent(value: Any) -> str:
    """A number between 0 and 1; None, which templates may call "", is a dash."""
    return "–" if value in (None, "") else f"{value:.0%}"


@register.simple_tag
def interval(low: float | None, high: float | None) -> str:
    """The ends of a 95 % interval of a share, as exact as it takes to tell them apart."""
    return _ends(low, high, "–", "%", fewest=0)


@register.simple_tag
def spread(low: float | None, high: float | None) -> str:
    """The ends of a 95 % interval of a number, as exact as it takes to tell them apart."""
    return _ends(low, high, " to ", "f", fewest=2)


def _ends(low: float | None, high: float | None, between: str, form: str, *, fewest: int) -> str:
    if low is None or high is None or low == high:
        return "(no interval)"
    every = range(fewest, MOST_DIGITS)
    digits = next((n for n in every if f"{low:.{n}{form}}" != f"{high:.{n}{form}}"), MOST_DIGITS)
    return f"({low:.{digits}{form}}{between}{high:.{digits}{form}})"


@register.filter
def points(value: Any) -> str:
    """A difference of two shares in percentage points: +8 · −3.4 · 0"""
    if value in (None, ""):
        return "–"
    said = f"{value * 100:+.1f}".removesuffix(".0").replace("-", "−")
    return "0" if said in ("+0", "−0") else said


@register.filter
def money(value: Any) -> str:
    """1,234.50 · 0.40 · 0.014, two digits that say something · –, for what is not known"""
    if value in (None, ""):
        return "–"
    digits = 2 if not value or abs(value) >= 1 else max(1 - value.adjusted(), 2)
    return f"{value:,.{digits}f}"


@register.filter
def milliseconds(value: Any) -> str:
    """850 ms · 1.2 s"""
    if value in (None, ""):
        return "–"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


@register.filter
def duration(seconds: Any) -> str:
    """45 s · 3 min · 2 h 05 min"""
    if seconds in (None, ""):
        return "–"
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
