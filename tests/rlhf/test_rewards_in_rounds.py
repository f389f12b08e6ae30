"""Rounds whose policy is scored by checks: beside a reward model and without one."""

import json
from threading import Event

import pytest
from django.conf import settings
from django.urls import reverse

from annotate.models import Prompt
from rlhf.data.checks import NotReady
from rlhf.models import Run
from rlhf.models.leases import claim
from rlhf.rounds.charts import figures_of
from rlhf.rounds.launch import launch_round
from rlhf.rounds.preflight import preflight
from rlhf.rounds.settings import Launch
from rlhf.runs.supervisor import supervise

pytestmark = pytest.mark.django_db(transaction=True)


def checked(kind: str, checks: str, **more) -> dict:
    return {kind: {"train": {"checks": checks, **more}}}


def launch(base, stages, checks, **more) -> Launch:
    overrides = checked(stages[-1], checks, **more)
    return Launch(base=base, recipe="tiny", stages=stages, overrides=overrides)


def findings(project, wanted: Launch) -> dict[str, str]:
    found = preflight(project, wanted.base, stages=wanted.stages, configs=wanted.configs())
    return {each.name: each.message for each in found.findings}


def turn() -> None:
    while lease := claim():
        supervise(lease, Event())
        run = Run.objects.get(pk=lease.run.pk)
        assert run.state == Run.State.SUCCEEDED, f"{run.reason}\n{run.log_tail}"


@pytest.mark.parametrize(
    ("stages", "more", "has_model"),
    [
        (["grpo"], {}, False),
        (["rloo"], {}, False),
        (["ppo"], {"critic": "policy"}, False),
        (["reward", "grpo"], {}, True),
    ],
)
def test_checks_stand_in_for_the_reward_model_or_beside_it(
    project, labels, base, olga, fake_trainer, stages, more, has_model
):
    Prompt.objects.update(reference="42")
    fake_trainer()
    round = launch_round(project, launch(base, stages, "number:2, json", **more), by=olga)
    turn()
    run = round.runs.get(kind=stages[-1])
    told = json.loads(
        (settings.DATA_DIR / run.folder / f"t{run.lease_token}/config.json").read_text()
    )
    assert ("reward" in told["models"]) == has_model
    assert told["train"]["checks"] == "number:2, json"
    rows = (settings.DATA_DIR / told["data"]["train"]).read_text().splitlines()
    assert {json.loads(row)["reference"] for row in rows} == {"42"}
    [parts] = [each.chart for each in figures_of(run) if each.chart.title == "Score by part"]
    drawn = [each.metric for each in parts.series]
    assert drawn == ["reward/model"] * has_model + ["reward/number", "reward/json"]


def test_a_prompt_without_a_reference_is_frozen_as_ever(project, labels, base, olga, fake_trainer):
    fake_trainer()
    round = launch_round(project, launch(base, ["grpo"], "json"), by=olga)
    turn()
    run = round.runs.get(kind="grpo")
    [first, *_] = (settings.DATA_DIR / run.folder / "data/train.jsonl").read_text().splitlines()
    assert set(json.loads(first)) == {"id", "prompt_id", "prompt"}


def test_a_check_that_prompts_have_no_references_for_is_named(project, labels, base, olga):
    number = launch(base, ["grpo"], "number, length(1-9)")
    assert (
        "GRPO: number compares answers with reference answers, and no prompt"
        in (findings(project, number)["no_references"])
    )
    with pytest.raises(NotReady, match="GRPO: number compares"):
        launch_round(project, number, by=olga)
    assert "no_references" not in findings(project, launch(base, ["grpo"], "length(1-9)"))
    trained = Prompt.objects.filter(split="train")
    trained.exclude(pk=trained.first().pk).update(reference="1")
    count = trained.count()
    assert (
        f"which 1 of {count} prompts to train on lack"
        in findings(project, number)["few_references"]
    )
    Prompt.objects.update(reference="1")
    assert not {"no_references", "few_references"} & findings(project, number).keys()


