import io
import struct
import zipfile
from datetime import UTC, datetime

import pytest

from rlhf.models import Metric, Round, Run
from rlhf.rounds.tensorboard import crc32c, event, frame, write_zip

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4


def frames(content: bytes) -> list[bytes]:
    """The payloads, each checked as a reader does it."""
    found = []
    while content:
        length = struct.unpack("<Q", content[:8])[0]
        payload, rest = content[12 : 12 + length], content[12 + length :]
        assert frame(payload) == content[: 16 + length]
        found.append(payload)
        content = rest[4:]
    return found


def scalars(payload: bytes) -> dict[str, float]:
    """Of one Event: tags have fewer than 128 letters here, so a length is one byte."""
    values, at = {}, payload.find(b"\x0a")
    while at != -1 and at < len(payload):
        size = payload[at + 1]
        entry = payload[at + 2 : at + 2 + size]
        tag = entry[2 : 2 + entry[1]].decode()
        values[tag] = struct.unpack("<f", entry[-4:])[0]
        at += 2 + size
    return values


def test_an_event_holds_time_step_and_scalars():
    payload = event(2.0, 300, {"loss": 0.5})
    assert payload[:9] == b"\x09" + struct.pack("<d", 2.0)
    assert payload[9:12] == b"\x10\xac\x02"  # 300 as a varint
    assert scalars(payload[14:]) == {"loss": 0.5}


@pytest.fixture
def measured(round) -> Run:
    run = round.runs.get(kind=Run.Kind.SFT)
    rows = [(1, "train", {"loss": 2.0, "note": "x", "bad": None}), (2, "train", {"loss": 1.0})]
    for step, split, values in [*rows, (2, "test", {"loss": 1.5})]:
        Metric.objects.create(run=run, step=step, split=split, values=values, time=MOMENT)
    return run


def test_a_round_is_downloaded_for_tensorboard(project, round, measured, olga, browse):
    answer = browse(olga).get("/p/cooking/rounds/1/tensorboard.zip")
    archive = zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content)))
    name = f"events.out.tfevents.{measured.pk}"
    assert set(archive.namelist()) == {f"round-1/sft/train/{name}", f"round-1/sft/test/{name}"}
    version, *events = frames(archive.read(f"round-1/sft/train/{name}"))
    assert b"brain.Event:2" in version
    assert [b"loss" in each for each in events] == [True, True]
    assert b"note" not in events[0] and b"bad" not in events[0]
    assert struct.pack("<f", 2.0) in events[0] and struct.pack("<f", 1.0) in events[1]


def test_a_long_curve_is_thinned_to_its_shape(round, monkeypatch):
    run = round.runs.get(kind=Run.Kind.SFT)
    Metric.objects.bulk_create(
        Metric(run=run, step=step, split="train", values={"loss": float(step)}, time=MOMENT)
        for step in range(1, 101)
    )
    Run.objects.filter(pk=run.pk).update(step=100)
    monkeypatch.setattr("rlhf.rounds.tensorboard.MOST_STEPS", 10)
    file = io.BytesIO()
    write_zip(Round.objects.get(pk=round.pk), file)
    with zipfile.ZipFile(file) as archive:
        events = frames(archive.read(archive.namelist()[0]))[1:]
    losses = [loss for event in events for loss in scalars(event).values()]
    assert 10 <= len(events) <= 11
    assert (min(losses), max(losses)) == (1.0, 100.0)
