"""A question → the passages of a project's documents that may answer it, the best first.

By words: each word of the question that a passage contains counts by PostgreSQL's ts_rank_cd (cover
density; Clarke, Cormack, Tudhope 2000), and the more the rarer it is among the passages (inverse
document frequency; Spärck Jones 1972). By meaning, where an embedding model was chosen: cosine of
the vectors. The two orders are merged by reciprocal rank fusion (Cormack, Clarke, Büttcher 2009:
the sum of 1 / (60 + rank))."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection
from django.db.models import Count, Max, Sum

from annotate.documents.embedding import NoVector, embedder_of, vectors_of
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


Vectors = tuple[Any, Any]  # numpy arrays: ids [passages], float32 [passages, numbers]
Kept = tuple[tuple[Any, ...], Vectors]
MOST_KEPT = 256 * 2**20  # bytes of vectors in one process
_kept: dict[int, Kept] = {}


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
    there = Passage.objects.select_related("document").defer("embedding").in_bulk(order)
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
    embedder = embedder_of(project)
    if embedder is None:
        return {}
    if not (read := _read_by(embedder)):
        return {}
    try:
        asked = np.frombuffer(vectors_of(embedder, [question])[0], dtype=np.float32)
    except NoVector:
        return {}
    ids, vectors = read
    if vectors.shape[1] != len(asked):
        return {}
    cosine = vectors @ asked
    best = np.argsort(-cosine, kind="stable")[:DEPTH]
    return {int(ids[at]): float(cosine[at]) for at in best}


def _read_by(embedder: Embedder) -> Vectors | None:
    """The passages that this model has read, by id, and a row each: their vectors. They stay in
    this process while the same passages are there, since a passage never changes."""
    rows = Passage.objects.of_project(embedder.project).read_by(embedder.mark)
    state = (embedder.mark, *rows.aggregate(n=Count("pk"), last=Max("pk"), sum=Sum("pk")).values())
    kept = _kept.get(embedder.project_id)
    if kept is None or kept[0] != state:
        found: list[tuple[int, Any]] = list(rows.values_list("pk", "embedding"))
        sizes = Counter(len(vector) for _, vector in found)
        if not sizes:
            return None
        [(size, _)] = sizes.most_common(1)
        read = [(pk, bytes(vector)) for pk, vector in found if len(vector) == size]
        vectors = np.frombuffer(b"".join(vector for _, vector in read), dtype=np.float32)
        kept = state, (np.array([pk for pk, _ in read]), vectors.reshape(len(read), -1))
        _keep(embedder.project_id, kept)
    return kept[1]


def _keep(project: int, kept: Kept) -> None:
    """Those that were asked for last, as many as fit."""
    _kept.pop(project, None)
    room = MOST_KEPT - kept[1][1].nbytes
    for other in reversed(list(_kept)):
        room -= _kept[other][1][1].nbytes
        if room < 0:
            _kept.pop(other, None)
    _kept[project] = kept
