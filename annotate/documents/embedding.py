"""Vectors of texts, from the `/v1/embeddings` of a connection or of the site's own server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
from django.conf import settings

from annotate.connections.addresses import NotPublic
from annotate.connections.client import Server, asking, body_of
from annotate.connections.sealing import Unreadable
from annotate.costs.recording import recording
from annotate.costs.uses import Use
from annotate.documents.models import Embedder, Passage
from annotate.people.models import Project
from feedback_site.pool import release_connections

BATCH, BATCH_HERE = 64, 8  # a CPU reads some passages a second
LONGEST = 8192  # numbers of a vector
MOST_TOKENS = 2**31  # what the database holds
TIMEOUT = httpx.Timeout(connect=3.0, read=30.0, write=10.0, pool=3.0)


NOT_CHOSEN = "No embedding model is chosen: do that on Documents, under “Search by meaning”."


class NoVector(Exception):
    """The server does not embed. The sentence says why."""


def vectors_of(embedder: Embedder, texts: Sequence[str]) -> list[bytes]:
    """Embeds texts: one vector of length 1 each, float32 in the machine's order. Meanwhile the
    thread holds no database connection. Raises NoVector."""
    with recording(embedder.speaker, Use.EMBEDDING) as call:
        vectors, tokens = _asked(embedder, texts)
        call.end(tokens)
    return vectors


def embedder_of(project: Project) -> Embedder | None:
    """The embedding model that was chosen for it."""
    chosen = Embedder.objects.filter(project=project)
    return chosen.select_related("connection", "project", "policy__project").first()


def likeness(project: Project, one: str, other: str) -> float:
    """Cosine of the vectors of two texts, -1 to 1. Raises NoVector."""
    embedder = embedder_of(project)
    if embedder is None:
        raise NoVector(NOT_CHOSEN)
    ours, theirs = (np.frombuffer(each, np.float32) for each in vectors_of(embedder, [one, other]))
    return float(ours @ theirs)


def _asked(embedder: Embedder, texts: Sequence[str]) -> tuple[list[bytes], dict[str, int]]:
    """The vectors, and how many tokens were read where the server says it."""
    try:
        server, model = _place(embedder)
        asked = {"model": model, "input": list(texts)}
        release_connections()
        with asking(server, "POST", "embeddings", timeout=TIMEOUT, json=asked) as response:
            if not response.is_success:
                raise NoVector(f"The server answered {response.status_code}.")
            answer = json.loads(body_of(response))
            rows = answer["data"]
        ordered = sorted(rows, key=lambda row: row["index"])
        vectors = np.array([row["embedding"] for row in ordered], dtype=np.float32)
    except (httpx.HTTPError, NotPublic) as error:
        raise NoVector("The server does not answer.") from error
    except Unreadable as error:
        raise NoVector("The key of the connection cannot be read.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NoVector("The server answered no embeddings.") from error
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True) if vectors.ndim == 2 else None
    if lengths is None or len(vectors) != len(texts) or vectors.shape[1] > LONGEST:
        raise NoVector("The server answered no embeddings.")
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise NoVector("The server answered vectors without a direction.")
    return [row.tobytes() for row in vectors / lengths], _tokens(answer.get("usage"))


def _place(embedder: Embedder) -> tuple[Server, str]:
    """Whom to call, and how it calls the model. Raises Unreadable."""
    if embedder.connection:
        return embedder.connection.server, embedder.model_name
    if not settings.INFERENCE_URL:
        raise NoVector("No model server is set up: INFERENCE_URL is empty.")
    here = Server(settings.INFERENCE_URL, settings.INFERENCE_API_KEY, is_trusted=True)
    return here, str(settings.DATA_DIR / embedder.speaker.folder)


def _tokens(usage: Any) -> dict[str, int]:
    read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if type(read) is not int or not 0 <= read < MOST_TOKENS:
        return {}
    return {"prompt_tokens": read, "completion_tokens": 0}


def embed_waiting(embedder: Embedder) -> int:
    """Embeds passages that this model has not read, and returns how many; what goes wrong is noted
    for the page Documents."""
    most = BATCH if embedder.connection else BATCH_HERE
    waiting = Passage.objects.of_project(embedder.project).without_vector(embedder.mark)
    passages = list(waiting.order_by("pk").only("text")[:most])
    try:
        vectors = vectors_of(embedder, [each.text for each in passages]) if passages else []
    except NoVector as error:
        _note(embedder, str(error))
        return 0
    for passage, vector in zip(passages, vectors, strict=True):
        Passage.objects.filter(pk=passage.pk).update(embedding=vector, embedded_by=embedder.mark)
    _note(embedder, "")
    return len(passages)


def _note(embedder: Embedder, trouble: str) -> None:
    if embedder.trouble != trouble:
        Embedder.objects.filter(pk=embedder.pk).update(trouble=trouble)
