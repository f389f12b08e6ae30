"""What an operator chose is what a clone gets, whatever a run was tried again with."""

import pytest

from rlhf.models import Run
from rlhf.rounds.launch import launch_again, launch_round
from rlhf.rounds.report import report_on
from rlhf.rounds.settings import Launch
from rlhf.rounds.side_by_side import differences
from tests.rlhf.conftest import work

CHOSEN = {"sft": {"train": {"epochs": 2, "learning_rate": 0.002}}}


def retried(round, fake_trainer, why):
    """The first run of a round, after an automatic retry."""
    train = round.runs.get(position=0).config["train"]
    told = {
        "memory": {"fits": train["micro_batch_size"] // 4},
        "not_finite": {"fits": train["learning_rate"] * 0.6},
    }
    fake_trainer(mode=why, **told[why])
    while (run := work()).state == Run.State.QUEUED:
        pass
    assert run.state == Run.State.SUCCEEDED and run.retries
    assert run.config["train"] != train
    return run


@pytest.mark.parametrize("why", ["memory", "not_finite"])
@pytest.mark.parametrize("overrides", [{}, CHOSEN])
@pytest.mark.django_db(transaction=True)
def test_a_clone_gets_the_launched_values(
    project, labels, base, olga, browse, fake_trainer, why, overrides
):
    round = launch_round(project, Launch(base=base, recipe="tiny", overrides=overrides), by=olga)
    twin = launch_round(project, Launch(base=base, recipe="tiny", overrides=overrides), by=olga)
    launched = [run.config for run in round.runs.all()]
    run = retried(round, fake_trainer, why)
    assert Launch.like(round).overrides == overrides
    assert [each.chosen for each in round.runs.all()] == launched
    assert [each.config for each in launch_again(round, by=olga).runs.all()] == launched
    assert differences([report_on(round), report_on(twin)]) == []
    page = browse(olga).get(f"/p/cooking/rounds/new/?like={round.number}").content.decode()
    for name in ("learning_rate", "micro_batch_size"):
        value = overrides.get("sft", {}).get("train", {}).get(name)
        field = page.split(f'name="sft.train.{name}"')[1].split(">")[0]
        assert (f'value="{value}"' in field) if value else ("value=" not in field), field
    assert str(run.config["train"]["learning_rate"]) in str(run.config), "the run keeps its own"


@pytest.mark.parametrize("why", ["memory", "not_finite"])
@pytest.mark.django_db(transaction=True)
def test_what_the_operator_chose_lists_only_what_differs_from_the_recipe(
    project, labels, base, olga, browse, fake_trainer, why
):
    round = launch_round(project, Launch(base=base, recipe="tiny", overrides=CHOSEN), by=olga)
    run = retried(round, fake_trainer, why)
    model = run.checkpoints.published().get()
    page = browse(olga).get(f"/p/cooking/models/{model.pk}/").content.decode()
    said = page.split("Settings</summary>")[1].split("</details>")[0]
    assert "epochs" in said and "0.002" in said
    assert "micro_batch_size" not in said and "0.001" not in said and "tune" not in said


@pytest.mark.django_db(transaction=True)
def test_a_recipe_that_nobody_changed_says_so(project, labels, base, olga, browse, fake_trainer):
    round = launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    model = retried(round, fake_trainer, "memory").checkpoints.published().get()
    page = browse(olga).get(f"/p/cooking/models/{model.pk}/").content.decode()
    assert "Recipe “tiny”, unchanged." in page
