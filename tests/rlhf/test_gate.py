import re

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from annotate.models import Completion, Policy, Project, Ranking, Withdrawal
from rlhf.data.selection import count_held_out
from rlhf.models import Checkpoint, GateLimits, Metric, Run, Snapshot, TrainedPolicy
from rlhf.registry import promotion
from rlhf.registry.gate import Refused, conditions
from rlhf.registry.promotion import promote
from rlhf.runs.alarms import COLLAPSE, MEANING


@pytest.fixture(autouse=True)
def warmed(monkeypatch) -> None:
    """Nobody answers here, and there are no files."""
    monkeypatch.setattr(promotion, "warm", lambda policy: None)
    monkeypatch.setattr(promotion, "ensure_whole", lambda model: None)


@pytest.fixture
def live(base) -> Policy:
    base.go_live()
    base.refresh_from_db()
    return base


@pytest.fixture
def candidate(project, live) -> Policy:
    run = Run.objects.create(project=project, kind=Run.Kind.PPO)
    checkpoint = Checkpoint.objects.create(
        run=run, step=1, folder="x", manifest_sha256="a" * 64, is_final=True
    )
    policy = Policy.objects.create(
        project=project, name="r1-ppo", origin="trained", folder="x", parent=live
    )
    TrainedPolicy.objects.create(policy=policy, checkpoint=checkpoint)
    return policy


def went_far(policy: Policy, kl: float) -> None:
    values = {"objective/kl": kl, "objective/scores": 1.0}
    run = TrainedPolicy.objects.of(policy).checkpoint.run
    Metric.objects.create(run=run, step=1, split="train", time=timezone.now(), values=values)


def judged(prompts, labeler, candidate, live, *, wins: int, longer: int = 1) -> None:
    """On as many prompts as are given, the first `wins` of them for the candidate."""
    for number, prompt in enumerate(prompts):
        texts = {candidate: "word " * longer + "new", live: "word old"}
        said = {
            policy: Completion.objects.create(
                prompt=prompt, policy=policy, text=text, source=Completion.Source.EVALUATION
            )
            for policy, text in texts.items()
        }
        ranking = Ranking.objects.create(prompt=prompt, labeler=labeler)
        won = number < wins
        ranking.placements.create(completion=said[candidate], place=1 if won else 2)
        ranking.placements.create(completion=said[live], place=2 if won else 1)


@pytest.fixture
def held_out(project: Project, new_prompt) -> list:
    made = [new_prompt(f"Held out? {number}") for number in range(150)]
    return [prompt for prompt in made if prompt.split != "train"][:20]


ALL = ["blind_win_rate", "equal_length", "kl", "length", "alarms", "suites"]
CASES = [
    # wins of 20, KL, length → what fails
    (20, 3.0, 1, []),
    (11, 3.0, 1, ["blind_win_rate"]),
    (20, 30.0, 1, ["kl"]),
    (20, 3.0, 9, ["equal_length", "length"]),
    (5, 30.0, 9, ["blind_win_rate", "equal_length", "kl", "length"]),
]


@pytest.mark.parametrize(("wins", "kl", "longer", "fails"), CASES)
def test_the_gate_refuses_each_failing_condition_by_name(
    held_out, alice, olga, candidate, live, wins, kl, longer, fails
):
    assert len(held_out) == 20
    judged(held_out, alice, candidate, live, wins=wins, longer=longer)
    went_far(candidate, kl)
    assert [each.name for each in conditions(candidate)] == ALL
    if not fails:
        assert promote(candidate, by=olga, reason="better").override == ""
        return
    with pytest.raises(Refused) as refused:
        promote(candidate, by=olga, reason="better")
    assert [each.name for each in refused.value.conditions] == fails
    candidate.refresh_from_db()
    assert candidate.state == Policy.State.CANDIDATE


@pytest.mark.parametrize(("kl", "opens"), [(3.0, True), (30.0, False)])
def test_a_prompt_on_top_hides_no_distance(project, candidate, kl, opens):
    went_far(candidate, kl)
    prompted = {"name": "polite", "origin": "prompted", "system_prompt": "Be polite."}
    policy = Policy.objects.create(project=project, folder="x", parent=candidate, **prompted)
    [condition] = [each for each in conditions(policy) if each.name == "kl"]
    assert condition.passed == opens
    assert "by its weights alone, without its prompt" in condition.said
    [itself] = [each for each in conditions(candidate) if each.name == "kl"]
    assert "prompt" not in itself.said


def test_the_projects_own_limits_are_what_counts(project, held_out, alice, candidate, live):
    judged(held_out, alice, candidate, live, wins=20)
    went_far(candidate, 3.0)
    assert all(each.passed for each in conditions(candidate))
    GateLimits.objects.create(project=project, kl=2.5, length=1.0, prompts=21)
    failed = [each.name for each in conditions(candidate) if not each.passed]
    assert failed == ["blind_win_rate", "kl"]


def said_of(policy, name: str):
    [condition] = [each for each in conditions(policy) if each.name == name]
    return condition


@pytest.mark.parametrize(("ours", "passed"), [(4, False), (14, True), (27, True), (60, False)])
def test_answers_may_be_neither_much_longer_nor_much_shorter(
    held_out, candidate, live, ours, passed
):
    for prompt in held_out:
        for policy, length in ((candidate, ours), (live, 20)):
            prompt.completions.create(policy=policy, text="x" * length, source="evaluation")
    found = said_of(candidate, "length")
    assert found.passed == passed and "the limits are 0.67 and 1.50" in found.said


