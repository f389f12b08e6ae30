"""`manage.py restore FOLDER [--erasures FILE]`"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from feedback_site.installation.backup import CannotBackUp, CannotRestore, restore


class Command(BaseCommand):
    help = (
        "Fills an empty database and a new DATA_DIR from a folder that `manage.py backup` wrote, "
        "and erases again whom it brings back. Run it as the owner of the tables."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path)
        parser.add_argument(
            "--erasures",
            type=Path,
            metavar="FILE",
            help="The newest erasures.jsonl, where it was kept apart from the backups.",
        )

    def handle(self, **options: Any) -> None:
        if (erasures := options["erasures"]) and not erasures.exists():
            raise CommandError(f"There is no {erasures}.")
        try:
            note = restore(options["folder"], erasures=erasures)
        except (CannotRestore, CannotBackUp) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Restored the backup of {note['made']}, made by version {note['site']}.")
        call_command("migrate", verbosity=0)
        call_command("erase", replay=True, stdout=self.stdout)
        for role in note["roles"]:
            try:
                call_command("app_role", role, stdout=self.stdout)
            except CommandError as error:
                self.stderr.write(f"{error}: make the role {role}, then run app_role {role}.")
            else:
                self.stdout.write(f"A new role has no password: give {role} one.")
        if not erasures:
            self.stdout.write(
                "Who was erased since then is unknown: bring the newest erasures.jsonl into "
                f"{settings.DATA_DIR}, and run erase --replay."
            )
