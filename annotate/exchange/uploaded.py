"""What becomes of a file that was uploaded: looked at, read anew in another way, brought in."""

from __future__ import annotations

from dataclasses import replace

from annotate.exchange.choices import Choices
from annotate.exchange.importing import (
    Beginning,
    Imported,
    Preview,
    beginning,
    guessed,
    import_labels,
    preview,
)
from annotate.exchange.shapes import OURS
from annotate.exchange.uploads import Upload


def seen(upload: Upload) -> Preview:
    """Its first rows, as it is read now."""
    return preview(_beginning(upload, upload.choices), upload.choices)


def as_shaped(upload: Upload, choices: Choices) -> Choices:
    """Of a file that is read in another way, shape and columns are guessed anew; of rows taken for
    our own from now on the columns, if none was chosen."""
    if choices.of_file != upload.choices.of_file:
        anew = replace(choices, shape="", columns={})
        return guessed(_beginning(upload, anew), anew)
    if choices.shape == upload.shape or choices.shape != OURS.name or choices.columns:
        return choices
    return guessed(_beginning(upload, choices), choices)


def _beginning(upload: Upload, choices: Choices) -> Beginning:
    """Fetched and read once a request, however often it is looked at."""
    of_file = tuple(choices.of_file.values())
    if of_file not in upload.beginnings:
        with upload.open() as file:
            upload.beginnings[of_file] = beginning(file, upload.format, choices)
    begins: Beginning = upload.beginnings[of_file]
    return begins


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
