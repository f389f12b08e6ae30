"""Runs in which policies of a connection answer: nothing but the worker asks for them."""

import json
from threading import Event

import pytest
from django.conf import settings

from annotate.connections import client
from annotate.deletion import delete_document
from annotate.models import Completion, Demonstration, Document, Task
from rlhf.evaluation import elsewhere
from rlhf.evaluation.scorecard import launch_scorecard
from rlhf.models import Run, SuiteResult
from rlhf.models.leases import claim
from rlhf.rounds.forms import ComparisonForm, SamplingForm
from rlhf.rounds.launch import launch_sampling
from rlhf.runs.supervisor import supervise
from tests.rlhf.conftest import work

pytestmark = pytest.mark.django_db(transaction=True)
EGG = "Boil it for **eight** minutes."


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(elsewhere, "PAUSES", (0.01, 0.01))


def test_policies_with_and_without_weights_are_sampled_in_one_run(
    project, prompts, base, chef, olga, fake_trainer, model_server
):
    launch_sampling(project, by=olga, policies=[base, chef], k=2, prompts=prompts[:5])
    run = work()
    assert run.state == Run.State.SUCCEEDED, run.log_tail
    said = Completion.objects.sampled_by(run.pk)
    assert said.filter(policy=base).count() == said.filter(policy=chef).count() == 10
    one = said.filter(policy=chef)[0]
    assert (one.text, one.sampling["provider"], one.sampling["model"]) == (
        *(EGG, "Kitchen AI"),
        "cook-1",
    )
    assert Task.objects.filter(kind=Task.Kind.RANK).count() == 5
    assert {each["seed"] for each in model_server.asked} == {run.seed, run.seed + 1}


def test_what_policies_read_is_kept_with_their_answers_and_goes_with_the_document(
    project, prompts, base, chef, olga, fake_trainer, model_server, data_dir
):
    asked = prompts[:2]
    told = "Whatever you ask, the answer stands in the cellar."
    Document.add(project, [f"{each.text} {told}" for each in asked], source="cellar.jsonl")
    project.policies.update(passages_read=1)
    launch_sampling(project, by=olga, policies=[base, chef], k=1, prompts=asked)
    run = work()
    assert run.state == Run.State.SUCCEEDED, run.log_tail
    said = Completion.objects.sampled_by(run.pk)
    assert said.count() == 4
    for each in said:
        assert [(read["number"], read["name"]) for read in each.passages] == [(1, "cellar.jsonl")]
        assert each.passages[0]["text"].startswith(each.prompt.text)
    assert all(told in each["messages"][-1]["content"] for each in model_server.asked)
    rows = [json.loads(line) for line in next(data_dir.rglob("train.jsonl")).open()]
    assert all(told in row["reads"]["base"] for row in rows)
    assert all(told not in row["prompt"][-1]["content"] for row in rows)
    assert delete_document(project, "cellar.jsonl") == 2
    assert not any(told in file.read_text() for file in data_dir.rglob("*.jsonl"))
    assert all(each.passages[0]["deleted"] for each in said.all())


def test_what_only_a_server_answers_needs_no_trainer(
    project, prompts, chef, olga, monkeypatch, data_dir
):
    monkeypatch.setattr("rlhf.runs.trainer_process.start", None)
    launch_sampling(project, by=olga, policies=[chef], k=1, prompts=prompts[:4], distil=True)
    run = work()
    assert run.state == Run.State.SUCCEEDED, run.log_tail
    assert run.summary["distilled"] == 4
    assert Demonstration.objects.filter(distilled_from=chef, text=EGG).count() == 4
    written = [file.read_text() for file in data_dir.rglob("*.json*")]
    assert written and not any("canary" in text for text in written)


def test_a_run_that_broke_off_asks_for_the_rest_only(project, prompts, chef, olga, model_server):
    model_server.fails_first = [*[503] * 999]
    chef.connection.parallel = 1
    chef.connection.save()
    launch_sampling(project, by=olga, policies=[chef], k=2, prompts=prompts[:3])
    run = work()
    assert run.state == Run.State.FAILED
    assert run.reason.endswith("is busy. Try again in a minute. Resume the run to continue.")
    model_server.fails_first = []
    model_server.asked.clear()
    place = {"policy": "chef", "id": prompts[0].pk, "index": 0, "text": "Kept.", "seed": 0}
    told = {"temperature": 0.7, "max_new_tokens": 64, "finish_reason": "stop"}
    answers = settings.DATA_DIR / run.folder / "t1" / elsewhere.ANSWERS
    answers.write_text(json.dumps({**place, **told}) + '\n{"policy": "chef", "id"')
    assert run.resume()
    run = work()
    assert run.state == Run.State.SUCCEEDED, run.reason
    assert len(model_server.asked) == 5
    assert Completion.objects.filter(policy=chef, text="Kept.").count() == 1
    assert Completion.objects.filter(policy=chef).count() == 6


def test_a_worker_that_leaves_gives_the_run_back(project, prompts, chef, olga, model_server):
    launched = launch_sampling(project, by=olga, policies=[chef], k=2, prompts=prompts[:3])
    leaving = Event()
    leaving.set()
    supervise(claim(), leaving)
    launched.refresh_from_db()
    assert launched.state == Run.State.QUEUED
    assert model_server.asked == []


def test_prompts_that_a_server_refuses_are_left_out(project, prompts, chef, olga, model_server):
    chef.connection.parallel = 1
    chef.connection.save()
    model_server.fails_first = [400]
    launch_sampling(project, by=olga, policies=[chef], k=2, prompts=prompts[:3])
    assert work().summary["completions"] == 5
    model_server.fails_first = [400] * 9
    launch_sampling(project, by=olga, policies=[chef], k=2, prompts=prompts[:3])
    assert work().reason == "chef: the server refuses every prompt of this run."


def test_it_is_asked_the_suites(project, chef, olga, model_server):
    launch_scorecard(project, by=olga, policies=[chef])
    run = work()
    assert run.state == Run.State.SUCCEEDED, run.reason
    assert SuiteResult.objects.filter(policy=chef).exists()
    assert {each["temperature"] for each in model_server.asked} == {0.0}


def test_people_are_offered_it_where_answers_are_made(project, base, chef):
    for form, name in ((SamplingForm(project), "policies"), (ComparisonForm(project), "compared")):
        assert set(form.fields[name].queryset) == {base, chef}
