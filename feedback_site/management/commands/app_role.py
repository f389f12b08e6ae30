"""`manage.py app_role [NAME]`"""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError

from feedback_site.roles import APP_ROLE, NotAName, grant


class Command(BaseCommand):
    help = (
        "Makes the role of PostgreSQL that the site works as, or gives it anew what it needs. Run "
        "it as the owner of the tables, after each migrate."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", default=APP_ROLE)
        parser.add_argument("--migrate", action="store_true", help="Migrate first.")

    def handle(self, **options: Any) -> None:
        if options["migrate"]:
            call_command("migrate", verbosity=0)
        try:
            grant(options["name"])
        except (NotAName, ProgrammingError) as error:
            raise CommandError(str(error).strip()) from error
        self.stdout.write(f"{options['name']} may work, and change no history.")
