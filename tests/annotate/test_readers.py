"""Files: how each format is read, and what other tools export."""

import csv
import gzip
import io
import json
import re

import pyarrow
import pyarrow.parquet
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.core.management.base import CommandError

from annotate.exchange.choices import Choices
from annotate.exchange.files.readers import format_of, rows_here
from annotate.exchange.importing import ImportFailed, beginning, guessed
from annotate.models import Demonstration, Placement, Prompt, Ranking
from tests.annotate.conftest import HELLO, HI, ranking, rows

pytestmark = pytest.mark.django_db


def parquet(rows: list[dict], **options) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "line, brought",
    [
        ({"prompt": HELLO}, "Prompt"),
        ({"prompt": HELLO, "completion": HI}, "Demonstration"),
        ({"messages": HELLO + HI}, "Demonstration"),
        ({"chosen": HELLO + HI, "rejected": [*HELLO, {**HI[0], "content": "No."}]}, "Ranking"),
        (ranking(ratings=[7, None, 1]), "Ranking"),
        ({"prompt": "Hello?", "completion": "Hi!", "label": True}, "Feedback"),
    ],
)
@pytest.mark.parametrize("format", ["parquet", "json"])
def test_every_shape_comes_as_parquet_and_as_one_json_list_too(line, brought, format, bring):
    rows_of_two = [line, {**line, "source": "again"}]
    blob = parquet(rows_of_two) if format == "parquet" else json.dumps(rows_of_two, indent=2)
    bring(blob if format == "parquet" else blob.encode(), format=format)
    assert rows()[brought] == 1


def test_a_list_is_read_element_by_element_however_it_is_cut(bring, monkeypatch):
    monkeypatch.setattr("annotate.exchange.files.sandbox.rows", rows_here)
    monkeypatch.setattr("annotate.exchange.files.json_rows.CHUNK_CHARACTERS", 7)
    lines = [{"prompt": f'Frage „{n}“, [{{]}} \\ " ?'} for n in range(20)]
    bring(json.dumps(lines, indent=1, ensure_ascii=False).encode())
    assert Prompt.objects.count() == 20


@pytest.mark.parametrize(
    "content, line, sentence",
    [
        (b'[{"prompt": "a"},\n {"prompt": NaN}]', 2, "NaN"),
        (b'[{"prompt": "a"},\n {"prompt": "b"', 2, "Not valid JSON"),
        (b'[{"prompt": "a"}', 1, "has no end"),
        (b'[{"prompt": "a"},\n\n"b"]', 3, "one JSON object"),
        (b'[{"prompt": "\xff"}]', 1, "UTF-8"),
        (b"[" * 100_000, 1, "Nested too deeply|Not valid JSON|no end|one JSON object"),
        (b'[{"prompt": "' + b"x" * (5 * 2**20) + b'"}]', 1, "Longer than 4 MB|32,000"),
    ],
)
def test_a_bad_list_is_told_where(content, line, sentence, bring):
    with pytest.raises(ImportFailed) as failed:
        bring(content)
    problem = failed.value.problems[0]
    assert problem.line == line and re.search(sentence, problem.sentence)
    assert not Prompt.objects.exists()


def test_bad_parquet_is_told_so_and_a_bad_row_is_numbered(bring):
    with pytest.raises(ImportFailed, match="Not valid Parquet"):
        bring(b"PAR1 but not really PAR1", format="parquet")
    good = [{"prompt": f"Question {n}?"} for n in range(150)]
    with pytest.raises(ImportFailed, match="Line 101: .*no text"):
        bring(parquet([*good[:100], {"prompt": " "}, *good[100:]]), format="parquet")
    assert not Prompt.objects.exists()


def test_parquet_that_swells_is_refused(bring, monkeypatch):
    monkeypatch.setattr("annotate.exchange.files.sandbox.rows", rows_here)
    monkeypatch.setattr("annotate.exchange.files.readers.LARGEST_ROW_GROUP", 1000)
    with pytest.raises(ImportFailed, match="smaller row groups"):
        bring(parquet([{"prompt": "x" * 5000}]), format="parquet")


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b'prompt\n"open', "Not valid CSV"),
        (b"prompt\na,b\n", "More cells"),
        (b"prompt\n\xff\n", "UTF-8"),
        (b"frage\na\n", "Unknown format"),
    ],
)
def test_bad_csv_is_told_so(content, sentence, bring):
    with pytest.raises(ImportFailed, match=sentence):
        bring(content, format="csv")
    assert not Prompt.objects.exists()


