"""Connections of the database's pool: few, and not to be kept through a long silence."""

from collections.abc import Callable
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

Result = TypeVar("Result")


def release_connections() -> None:
    """Gives the thread's connections back to the pool, where others wait for them."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


async def in_database(work: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Runs `work` in a thread, and keeps no connection for the long silence after it."""

    def run() -> Result:
        try:
            return work(*args, **kwargs)
        finally:
            release_connections()

    return await sync_to_async(run)()
