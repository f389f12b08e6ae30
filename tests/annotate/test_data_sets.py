"""An export as a data set: loaded by `datasets` whatever comes late in it, and in each layout."""

import io
import json

import pytest
from django.core.management import call_command

from annotate.exchange.exports.exporting import KINDS, lines, write_file
from annotate.exchange.exports.folders import write_folder
from annotate.exchange.exports.layouts import LAYOUTS, Arranged
from annotate.exchange.importing import import_labels
from annotate.models import Demonstration, Feedback, Prompt, Ranking
from tests.annotate.test_exporting import alpha, new_project, olga

pytestmark = pytest.mark.django_db
__all__ = ["alpha", "olga"]


def export(project, out, *options) -> str:
    said = io.StringIO()
    about = ("--project", project.slug, *options)
    call_command("export_labels", str(out), *about, stdout=said, stderr=said)
    return said.getvalue()


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv"])
def test_a_folder_loads_as_a_data_set_by_split(format, alpha, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    for kind in KINDS:
        folder = tmp_path / kind
        export(alpha, folder, "--kind", kind, "--data-set", format)
        loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
        raw = [json.loads(line) for line in lines(alpha, kind)]
        assert {name: len(rows) for name, rows in loaded.items()} == {
            name: [line["split"] for line in raw].count(name) for name in loaded
        }
        if format != "csv":
            [train] = [rows for name, rows in loaded.items() if name == raw[0]["split"]]
            assert train[0] == raw[0]


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_what_comes_late_does_not_break_the_types(format, alpha, tmp_path):
    datasets = pytest.importorskip("datasets")
    [line] = [json.loads(each) for each in lines(alpha, "demonstrations")][:1]
    early = line | {"tags": [], "guideline_version": None, "split": "train", "comment": "x" * 4000}
    late = early | {"tags": ["new"], "guideline_version": 7}
    rows = [json.dumps(early) + "\n"] * 3000 + [json.dumps(late) + "\n"] * 10
    assert sum(map(len, rows)) > 12 * 2**20
    folder = tmp_path / "out"
    assert write_folder(folder, rows, title="T", write_file=write_file, format=format) == 3010
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "c"), split="train")
    assert loaded[3009]["tags"] == ["new"] and loaded[0]["guideline_version"] is None


def test_a_large_split_comes_in_several_files(alpha, tmp_path, monkeypatch):
    monkeypatch.setattr("annotate.exchange.exports.folders.SHARD", 10)
    export(alpha, tmp_path / "out", "--kind", "rankings", "--data-set", "parquet")
    assert len(list((tmp_path / "out" / "data").iterdir())) == 4


def test_a_folder_that_holds_something_is_left_alone(alpha, tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(Exception, match="there is something already"):
        export(alpha, tmp_path, "--kind", "prompts", "--data-set", "jsonl")
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", ["demonstrations", "preferences", "thumbs", "prompts"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_can_be_imported_again(layout, kind, alpha, olga):
    if (layout, kind) == ("sharegpt", "prompts"):
        pytest.skip("ShareGPT has no row without an answer")
    beta = new_project("beta", olga)
    given = Arranged(lines(alpha, kind), layout)
    text = "".join(given)
    if not text:
        assert layout == "standard"  # the one thumb is on a prompt of two messages
        return
    import_labels(io.BytesIO(text.encode()), project=beta, by=olga)
    model = {"demonstrations": Demonstration, "preferences": Ranking, "thumbs": Feedback}.get(kind)
    count = len(list(lines(alpha, kind))) - given.left_out
    assert text.count("\n") == count
    if model is Feedback:
        assert not Feedback.objects.get(completion__prompt__project=beta).thumb_up
    else:
        rows = (model or Prompt).objects.filter(**{"prompt__project" if model else "project": beta})
        assert rows.count() == count


def test_a_standard_row_is_one_text_and_others_are_counted(alpha, tmp_path):
    said = export(alpha, tmp_path / "a.jsonl", "--kind", "demonstrations", "--layout", "standard")
    [line] = [json.loads(each) for each in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert (line["prompt"], line["completion"]) == ("Why?", "New")
    assert "Left out: 1 of several turns" in said


def test_a_table_warns_that_a_trainer_would_read_json_as_text(alpha, tmp_path):
    said = export(alpha, tmp_path / "a.csv", "--kind", "demonstrations")
    assert "a trainer would take them for plain text" in said
    assert "trainer" not in export(alpha, tmp_path / "a.jsonl", "--kind", "demonstrations")
