"""Several files that are one table: chosen together, in an archive, or a data set by its name."""

import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from django.core.management import call_command

from annotate.exchange.files import data_sets
from annotate.exchange.files.bad_row import Unreadable
from annotate.models import Prompt, Upload
from tests.annotate.test_exporting import alpha, exported, new_project
from tests.annotate.test_import_pages import START

pytestmark = pytest.mark.django_db
__all__ = ["alpha"]


@pytest.fixture
def at(browse, olga):
    return browse(olga)


def named(name: str, content: bytes) -> io.BytesIO:
    file = io.BytesIO(content)
    file.name = name
    return file


def parquet(*prompts: str) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"prompt": prompts}), file)
    return file.getvalue()


def lines(*prompts: str) -> bytes:
    return "\n".join(json.dumps({"prompt": each}) for each in prompts).encode()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(folder: Path, mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        archive.add(folder, folder.name)
    return out.getvalue()


def bring(at, start: str = START, **sent) -> None:
    address = at.post(start, sent)
    assert address.status_code == 302, address.content.decode()
    assert at.post(address["location"], {"import": ""}).status_code == 302


def texts() -> list[str]:
    return sorted(Prompt.objects.values_list("text", flat=True))


def refused(at, **sent) -> str:
    page = at.post(START, sent)
    assert page.status_code == 422 and not Upload.objects.exists()
    return page.content.decode()


PARTS = {
    "parquet": ("x-0.parquet", parquet("A?", "B?"), "x-1.parquet", parquet("C?")),
    "lines": ("x-0.jsonl", lines("A?", "B?"), "x-1.jsonl", lines("C?")),
    "tables": ("x-0.csv", b"prompt\nA?\nB?", "x-1.csv", b"prompt\nC?"),
    "of two kinds": ("x-0.csv", b"prompt\nA?\nB?", "x-1.parquet", parquet("C?")),
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_parts_that_are_chosen_together_are_one_table(parts, at, project):
    one, first, two, second = parts
    bring(at, file=[named(one, first), named(two, second)])
    assert texts() == ["A?", "B?", "C?"]


def test_lines_of_several_parts_are_counted_without_a_gap(at, project):
    one, two = (named("a.jsonl", lines("A?") + b"\n"), named("b.jsonl", lines("B?") + b"\n?"))
    address = at.post(START, {"file": [one, two]})["location"]
    page = at.get(address).content.decode()
    assert "Import a.jsonl and 1 more" in page
    assert "Line 3" in page and "Line 4" not in page
    assert "1 of 3 lines has a problem." in at.post(address, {"check": ""}).content.decode()


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_an_archive_is_its_tables(parts, at, project):
    one, first, two, second = parts
    beside = {"README.md": b"# Hi", "dataset_info.json": b"{}", ".x.jsonl": b"?", "a.txt": b"?"}
    bring(at, file=named("x.zip", zipped({f"d/{two}": second, f"d/{one}": first} | beside)))
    assert texts() == ["A?", "B?", "C?"]


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("how", ["tar", "command", "command of an archive"])
def test_our_own_folder_comes_in_again_and_is_the_same(how, format, alpha, olga, browse, tmp_path):
    for kind in ("rankings", "thumbs", "demonstrations", "prompts"):
        folder = tmp_path / kind
        about = ("--project", "alpha", "--kind", kind, "--data-set", format)
        call_command("export_labels", str(folder), *about, stdout=io.StringIO())
        beta = new_project(f"beta-{kind}", olga)
        if how == "tar":
            file = named(f"{kind}.tar.gz", tarred(folder))
            bring(browse(olga), f"/p/{beta.slug}/prompts/import/", file=file)
        elif how == "command":
            call_command("import_labels", str(folder), "--project", beta.slug, stdout=io.StringIO())
        else:
            archive = tmp_path / f"{kind}.tar"
            archive.write_bytes(tarred(folder, "w"))
            call_command(
                "import_labels", str(archive), "--project", beta.slug, stdout=io.StringIO()
            )
        brought, sent = ([*map(json.dumps, exported(p, kind))] for p in (beta, alpha))
        assert sorted(brought) == sorted(sent)


def test_of_several_splits_one_is_chosen(at, project):
    archive = zipped({"data/train.jsonl": lines("A?"), "data/test.jsonl": lines("B?")})
    page = refused(at, file=named("x.zip", archive))
    assert "has the splits test, train: choose one" in page
    assert "no split dev, but test, train" in refused(at, file=named("x.zip", archive), split="dev")
    bring(at, file=named("x.zip", archive), split="test")
    assert texts() == ["B?"]


WORDS = {
    "no table": (zipped({"a.txt": b"x"}), "There is no JSON Lines, JSON, CSV or Parquet"),
    "broken": (zipped({"a.jsonl": lines("A?") * 9})[:-40], "cannot be unpacked"),
    "a spreadsheet": (zipped({"[Content_Types].xml": b""}), "Save the sheet as CSV"),
    "a bad row": (
        zipped({"a.csv": b"prompt\nA?", "b.csv": b"prompt\nA?,B?"}),
        "b.csv, line 2: More cells",
    ),
    "no Parquet": (zipped({"a.parquet": b"x"}), "not a Parquet file"),
}


@pytest.mark.parametrize("content, words", WORDS.values(), ids=WORDS)
def test_an_archive_that_cannot_be_read_is_refused_in_words(content, words, at, project):
    assert words in refused(at, file=named("x.zip", content))


def test_an_archive_that_swells_is_refused(at, project, monkeypatch):
    monkeypatch.setattr("annotate.views.imports.LARGEST_UPLOAD", 10_000)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", b"\n" * 100_000)
    assert "too large" in refused(at, file=named("x.zip", out.getvalue()))


def test_one_of_file_lines_and_name_is_given(at, project):
    assert "one of the three" in refused(at)
    assert "one of the three" in refused(at, text='{"prompt": "A?"}', data_set="a/b")


def test_a_data_set_of_the_hub_comes_in_by_its_name(at, project, monkeypatch):
    def command(*about: str) -> list[str]:
        return [sys.executable, "-c", f"""print('{{"prompt": "{" ".join(about)}?"}}')"""]

    monkeypatch.setattr(data_sets, "_command", command)
    bring(at, data_set="a/b", split="train", config="en")
    assert texts() == ["a/b train en?"]


@pytest.mark.parametrize("name", ["/etc", "../../x/y", "a/b/c", "https://x.org/a", "x"])
def test_a_name_is_no_path(name, at, project):
    assert "OWNER/NAME" in refused(at, data_set=name)


def test_a_data_set_that_is_out_of_reach_is_told_in_words(at, project, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    page = refused(at, data_set="nobody/nothing")
    assert "The data set nobody/nothing" in page


def test_a_card_cannot_name_files_of_this_computer():
    class Config:
        data_files = {"train": ["/etc/passwd"]}

    class Builder:
        config = Config()

    with pytest.raises(Unreadable, match="from elsewhere"):
        data_sets._refuse_elsewhere("nobody/nothing", Builder())
    Config.data_files = {"train": ["hf://datasets/nobody/nothing@1/train.jsonl"]}
    data_sets._refuse_elsewhere("nobody/nothing", Builder())
