"""A file before it is read: unpacked if it is compressed, as UTF-8 whatever its encoding; or
refused with what to do, if it is of no kind that is read here."""

from __future__ import annotations

import codecs
import gzip
import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

from annotate.exchange.files.bad_row import Unreadable

PART = 2**20
LARGEST_UNPACKED = 4 * 2**30
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
COMPRESSED = (".gz", ".zst")
BEGINNINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ENCODINGS = {
    "": "found: UTF-8 or UTF-16",
    "windows-1252": "Western European (Windows-1252)",
    "iso-8859-2": "Central European (ISO 8859-2)",
    "windows-1250": "Central European (Windows-1250)",
    "windows-1251": "Cyrillic (Windows-1251)",
    "koi8-r": "Cyrillic (KOI8-R)",
    "windows-1253": "Greek (Windows-1253)",
    "windows-1254": "Turkish (Windows-1254)",
    "windows-1255": "Hebrew (Windows-1255)",
    "windows-1256": "Arabic (Windows-1256)",
    "shift_jis": "Japanese (Shift JIS)",
    "euc_jp": "Japanese (EUC-JP)",
    "gb18030": "Chinese (GB 18030)",
    "big5": "Chinese (Big5)",
    "euc_kr": "Korean (EUC-KR)",
    "mac_roman": "Western European (Mac)",
    "utf-16": "UTF-16",
}
AS_CSV = (
    "In Excel: File, Save As, “CSV UTF-8”; in LibreOffice: File, Save As, “Text CSV” with UTF-8; "
    "in Google Sheets: File, Download, “Comma-separated values”."
)
# What a file of another kind begins with, and what to do about it.
FOREIGN = {
    b"PK\x03\x04": f"This is a spreadsheet or an archive. Save the sheet as CSV. {AS_CSV} "
    "Or unpack the archive, and choose what is in it.",
    b"\xd0\xcf\x11\xe0": f"This is an old Excel file. Save the sheet as CSV. {AS_CSV}",
    b"PAR1": "This is a Parquet file: give it a name that ends in .parquet.",
    b"%PDF": "This is a PDF. Save its texts as CSV or JSON Lines.",
}


@contextmanager
def prepared(file: BinaryIO, format: str, encoding: str = "") -> Iterator[BinaryIO]:
    """The file as readers want it, at its beginning; else Unreadable."""
    file.seek(0)
    with ExitStack() as temporary:
        if (inner := unpacked(file)) is not file:
            temporary.enter_context(inner)
        if what_to_do := foreign_to(inner, format):
            raise Unreadable(what_to_do)
        if format != "parquet" and (encoding := encoding or _encoding_of(_start(inner))):
            inner = temporary.enter_context(_as_utf8(inner, encoding))
        yield inner


def unpacked(file: BinaryIO, *, limit: int | None = None) -> BinaryIO:
    """What is in a compressed file, if it is one and holds no more than the limit in bytes."""
    start = _start(file)
    if not start.startswith((GZIP, ZSTD)):
        return file
    limit = limit or LARGEST_UNPACKED
    out, size = tempfile.TemporaryFile(), 0  # noqa: SIM115 - read by the caller
    try:
        for part in _parts_of(file, start):
            size += len(part)
            if size > limit:
                most = f"{limit // 2**20:,} MB"
                raise Unreadable(f"Unpacked, the file is larger than {most}. Split it.")
            out.write(part)
    except (Unreadable, OSError, EOFError, zlib.error) as error:
        out.close()
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"The file cannot be unpacked: {error}.") from error
    out.seek(0)
    return out


def _parts_of(file: BinaryIO, start: bytes) -> Iterator[bytes]:
    stream: Any
    if start.startswith(GZIP):
        stream = gzip.GzipFile(fileobj=file)
    else:
        import pyarrow

        stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(_KeptOpen(file)), "zstd")
    while part := stream.read(PART):
        yield bytes(part)


class _KeptOpen(io.RawIOBase):
    """The file, which stays open when a reader of it is closed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


def _start(file: BinaryIO) -> bytes:
    start = file.read(1024)
    file.seek(0)
    return start


def foreign_to(file: BinaryIO, format: str) -> str:
    """What to do about a file that is of no format read here; empty if it may well be read."""
    start = _start(file)
    if format == "parquet":
        return "" if start.startswith(b"PAR1") else "This is not a Parquet file, despite its name."
    for beginning, what_to_do in FOREIGN.items():
        if start.startswith(beginning):
            return what_to_do
    if not _encoding_of(start) and start.count(0) > len(start) // 10:
        return "This is not text. Save it as CSV with UTF-8, as JSON Lines or as Parquet."
    return ""


def _encoding_of(start: bytes) -> str:
    """Of a text that is not UTF-8, by its beginning: a byte order mark, or every other byte 0."""
    for beginning, encoding in BEGINNINGS.items():
        if start.startswith(beginning):
            return encoding
    even, odd = start[::2].count(0), start[1::2].count(0)
    if max(even, odd) > len(start) // 5 and min(even, odd) <= len(start) // 50:
        return "utf-16-le" if odd > even else "utf-16-be"
    return ""


def _as_utf8(file: BinaryIO, encoding: str) -> BinaryIO:
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        "".encode(encoding)  # no text encoding at all: rot13, base64
    except LookupError as error:
        raise Unreadable(f"There is no encoding called {encoding}.") from error
    out, done = tempfile.TemporaryFile(), 0  # noqa: SIM115 - read by the caller
    while True:
        part = file.read(PART)
        try:
            out.write(decoder.decode(part, final=not part).encode())
        except UnicodeError as error:
            out.close()
            name = encoding.upper()
            raise Unreadable(
                f"Not {name}, from about byte {done:,} on. Choose the encoding."
            ) from error
        done += len(part)
        if not part:
            out.seek(0)
            return out
