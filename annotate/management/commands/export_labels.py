"""`manage.py export_labels --project SLUG --kind rankings OUT`"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.command_line import project_named
from annotate.exchange import exporting


class Command(BaseCommand):
    help = (
        "Exports prompts or labels, in the shapes that import_labels reads: as JSON Lines, or as "
        "CSV or Parquet by the ending. "
        "The file appears when it is whole."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("out", type=Path, help="The file to write.")
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--kind", required=True, choices=[*exporting.KINDS, *exporting.ALIASES])
        parser.add_argument(
            "--anonymous",
            action="store_true",
            help="Stable pseudonyms instead of names, and no comments or notes.",
        )

    def handle(self, **options: Any) -> None:
        project = project_named(options["project"])
        lines = exporting.lines(project, options["kind"], anonymous=options["anonymous"])
        try:
            count = exporting.write_file(options["out"], lines)
        except OSError as error:
            raise CommandError(f"Cannot write {options['out']}: {error.strerror}.") from error
        self.stdout.write(f"{count:,} lines of {options['kind']} written to {options['out']}")