def test_who_is_never_as_long_as_the_other_may_win_by_length_alone(
    held_out, alice, candidate, live
):
    judged(held_out, alice, candidate, live, wins=20, longer=9)
    found = said_of(candidate, "equal_length")
    assert not found.passed and "cannot be told: their lengths do not overlap" in found.said


@pytest.mark.parametrize("alarm", sorted(COLLAPSE))
def test_an_alarm_of_collapse_shuts_the_gate_by_name(held_out, alice, candidate, live, alarm):
    judged(held_out, alice, candidate, live, wins=20)
    run = TrainedPolicy.objects.of(candidate).checkpoint.run
    assert said_of(candidate, "alarms").passed
    Run.objects.filter(pk=run.pk).update(alarms={alarm: [3, 9], "clip_fraction": [1, 2]})
    found = said_of(candidate, "alarms")
    assert not found.passed and found.said.startswith(MEANING[alarm][0])
    Run.objects.filter(pk=run.pk).update(alarms={"clip_fraction": [1, 2]})
    assert said_of(candidate, "alarms").passed


def test_the_gate_says_how_many_more_prompts_it_needs_and_offers_to_ask(
    held_out, alice, browse, olga, candidate, live, project
):
    judged(held_out[:10], alice, candidate, live, wins=7)
    found = said_of(candidate, "blind_win_rate")
    more = int(re.search(r"About (\d+) more prompts", found.said)[1])
    assert 20 < more < 100, "seven of ten may be chance"
    Policy.objects.filter(pk=candidate.pk).update(folder=live.folder)
    Checkpoint.objects.update(folder=live.folder)
    url = f"/p/cooking/policies/{candidate.pk}/gate/"
    page = browse(olga).get(url).content.decode()
    left = count_held_out(project) - 10
    shown = min(left, more)
    assert f'max="{left}"' in page and f'value="{shown}"' in page and "Ask people" in page
    answer = browse(olga).post(url, {"act": "ask", "prompts": 5})
    run = Run.objects.samplings().get()
    assert answer.url == f"/p/cooking/runs/{run.pk}/" and run.config["is_comparison"]
    assert run.config["policies"] == sorted([candidate.pk, live.pk])
    assert not set(run.config["prompts"]) & {each.pk for each in held_out[:10]}
    assert len(run.config["prompts"]) == 5
    refused = browse(olga).post(url, {"act": "ask", "prompts": "x"})
    assert refused.status_code == 422 and "1 to 2000" in refused.content.decode()
    others = project.prompts.exclude(pk__in=[each.pk for each in held_out[10:12]])
    others.exclude(pk__in=[each.pk for each in held_out[:10]]).update(archived_at=timezone.now())
    assert 'max="2"' in browse(olga).get(url).text and 'value="2"' in browse(olga).get(url).text
    judged(held_out[10:12], alice, candidate, live, wins=0)
    page = browse(olga).get(url).text
    assert "on every held-out prompt" in page and "Ask people" not in page


def test_a_few_lucky_prompts_open_no_gate(held_out, alice, olga, candidate, live):
    judged(held_out[:4], alice, candidate, live, wins=4)
    with pytest.raises(Refused, match="on 4 prompts; at least 5 are needed"):
        promote(candidate, by=olga, reason="better")


def test_a_typed_reason_overrides_and_is_kept_with_what_failed(olga, candidate, live):
    made = promote(candidate, by=olga, reason="better", override=" The old one is unsafe. ")
    assert made.override == "The old one is unsafe."
    assert {each["name"]: each["passed"] for each in made.conditions} == {
        "blind_win_rate": False,
        "alarms": True,
        "suites": True,  # the live policy was never asked one
    }


@pytest.mark.parametrize("override", ["", "   "])
def test_an_empty_override_overrides_nothing(olga, candidate, live, override):
    with pytest.raises(Refused, match="give a reason for overriding"):
        promote(candidate, by=olga, reason="better", override=override)


def test_an_override_needs_a_reason_beside_it(olga, candidate, live):
    with pytest.raises(ValidationError, match="Enter a reason"):
        promote(candidate, by=olga, reason="", override="because")


def test_the_first_policy_has_nobody_to_beat(project, candidate, olga):
    Policy.objects.filter(state=Policy.State.LIVE).update(state=Policy.State.RETIRED)
    [seen] = promote(candidate, by=olga, reason="the first").conditions
    assert (seen["name"], seen["passed"]) == ("alarms", True)


def test_data_that_was_withdrawn_shuts_the_gate_by_name(candidate, live, alice, olga, new_prompt):
    assert "withdrawn" not in {each.name for each in conditions(candidate)}
    run = TrainedPolicy.objects.of(candidate).checkpoint.run
    snapshot = Snapshot.objects.create(
        project=candidate.project, run=run, sha256="a" * 64, counts={}
    )
    snapshot.rankings.add(Ranking.objects.create(prompt=new_prompt("Why?"), labeler=alice))
    Withdrawal.withdraw(candidate.project, person=alice, by=olga)
    found = said_of(candidate, "withdrawn")
    assert not found.passed and "withdrawn" in found.said