def test_a_critic_that_starts_from_a_reward_model_needs_one(project, labels, base):
    assert "critic_without_reward" in findings(project, launch(base, ["ppo"], "json"))
    policy = launch(base, ["ppo"], "json", critic="policy")
    assert "critic_without_reward" not in findings(project, policy)
    assert "ppo_without_reward" in findings(project, launch(base, ["ppo"], "", critic="policy"))


def test_checks_are_chosen_in_the_browser_and_a_mistake_is_named(
    project, labels, base, olga, client
):
    client.force_login(olga)
    place = reverse("rounds_new", args=[project.slug])
    said = {"base": base.pk, "recipe": "tiny", "stages": ["grpo"]}
    refused = client.post(place, {**said, "grpo.train.checks": "nmber"})
    assert refused.status_code == 422
    assert "there is no check &#x27;nmber&#x27;; known are choice, contains" in (
        refused.content.decode()
    )
    done = client.post(place, {**said, "grpo.train.checks": "length(5-200):0.2"})
    assert done.status_code == 302, done.content.decode()
    run = Run.objects.get(kind="grpo")
    assert run.config["train"]["checks"] == "length(5-200):0.2"
    again = client.get(place, {"like": run.round.number}).content.decode()
    assert "length(5-200):0.2" in again


def test_a_check_that_reads_passages_trains_nothing(project, labels, base, olga):
    asked = launch(base, ["grpo"], "supported")
    assert (
        "GRPO: supported rests on passages of documents" in findings(project, asked)["no_passages"]
    )
    with pytest.raises(NotReady, match="supported rests"):
        launch_round(project, asked, by=olga)


VLLM = "http://10.0.0.5:8000"


@pytest.mark.parametrize("allowed", [[], ["http://10.0.0.5:8001/v1"]])
def test_a_vllm_server_that_nobody_allowed_is_refused_in_the_form(
    allowed, project, base, olga, browse, settings
):
    settings.INFERENCE_ENDPOINTS = allowed
    page = browse(olga).post(
        reverse("rounds_new", args=[project.slug]),
        {"base": base.pk, "recipe": "tiny", "stages": ["grpo"], "seed": 0,
         "grpo.train.checks": "length(1-9)", "grpo.train.vllm_server": VLLM},
    )  # fmt: skip
    assert "is no server that may answer" in page.content.decode()
    assert not project.rounds.exists()


@pytest.mark.parametrize("allowed", [VLLM, f"{VLLM}/v1"])
def test_an_allowed_vllm_server_reaches_the_trainer_at_every_attempt(
    allowed, project, labels, base, olga, fake_trainer, settings
):
    settings.INFERENCE_ENDPOINTS = [allowed]
    fake_trainer()
    wanted = launch(base, ["grpo"], "length(1-9)", vllm_server=VLLM)
    round = launch_round(project, wanted, by=olga)
    turn()
    run = round.runs.get(kind="grpo")
    folder = settings.DATA_DIR / run.folder / f"t{run.lease_token}"
    assert json.loads((folder / "config.json").read_text())["train"]["vllm_server"] == VLLM
    titles = [each.chart.title for each in figures_of(run)]
    assert {"vLLM against the trainer", "Age of the answering weights"} <= {*titles}


def test_a_server_that_is_allowed_no_more_stops_the_run_before_it_trains(
    project, labels, base, olga, fake_trainer, settings
):
    settings.INFERENCE_ENDPOINTS = [VLLM]
    round = launch_round(project, launch(base, ["grpo"], "length(1-9)", vllm_server=VLLM), by=olga)
    settings.INFERENCE_ENDPOINTS = []
    fake_trainer()
    lease = claim()
    supervise(lease, Event())
    run = round.runs.get(kind="grpo")
    assert run.state == Run.State.FAILED and "is no server that may answer" in run.reason
