"""The two steps of an import: what is chosen, what is shown before anything is stored, and that
going back loses nothing."""

import io
import json
import zipfile
from datetime import timedelta

import pyarrow
import pyarrow.parquet
import pytest

from annotate.exchange.uploads import UploadPart
from annotate.models import Demonstration, Prompt, Ranking, Upload

pytestmark = pytest.mark.django_db
START = "/p/cooking/prompts/import/"
LINE = '{"prompt": "Why is the sky blue?"}'


@pytest.fixture
def at(browse, olga):
    return browse(olga)


@pytest.fixture
def come_with(at):
    """Sends a file, or pasted text, and returns the address of the second step."""

    def send(content: bytes | str, name: str = "") -> str:
        if isinstance(content, str):
            return at.post(START, {"text": content})["location"]
        file = io.BytesIO(content)
        file.name = name
        return at.post(START, {"file": file})["location"]

    return send


def columns(at, address: str) -> dict[str, str]:
    """{column: name of its select}"""
    form = at.get(address).context["form"]
    return {field.label: field.html_name for field, _ in form.rows}


def parquet(rows: list[dict]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def test_the_first_rows_are_shown_as_they_will_be_stored_and_nothing_is_stored(at, come_with):
    lines = [
        {
            "prompt": f"Which, {n}?",
            "completions": ["Tea", "Milk"],
            "ranks": [2, 1],
            "labeler": "ann",
        }
        for n in range(9)
    ]
    page = at.get(come_with("\n".join(map(json.dumps, lines)))).content.decode()
    assert "The first rankings, as they will be stored" in page
    assert "Which, 4?" in page and "Which, 5?" not in page
    assert page.count("Place 2") == 5 and "by ann" in page
    assert not Prompt.objects.exists()


def test_a_check_counts_what_would_come_and_stores_nothing(at, come_with):
    page = at.post(come_with(LINE), {"check": ""})
    assert "1 line of prompts can be imported" in page.content.decode()
    assert not Prompt.objects.exists()


def test_an_import_stores_all_and_forgets_the_file(at, come_with):
    page = at.post(come_with(LINE), {"import": ""}, follow=True)
    assert "1 line of prompts brought 1 new prompt (" in page.content.decode()
    assert Prompt.objects.get().text == "Why is the sky blue?"
    assert not Upload.objects.exists() and not UploadPart.objects.exists()


def test_a_file_is_named_as_the_source(at, come_with):
    at.post(come_with(b"prompt,completion\nHello?,Hi!\n", "talk.csv"), {"import": ""})
    assert Demonstration.objects.get().source == "talk.csv"


@pytest.mark.parametrize("button, status", [("check", 200), ("import", 422)])
@pytest.mark.parametrize("htmx", [True, False])
def test_problems_are_shown_by_line_and_the_file_stays(htmx, button, status, at, come_with):
    headers = {"HX-Request": "true"} if htmx else {}
    address = come_with(f'{LINE}\n{{"prompt": ""}}\n<b>no</b>')
    page = at.post(address, {button: ""}, headers=headers)
    shown = page.content.decode()
    assert page.status_code == status
    assert "2 of 3 lines have problems" in shown and "Line 3" in shown
    assert ("<html" in shown) != htmx
    assert not Prompt.objects.exists()
    assert Upload.objects.exists()


@pytest.mark.parametrize("sent", [{}, {"text": "", "file": ""}])
def test_an_import_of_nothing_is_told_what_to_choose(sent, at):
    page = at.post(START, sent)
    assert page.status_code == 422 and "Choose a file, paste some lines" in page.content.decode()


# --- columns of other names

MOODS = [
    {"question": "Name the mood.", "context": "I won!", "response": "Joy", "difficulty": 5},
    {"question": "Say hello.", "context": "", "response": "Hello", "difficulty": 4},
]


def of_rows(rows: list[dict], format: str) -> tuple[bytes, str]:
    if format == "parquet":
        return parquet(rows), "moods.parquet"
    if format == "jsonl":
        return "\n".join(map(json.dumps, rows)).encode(), "moods.jsonl"
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    return "\n".join(lines).encode(), "moods.csv"


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_names_in_wide_use_are_guessed(format, at, come_with):
    address = come_with(*of_rows(MOODS, format))
    page = at.get(address)
    assert "The first demonstrations" in page.content.decode()
    at.post(address, {"import": ""} | dict.fromkeys(columns(at, address).values(), "="))
    assert not Prompt.objects.exists()  # as they are, the columns say nothing
    address = come_with(*of_rows(MOODS, format))
    names = columns(at, address)
    chosen = {field.html_name: field.value() for field, _ in at.get(address).context["form"].rows}
    assert chosen[names["difficulty"]] == "" and chosen[names["context"]] == "prompt"
    at.post(address, chosen | {"import": ""})
    said = dict(Demonstration.objects.values_list("prompt__text", "text"))
    assert said == {"Name the mood.\n\nI won!": "Joy", "Say hello.": "Hello"}


def test_columns_nobody_could_guess_are_chosen_by_hand_and_the_choice_is_kept(at, come_with):
    address = come_with(b"frage,antwort\nWarum?,Darum.\n", "x.csv")
    page = at.get(address).content.decode()
    assert "No line could be read" in page and "Unknown format" in page
    names = columns(at, address)
    chosen = {names["frage"]: "prompt", names["antwort"]: "completion"}
    assert at.post(address, chosen | {"look": ""}).status_code == 302
    assert "The first demonstrations" in at.get(address).content.decode()
    # One goes back to the first step, finds the file there, and it is as one left it.
    assert address in at.get(START).content.decode()
    form = at.get(address).context["form"]
    assert {field.value() for field, _ in form.rows} == {"prompt", "completion"}
    at.post(address, {"import": ""})
    assert Demonstration.objects.get().text == "Darum."


def test_what_nobody_knows_what_to_make_of_is_named(at, come_with):
    page = at.get(come_with(b"question,antwort\nWarum?,Darum.\n", "x.csv")).content.decode()
    assert "The first prompts" in page and "Not imported: <strong>antwort</strong>" in page
    assert '<details class="card" open>' in page
    page = at.get(come_with(b"question,answer\nWarum?,Darum.\n", "x.csv")).content.decode()
    assert "Not read" not in page and '<details class="card">' in page


def test_columns_of_answers_and_ranks_make_a_ranking(at, come_with):
    address = come_with(b"q,one,two,r1,r2\nWhich?,Tea,Milk,2,1\n", "wide.csv")
    fields = {"q": "prompt", "one": "completions", "two": "completions"}
    fields |= {"r1": "ranks", "r2": "ranks"}
    chosen = {name: fields[column] for column, name in columns(at, address).items()}
    at.post(address, chosen | {"import": ""})
    assert [p.completion.text for p in Ranking.objects.get().placed] == ["Milk", "Tea"]


def test_a_known_column_can_be_left_out_or_joined_with_another(at, come_with):
    text = json.dumps({"prompt": "Why?", "context": "It rains.", "completion": "So.", "note": "x"})
    address = come_with(text)
    names = columns(at, address)
    chosen = {names["prompt"]: "prompt", names["context"]: "prompt", names["completion"]: ""}
    at.post(address, chosen | {names["note"]: "note", "import": ""})
    assert Prompt.objects.get().text == "Why?\n\nIt rains."
    assert not Demonstration.objects.exists()


def test_two_columns_for_one_field_are_refused_and_named(at, come_with):
    address = come_with(b"a,b\nx,y\n", "x.csv")
    page = at.post(address, dict.fromkeys(columns(at, address).values(), "completion"))
    assert page.status_code == 422
    assert "Two columns are chosen as “answer (completion)”" in page.content.decode()


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.jsonl", "x.json"])
def test_a_file_that_is_none_of_these_gets_a_page_that_says_so(name, at, come_with):
    begins_well = b"PAR1" if name == "x.parquet" else b""  # or it is refused at once
    address = come_with(begins_well + b"\xff\xfe nonsense", name)
    page = at.get(address)
    assert page.status_code == 200 and "No line could be read" in page.content.decode()
    assert at.post(address, {"import": ""}).status_code == 422


# --- going back


def test_pasted_lines_can_be_changed(at, come_with):
    address = come_with('{"prompt": "Why?"\n')
    number = Upload.objects.get().pk
    assert f"?again={number}" in at.get(address).content.decode()
    page = at.get(f"{START}?again={number}").content.decode()
    assert "{&quot;prompt&quot;: &quot;Why?&quot;" in page
    at.post(f"{START}?again={number}", {"text": LINE})
    assert Upload.objects.get().text == LINE
    assert at.get(f"{START}?again=x").status_code == 200


def test_a_file_can_be_discarded(at, come_with):
    at.post(come_with(LINE), {"discard": ""})
    assert not Upload.objects.exists()


def test_a_file_nobody_came_back_to_is_forgotten_with_the_next_one(at, come_with):
    come_with(LINE)
    old = Upload.objects.get()
    Upload.objects.update(created_at=old.created_at - timedelta(days=3))
    come_with(LINE)
    assert Upload.objects.get() != old


def test_a_large_file_comes_back_as_it_was(project, olga, monkeypatch):
    monkeypatch.setattr("annotate.exchange.uploads.PART", 1000)
    content = bytes(range(256)) * 20
    kept = Upload.keep(
        project=project, by=olga, file=io.BytesIO(content), name="x" * 200, format="csv"
    )
    assert (kept.size, kept.parts.count(), len(kept.name)) == (5120, 6, 100)
    with kept.open() as file:
        assert file.read() == content


def test_another_operator_does_not_see_it(at, come_with, project, browse):
    address = come_with(LINE)
    otto = project.admit(name="otto", role="operator")
    assert browse(otto).get(address).status_code == 404
    assert address not in browse(otto).get(START).content.decode()


# Files as people have them


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolon"), ("\t", "tab"), (",", "")])
def test_the_separator_of_a_csv_is_found_and_told(at, come_with, separator, name):
    rows = [("prompt", "completion"), ('"Tea, hot; and sweet?"', "Yes"), ("Rice?", "No")]
    text = "\n".join(separator.join(row) for row in rows)
    address = come_with(text.encode(), "x.csv")
    page = at.get(address).content.decode()
    assert (f"Read with a {name}" in page) == bool(name)
    at.post(address, {"import": ""})
    assert set(Demonstration.objects.values_list("text", flat=True)) == {"Yes", "No"}
    assert Prompt.objects.filter(messages__0__content="Tea, hot; and sweet?").exists()


def zipped(name: str) -> bytes:
    with zipfile.ZipFile(out := io.BytesIO(), "w") as archive:
        archive.writestr(name, "...")
    return out.getvalue()


@pytest.mark.parametrize(
    ("start", "name", "advice"),
    [
        (zipped("[Content_Types].xml"), "answers.xlsx", "CSV UTF-8"),
        (zipped("mimetype"), "answers.ods", "Text CSV"),
        (zipped("answers.doc"), "answers.zip", "no JSON Lines, JSON, CSV or Parquet file"),
        (b"PK\x03\x04...", "answers.zip", "cannot be unpacked"),
        (b"\xd0\xcf\x11\xe0...", "old.xls", "CSV UTF-8"),
        (b"\x1f\x8b\x08...", "x.jsonl.gz", "cannot be unpacked"),
        (b"PAR1...", "x.csv", "ends in .parquet"),
        (b"\0\0\0\1" * 9, "x.csv", "UTF-8"),
        (b"prompt\nx\n", "x.parquet", "not a Parquet file"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_to_do(at, start, name, advice):
    file = io.BytesIO(start)
    file.name = name
    reply = at.post(START, {"file": file})
    assert reply.status_code == 422 and advice in reply.content.decode()
    assert not Upload.objects.exists()


def test_a_header_alone_says_so_before_anything_is_tried(at, come_with):
    address = come_with(b"prompt,completion\n", "x.csv")
    page = at.get(address).content.decode()
    assert "only column names" in page and "Nothing was imported" not in page
    checked = at.post(address, {"check": ""}).content.decode()
    assert "1 of 1 line has a problem" in checked and "Nothing was imported" not in checked
    assert "Nothing was imported" in at.post(address, {"import": ""}).content.decode()
