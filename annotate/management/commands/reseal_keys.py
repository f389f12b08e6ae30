"""`manage.py reseal_keys`"""

from typing import Any

from annotate.audit.commands import AuditedCommand
from annotate.connections.models import Connection
from annotate.connections.sealing import Unreadable


class Command(AuditedCommand):
    help = "Encrypts the keys of connections anew, under the SECRET_KEY of today."

    def handle(self, **options: Any) -> None:
        sealed = Connection.objects.with_key().select_related("project")
        lost = []
        for connection in sealed:
            try:
                connection.reseal()
            except Unreadable:
                lost.append(f"{connection} of {connection.project}")
        self.stdout.write(f"{len(sealed) - len(lost)} keys are sealed under SECRET_KEY.")
        for each in lost:
            self.stderr.write(f"The key of {each} cannot be read. Enter it again on its page.")
