"""Published models: what the page shows is what lies in DATA_DIR, and may be taken home."""

import io
import tarfile

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command

from annotate.models import Policy
from rlhf.models import Checkpoint, RewardModel, Run
from tests.rlhf.test_pages import write_metrics


def test_the_list_names_policies_and_reward_models(browse, olga, project, model, publish):
    summary = {"accuracy": 0.64, "accuracy_low": 0.6, "accuracy_high": 0.68}
    checkpoint = publish(Run.Kind.REWARD, summary=summary)
    write_metrics(checkpoint.run, (9, "final", {"data/comparisons": 90}))
    reward = RewardModel.objects.create(project=project, checkpoint=checkpoint, accuracy=0.64)
    page = browse(olga).get("/p/cooking/models/").content.decode()
    assert "r1-ppo" in page and str(reward) in page and "64% (60%–68%) of 90" in page
    assert model.manifest_sha256[:8] in page


def test_the_page_shows_card_choices_and_files(browse, olga, model):
    page = browse(olga).get(f"/p/cooking/models/{model.pk}/").content.decode()
    assert '<h1 dir="auto">Policy trained by PPO</h1>' in page
    assert "library_name" not in page and "<script>alert" not in page
    assert "kl_coef" in page and "model.safetensors" in page and model.manifest_sha256 in page


def test_the_download_holds_every_file_byte_for_byte(browse, olga, model, data_dir):
    reply = browse(olga).get(f"/p/cooking/models/{model.pk}/model.tar")
    assert reply.headers["Content-Disposition"] == 'attachment; filename="cooking-r1-ppo.tar"'
    folder = data_dir / model.folder
    with tarfile.open(fileobj=io.BytesIO(whole(reply))) as archive:
        found = {each.name: archive.extractfile(each).read() for each in archive}
    assert found == {f"cooking-r1-ppo/{p.name}": p.read_bytes() for p in folder.iterdir()}


def whole(reply):
    async def collect():
        return b"".join([block async for block in reply.streaming_content])

    return async_to_sync(collect)()


def test_a_folder_that_is_gone_is_said_so(browse, olga, model, data_dir):
    (data_dir / model.folder / "manifest.json").unlink()
    client = browse(olga)
    assert "no longer in DATA_DIR" in client.get(f"/p/cooking/models/{model.pk}/").content.decode()
    assert client.get(f"/p/cooking/models/{model.pk}/model.tar").status_code == 404


def test_a_save_on_the_way_is_not_published(browse, olga, model):
    Checkpoint.objects.update(is_final=False)
    assert browse(olga).get(f"/p/cooking/models/{model.pk}/").status_code == 404
    assert b"No published models yet" in browse(olga).get("/p/cooking/models/").content


@pytest.mark.parametrize("page", ["", "model.tar"])
@pytest.mark.parametrize(("actor", "status"), [("mallory", 404), ("alice", 403), ("gus", 403)])
def test_models_are_the_operators(browse, request, model, page, actor, status):
    client = browse(request.getfixturevalue(actor))
    assert client.get(f"/p/cooking/models/{model.pk}/{page}").status_code == status
    if actor == "mallory":
        assert client.get(f"/p/elsewhere/models/{model.pk}/{page}").status_code == 404


PUSH = {"project": "cooking", "policy": "r1-ppo", "to": "kitchen/cook"}


def test_a_hub_that_cannot_be_reached_is_named(model, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(CommandError, match=r"http://127.0.0.1:1 cannot be reached"):
        call_command("push_model", **PUSH)


def test_what_was_not_trained_here_is_not_sent(project, model):
    Policy.objects.create(project=project, name="bought", origin=Policy.Origin.EXTERNAL)
    with pytest.raises(CommandError, match="was not trained here"):
        call_command("push_model", **PUSH | {"policy": "bought"})


EXPORT = {"project": "cooking", "policy": "r1-ppo"}


def test_a_folder_that_is_no_model_becomes_no_gguf_file(model, tmp_path):
    with pytest.raises(CommandError, match="r1-ppo was not converted: "):
        call_command("export_gguf", **EXPORT, to=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_not_trained_here_becomes_no_gguf_file(project, model, tmp_path):
    Policy.objects.create(project=project, name="bought", origin=Policy.Origin.EXTERNAL)
    with pytest.raises(CommandError, match="was not trained here"):
        call_command("export_gguf", **EXPORT | {"policy": "bought"}, to=tmp_path / "out")
