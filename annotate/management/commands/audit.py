"""`manage.py audit verify [--known NUMBER:HASH]`"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.audit.chain import Broken, Head, verify


class Command(BaseCommand):
    help = "Checks that the audit log is as it was written; names the first entry that is not."

    def add_arguments(self, parser: CommandParser) -> None:
        checks = parser.add_subparsers(dest="what", required=True)
        check = checks.add_parser("verify", help="Follow the chain of hashes from its beginning.")
        check.add_argument(
            "--known",
            metavar="NUMBER:HASH",
            help="What an earlier check printed: finds entries that were cut off since, too.",
        )

    def handle(self, **options: Any) -> None:
        try:
            head = verify(known=Head.read(options["known"]) if options["known"] else None)
        except (Broken, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"The audit log is as it was written. Its end: {head}")
