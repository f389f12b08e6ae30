"""`manage.py backup FOLDER`"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from feedback_site.installation.backup import CannotBackUp, back_up


class Command(BaseCommand):
    help = (
        "Writes all that makes this installation into a new folder, while it works: the database, "
        "and of DATA_DIR the key, runs and models. `manage.py restore` reads it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path)

    def handle(self, **options: Any) -> None:
        folder = options["folder"]
        try:
            note = back_up(folder)
        except CannotBackUp as error:
            raise CommandError(str(error)) from error
        roles = ", ".join(note["roles"]) or "none beside the owner"
        self.stdout.write(f"Backed up to {folder}. Roles that work with the tables: {roles}.")
        if not (folder / "data" / "secret_key").exists():
            self.stdout.write("SECRET_KEY is not in it: keep what the environment sets.")
