"""`manage.py import_documents FILE --project SLUG`"""

from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from annotate.audit.commands import AuditedCommand
from annotate.command_line import project_named
from rlhf.models.documents import Document, texts_in


class Command(AuditedCommand):
    help = 'Imports raw text for pre-training: JSON Lines of {"text": …}, or a plain text file.'

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--project", required=True, metavar="SLUG")

    def handle(self, **options: Any) -> None:
        project, path = project_named(options["project"]), options["file"]
        try:
            with path.open("rb") as file:
                new = Document.add(project, texts_in(file, name=path.name), source=path.name[:100])
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}")
        except ValidationError as error:
            raise CommandError(" ".join(error.messages))
        self.stdout.write(f"{new} new documents.")
