"""What Django checks before it runs a command."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def a_database_is_named(**kwargs: Any) -> list[CheckMessage]:
    if settings.DATABASE_URL:
        return []
    return [
        Error(
            "There is no database.",
            hint="Start `make run` in another terminal, or set DATABASE_URL=postgres://…",
            id="feedback_site.E001",
        )
    ]
