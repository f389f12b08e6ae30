from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.models import Demonstration, Policy, Prompt, Ranking, Review
from rlhf.data import selection
from rlhf.data.counts import count
from rlhf.data.selection import (
    EVERYTHING,
    Filters,
    demonstrations,
    held_out_rankings,
    rankings,
    training_rankings,
)
from rlhf.data.snapshot import write
from rlhf.models import Run, Snapshot
from rlhf.models.leases import claim
from rlhf.rounds.launch import launch_round
from rlhf.rounds.settings import Launch
from tests.rlhf.conftest import collect, freeze, rank

NOW = timezone.now()
DAY = timedelta(days=1)


def aged(labels, days: int) -> list[int]:
    """Moves the first five of these labels so many days back."""
    chosen = list(labels.in_split("train").order_by("pk").values_list("pk", flat=True)[:5])
    labels.model.objects.filter(pk__in=chosen).update(created_at=timezone.now() - days * DAY)
    return chosen


def ids(rows) -> set[int]:
    return {row.pk for row in rows}


def test_without_filters_all_labels_pass(project, labels):
    assert count(project) == {
        "demonstrations": 16,
        "rankings": 32,
        "comparisons": 64,
        "prompts": 16,
        "held_out_prompts": 4,
        "held_out_rankings": 8,
        "held_out_labelers_rankings": 0,
        "thumbs_up": 0,
        "thumbs_down": 0,
        "documents": 0,
        "guest_demonstrations": 0,
        "guest_rankings": 0,
        "judge_rankings": 0,
    }


@pytest.mark.parametrize("model", [Demonstration, Ranking])
def test_a_date_bounds_labels_on_either_side(project, labels, model):
    passing = {Demonstration: demonstrations, Ranking: rankings}[model]
    old = set(aged(model.objects, days=10))
    assert ids(passing(project, Filters(until=timezone.now() - DAY))) == old
    young = ids(passing(project, Filters(since=timezone.now() - DAY)))
    assert young == ids(model.objects.all()) - old


def test_tags_choose_prompts_and_their_labels(project, labels, prompts):
    Prompt.objects.filter(pk=prompts[0].pk).update(tags=["soup", "hot"])
    Prompt.objects.filter(pk=prompts[1].pk).update(tags=["hot"])
    chosen = count(project, Filters(tags=("soup", "unknown")))
    assert (chosen["prompts"], chosen["demonstrations"], chosen["rankings"]) == (1, 1, 2)
    assert count(project, Filters(tags=("soup", "hot")))["prompts"] == 2


def test_accepted_only_asks_for_a_reviewers_last_word(project, labels, rita):
    one, other = Demonstration.objects.in_split("train")[:2]
    for demonstration, verdicts in ((one, ["sent_back", "accepted"]), (other, ["accepted"])):
        for verdict in verdicts:
            Review.objects.create(demonstration=demonstration, reviewer=rita, verdict=verdict)
    chosen = Filters(accepted_only=True)
    assert ids(demonstrations(project, chosen)) == {one.pk, other.pk}
    Review.objects.create(demonstration=other, reviewer=rita, verdict="excluded")
    assert ids(demonstrations(project, chosen)) == {one.pk}


def test_labelers_choose_who_is_heard(project, labels, alice, bob):
    chosen = count(project, Filters(labelers=(bob.pk,)))
    assert (chosen["demonstrations"], chosen["rankings"]) == (0, 16)
    assert count(project, Filters(labelers=(alice.pk, bob.pk)))["rankings"] == 32


def test_rankings_that_show_an_old_policy_can_be_left_out(project, labels, base, alice, prompts):
    Policy.objects.filter(pk=base.pk).update(created_at=timezone.now() - 100 * DAY)
    young = Policy.objects.create(project=project, name="young", origin=Policy.Origin.BASE)
    fresh = rank(prompts[0], young, alice, places=[1, 2])
    assert ids(rankings(project, Filters(policies_since=timezone.now() - DAY))) == {fresh.pk}


def test_held_out_labelers_judge_what_nobody_trained_on(project, labels, base, alice, bob, prompts):
    """Bob's rankings are of Alice's prompts, all but one."""
    Ranking.objects.filter(prompt=prompts[0], labeler=alice).delete()
    chosen = Filters(held_out_labelers=(bob.pk,))
    assert set(training_rankings(project, chosen).values_list("labeler", flat=True)) == {alice.pk}
    theirs = held_out_rankings(project, chosen)
    assert set(theirs.values_list("labeler", flat=True)) == {bob.pk}
    held_out = {prompt.pk for prompt in prompts if prompt.split != "train"}
    assert set(theirs.values_list("prompt", flat=True)) == {prompts[0].pk, *held_out}
    assert count(project, chosen)["held_out_labelers_rankings"] == 5


