"""Figures as a table that spreadsheets open."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any

from django.http import HttpResponse

from annotate.exchange.files.readers import escaped


def as_csv(name: str, rows: Iterable[Iterable[Any]]) -> HttpResponse:
    """Answers with a file; no cell of it is a formula."""
    reply = HttpResponse(
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
    writer = csv.writer(reply)
    for row in rows:
        writer.writerow([escaped(cell) if isinstance(cell, str) else cell for cell in row])
    return reply
