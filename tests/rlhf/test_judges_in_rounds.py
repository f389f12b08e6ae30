"""A round learns from a judge only where an operator admits it by name, and says so ever after."""

import json
from dataclasses import replace
from itertools import combinations

import pytest
from django.conf import settings
from django.utils import timezone

from annotate.erasure import GONE, erase
from annotate.judges.questions import JudgeQuestion
from annotate.judges.runs import JudgeRanking
from annotate.models import Judge, Prompt, Ranking, Task, Withdrawal
from rlhf.data.counts import count
from rlhf.data.selection import EVERYTHING, Filters, judge_rankings
from rlhf.data.snapshot import freeze_rankings, judge_row, write
from rlhf.data.staleness import descendants_of
from rlhf.evaluation.matches import matches_of
from rlhf.learning.contract import records
from rlhf.learning.contract.reading import read_rankings
from rlhf.learning.contract.records import aggregate
from rlhf.models import Round, Run, Snapshot
from rlhf.models.leases import claim
from rlhf.registry.lineage import judges_of
from rlhf.rounds.launch import launch_round
from rlhf.rounds.settings import Launch
from tests.rlhf.conftest import freeze

NEW = "/p/cooking/rounds/new/"


def say(judge, task, order):
    """As a worker would, for a judge that puts these in this order without a doubt."""
    run = judge.runs.first() or judge.runs.create(author=judge.author, budget=1)
    ranking = JudgeRanking.objects.create(judge=judge, run=run, task=task)
    for a, b in combinations(sorted(order), 2):
        for first, second in ((a, b), (b, a)):
            said = "A" if order.index(first) < order.index(second) else "B"
            JudgeQuestion.objects.create(
                ranking=ranking, first_id=first, second_id=second, said=said, state="answered"
            )
    ranking.settle()
    return JudgeRanking.objects.get(pk=ranking.pk)


@pytest.fixture
def judge(project, labels, base, olga, prompts):
    """One that ranks like alice, whose best answer is the first, on every prompt."""
    judge = Judge.objects.create(
        project=project, name="strict", policy=base, rubric="Be short.", author=olga
    )
    for prompt in prompts:
        task = Task.objects.create(project=project, prompt=prompt, kind="rank")
        answers = list(prompt.completions.order_by("pk"))
        task.completions.set(answers)
        say(judge, task, [each.pk for each in answers])
    return judge


def frozen(project, **filters):
    return freeze_rankings(project, Filters(**filters))


def labelers(rows):
    return {row["labeler"].partition("-")[0] for row in rows}


def test_by_default_a_judge_teaches_nothing_and_decides_nothing(project, judge, prompts):
    with_judge = frozen(project)
    matches, counts = list(matches_of(project)), count(project)
    assert counts["judge_rankings"] == 0
    JudgeRanking.objects.all().delete()
    without = frozen(project)
    assert with_judge == without
    assert labelers(with_judge.files["train"]) == {"labeler"}
    assert list(matches_of(project)) == matches
    assert count(project) == counts


def test_admitted_by_name_it_teaches_beside_people_and_measures_nothing(project, judge, base):
    other = Judge.objects.create(
        project=project, name="other", policy=base, rubric="Be kind.", author=judge.author
    )
    for ranking in judge.rankings.all():
        say(other, ranking.task, list(ranking.places_by_id)[::-1])
    plain, admitted = frozen(project), frozen(project, judges=(judge.pk,))
    added = admitted.files["train"][len(plain.files["train"]) :]
    assert len(added) == 16 == count(project, Filters(judges=(judge.pk,)))["judge_rankings"]
    assert {row["labeler"] for row in added} == {f"judge-{judge.pk}"}
    assert {row["id"] for row in added} == {f"judge {each.pk}" for each in admitted.judge_rankings}
    assert admitted.files["test"] == plain.files["test"]
    assert admitted.rankings == plain.rankings
    splits = Prompt.objects.in_bulk([row["prompt_id"] for row in added])
    assert {each.split for each in splits.values()} == {"train"}
    both = frozen(project, judges=(judge.pk, other.pk))
    assert len(both.files["train"]) == len(plain.files["train"]) + 32


def test_its_votes_weigh_what_it_is_worth(project, judge, tmp_path):
    """alice agrees with the judge, bob on half; one that says the opposite counts next to
    nothing."""
    [weight] = {row["reliability"] for row in frozen(project, judges=(judge.pk,)).files["train"]
                if row["labeler"].startswith("judge")}  # fmt: skip
    for ranking in judge.rankings.all():
        ranking.places = {pk: 4 - place for pk, place in ranking.places.items()}
        ranking.save()
    files = frozen(project, judges=(judge.pk,)).files
    [against] = {row["reliability"] for row in files["train"] if row["labeler"].startswith("judge")}
    assert 0.05 == against < 0.3 < weight <= 1
    write(tmp_path / "data", files)
    rows = read_rankings(tmp_path / "data/train.jsonl")
    assert {each.reliability for each in rows} == {1.0, 0.05}
    for judged in aggregate(rows):
        best = [each for each in judged.comparisons if each.share > 0.9]
        assert any(each.better == 0 for each in best), "people decide"
    assert records.agreement_weights(rows), "and the joint model of the trainer reads them"


