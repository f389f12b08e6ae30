"""What a file can ask of the machine that reads it."""

import io
import json
import os
import threading
import time
from contextlib import suppress

import psutil
import pyarrow
import pyarrow.parquet
import pytest
from django.urls import reverse

from annotate.exchange.files import sandbox
from annotate.exchange.files.bad_row import BadRow
from annotate.exchange.files.readers import rows_here


def parquet(column: pyarrow.Array) -> bytes:
    file = io.BytesIO()
    table = pyarrow.table({"prompt": column})
    pyarrow.parquet.write_table(table, file, compression="zstd", row_group_size=20_000_000)
    return file.getvalue()


def one_text_again_and_again(times: int, length: int) -> pyarrow.Array:
    numbers = pyarrow.array([0] * times, pyarrow.int32())
    return pyarrow.DictionaryArray.from_arrays(numbers, pyarrow.array(["x" * length]))


BOMBS = {
    "one long text": lambda: parquet(pyarrow.array(["x" * 100_000_000])),
    "a long list": lambda: parquet(
        pyarrow.array([[0] * 30_000_000], pyarrow.list_(pyarrow.int8()))
    ),
    "a long text in each row": lambda: parquet(one_text_again_and_again(100_000, 1_000_000)),
    "rows without end": lambda: parquet(pyarrow.nulls(20_000_000, pyarrow.string())),
}


class Peak(threading.Thread):
    """The most memory that a child of this process had, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.over = 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.01):
            with suppress(psutil.Error):
                sizes = [
                    child.memory_info().rss
                    for child in psutil.Process().children()
                    if "annotate.exchange.files.sandbox" in child.cmdline()
                ]
                self.bytes = max([self.bytes, *sizes])


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_swells_is_refused_with_what_to_do(name, monkeypatch):
    monkeypatch.setattr(sandbox, "LARGEST_UNPACKED", 64 * 2**20)
    bomb, peak = BOMBS[name](), Peak()
    assert len(bomb) < 50_000
    own = psutil.Process().memory_info().rss
    peak.start()
    for _number, row in sandbox.rows(io.BytesIO(bomb), "parquet"):  # noqa: B007
        pass
    peak.over.set()
    peak.join()
    assert isinstance(row, BadRow) and "Split it, or save it again" in str(row)
    assert 0 < peak.bytes < sandbox.MEMORY + 200 * 2**20
    assert psutil.Process().memory_info().rss - own < 300 * 2**20


def test_a_child_that_works_without_end_is_ended_by_the_kernel(monkeypatch):
    monkeypatch.setattr(sandbox, "PROCESSOR_SECONDS", 1)
    monkeypatch.setattr(sandbox, "LARGEST_UNPACKED", 2**40)
    lines = b"{}\n" * 300_000
    rows = list(sandbox.rows(io.BytesIO(lines), "jsonl"))
    assert len(rows) < 300_000
    assert "memory or time" in str(rows[-1][1])


def test_a_child_that_says_nothing_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(sandbox, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(sandbox, "_command", lambda *_: ["/bin/sleep", "60"])
    began = time.monotonic()
    [(number, row)] = sandbox.rows(io.BytesIO(b"{}"), "jsonl")
    assert (number, str(row)) == (1, sandbox.TOO_MUCH.format("time"))
    assert time.monotonic() - began < 40  # of the sixty


def test_a_child_ends_with_whoever_reads_it():
    rows = sandbox.rows(io.BytesIO(b"{}\n" * 1_000_000), "jsonl")
    next(rows)
    [child] = [c for c in psutil.Process().children() if "jsonl" in c.cmdline()]
    rows.close()
    assert not child.is_running()


def test_a_child_has_neither_secrets_nor_the_database(monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "canary" * 10)
    rows = sandbox.rows(io.BytesIO(b"{}\n" * 1_000_000), "jsonl")
    next(rows)
    [child] = [c for c in psutil.Process().children() if "jsonl" in c.cmdline()]
    assert not {"SECRET_KEY", "DATABASE_URL", "REDIS_URL"} & set(child.environ())
    assert {int(name) for name in os.listdir(f"/proc/{child.pid}/fd")} <= {0, 1, 2, 3}
    rows.close()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({str(n): 1 for n in range(1001)}, "It has 1,001 names; at most 1,000"),
        ({"prompt": json.loads("[" * 65 + "]" * 65)}, "Nested too deeply"),
        ({"prompt": json.loads('{"a":' * 65 + "1" + "}" * 65)}, "Nested too deeply"),
        ({str(n): 1 for n in range(1000)}, None),
        ({"prompt": json.loads("[" * 60 + "]" * 60)}, None),
    ],
)
@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_many_names_and_deep_nesting_are_refused_with_words(row, told, format):
    content = json.dumps([row] if format == "json" else row).encode()
    [(_, read)] = sandbox.rows(io.BytesIO(content), format)
    assert told in str(read) if told else read == row


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_the_child_reads_what_would_be_read_here(format):
    content = b'prompt,note\n"a, \xc3\xa4",1\n\xff,2\nb,\n'
    if format == "jsonl":
        content = b'{"prompt": "\\ud800 \xc3\xa4"}\n[1, 2.5e300, null]\nno\n{"n": 1e999}\n'
    here = [(n, str(row)) for n, row in rows_here(io.BytesIO(content), format)]
    assert [(n, str(row)) for n, row in sandbox.rows(io.BytesIO(content), format)] == here


@pytest.mark.django_db
def test_the_page_refuses_a_bomb_and_goes_on(browse, olga, project):
    file = io.BytesIO(BOMBS["a long list"]())
    file.name = "small.parquet"
    page = browse(olga).post(
        reverse("prompts_import", args=[project.slug]), {"file": file}, follow=True
    )
    assert page.status_code == 200
    assert "takes too much memory or time" in page.content.decode()
