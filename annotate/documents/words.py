"""Words of passages and questions, as PostgreSQL's full text search is to read them.

PostgreSQL finds words by the blanks around them. Of what Chinese, Japanese or Thai write without
blanks every two letters together count as a word. Words are taken back to their English stems;
those of other languages are found as they are spelled."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.postgres.search import SearchVectorField
from django.db.models import Func, TextField, Value

from annotate.prompts.search import fold

CONFIG = "english"
INDEXED = 20_000  # characters
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)


def spaced(text: str) -> str:
    """Folded, and with blanks between the words of scripts that have none."""
    return UNSPACED.sub(lambda run: f" {_pairs(run[0])} ", fold(text[:INDEXED]))


def _pairs(run: str) -> str:
    return " ".join(run[at : at + 2] for at in range(len(run) - 1)) or run


def index_entry(text: str) -> Any:
    """The tsvector of a passage, for its column `search`."""
    words = Value(spaced(text), TextField())
    template = f"to_tsvector('{CONFIG}', %(expressions)s)"
    return Func(words, template=template, output_field=SearchVectorField())
