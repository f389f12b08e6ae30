"""A run's metrics as event files for TensorBoard, without TensorBoard.

The format is TFRecord frames (length, payload, each with a masked CRC-32C; tensorflow/core/lib/io/
record_writer.h) of Event messages (tensorflow/core/util/event.proto), of which only wall time,
step and simple scalar values are written here."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from rlhf.models.metrics import Metric
from rlhf.models.runs import Round, Run

# TensorBoard's own package would bring gRPC and a web server for these fifty lines.
POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected
MASK = 0xA282EAD8
MOST_STEPS = 5_000  # of a curve: somebody waits for the file


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


TABLE = _table()


def crc32c(data: bytes) -> int:
    """Computes the CRC-32C (Castagnoli) of TensorBoard's frames."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + MASK) & 0xFFFFFFFF)


def frame(payload: bytes) -> bytes:
    """Frames a message as TensorBoard reads it: its length and the data, each with a masked
    checksum."""
    length = struct.pack("<Q", len(payload))
    return length + _masked_crc(length) + payload + _masked_crc(payload)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _bytes_field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def event(time: float, step: int, values: dict[str, float]) -> bytes:
    """Encodes Event {wall_time: 1, step: 2, summary: 5 {value: 1 {tag: 1, simple_value: 2}}}."""
    summary = b"".join(
        _bytes_field(1, _bytes_field(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
        for tag, value in values.items()
    )
    return b"\x09" + struct.pack("<d", time) + b"\x10" + _varint(step) + _bytes_field(5, summary)


def events_of(metrics: Iterable[Metric]) -> Iterator[bytes]:
    version = b"\x09" + struct.pack("<d", 0.0) + _bytes_field(3, b"brain.Event:2")
    yield frame(version)
    for metric in metrics:
        if values := numbers_of(metric):
            yield frame(event(metric.time.timestamp(), metric.step, values))


def numbers_of(metric: Metric) -> dict[str, float]:
    """Keeps what can be drawn of a row of figures."""
    return {name: float(value) for name, value in metric.values.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def write_zip(round: Round, file: IO[bytes]) -> None:
    """Writes one folder a run and split, as TensorBoard names its curves by folder."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for run in round.runs.all():
            for name, pieces in _files_of(run, round):
                with archive.open(name, "w") as entry:
                    entry.writelines(pieces)


def write_folder(run: Run, folder: Path) -> None:
    """Writes what `write_zip` does of one run below a folder, in place of what was there of it."""
    assert run.round
    for name, pieces in _files_of(run, run.round):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        half_written = file.with_name("half-written")  # a name that TensorBoard does not read
        with half_written.open("wb") as entry:
            entry.writelines(pieces)
        half_written.replace(file)


def _files_of(run: Run, round: Round) -> Iterator[tuple[str, Iterator[bytes]]]:
    for split in Metric.objects.splits_of(run):
        rows = Metric.objects.thinned(run, splits=[split], most=MOST_STEPS)
        name = f"round-{round.number}/{run.kind}/{split}/events.out.tfevents.{run.pk}"
        yield name, events_of(rows.in_split(split).iterator())
