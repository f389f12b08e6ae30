"""`manage.py import_labels FILE --project SLUG`"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError

from annotate.audit.commands import AuditedCommand
from annotate.audit.recording import about, recorded
from annotate.command_line import member_named, operator_of, project_named
from annotate.exchange import parsing as rows
from annotate.exchange.choices import Choices
from annotate.exchange.columns import FIELDS, LEFT_OUT, problems
from annotate.exchange.files.bad_row import Unreadable
from annotate.exchange.files.data_sets import is_data_set, lines_of_data_set
from annotate.exchange.files.opening import LARGEST_UNPACKED, unpacked
from annotate.exchange.files.readers import format_of
from annotate.exchange.importing import KINDS, ImportFailed, beginning, guessed, import_labels
from annotate.exchange.parts import ARCHIVES, one_table, parts_in, parts_of
from annotate.exchange.shapes import BY_NAME, SHAPES

OUR_ROWS = (rows.__doc__ or "").strip()


class Command(AuditedCommand):
    by_hand = True
    help = f"Imports prompts or labels from a file, all or nothing.\n\n{OUR_ROWS}"

    def create_parser(self, *args: Any, **kwargs: Any) -> Any:
        return super().create_parser(*args, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file",
            type=Path,
            help="JSON Lines or JSON; by the ending CSV (.csv, .tsv), Parquet; also .gz, .zst; the "
            "folder of a data set, or such a folder as .zip, .tar, .tar.gz; a name on the hub.",
        )
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--kind", choices=KINDS, help="Found from the first line if not given.")
        parser.add_argument("--by", metavar="NAME", help="Who imports; else the first operator.")
        parser.add_argument(
            "--column",
            action="append",
            default=[],
            metavar="NAME=FIELD",
            help="The column NAME is this field, e.g. question=prompt, or is left out: NAME=; "
            "repeat it for others.",
        )
        parser.add_argument(
            "--shape",
            choices=BY_NAME,
            help="What the rows are; found by looking at the first ones if not given. "
            + "; ".join(f"{shape.name}: {shape.label}" for shape in SHAPES),
        )
        parser.add_argument(
            "--split", default="", help="Of a data set of Hugging Face, if it has several."
        )
        parser.add_argument(
            "--config", default="", help="Of a data set of Hugging Face, if it has several."
        )
        parser.add_argument(
            "--encoding", default="", help="Of a text in neither UTF-8 nor UTF-16: shift_jis, …"
        )
        parser.add_argument(
            "--key", default="", help="Where the rows stand in an object wrapped round them."
        )
        parser.add_argument(
            "--each-answer",
            action="store_true",
            help="Make demonstrations of each answer of a conversation, not only of the last.",
        )
        parser.add_argument(
            "--leave-out-bad",
            action="store_true",
            help="Import the lines without a problem, and list the others.",
        )
        parser.add_argument(
            "--references",
            action="store_true",
            help="Make demonstrations of the reference answers in a file of completions.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Check and count; keep nothing.")

    def handle(self, **options: Any) -> None:
        path: Path = options["file"]
        project, by = project_named(options["project"]), options["by"]
        try:
            given = _columns(options["column"])
            file, format = _opened(options)
            with file:
                said = Choices(
                    kind=options["kind"] or "",
                    shape=options["shape"] or "",
                    columns=given,
                    each_answer=options["each_answer"],
                    encoding=options["encoding"],
                    key=options["key"],
                )
                choices = guessed(beginning(file, format, said), said)
                self.stdout.write(f"Format: {BY_NAME[choices.shape].label}.")
                with recorded():
                    about(project)
                    done = import_labels(
                        file,
                        project=project,
                        by=member_named(project, by) if by else operator_of(project),
                        format=format,
                        choices=choices,
                        source=path.name[:100],
                        leave_out_bad=options["leave_out_bad"],
                        references=options["references"],
                        dry_run=options["dry_run"],
                    )
        except OSError as error:
            raise CommandError(f"Cannot read {path}: {error.strerror}.") from error
        except Unreadable as error:
            raise CommandError(str(error)) from error
        except ImportFailed as error:
            raise CommandError(str(error)) from error
        self.stdout.write(str(done))


def _opened(options: dict[str, Any]) -> tuple[BinaryIO, str]:
    """(the rows, their format)"""
    source, split = options["file"], options["split"]
    if source.is_dir() and not options["config"]:
        return one_table(parts_in(source), split=split)
    if is_data_set(str(source)):
        return lines_of_data_set(str(source), split=split, config=options["config"]), "jsonl"
    with ExitStack() as files:
        file = files.enter_context(source.open("rb"))
        if not source.name.lower().endswith(ARCHIVES):
            files.pop_all()
            return file, format_of(source.name)
        return one_table(parts_of(unpacked(file), limit=LARGEST_UNPACKED), split=split)


def _columns(given: list[str]) -> dict[str, str]:
    columns = dict(each.rpartition("=")[::2] for each in given)
    known_fields = {*FIELDS, LEFT_OUT}
    unknown = [field for name, field in columns.items() if not name or field not in known_fields]
    if unknown:
        known = ", ".join(FIELDS)
        raise CommandError(f"There is no field “{unknown[0]}”: NAME=FIELD, one of {known}.")
    if wrong := problems(columns.values()):
        raise CommandError(" ".join(wrong))
    return columns
