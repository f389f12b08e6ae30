"""`manage.py reseal_keys`"""

from typing import Any

from django.core.management.base import BaseCommand

from annotate.connections.models import Connection
from annotate.connections.sealing import Unreadable
from annotate.webhooks.models import Webhook


class Command(BaseCommand):
    help = "Encrypts the keys of connections and webhooks anew, under the SECRET_KEY of today."

    def handle(self, **options: Any) -> None:
        sealed: list[Connection | Webhook] = [
            *Connection.objects.with_key().select_related("project"),
            *Webhook.objects.select_related("project"),
        ]
        lost = []
        for each in sealed:
            try:
                each.reseal()
            except Unreadable:
                lost.append(f"{each} of {each.project}")
        self.stdout.write(f"{len(sealed) - len(lost)} keys are sealed under SECRET_KEY.")
        for name in lost:
            self.stderr.write(f"The key of {name} cannot be read. Enter it again on its page.")
