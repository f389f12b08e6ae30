"""What becomes of a file that was uploaded: looked at, read anew in another way, brought in."""

from __future__ import annotations

from dataclasses import replace

from annotate.exchange.choices import Choices
from annotate.exchange.importing import Imported, Preview, guessed, import_labels, preview
from annotate.exchange.shapes import OURS
from annotate.exchange.uploads import Upload


def seen(upload: Upload) -> Preview:
    """Its first rows, as it is read now."""
    with upload.open() as file:
        return preview(file, format=upload.format, choices=upload.choices)


def as_shaped(upload: Upload, choices: Choices) -> Choices:
    """Of a file that is read in another way, shape and columns are guessed anew; of rows taken for
    our own from now on the columns, if none was chosen."""
    with upload.open() as file:
        if choices.of_file != upload.choices.of_file:
            return guessed(file, upload.format, replace(choices, shape="", columns={}))
        if choices.shape == upload.shape or choices.shape != OURS.name or choices.columns:
            return choices
        return guessed(file, upload.format, choices)


def bring(upload: Upload, *, dry_run: bool, leave_out_bad: bool = False) -> Imported:
    """Imports it as it was chosen. Raises ImportFailed."""
    with upload.open() as file:
        return import_labels(
            file,
            project=upload.project,
            by=upload.by,
            choices=upload.choices,
            format=upload.format,
            source=upload.name,
            references=upload.references,
            leave_out_bad=leave_out_bad,
            dry_run=dry_run,
        )
