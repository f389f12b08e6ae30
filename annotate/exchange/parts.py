"""Several files that are one table: shards that were chosen together, or the folder of a data set
in an archive (.zip, .tar, .tar.gz). They become one file, which is read as any other."""

from __future__ import annotations

import json
import re
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from annotate.exchange.columns import of_cells
from annotate.exchange.files.bad_row import BadRow, Note, Unreadable
from annotate.exchange.files.opening import COMPRESSED, PART, unpacked
from annotate.exchange.files.readers import FORMATS, format_of
from annotate.exchange.files.rows import rows_in

MOST_PARTS = 10_000
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")
TAR_MAGIC = slice(257, 262)
SPLIT = re.compile(r"(?<![a-z])(train|validation|valid|dev|test)(?![a-z])")
BESIDE = re.compile(
    r"(^|/)(\.|__MACOSX/)|(^|/)(dataset_info|dataset_infos|state|dataset_dict)\.json$"
)
BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, OSError, EOFError),
    *(RuntimeError, NotImplementedError, ValueError, LookupError),
)
OFFICE = {"[Content_Types].xml", "mimetype"}  # in what Excel and LibreOffice save
CHOOSE = "{}: choose one (on the command line: --split)."
NO_TABLE = "There is no JSON Lines, JSON, CSV or Parquet file in it."


@dataclass
class Part:
    """A file, by its name in the folder."""

    name: str
    file: BinaryIO

    @property
    def split(self) -> str:
        found = SPLIT.findall(self.name.lower())
        return found[-1] if found else ""

    @property
    def format(self) -> str:
        return format_of(self.name)


def is_archive(file: BinaryIO) -> bool:
    """Whether these are several files in one, and no spreadsheet."""
    start = file.read(512)
    file.seek(0)
    if start.startswith(b"PK\x03\x04"):
        try:
            return not OFFICE & {*zipfile.ZipFile(file).namelist()}
        except BROKEN:
            return True  # as whoever unpacks it will tell
        finally:
            file.seek(0)
    return start[TAR_MAGIC] == b"ustar"


def parts_of(archive: BinaryIO, *, limit: int) -> list[Part]:
    """The tables in it, which hold no more than the limit in bytes; else Unreadable."""
    parts: list[Part] = []
    try:
        for name, file in islice(_members(archive), MOST_PARTS):
            if _may_be_table(name):
                copy, size = _copied(file, limit)
                limit -= size
                parts.append(Part(name, copy))
    except Unreadable:
        raise
    except BROKEN as error:
        raise Unreadable(f"The archive cannot be unpacked: {str(error)[:200]}.") from error
    return sorted(parts, key=lambda part: part.name)


def _members(archive: BinaryIO) -> Iterator[tuple[str, IO[bytes]]]:
    if archive.read(2) == b"PK":
        with zipfile.ZipFile(archive) as opened:
            for each in opened.infolist():
                if not each.is_dir():
                    with opened.open(each) as file:
                        yield each.filename, file
        return
    archive.seek(0)
    with tarfile.open(fileobj=archive, mode="r:") as opened_tar:
        for member in opened_tar:
            if member.isreg() and (found := opened_tar.extractfile(member)):
                yield member.name, found


def _may_be_table(name: str) -> bool:
    path = PurePosixPath(name.lower())
    ending = path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix
    return ending[1:] in FORMATS and not BESIDE.search(name)


def _copied(file: IO[bytes], limit: int) -> tuple[BinaryIO, int]:
    copy, size = tempfile.TemporaryFile(), 0  # noqa: SIM115 - read by the caller
    while part := file.read(PART):
        size += len(part)
        if size > limit:
            raise Unreadable("Unpacked, the archive is too large. Split it.")
        copy.write(part)
    copy.seek(0)
    return copy, size


def one_table(parts: list[Part], *, split: str = "") -> tuple[BinaryIO, str]:
    """(all rows, their format) of the parts of this split, or of the only one; of all, if each row
    says which split it is of, as our exports do. Close it. Raises Unreadable, in words."""
    with ExitStack() as files:
        for part in parts:
            files.enter_context(part.file)
        chosen = _of_split(parts, split)
        if not chosen:
            raise Unreadable(NO_TABLE)
        if len(chosen) == 1:
            [only] = chosen
            files.pop_all()
            for part in parts:
                if part is not only:
                    part.file.close()
            return only.file, only.format
        out = tempfile.TemporaryFile()  # noqa: SIM115 - read by the caller
        is_plain = {part.format for part in chosen} == {"jsonl"}
        for part in chosen:
            out.writelines(_lines(part) if is_plain else _rows(part))
        out.seek(0)
        return out, "jsonl"


def parts_in(folder: Path) -> list[Part]:
    """The tables in a folder, open."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    tables = [name for name in names if _may_be_table(name) and (folder / name).is_file()]
    return [Part(name, (folder / name).open("rb")) for name in tables[:MOST_PARTS]]


def _of_split(parts: list[Part], split: str) -> list[Part]:
    known = sorted({part.split for part in parts})
    if split and split not in known:
        raise Unreadable(f"There is no split {split}, but {', '.join(filter(None, known))}.")
    if split:
        return [part for part in parts if part.split == split]
    if len(known) > 1 and not all(map(_tells_split, parts)):
        named = ", ".join(filter(None, known))
        raise Unreadable(CHOOSE.format(f"The data set has the splits {named}"))
    return parts


def _tells_split(part: Part) -> bool:
    first = next((row for _, row in rows_in(part.file, part.format)), None)
    return isinstance(first, dict) and first.get("split") == part.split


def _lines(part: Part) -> Iterable[bytes]:
    """As they are, so that a bad one can be told and left out."""
    inner = unpacked(part.file)
    last = b"\n"
    while block := inner.read(PART):
        yield block
        last = block[-1:]
    if last != b"\n":
        yield b"\n"


def _rows(part: Part) -> Iterator[bytes]:
    for number, row in rows_in(part.file, part.format):
        row = of_cells(row) if part.format == "csv" else row
        if isinstance(row, BadRow):
            raise Unreadable(f"{part.name}, line {number}: {row}")
        if not isinstance(row, Note):
            yield json.dumps(row).encode() + b"\n"
