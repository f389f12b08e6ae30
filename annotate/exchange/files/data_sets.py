"""Data sets of Hugging Face, by folder or by the hub's OWNER/NAME, as a file of lines: read by
`datasets`, which is an extra of its own. For a page, in a child with limits."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, BinaryIO

from annotate.exchange.files.bad_row import Unreadable

ROOT = Path(__file__).resolve().parents[3]
NAME_ON_THE_HUB = re.compile(r"[\w.-]+/[\w.-]+")
ON_THE_HUB = "hf://datasets/"
MEMORY = 3 * 2**30  # bytes that the child may ask for
PROCESSOR_SECONDS = 120
SECONDS = 180
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def is_data_set(source: str) -> bool:
    path = Path(source)
    return path.is_dir() or (not path.exists() and bool(NAME_ON_THE_HUB.fullmatch(source)))


def lines_of_data_set(source: str, *, split: str = "", config: str = "") -> BinaryIO:
    """The rows of one split as JSON Lines; streamed, with one row in memory. Of a data set whose
    rows say which split they are of, all splits if none is named. Close it. Raises Unreadable where
    the data set, or the choice of its split or configuration, is missing."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        _write(file, source, split, config)
    except Unreadable:
        file.close()
        raise
    file.seek(0)
    return file


def _write(file: IO[bytes], source: str, split: str, config: str) -> None:
    rows = _stream(source, split, config)
    try:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=True, default=str).encode() + b"\n")
    except Exception as error:  # of whatever reads the files: pyarrow, fsspec, a decoder
        raise Unreadable(f"The data set {source} cannot be read: {_short(error)}") from error


def lines_from_the_hub(name: str, *, split: str, config: str, limit: int) -> BinaryIO:
    """The same for whoever may not read this computer's files, as JSON Lines of at most `limit`
    bytes. The child that loads them has no secrets, and an empty folder that goes with it."""
    if not NAME_ON_THE_HUB.fullmatch(name):
        raise Unreadable("A data set on the hub is called OWNER/NAME.")
    out = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with tempfile.TemporaryDirectory() as folder:
            _load(name, split, config, Path(folder), out, limit)
    except Unreadable:
        out.close()
        raise
    out.seek(0)
    return out


def _load(name: str, split: str, config: str, folder: Path, out: IO[bytes], limit: int) -> None:
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            _command(name, split, config),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=said,
            cwd=folder,
            env=_environment(folder),
        )
        try:
            _wait(child, out, limit, name)
        finally:
            child.kill()
            child.wait()
        said.seek(0)
        if child.returncode:
            last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
            known = last if last.startswith("The data set") else ""
            raise Unreadable(known or f"The data set {name} takes too much memory or time.")


def _command(name: str, split: str, config: str) -> list[str]:
    return [sys.executable, "-m", __name__, name, split, config]


def _wait(child: subprocess.Popen[bytes], out: IO[bytes], limit: int, name: str) -> None:
    ends = time.monotonic() + SECONDS
    while child.poll() is None:
        if os.fstat(out.fileno()).st_size > limit:
            raise Unreadable(
                f"The data set {name} is larger than {limit // 2**20} MB. "
                "Use the command import_labels."
            )
        if time.monotonic() > ends:
            raise Unreadable(f"The data set {name} did not come within {SECONDS} seconds.")
        time.sleep(0.1)


def _environment(folder: Path) -> dict[str, str]:
    given = {name: os.environ[name] for name in PROXIES if name in os.environ}
    return given | {
        "HOME": str(folder),
        "HF_HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(ROOT),
        "HF_HUB_DOWNLOAD_TIMEOUT": "10",
        "HF_HUB_ETAG_TIMEOUT": "10",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }


def _stream(source: str, split: str, config: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise Unreadable("Data sets are read by `datasets`: pip install datasets.") from error
    try:
        builder = datasets.load_dataset_builder(source, config or None)
        _refuse_elsewhere(source, builder)
        splits = builder.as_streaming_dataset()
    except Unreadable:
        raise
    except Exception as error:  # no network, no such data set, several configurations
        raise Unreadable(f"The data set {source} cannot be read: {_short(error)}") from error
    known = list(splits)
    if split in known or (not split and len(known) == 1):
        return splits[split or known[0]]
    if not split and all(_tells_split(splits[each], each) for each in known):
        return (row for each in known for row in splits[each])
    named = f"The data set {source} has the splits {', '.join(known)}"
    raise Unreadable(f"{named}: choose one (on the command line: --split).")


def _refuse_elsewhere(source: str, builder: Any) -> None:
    """A card on the hub may name any file of this computer, or of its network."""
    files = [file for each in (builder.config.data_files or {}).values() for file in each]
    if not Path(source).exists() and not all(str(file).startswith(ON_THE_HUB) for file in files):
        raise Unreadable(f"The data set {source} holds files from elsewhere, which are not read.")


def _tells_split(rows: Any, split: str) -> bool:
    """Whether each row says it, as our exports do, so that all may come together."""
    first: dict[str, Any] = next(iter(rows), {})
    return first.get("split") == split


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _main(name: str, split: str, config: str) -> None:
    """The child."""
    for limit, most in ((resource.RLIMIT_DATA, MEMORY), (resource.RLIMIT_CPU, PROCESSOR_SECONDS)):
        resource.setrlimit(limit, (most, most))
    try:
        _write(sys.stdout.buffer, name, split, config)
    except Unreadable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main(*sys.argv[1:])
