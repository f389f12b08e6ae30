"""A question → the passages of a project's documents that may answer it, the best first.

By words: each word of the question that a passage contains counts by PostgreSQL's ts_rank_cd (cover
density; Clarke, Cormack, Tudhope 2000), and the more the rarer it is among the passages (inverse
document frequency; Spärck Jones 1972). By meaning, where an embedding model was chosen: cosine of
the vectors. The two orders are merged by reciprocal rank fusion (Cormack, Clarke, Büttcher 2009:
the sum of 1 / (60 + rank))."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection

from annotate.documents.embedding import NoVector, vectors_of
from annotate.documents.models import Embedder, Passage
from annotate.documents.words import CONFIG, spaced
from annotate.people.models import Project

DEPTH = 50  # of each order
FUSION = 60  # the constant of Cormack et al.
LONGEST_QUESTION = 4000  # characters

BY_WORDS = f"""
WITH passages AS NOT MATERIALIZED (
    SELECT passage.id, passage.search FROM annotate_passage passage
    JOIN annotate_document document ON document.id = passage.document_id
    WHERE document.project_id = %(project)s
), words AS (
    SELECT quote_literal(lexeme)::tsquery AS word
    FROM unnest(tsvector_to_array(to_tsvector('{CONFIG}', %(question)s))) AS lexeme
), met AS (
    SELECT passages.id, word, ts_rank_cd(passages.search, word, 1) AS rank
    FROM words JOIN passages ON passages.search @@ word
), rare AS (
    SELECT word, ln(1 + (SELECT count(*) FROM passages)::float / count(*)) AS weight
    FROM met GROUP BY word
)
SELECT id, sum(rank * weight) AS score FROM met JOIN rare USING (word)
GROUP BY id ORDER BY score DESC, id LIMIT {DEPTH}
"""


@dataclass(frozen=True)
class Found:
    """A passage with its score: by how much it leads depends on the question alone."""

    passage: Passage
    score: float
    by_words: float | None = None
    by_meaning: float | None = None


def best_passages(project: Project, question: str, most: int) -> list[Found]:
    """The passages that fit the question best, at most so many; none where no word of it occurs and
    no embedding model was chosen."""
    question = question[:LONGEST_QUESTION]
    by_words = _by_words(project, question)
    by_meaning = _by_meaning(project, question)
    scores = fused(by_words, by_meaning) if by_meaning else by_words
    order = sorted(scores, key=lambda pk: (-scores[pk], pk))[:most]
    there = Passage.objects.select_related("document").in_bulk(order)
    return [
        Found(there[pk], scores[pk], by_words.get(pk), by_meaning.get(pk))
        for pk in order
        if pk in there
    ]


def fused(*orders: dict[int, float]) -> dict[int, float]:
    """Reciprocal rank fusion of scores by id: only the places count, so that scores of different
    kinds can be merged."""
    total: dict[int, float] = defaultdict(float)
    for scores in orders:
        for rank, pk in enumerate(sorted(scores, key=lambda pk: (-scores[pk], pk)), start=1):
            total[pk] += 1 / (FUSION + rank)
    return total


def _by_words(project: Project, question: str) -> dict[int, float]:
    with connection.cursor() as cursor:
        cursor.execute(BY_WORDS, {"project": project.pk, "question": spaced(question)})
        return dict(cursor.fetchall())


def _by_meaning(project: Project, question: str) -> dict[int, float]:
    """Cosine of the passages that the chosen model has read. Where it does not answer, words must
    do."""
    chosen = Embedder.objects.filter(project=project)
    embedder = chosen.select_related("connection", "project", "policy__project").first()
    if embedder is None:
        return {}
    rows = Passage.objects.of_project(project).filter(embedded_by=embedder.mark)
    read: list[tuple[int, Any]] = list(rows.values_list("pk", "embedding"))
    if not read:
        return {}
    try:
        asked = np.frombuffer(vectors_of(embedder, [question])[0], dtype=np.float32)
    except NoVector:
        return {}
    ids = [pk for pk, vector in read if len(vector) == asked.nbytes]
    vectors = b"".join(bytes(vector) for _, vector in read if len(vector) == asked.nbytes)
    cosine = np.frombuffer(vectors, dtype=np.float32).reshape(len(ids), -1) @ asked
    best = np.argsort(-cosine, kind="stable")[:DEPTH]
    return {ids[at]: float(cosine[at]) for at in best}
