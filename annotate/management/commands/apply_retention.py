"""`manage.py apply_retention [--project SLUG] [--dry-run]`"""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from annotate.command_line import project_named
from annotate.models import Project
from annotate.retention import apply_retention, due


class Command(BaseCommand):
    help = "Deletes what projects keep longer than their settings say, as workers do once a day."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", metavar="SLUG", help="Only this one.")
        parser.add_argument("--dry-run", action="store_true", help="Count, and delete nothing.")

    def handle(self, **options: Any) -> None:
        only = options["project"]
        for project in [project_named(only)] if only else Project.objects.all():
            counts = due(project) if options["dry_run"] else apply_retention(project)
            said = ", ".join(f"{what} {count}" for what, count in counts.items())
            done = "would be deleted" if options["dry_run"] else "deleted"
            self.stdout.write(f"{project.slug}: {done}: {said or 'nothing'}")
