"""`manage.py erase --user NAME`, `manage.py erase --replay`"""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from annotate.audit.commands import AuditedCommand
from annotate.erasure import CannotErase, erase, replay
from annotate.models import User


class Command(AuditedCommand):
    by_hand = True
    help = "Erases all that a guest or labeler has typed, and names what was made from it."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--user", metavar="NAME")
        which.add_argument(
            "--replay",
            action="store_true",
            help="Erase again whom a restored backup has brought back (DATA_DIR/erasures.jsonl).",
        )

    def handle(self, **options: Any) -> None:
        if options["replay"]:
            self.stdout.write(f"erased again: {replay()}")
            return
        person = User.objects.filter(username=options["user"]).first()
        if person is None:
            raise CommandError(f"There is no user {options['user']}.")
        try:
            report = erase(person)
        except CannotErase as error:
            raise CommandError(str(error)) from error
        for line in report:
            self.stdout.write(line)
        self.stdout.write(f"Erased: {options['user']} is erased-{person.pk} from now on.")
