"""New round: what is chosen there, and what comes back."""

import re
import shutil

import pytest
from django.conf import settings
from django.utils import timezone

from annotate.models import Policy
from rlhf.models import Machine, Round, Run
from rlhf.rounds import estimate, preflight

STAGES = ["sft", "reward", "ppo"]


def test_a_round_is_launched_from_its_page_with_changed_fields(project, labels, base, browse, olga):
    data = {"base": base.pk, "recipe": "tiny", "stages": STAGES, "seed": "5", "note": "first",
            "sft.train.epochs": "4", "ppo.train.whiten_advantages": "no"}  # fmt: skip
    answer = browse(olga).post("/p/cooking/rounds/new/", data)
    round = Round.objects.get()
    assert answer.url == "/p/cooking/rounds/1/"
    assert (round.base, round.recipe, round.note, round.launched_by) == (
        base, "tiny", "first", olga,
    )  # fmt: skip
    assert [run.seed for run in round.runs.all()] == [5] * 4
    assert round.runs.get(kind="sft").config["train"]["epochs"] == 4
    assert round.runs.get(kind="ppo").config["train"]["whiten_advantages"] is False


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sft.train.epochs": "0"}, "greater than or equal to 1"),
        ({"sft.train.epochs": "many"}, "Enter a whole number"),
        ({"ppo.train.minibatches": "7"}, "is not a multiple of"),
        ({"recipe": "huge"}, "not one of the available choices"),
        ({"base": "0"}, "not one of the available choices"),
    ],
)
def test_a_wrong_field_comes_back_with_what_to_do(
    project, labels, base, browse, olga, change, told
):
    data = {"base": base.pk, "recipe": "tiny", "stages": STAGES, **change}
    answer = browse(olga).post("/p/cooking/rounds/new/", data)
    assert answer.status_code == 422
    assert told in answer.content.decode()
    assert not Round.objects.exists()


def test_a_round_with_no_labels_comes_back_with_the_reasons(project, prompts, base, browse, olga):
    data = {"base": base.pk, "recipe": "tiny", "stages": STAGES}
    answer = browse(olga).post("/p/cooking/rounds/new/", data)
    html = answer.content.decode()
    assert answer.status_code == 422
    assert "was not launched" in html and "There are no demonstrations yet" in html


def test_turning_the_dial_shows_that_recipes_values(project, labels, base, browse, olga):
    address = f"/p/cooking/rounds/new/?recipe=large&base={base.pk}"
    part = browse(olga).get(address, headers={"HX-Request": "true"}).content.decode()
    assert "recipe “large”" in part and 'placeholder="9.65e-06"' in part
    assert "<html" not in part


def test_the_counts_follow_the_filters_and_the_round_learns_by_them(
    project, labels, base, alice, bob, browse, olga
):
    client, address = browse(olga), "/p/cooking/rounds/new/"
    everything = client.get(f"{address}?base={base.pk}", headers={"HX-Request": "true"})
    assert everything.context["checks"].counts["rankings"] == 32
    chosen = {
        "base": base.pk,
        "recipe": "tiny",
        "stages": STAGES,
        "labelers": [alice.pk],
        "ask_people": 7,
    }
    fewer = client.get(address, chosen, headers={"HX-Request": "true"})
    assert fewer.context["checks"].counts["rankings"] == 16
    assert 'data-finding="one_labeler"' in fewer.content.decode()
    client.post(address, chosen)
    round = Round.objects.get()
    assert round.filters["labelers"] == [alice.pk]
    assert round.runs.get(kind=Run.Kind.EVALUATE).config["ask_people"] == 7
    refused = client.post(address, {**chosen, "since": "yesterday"})
    assert refused.status_code == 422 and "Enter a valid date/time" in refused.content.decode()