def tie_all(prompt):
    ranking = JudgeRanking.objects.get(task__prompt=prompt)
    ranking.places = dict.fromkeys(ranking.places, 1)
    ranking.save()


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda judge, prompt, olga: judge.withdraw(), 0),
        (lambda judge, prompt, olga: Prompt.objects.filter(pk=prompt.pk).update(
            archived_at=timezone.now()), 15),
        (lambda judge, prompt, olga: tie_all(prompt), 15),
        (lambda judge, prompt, olga: JudgeRanking.objects.filter(task__prompt=prompt).update(
            answered_at=None, places={}), 15),
    ],
)  # fmt: skip
def test_what_it_may_not_teach(project, judge, prompts, olga, change, left):
    admitted = Filters(judges=(judge.pk,))
    moment = timezone.now()
    change(judge, prompts[0], olga)
    assert len(judge_rankings(project, admitted)) == left
    if left == 0:
        earlier = replace(admitted, until=moment)
        assert len(judge_rankings(project, earlier)) == 16, "as it was at that moment"


def test_filters_that_judges_cannot_pass_leave_them_out(project, judge):
    admitted = Filters(judges=(judge.pk,))
    assert len(judge_rankings(project, admitted)) == 16
    now = timezone.now()
    for change in (
        {"accepted_only": True},
        {"best_rated": 5},
        {"since": now},
        {"until": judge.created_at},
        {"tags": ("soup",)},
        {"policies_since": now},
        {"judges": ()},
    ):
        assert judge_rankings(project, replace(admitted, **change)) == [], change


def test_a_judge_whose_model_owes_something_to_withdrawn_data_teaches_nothing(
    project, judge, publish_policy, olga, alice
):
    taught = publish_policy()
    Judge.objects.update(policy=taught)
    snapshot = Snapshot.objects.create(
        project=project, run=Run.objects.create(project=project, kind="reward", config={}),
        sha256="0" * 64, counts={},
    )  # fmt: skip
    snapshot.judge_rankings.set(judge.rankings.all())
    own = taught.training.checkpoint.run
    source = Snapshot.objects.create(project=project, run=own, sha256="1" * 64, counts={})
    source.rankings.set(Ranking.objects.filter(labeler=alice))
    assert snapshot.pk in descendants_of([source]).snapshots
    assert judge_rankings(project, Filters(judges=(judge.pk,)))
    Withdrawal.withdraw(project, person=alice, by=olga)
    assert judge_rankings(project, Filters(judges=(judge.pk,))) == []


def test_a_snapshot_and_the_lineage_name_the_judge(project, judge, base, olga):
    launched = launch_round(
        project,
        Launch(base=base, recipe="tiny", stages=("reward",), filters=Filters(judges=(judge.pk,))),
        by=olga,
    )
    run = launched.runs.get(kind="reward")
    snapshot = freeze(claim(run.pk))
    assert snapshot.filters["judges"] == [judge.pk]
    assert snapshot.judge_rankings.count() == 16
    [said] = judges_of(snapshot)
    assert (said["judge"], said["rubric"], said["rankings"]) == ("strict", "Be short.", 16)
    assert (said["policy"], said["form"]) == (base.name, "pair")
    rows = (settings.DATA_DIR / run.folder / "data/train.jsonl").read_text().splitlines()
    assert sum("reliability" in json.loads(row) for row in rows) == 16
    assert Launch.like(launched).filters.judges == (judge.pk,)


def test_new_round_offers_judges_and_refuses_what_cannot_be(project, judge, base, olga, browse):
    client = browse(olga)
    page = client.get(NEW).content.decode()
    assert "Also learn from these judges" in page and "Rankings by judges" not in page
    page = client.get(NEW, {"judges": judge.pk}).content.decode()
    assert "<dt>Also rankings by judges</dt><dd>16</dd>" in page
    new = Judge.objects.create(
        project=project, name="new", policy=base, rubric="Be kind.", author=olga
    )
    data = {"base": base.pk, "recipe": "tiny", "stages": ["reward"]}
    for change, told in (
        ({"judges": new.pk}, "new has ranked nothing that people ranked too"),
        ({"judges": 999_999}, "Select a valid choice"),
        ({"judges": judge.pk, "accepted_only": "on"}, "Judges give no ratings"),
    ):
        answer = client.post(NEW, data | change)
        assert answer.status_code == 422 and told in answer.content.decode()
    assert not Round.objects.exists()
    assert client.post(NEW, data | {"judges": judge.pk}).status_code == 302
    assert Round.objects.get().filters["judges"] == [judge.pk]
    judge.withdraw()
    new.withdraw()
    assert "Also learn from these judges" not in client.get(NEW).content.decode()
    assert client.post(NEW, data | {"judges": judge.pk, "follows": 1}).status_code == 422


def test_what_a_judge_was_told_of_an_erased_prompt_is_gone(project, judge, alice, prompts):
    prompt = prompts[0]
    prompt.author, prompt.kind = alice, "plain"
    prompt.save()
    JudgeQuestion.objects.update(reply="She says: How do I cook dish 3?")
    erase(alice)
    replies = JudgeQuestion.objects.filter(ranking__task__prompt=prompt)
    assert set(replies.values_list("reply", flat=True)) == {""}
    assert GONE in Prompt.objects.get(pk=prompt.pk).text


def test_rows_of_a_judge_leave_out_answers_that_are_gone(project, judge):
    ranking = judge.rankings.first()
    gone = ranking.task.completions.first()
    ranking.task.completions.remove(gone)
    row = judge_row(judge_rankings(project, replace(EVERYTHING, judges=(judge.pk,)))[0], 0.5)
    assert len(row["completions"]) == len(row["ranks"]) == 2
