"""Connections of the database's pool: few, and not to be kept through a long silence."""

from django.db import connections


def release_connections() -> None:
    """Gives the thread's connections back to the pool, where others wait for them."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
