"""Tables in and out: lists of dicts, pandas, Hugging Face datasets. The libraries are imported when
they are asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from feedback_site_client import calls
from feedback_site_client.calls import Imported
from feedback_site_client.clients import Client


def bring(site: Client, rows: Any, *, name: str = "rows.jsonl", **choices: Any) -> Imported:
    """Imports rows: dicts, a DataFrame or a Dataset. All of them or none: raises ApiError with the
    lines that have a problem. `choices`: what `calls.run_import` takes."""
    lines = "".join(json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in _of(rows))
    upload = site.send(calls.upload(lines.encode(), name))
    return site.send(calls.run_import(upload["id"], **choices))


def rows_of(site: Client, kind: str, **filters: str) -> list[dict[str, Any]]:
    """An export as a list of dicts."""
    # Not splitlines: a text may contain other line ends, such as U+2028.
    lines = site.send(calls.export(kind, **filters)).decode().split("\n")
    return [json.loads(line) for line in lines if line]


def as_frame(site: Client, kind: str, **filters: str) -> Any:
    """An export as a pandas DataFrame."""
    import pandas

    return pandas.DataFrame(rows_of(site, kind, **filters))


def as_dataset(site: Client, kind: str, **filters: str) -> Any:
    """An export as a Hugging Face Dataset, with the types that the site knows."""
    import datasets
    import pyarrow.parquet

    content = site.send(calls.export(kind, format="parquet", **filters))
    return datasets.Dataset(pyarrow.parquet.read_table(io.BytesIO(content)))


def _of(rows: Any) -> Iterable[Mapping[str, Any]]:
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        rows = rows.astype(object).where(rows.notna(), None)
        found: Iterable[Mapping[str, Any]] = rows.to_dict("records")
        return found
    found = rows
    return found


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy, as pandas holds them."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
