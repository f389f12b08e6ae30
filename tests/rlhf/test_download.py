"""An operator names a model of the hub; a worker downloads it, and it is a policy."""

import pytest
from django.conf import settings
from django.urls import reverse

from annotate.models import Policy
from rlhf.learning.models.base import make_tiny
from rlhf.models.runs import Run
from tests.hub import COMMIT, hub
from tests.rlhf.conftest import work_until_idle

pytestmark = pytest.mark.django_db(transaction=True)
MODEL = "ann/fruit-0.1B"


@pytest.fixture
def shelf(data_dir, tmp_path, monkeypatch):
    with hub() as server:
        server.models[MODEL] = tmp_path / "shelf"
        make_tiny(tmp_path / "shelf", None)
        (tmp_path / "shelf" / "manifest.json").unlink()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def ask(browse, olga, project):
    address = reverse("policies_fetch", args=[project.slug])
    return lambda **form: browse(olga).post(address, form)


def test_a_model_of_the_hub_becomes_a_policy_to_train_on(shelf, ask, project, browse, olga):
    reply = ask(model=f"https://huggingface.co/{MODEL}")
    run = Run.objects.get()
    assert reply.url == reverse("policies_run", args=[project.slug, run.pk])
    [run] = work_until_idle()
    assert (run.state, run.reason) == (Run.State.SUCCEEDED, "")
    made = Policy.objects.get(name="fruit-0.1B")
    assert (made.origin, made.folder) == (Policy.Origin.BASE, "models/ann--fruit-0.1B")
    assert made.description == f"{MODEL} at {COMMIT[:8]}, apache-2.0"
    assert (settings.DATA_DIR / made.folder / "model.safetensors").is_file()
    page = " ".join(browse(olga).get(reply.url).content.decode().split())
    assert f"{MODEL} as fruit-0.1B" in page
    assert "<strong>fruit-0.1B</strong> is one of the" in page
    assert "fruit-0.1B" in browse(olga).get(f"/p/{project.slug}/rounds/new/").content.decode()


def test_what_another_project_has_downloaded_is_taken_as_it_is(shelf, ask):
    ask(model=MODEL)
    work_until_idle()
    shelf.asked.clear()
    ask(model=MODEL, name="again")
    [second] = work_until_idle()
    assert second.state == Run.State.SUCCEEDED and shelf.asked == []
    folders = {each.name: each.folder for each in Policy.objects.exclude(folder="")}
    assert folders["again"] == folders["fruit-0.1B"]


def test_what_the_hub_does_not_have_fails_by_name_and_can_be_tried_again(shelf, ask, browse, olga):
    reply = ask(model="ann/nothing")
    [run] = work_until_idle()
    assert run.state == Run.State.FAILED
    assert run.reason.startswith("It was not downloaded: there is no model ann/nothing at ")
    assert "there is no model ann/nothing" in browse(olga).get(reply.url).content.decode()
    shelf.models["ann/nothing"] = shelf.models[MODEL]
    browse(olga).post(reply.url, {"act": "resume"})
    [run] = work_until_idle()
    assert run.state == Run.State.SUCCEEDED
    assert Policy.objects.named("nothing").exists()


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"model": "fruit"}, "A model on the hub is OWNER/NAME"),
        ({"model": "../../etc/passwd"}, "A model on the hub is OWNER/NAME"),
        ({"model": "ann/fruit", "name": "base-tiny"}, "There is already a policy “base-tiny”."),
        ({"model": "ann/base-tiny@v1"}, "There is already a policy “base-tiny”."),
    ],
)
def test_what_cannot_be_asked_for_is_said_at_once(ask, project, form, message):
    project.policies.create(name="base-tiny", origin=Policy.Origin.BASE)
    reply = ask(**form)
    assert reply.status_code == 422
    assert message in reply.content.decode()
    assert not Run.objects.exists()