def placed() -> dict[str, int]:
    rows = Placement.objects.select_related("completion")
    return {each.completion.text: each.place for each in rows}


def studio(value: dict, data: dict, **result) -> dict:
    done = {"completed_by": {"email": "ann@example.org"}, "lead_time": 12.5}
    results = [{"value": value, **result}]
    skipped = {"was_cancelled": True, "result": results}
    return {"id": 1, "data": data, "annotations": [{**done, "result": results}, skipped]}


ITEMS = [{"id": n, "title": f"Answer {n}", "body": f"Body {n}"} for n in "xyz"]


@pytest.mark.parametrize(
    "task, places",
    [
        (
            studio({"ranker": {"rank": ["z", "x", "y"]}}, {"prompt": "Why?", "items": ITEMS}),
            {"Body z": 1, "Body x": 2, "Body y": 3},
        ),
        (
            studio(
                {"ranker": {"good": ["y", "x"], "bad": ["z"], "_": []}},
                {"prompt": "Why?", "items": ITEMS},
            ),
            {"Body y": 1, "Body x": 1, "Body z": 2},
        ),
        (
            studio(
                {"selected": "right"},
                {"prompt": "Why?", "answer1": "No.", "answer2": "Yes."},
                type="pairwise",
                to_name="answer1,answer2",
            ),
            {"No.": 2, "Yes.": 1},
        ),
    ],
)
def test_label_studio_rankings_and_choices_come_in(task, places, bring):
    bring(json.dumps([task]).encode())
    assert placed() == places
    label = Ranking.objects.get()
    assert (label.labeler.labeler_name, label.active_seconds) == ("ann@example.org", 12)


FIELDS = {"prompt": "Why?", "response-1": "No.", "response-2": "Yes."}
BY_RANK = [{"value": "response-1", "rank": 2}, {"value": "response-2", "rank": 1}]


@pytest.mark.parametrize(
    "responses",
    [
        {"order": [{"value": BY_RANK, "user_id": "u1"}]},
        {"better": [{"value": "response-2", "user_id": "u1", "status": "submitted"}]},
        [{"user_id": "u1", "status": "submitted", "values": {"order": {"value": BY_RANK}}}],
    ],
)
def test_argilla_rankings_and_choices_come_in(responses, bring):
    bring([{"id": "r", "fields": FIELDS, "responses": responses}])
    assert placed() == {"No.": 2, "Yes.": 1}
    assert Ranking.objects.get().labeler.labeler_name == "u1"


def test_an_argilla_text_becomes_a_demonstration_and_a_discarded_one_nothing(bring):
    given = [{"value": "Because.", "user_id": "u1"}]
    bring([{"fields": {"prompt": "Why?"}, "responses": {"answer": given}}])
    assert Demonstration.objects.get().text == "Because."
    discarded = {"answer": [{**given[0], "status": "discarded"}]}
    with pytest.raises(ImportFailed, match="without a submitted answer"):
        bring([{"fields": {"prompt": "Who?"}, "responses": discarded}])


def test_an_unknown_answer_of_another_tool_is_named(bring):
    with pytest.raises(ImportFailed, match="names “q”"):
        bring([studio({"ranker": {"rank": ["q"]}}, {"prompt": "Why?", "items": ITEMS})])


THREE = [{"prompt": f"{n}?"} for n in ("One", "Two", "Three")]
A, B, C = (json.dumps(each) for each in THREE)
ROWS_OF_JSON = {
    "a list a line": f"[{A}]\n[{B}]\n[{C}]\n",
    "two lists": f"[{A}, {B}]\n\n[{C}]",
    "a list and a line": f"[{A}, {B}]\n{C}\n",
    "lines and a list": f"{A}\n[{B}, {C}]\n",
    "objects over lines": "\n".join(json.dumps(each, indent=2) for each in THREE),
    "wrapped on a line": f'{{"version": 1, "rows": [{A}, {B}, {C}]}}',
    "wrapped over lines": json.dumps({"n": {"of": [3]}, "data": THREE, "tags": ["x"]}, indent=1),
    "texts alone": "\n".join(json.dumps(each["prompt"]) for each in THREE),
    "a list of texts": json.dumps([each["prompt"] for each in THREE], indent=1),
    "lines that end with CR": f"{A}\r{B}\r{C}\r",
    "lines that end with CR and LF": f"{A}\r\n{B}\r\n{C}",
}


