"""The answers of a grid as CSV and JSON Lines, a line each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from annotate.playground.grids import Column, Grid

FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


def export(grid: Grid, format: str) -> Iterator[str]:
    """The text of the file, in pieces. `format`: of FORMATS."""
    rows = _rows(grid)
    return _csv(grid, rows) if format == "csv" else (_json(row) for row in rows)


def _rows(grid: Grid) -> Iterator[dict[str, Any]]:
    policies, rows, checks = grid.policies(), grid.rows, grid.written_checks()
    templates = grid.templates()
    for cell in grid.cells.order_by("row", "column", "sample").iterator():
        row, policy = rows[cell.row], policies[cell.column]
        yield {
            "row": cell.row + 1,
            "column": cell.column + 1,
            "sample": cell.sample + 1,
            "policy": policy.name if policy.pk else "",
            "model": policy.model_name or policy.folder,
            "template": str(templates.get(cell.column, "")),
            **_words(grid.column(cell.column)),
            "seed": grid.seed + cell.sample,
            "messages": row.messages,
            "then": cell.turns or row.then,
            "reference": row.reference,
            "answers": [*cell.between, cell.text],
            "state": cell.state,
            "trouble": cell.trouble,
            "finish_reason": cell.finish_reason,
            "prompt_tokens": cell.prompt_tokens,
            "completion_tokens": cell.completion_tokens,
            "first_ms": cell.first_ms,
            "total_ms": cell.total_ms,
            "price": None if cell.price is None else float(cell.price),
            "scores": {written: cell.scores.get(name) for name, written in checks.items()},
        }


def _words(column: Column) -> dict[str, Any]:
    """The way of prompting."""
    words = asdict(column)
    del words["weights"], words["name"]
    return words


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _csv(grid: Grid, rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Lists as JSON; each check a column."""
    yield "\ufeff"  # by which Excel knows UTF-8
    for number, row in enumerate(rows):
        scores = row.pop("scores")
        flat = {**row, **{f"score {name}": score for name, score in scores.items()}}
        if number == 0:
            yield _line(flat)
        yield _line(_plain(each) for each in flat.values())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False) if value else ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _line(cells: Any) -> str:
    file = io.StringIO()
    csv.writer(file).writerow(cells)
    return file.getvalue()
