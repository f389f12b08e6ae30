"""`manage.py export_labels --project SLUG --kind rankings OUT`"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.command_line import project_named
from annotate.exchange.exports import exporting
from annotate.exchange.exports.folders import OF_TABLE, write_folder
from annotate.exchange.exports.layouts import LAYOUTS, Arranged
from annotate.exchange.files.readers import format_of


class Command(BaseCommand):
    help = (
        "Exports prompts or labels, in the shapes that import_labels reads: as JSON Lines, or as "
        "CSV or Parquet by the ending. "
        "The file appears once it is complete."
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

        parser.add_argument(
            "--layout",
            choices=LAYOUTS,
            default="conversational",
            help="How conversations are written: conversational or standard as TRL has them, as "
            "messages, or as ShareGPT.",
        )
        parser.add_argument(
            "--data-set",
            choices=exporting.FORMATS,
            metavar="FORMAT",
            help="Write OUT as a folder that `datasets` loads, with a card and files of this "
            "format for each split: parquet, jsonl or csv.",
        )

    def handle(self, **options: Any) -> None:
        project, out, format = (
            project_named(options["project"]),
            options["out"],
            options["data_set"],
        )
        kind = exporting.canonical(options["kind"])
        raw = exporting.lines(project, kind, anonymous=options["anonymous"])
        lines = Arranged(raw, options["layout"])
        try:
            if format:
                title, write_file = f"{project.name}: {kind}", exporting.write_file
                count = write_folder(out, lines, title=title, write_file=write_file, format=format)
            else:
                count = exporting.write_file(out, lines)
        except OSError as error:
            raise CommandError(f"Cannot write {out}: {error.strerror}.") from error
        self.stdout.write(f"{count:,} lines of {kind} written to {out}")
        if lines.left_out:
            self.stdout.write(f"Left out: {lines.left_out:,} of several turns; no standard row.")
        if "csv" in (format, format_of(out.name)) and options["layout"] != "standard":
            self.stderr.write(OF_TABLE)