@pytest.mark.parametrize("chunk", [5, 2**18])
@pytest.mark.parametrize("text", ROWS_OF_JSON.values(), ids=ROWS_OF_JSON)
def test_json_is_read_to_its_end_however_it_is_laid_out(text, chunk, bring, monkeypatch):
    monkeypatch.setattr("annotate.exchange.files.sandbox.rows", rows_here)
    monkeypatch.setattr("annotate.exchange.files.json_rows.CHUNK_CHARACTERS", chunk)
    done = bring(text.encode())
    assert (done.lines, Prompt.objects.count()) == (3, 3)
    assert ("rows are under" in str(done)) == ("rows" in text or "data" in text)


def test_an_object_too_large_to_hold_is_still_read_through(bring, monkeypatch):
    monkeypatch.setattr("annotate.exchange.files.sandbox.rows", rows_here)
    monkeypatch.setattr("annotate.exchange.files.json_rows.MAX_LINE_BYTES", 60)
    monkeypatch.setattr("annotate.exchange.files.lines.MAX_LINE_BYTES", 60)
    monkeypatch.setattr("annotate.exchange.files.json_rows.CHUNK_CHARACTERS", 20)
    bring(json.dumps({"version": 1, "data": THREE}).encode())
    assert Prompt.objects.count() == 3


def test_of_two_lists_in_an_object_one_must_be_named(bring):
    text = json.dumps({"train": THREE[:2], "test": THREE[2:]}).encode()
    with pytest.raises(ImportFailed, match="under “train” and “test”.*--key") as failed:
        bring(text, choices=guessed(beginning(io.BytesIO(text), "json")))
    assert not failed.value.can_leave_out
    bring(text, choices=Choices(key="train"))
    assert Prompt.objects.count() == 2


TABLES = {
    "UTF-16": "prompt,completion\nWhy?,Größe\n".encode("utf-16"),
    "UTF-16 without a mark": "prompt,completion\nWhy?,Größe\n".encode("utf-16-le"),
    "UTF-8 with a mark": "\ufeffprompt,completion\nWhy?,Größe\n".encode(),
    "CR": "prompt,completion\rWhy?,Größe\r".encode(),
    "tabs": "prompt\tcompletion\nWhy?\tGröße\n".encode(),
    "bars": "prompt|completion\nWhy?|Größe\n".encode(),
    "a line for Excel": "sep=;\nprompt;completion\nWhy?;Größe\n".encode(),
    "a separator of its own": "sep=^\r\nprompt^completion\r\nWhy?^Größe\r\n".encode(),
    "gzip": gzip.compress("prompt,completion\nWhy?,Größe\n".encode()),
    "zstd": bytes(
        pyarrow.compress("prompt,completion\nWhy?,Größe\n".encode(), "zstd", asbytes=True)
    ),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_is_read_however_it_was_saved(table, bring):
    bring(table, format="csv")
    assert [(d.prompt.text, d.text) for d in Demonstration.objects.all()] == [("Why?", "Größe")]


def test_a_text_of_another_encoding_is_refused_until_that_is_said(bring):
    table = "prompt,completion\nWhy?,Größe\n".encode("windows-1252")
    with pytest.raises(ImportFailed, match="Choose the encoding"):
        bring(table, format="csv")
    bring(table, format="csv", choices=Choices(encoding="windows-1252", shape="ours"))
    assert Demonstration.objects.get().text == "Größe"
    for wrong in ("ascii", "rot13", "nonsense"):
        with pytest.raises(ImportFailed):
            bring(table, format="csv", choices=Choices(encoding=wrong))


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_two_columns_of_one_name_are_refused_by_name(format, bring):
    table = b"prompt,completion,completion\nWhy?,a,b\n"
    if format == "parquet":
        file = io.BytesIO()
        columns = [pyarrow.array(["Why?"]), *[pyarrow.array(["a"])] * 2]
        names = ["prompt", "completion", "completion"]
        pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, names), file)
        table = file.getvalue()
    with pytest.raises(ImportFailed, match="Two columns are named “completion”"):
        bring(table, format=format, leave_out_bad=True)
    assert not Prompt.objects.exists()


