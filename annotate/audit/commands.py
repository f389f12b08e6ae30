"""Commands that change something are recorded like requests, under the name one types."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from annotate.audit.recording import Act, performing, recorded


class AuditedCommand(BaseCommand):
    """Its `handle` is one transaction that ends with an entry. One that needs more of them has
    `recorded()` around the change alone, and is `by_hand`."""

    by_hand = False

    def execute(self, *args: Any, **options: Any) -> str | None:
        with performing(Act(f"manage.py {type(self).__module__.rpartition('.')[2]}")):
            if self.by_hand:
                return super().execute(*args, **options)
            with recorded():
                return super().execute(*args, **options)