def test_held_out_labelers_are_a_file_of_their_own(project, labels, base, olga, bob):
    filters = Filters(held_out_labelers=(bob.pk,))
    round = launch_round(project, Launch(base=base, recipe="tiny", filters=filters), by=olga)
    files = collect(round.runs.get(kind=Run.Kind.REWARD)).files
    assert {name: len(rows) for name, rows in files.items()} == {
        "train": 16,
        "test": 4,
        "held_out_labelers": 4,
        "calibration": 16 + Prompt.objects.in_split("validation").count(),
    }
    assert not {row["id"] for row in files["held_out_labelers"]} & {
        row["id"] for row in files["train"]
    }


@pytest.mark.parametrize(
    "filters",
    [
        EVERYTHING,
        Filters(since=NOW, tags=("a", "b"), held_out_labelers=(3,)),
        Filters(until=NOW, accepted_only=True, labelers=(1, 2), policies_since=NOW - DAY),
    ],
)
def test_filters_survive_json(filters):
    assert Filters.from_dict(filters.as_dict()) == filters


def test_an_unknown_filter_is_refused():
    with pytest.raises(TypeError):
        Filters.from_dict({"colour": "red"})


def test_a_round_and_its_snapshots_keep_their_filters(project, labels, base, olga, alice):
    filters = Filters(labelers=(alice.pk,))
    round = launch_round(project, Launch(base=base, recipe="tiny", filters=filters), by=olga)
    snapshot = freeze(claim())
    assert snapshot.filters == round.filters
    kept = Filters.from_dict(snapshot.filters)
    assert (kept.labelers, kept.until is not None) == ((alice.pk,), True)


def change_everything(prompts, base, alice, bob, rita) -> None:
    """New labels, corrections, retractions, verdicts, prompts: all that people may do later."""
    first, second, third, *_ = Demonstration.objects.in_split("train")
    Demonstration.objects.create(prompt=prompts[3], labeler=bob, text="New")
    for old, fields in ((first, {"text": "Better"}), (second, {"text": "No", "retracted": True})):
        prompt, labeler = old.prompt, old.labeler
        Demonstration.objects.create(
            prompt=prompt, labeler=labeler, supersedes=old, revision_no=2, **fields
        )
    Review.objects.create(demonstration=third, reviewer=rita, verdict="excluded")
    rank(prompts[4], base, alice, places=[3, 2, 1])
    ranking = Ranking.objects.in_split("train").first()
    Review.objects.create(ranking=ranking, reviewer=rita, verdict="sent_back")
    Prompt.objects.create(
        project=base.project, messages=[{"role": "user", "content": "Something new"}]
    )


@pytest.mark.parametrize("kind", ["sft", "reward", "ppo"])
def test_a_rerun_learns_from_the_same_bytes_whatever_people_did_meanwhile(
    project, labels, base, olga, alice, bob, rita, prompts, data_dir, kind
):
    def written(round, name: str) -> dict:
        return write(data_dir / name, collect(round.runs.get(kind=kind)).files)

    first = launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    before = written(first, "before")
    change_everything(prompts, base, alice, bob, rita)
    again = launch_round(
        project, Launch(base=base, recipe="tiny", filters=Filters.from_dict(first.filters)), by=olga
    )
    assert written(first, "later") == written(again, "again") == before
    fresh = launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    assert written(fresh, "fresh") != before


def test_what_was_counted_is_what_is_frozen(project, labels, base, olga):
    round = launch_round(project, Launch(base=base, recipe="tiny"), by=olga)
    counted = count(project, Filters.from_dict(round.filters))
    for run in round.runs.order_by("position")[:3]:
        lease = claim(run.pk)
        freeze(lease)
        run.succeed(token=lease.token, summary={})
    frozen = [each.counts["train"] for each in Snapshot.objects.order_by("pk")]
    assert frozen == [counted["demonstrations"], counted["rankings"], counted["prompts"]]


def test_prompts_bounded_by_a_moment(project, prompts):
    later = Prompt.objects.create(
        project=project, messages=[{"role": "user", "content": "Something new"}]
    )
    moment = Prompt.objects.exclude(pk=later.pk).latest("created_at").created_at
    assert later not in selection.prompts(project, Filters(until=moment))
    assert later in selection.prompts(project)


def test_what_is_archived_teaches_nothing_from_then_on(project, labels, prompts):
    before = timezone.now()
    Prompt.objects.filter(pk=prompts[0].pk).archive()
    now, then = count(project), count(project, Filters(until=before))
    for name in ("prompts", "demonstrations", "rankings"):
        assert now[name] < then[name], name
    assert then["prompts"] == 16
