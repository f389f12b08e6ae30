"""The site that a benchmark measures: empty, on this machine, and gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def empty_site(**environment: str) -> Iterator[None]:
    """Sets Django up on a migrated database and a Redis of their own. `environment`: what else the
    site reads there, and so do the processes that are started meanwhile."""
    from feedback_site import embedded

    with embedded.throw_away() as own:
        os.environ |= own | {"DJANGO_SETTINGS_MODULE": "feedback_site.settings"} | environment
        import django

        django.setup()
        from django.conf import settings
        from django.core.management import call_command
        from django.db import connection

        settings.ALLOWED_HOSTS.append("testserver")
        call_command("migrate", verbosity=0)
        try:
            yield
        finally:
            connection.close()
            connection.close_pool()
