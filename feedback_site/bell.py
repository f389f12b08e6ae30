"""The bell: tells a worker that something waits in PostgreSQL.

A ring may get lost: workers look in PostgreSQL by themselves, the bell only saves them the wait.
So a ring never raises, never blocks for long, and carries an id and nothing else."""

import logging
from functools import cache

from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue

logger = logging.getLogger(__name__)


@cache
def connection() -> Redis:
    return Redis.from_url(settings.REDIS_URL, socket_connect_timeout=0.25, socket_timeout=0.25)


def enqueue_on_commit(queue: str, function: str, *ids: int) -> None:
    """Enqueues `function`, a dotted name, with `ids` once the current transaction has committed."""
    transaction.on_commit(lambda: _enqueue(queue, function, *ids))


def _enqueue(queue: str, function: str, *ids: int) -> None:
    if not settings.REDIS_URL:
        return
    try:
        Queue(queue, connection=connection()).enqueue(
            function, args=ids, job_timeout=-1, result_ttl=0, failure_ttl=0
        )
    except (RedisError, OSError) as error:
        logger.warning("the bell for %s%r was not heard: %s", function, ids, error)
