"""`manage.py import_documents FILE --project SLUG`"""

from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from annotate.audit.commands import AuditedCommand
from annotate.command_line import project_named
from annotate.documents.models import Document
from annotate.exchange.documents import texts_in


class Command(AuditedCommand):
    help = 'Imports documents: JSON Lines of {"text": …}, plain text, Markdown, HTML or PDF.'

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--project", required=True, metavar="SLUG")

    def handle(self, **options: Any) -> None:
        project, path = project_named(options["project"]), options["file"]
        try:
            with path.open("rb") as file:
                added = Document.add(
                    project, texts_in(file, name=path.name), source=path.name[-100:]
                )
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}")
        except ValidationError as error:
            raise CommandError(" ".join(error.messages))
        self.stdout.write(str(added))