def test_a_packed_file_is_unpacked_up_to_a_limit(bring, monkeypatch):
    monkeypatch.setattr("annotate.exchange.files.opening.LARGEST_UNPACKED", 1000)
    with pytest.raises(ImportFailed, match="larger than 0 MB"):
        bring(gzip.compress(b" " * 2000))
    with pytest.raises(ImportFailed, match="cannot be unpacked"):
        bring(gzip.compress(A.encode())[:-9])


def test_the_apostrophe_of_others_stays(bring):
    bring(b"prompt,completion\n'+' or '-'?,'=' it is\n", format="csv")
    assert [(d.prompt.text, d.text) for d in Demonstration.objects.all()] == [
        ("'+' or '-'?", "'=' it is")
    ]


@pytest.mark.parametrize(
    "line",
    ['{"question": "Why?", "\\ud83d": "x"}', '{"question": "a\\u0000", "x": 1}', '{"\\u0000": 1}'],
)
def test_what_no_database_can_hold_is_told_and_can_be_left_out(line, bring):
    with pytest.raises(ImportFailed, match="half a character|NUL character"):
        bring(line.encode())
    bring([line.encode(), {"prompt": "Why?"}], leave_out_bad=True)
    assert Prompt.objects.count() == 1


CELLS = {
    "ours": {"messages": r'[{"role": "user", "content": "Hi %s"}]'},
    "a name in ours": {"messages": r'[{"role": "user", "content": "Hi", "%s": 1}]'},
    "ours, not shown": {"prompt": "Why?", "tags": r'["%s"]'},
    "ShareGPT": {"conversations": r'[{"from": "human", "value": "Hi %s"}]'},
    "Argilla": {"fields": '{"prompt": "Why?"}', "responses": r'{"order": [{"value": "%s"}]}'},
}


@pytest.mark.parametrize("half", [r"\ud83d", r"\u0000"])
@pytest.mark.parametrize("row", CELLS.values(), ids=CELLS)
def test_json_in_a_cell_holds_no_more_than_a_line_may(row, half, bring, browse, olga, project):
    """Neither the command nor a page of the wizard fails on it."""
    file = io.StringIO()
    csv.writer(file).writerows([row, [cell.replace("%s", half) for cell in row.values()]])
    content = file.getvalue().encode()
    with pytest.raises(ImportFailed):
        bring(content, format="csv")
    client = browse(olga)
    upload = {"file": SimpleUploadedFile("x.csv", content)}
    here = client.post(f"/p/{project.slug}/prompts/import/", upload)["location"]
    assert client.get(here).status_code == 200
    assert client.post(here, {"import": ""}).status_code == 422


def test_an_escaped_backslash_is_no_nul(bring):
    bring(rb'{"prompt": "\\u0000 is how one writes it"}')
    assert Prompt.objects.get().text.startswith("\\u0000")


@pytest.mark.parametrize(
    "name, format",
    [
        ("a.TSV", "csv"),
        ("a.csv.gz", "csv"),
        ("a.jsonl.zst", "jsonl"),
        ("a", "jsonl"),
        ("a.json", "json"),
    ],
)
def test_a_name_tells_the_format(name, format):
    assert format_of(name) == format


@pytest.fixture
def data_set(tmp_path):
    for split in ("train", "test"):
        lines = [json.dumps(each | {"split_name": split}) for each in THREE]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_a_data_set_is_read_from_its_folder_by_split(data_set, project, olga):
    said = io.StringIO()
    about = ("--project", project.slug)
    with pytest.raises(CommandError, match="the splits test, train: choose one .*--split"):
        call_command("import_labels", str(data_set), *about)
    with pytest.raises(CommandError, match="no split dev, but test, train"):
        call_command("import_labels", str(data_set), *about, "--split", "dev")
    call_command("import_labels", str(data_set), *about, "--split", "test", stdout=said)
    assert Prompt.objects.count() == 3 and "Not imported: split_name" in said.getvalue()


def test_a_folder_that_is_no_data_set_is_told_so(tmp_path, project, olga):
    with pytest.raises(CommandError, match="There is no JSON Lines, JSON, CSV or Parquet"):
        call_command("import_labels", str(tmp_path), "--project", project.slug)
