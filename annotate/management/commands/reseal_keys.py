"""`manage.py reseal_keys`"""

from typing import Any

from annotate.accounts.second_factor import reseal_secrets
from annotate.audit.commands import AuditedCommand
from annotate.connections.models import Connection
from annotate.connections.sealing import Unreadable
from annotate.webhooks.models import Webhook


class Command(AuditedCommand):
    help = "Encrypts the keys of connections and webhooks again, under the SECRET_KEY of today."

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
        resealed, people = reseal_secrets()
        self.stdout.write(f"{resealed} secrets of second factors are sealed under SECRET_KEY.")
        for name in people:
            self.stderr.write(f"The second factor of {name} cannot be read. They need a new one.")
        for name in lost:
            self.stderr.write(f"The key of {name} cannot be read. Enter it again on its page.")