@pytest.mark.parametrize(
    "page", ["rounds/new", "policies/sample", "evaluation", "suites/edit", "gate", "documents"]
)
def test_the_hint_that_a_field_names_is_there(project, base, browse, olga, page):
    html = browse(olga).get(f"/p/cooking/{page}/").content.decode()
    named = re.findall(r'aria-describedby="([^"]+)"', html)
    assert named and set(named) <= set(re.findall(r' id="([^"]+)"', html))


def test_what_suits_the_base_comes_first_and_follows_another_base(
    project, labels, base, browse, olga, monkeypatch
):
    large = Policy.objects.create(project=project, name="large", origin="base", folder="models/big")
    shutil.copytree(settings.DATA_DIR / base.folder, settings.DATA_DIR / large.folder)
    size = {"base": 3_000_000, "big": 135_000_000}
    for module in (preflight, estimate):
        monkeypatch.setattr(module, "parameters_of", lambda folder: size[folder.name])
    client, address = browse(olga), "/p/cooking/rounds/new/"

    def recipes(page: str) -> list[str]:
        return re.findall(r'name="recipe" value="(\w+)"( checked)?', page)

    first = client.get(f"{address}?base={large.pk}").content.decode()
    assert recipes(first)[0] == ("small", " checked")
    assert first.index("suits this base") < first.index('value="tiny"')
    chosen = {"base": large.pk, "suited": base.pk, "recipe": "tiny"}
    other = client.get(address, chosen, headers={"HX-Request": "true"}).content.decode()
    assert recipes(other)[0] == ("small", " checked") and "hx-swap-oob" in other
    stays = client.get(address, {**chosen, "suited": large.pk}, headers={"HX-Request": "true"})
    assert not recipes(stays.content.decode()), "whoever turns the dial keeps what they turned to"
    assert 'data-finding="recipe_of_another_size"' in stays.content.decode()


def test_eight_settings_stand_first_and_each_of_the_others_once(
    project, labels, base, browse, olga
):
    form = browse(olga).get("/p/cooking/rounds/new/?recipe=tiny").context["form"]
    first = [field.name for _, field in form.basics]
    others = [field.name for _, fields in form.groups() for field in fields]
    assert len(first) == 8 and {"sft.train.epochs", "ppo.train.updates"} < set(first)
    assert sorted(first + others) == sorted(name for name in form.fields if "." in name)


def test_a_mistake_in_one_step_loses_nothing_of_the_others(project, labels, base, browse, olga):
    data = {"base": base.pk, "recipe": "small", "stages": ["sft"], "accepted_only": "on",
            "sft.train.epochs": "0", "sft.train.weight_decay": "0.5", "note": "mine",
            "ask_people": "9"}  # fmt: skip
    page = browse(olga).post("/p/cooking/rounds/new/", data).content.decode()
    for kept in ('value="small" checked', 'name="accepted_only" id="id_accepted_only" checked',
                 'value="0.5"', 'value="mine"', 'value="9"', 'value="0"'):  # fmt: skip
        assert kept in page, kept
    assert 'value="ppo" checked' not in page
    assert '<details class="recipe" open>' in page, "what was set by hand is in sight"


def test_large_without_a_gpu_is_named(project, labels, base):
    def found() -> set[str]:
        return {each.name for each in preflight.preflight(project, base, recipe="large").findings}

    assert "no_gpu" not in found(), "nobody knows any machine"
    machine = Machine.objects.create(slot="here", seen_at=timezone.now(), figures={"gpus": []})
    assert "no_gpu" in found()
    machine.figures = {"gpus": [{"index": "0"}]}
    machine.save()
    assert "no_gpu" not in found()


def test_a_base_whose_folder_is_gone_is_named_and_the_page_opens(
    project, labels, base, browse, olga
):
    Policy.objects.filter(pk=base.pk).update(folder="models/gone")
    answer = browse(olga).get("/p/cooking/rounds/new/")
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "models/gone in DATA_DIR, is not a model folder" in html
    assert "Choose a base policy whose model is here." in html
