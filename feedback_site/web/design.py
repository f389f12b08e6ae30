"""The parts that pages are made of, each with its states, in light and dark side by side."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

COLOURS = (
    *("paper", "surface", "sunken", "line", "line-strong", "ink", "ink-soft"),
    *("accent", "accent-soft", "good", "good-soft", "warn", "warn-soft", "bad", "bad-soft"),
)
TEXTS = ("xs", "s", "m", "l", "xl", "2xl", "3xl")
SPACES = (1, 2, 3, 4, 6, 8, 12)


@require_GET
@login_not_required
def design(request: HttpRequest) -> HttpResponse:
    """Shows every part of site.css; needs no database. Only with DEBUG is there an address."""
    context = {"schemes": ("light", "dark"), "colours": COLOURS, "texts": TEXTS, "spaces": SPACES}
    return render(request, "design/design.html", context)
