"""Files are taken to pieces in a child process, for a small file can ask for any memory and time.

The child has the file as its standard input, neither database nor secrets, and limits that the
kernel keeps. It writes a line of JSON a row; what it writes is counted before it is read."""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from annotate.exchange.files.bad_row import BadRow, Note, Unreadable

ROOT = Path(__file__).resolve().parents[3]
MEMORY = 384 * 2**20  # bytes that the child may ask for
PROCESSOR_SECONDS = 60  # and one more for each megabyte of the file
SILENT_SECONDS = 60.0
LARGEST_ROW = 8 * 2**20  # bytes, as JSON
LARGEST_UNPACKED = 512 * 2**20  # bytes of all rows as JSON; or a multiple of the file
SWELLING = 8
LEAST_A_ROW = 256  # bytes that an empty row counts as
MOST_KEYS = 1000
DEEPEST = 64

TOO_MUCH = "Reading this file takes too much {}. Split it, or save it again as JSON Lines or CSV."


SENTENCES = {each.__name__: each for each in (BadRow, Unreadable, Note)}


def rows(file: BinaryIO, format: str, key: str = "") -> Iterator[tuple[int, Any]]:
    """(number, row, or BadRow, or Note) of the whole file, wherever it was read to before. The
    child ends with the generator. For `key` see `json_rows`."""
    number = 0
    with _on_disk(file) as there:
        size = os.fstat(there.fileno()).st_size
        left = max(LARGEST_UNPACKED, SWELLING * size)
        child = _start(there, format, key, size)
        try:
            for line in _lines_of(child):
                left -= max(len(line), LEAST_A_ROW)
                if left < 0:
                    raise _TooMuch("room once it is unpacked")
                number, row, sentence = json.loads(line)
                yield number, SENTENCES[sentence](row) if sentence else row
            if child.wait():
                raise _TooMuch("memory or time")
        except _TooMuch as why:
            yield number + 1, Unreadable(TOO_MUCH.format(why))
        finally:
            child.kill()
            child.wait()


class _TooMuch(Exception):
    """Of what."""


@contextmanager
def _on_disk(file: BinaryIO) -> Iterator[IO[bytes]]:
    """The file itself where the kernel knows it, else a copy."""
    try:
        file.fileno()
    except OSError:
        with tempfile.TemporaryFile() as copy:
            file.seek(0)
            while part := file.read(2**20):
                copy.write(part)
            copy.flush()
            yield copy
    else:
        yield file


def _start(file: IO[bytes], format: str, key: str, size: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _command(format, key, MEMORY, PROCESSOR_SECONDS + size // 2**20),
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"},
    )


def _command(format: str, key: str, memory: int, seconds: int) -> list[str]:
    told = [format, key, str(memory), str(seconds)]
    return [sys.executable, "-m", "annotate.exchange.files.sandbox", *told]


def _lines_of(child: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert child.stdout
    with child.stdout as pipe:
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        rest = b""
        while waiting.poll(SILENT_SECONDS * 1000):
            part = os.read(pipe.fileno(), 2**20)
            if not part:
                return
            *whole, rest = (rest + part).split(b"\n")
            yield from whole
    raise _TooMuch("time")


def _main(format: str, key: str, memory: int, seconds: int) -> None:
    """The child."""
    from annotate.exchange.files.readers import rows_here  # the parent has no use for it

    if format == "parquet":
        import pyarrow.parquet  # noqa: F401 - its libraries are larger than many a limit
    for limit, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    # Opened anew: a position of its own, whoever else reads the file.
    with open("/dev/stdin", "rb") as file:
        for number, row in rows_here(file, format, key):
            print(_written(number, row))


def _written(number: int, row: Any) -> str:
    if not isinstance(row, BadRow | Note):
        row = _within_limits(row)
    if isinstance(row, BadRow | Note):
        name = next(name for name, sort in reversed(SENTENCES.items()) if isinstance(row, sort))
        return json.dumps([number, str(row), name])
    line = json.dumps([number, row, ""], default=str)
    if len(line) > LARGEST_ROW:
        return _written(number, BadRow(f"Longer than {LARGEST_ROW // 2**20} MB."))
    return line


def _within_limits(row: Any) -> Any:
    if isinstance(row, dict) and len(row) > MOST_KEYS:
        return BadRow(f"It has {len(row):,} names; at most {MOST_KEYS:,} are read.")
    level = [row]
    for _ in range(DEEPEST):
        level = [each for value in level for each in _inside(value)]
        if not level:
            return row
    return BadRow(f"Nested too deeply: at most {DEEPEST} levels are read.")


def _inside(value: Any) -> list[Any]:
    """The lists and objects in it."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, dict | list)]


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
