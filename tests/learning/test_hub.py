"""Models of a hub become folders that can be trained from; what cannot is refused by name."""

import json
import shutil
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from rlhf.learning.contract.hub import HUB_ID, is_hub_id, source_of
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.manifest import verify
from rlhf.learning.models import base
from rlhf.learning.models.hub import download
from tests.hub import COMMIT, hub


@pytest.fixture
def shelf(data_dir, tmp_path_factory):
    """A hub with a model that also has what nobody needs: weights in other forms, and code."""
    with hub() as server:
        place = server.models["ann/fruit-0.1B"] = tmp_path_factory.mktemp("shelf")
        for file in (data_dir / "base").iterdir():
            if file.name != "manifest.json":
                (place / file.name).write_bytes(file.read_bytes())
        (place / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
        for name in ("pytorch_model.bin", "modeling_fruit.py", "onnx/model.json"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text("nobody needs it")
        yield server


@pytest.fixture
def fetch(shelf, monkeypatch):
    """fetch(model, out) → what it refused, or ""."""
    files = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", shelf.url + files)
    monkeypatch.setattr(constants, "ENDPOINT", shelf.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)

    def asked(model, out):
        try:
            base.prepare(model, out)
        except ConfigError as error:
            return str(error)
        return ""

    return asked


@pytest.mark.parametrize(
    ("text", "name", "revision"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct", None),
        ("ann/fruit@v1", "ann/fruit", "v1"),
        ("ann/fruit@refs/pr/3", "ann/fruit", "refs/pr/3"),
    ],
)
def test_a_name_on_the_hub_has_an_owner_and_may_have_a_revision(text, name, revision):
    found = HUB_ID.fullmatch(text)
    assert (found["name"], found["revision"]) == (name, revision)


@pytest.mark.parametrize("text", ["smol", "/models/a", "a/b/c", "a/b c", "a/", "https://x/a/b", ""])
def test_what_is_no_name_on_the_hub(text):
    assert not is_hub_id(text)


@pytest.mark.parametrize("name", ["ann/fruit-0.1B", "ann/fruit-0.1B@v1"])
def test_a_model_becomes_a_whole_folder_that_says_where_it_is_from(fetch, tmp_path, name):
    out = tmp_path / "models" / "fruit"
    assert fetch(name, out) == ""
    verify(out)
    assert source_of(out) == {
        "model": "ann/fruit-0.1B", "revision": COMMIT, "license": "apache-2.0",
    }  # fmt: skip
    names = {str(each.relative_to(out)) for each in out.rglob("*")}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert not names & {"pytorch_model.bin", "modeling_fruit.py", "onnx", ".cache"}
    assert json.loads((out / "generation_config.json").read_text())["top_k"] == 0
    assert [each.name for each in out.parent.iterdir()] == ["fruit"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ann/nothing", "there is no model ann/nothing at "),
        ("ann/fruit-0.1B@v9", "ann/fruit-0.1B has no revision v9"),
        ("bob/secret", "bob/secret is gated: accept its terms at "),
        ("bob/pickled", "bob/pickled has no weights as safetensors"),
        ("bob/half", "is not a model folder: it has no tokenizer_config.json, tokenizer.json"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_and_leaves_nothing(
    shelf, fetch, tmp_path, model, message
):
    fruit = shelf.models["ann/fruit-0.1B"]
    shelf.models["bob/secret"] = fruit
    shelf.gated.add("bob/secret")
    kept_of = {"pickled": ["config.json"], "half": ["config.json", "model.safetensors"]}
    for name, kept in kept_of.items():
        place = shelf.models[f"bob/{name}"] = tmp_path / name
        place.mkdir()
        for each in kept:
            (place / each).write_bytes((fruit / each).read_bytes())
    out = tmp_path / "models" / "fruit"
    assert message in fetch(model, out)
    assert list(out.parent.iterdir()) == []


def test_a_gated_model_comes_with_a_token(shelf, fetch, tmp_path, monkeypatch):
    shelf.gated.add("ann/fruit-0.1B")
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    assert fetch("ann/fruit-0.1B", tmp_path / "m" / "fruit") == ""


def test_a_download_that_was_cut_off_is_gone_on_with(shelf, fetch, tmp_path):
    """One of its files is there already; the others are asked for."""
    assert fetch("ann/fruit-0.1B", tmp_path / "a" / "fruit") == ""
    (tmp_path / "b").mkdir()
    writing = tmp_path / "b" / "tmp-fruit"
    download("ann/fruit-0.1B", writing)
    (writing / "config.json").unlink()
    (writing / "source.json").unlink()
    shelf.asked.clear()
    assert fetch("ann/fruit-0.1B", tmp_path / "b" / "fruit") == ""
    verify(tmp_path / "b" / "fruit")
    assert any(each.startswith("GET") and "config.json" in each for each in shelf.asked)


def test_a_model_that_the_disk_has_no_room_for_is_refused(fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    said = fetch("ann/fruit-0.1B", tmp_path / "m" / "fruit")
    assert "GB more, and 0.0 GB are free" in said


def test_a_hub_that_is_away_is_named(shelf, fetch, tmp_path):
    shelf.shutdown()
    shelf.server_close()
    said = fetch("ann/fruit-0.1B", tmp_path / "m" / "fruit")
    assert said.startswith(f"the hub {shelf.url} cannot be reached")
