"""The bell: tells a worker that something waits in PostgreSQL.

A ring may get lost: workers look in PostgreSQL by themselves, the bell only saves them the wait.
So a ring never raises, never blocks for long, and carries an id and nothing else.

Whoever may write to Redis can make a worker do what a ring can, and no more: a ring is JSON, never
unpickled; of RQ's entry only its function and its ids are read; the worker has a list of the
functions it knows."""

import logging
import zlib
from functools import cache
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

logger = logging.getLogger(__name__)

LONGEST_RING = 1000  # bytes


class NotARing(ValueError):
    """Something else was in the queue."""


class Ring(NamedTuple):
    function: str
    ids: tuple[int, ...]


@cache
def connection() -> Redis:
    """The process's connections to Redis."""
    # A quarter of a second at most: a page waits for it, and the workers look by themselves
    # anyway.
    return Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=0.25,
        socket_timeout=0.25,
        retry=Retry(NoBackoff(), 0),
    )


def enqueue_on_commit(queue: str, function: str, *ids: int) -> None:
    """Enqueues `function`, a dotted name, with `ids` once the current transaction has committed."""
    transaction.on_commit(lambda: _enqueue(queue, function, *ids))


def _enqueue(queue: str, function: str, *ids: int) -> None:
    if not settings.REDIS_URL:
        return
    try:
        Queue(queue, connection=connection(), serializer=JSONSerializer).enqueue(
            # Nothing stays in Redis: what became of the work stands in the run's own row.
            function,
            args=ids,
            job_timeout=-1,
            result_ttl=0,
            failure_ttl=0,
        )
    except (RedisError, OSError) as error:
        logger.warning("the bell for %s%r was not heard: %s", function, ids, error)


def hear(queue: str, redis: Redis, *, seconds: int) -> Ring | None:
    """Take the next ring out of the queue; `NotARing` where it is none.

    RQ would restore the whole entry, with its callbacks and webhooks."""
    popped = redis.blpop([Queue(queue, connection=redis).key], timeout=seconds)
    if popped is None:
        return None
    key = Job.key_for(_bytes(popped[1]).decode(errors="replace"))
    packed = redis.hget(key, "data")
    redis.delete(key)
    return None if packed is None else _read(_bytes(packed))


def _bytes(answer: bytes | str) -> bytes:
    """Redis answers in texts where its address asks for them (`decode_responses`)."""
    return answer if isinstance(answer, bytes) else answer.encode()


def _read(packed: bytes) -> Ring:
    try:
        # Bounded: a few bytes may unpack to gigabytes.
        written = zlib.decompressobj().decompress(packed, LONGEST_RING)
        function, instance, ids, named = JSONSerializer.loads(written)
    except (zlib.error, ValueError, TypeError, RecursionError) as error:
        raise NotARing(f"{packed[:80]!r}: {error}") from error
    whole = isinstance(ids, list) and all(type(each) is int for each in ids)
    if not isinstance(function, str) or not whole or instance or named:
        raise NotARing(f"{written[:80]!r}")
    return Ring(function, tuple(ids))
