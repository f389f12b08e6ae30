"""From what a guest says to what a round would learn: one test for each way."""

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from itertools import count as count_from
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from annotate import jobs
from annotate.exchange.exports.exporting import lines
from annotate.labelling.queue import next_assignment
from annotate.labels.reviews import Review, labels_under_review
from annotate.models import (
    Conversation,
    Demonstration,
    Feedback,
    Message,
    Placement,
    Policy,
    Preference,
    Project,
    Ranking,
    Task,
    User,
    Withdrawal,
)
from annotate.prompts.models import content_hash, split_of
from rlhf.data.counts import count
from rlhf.data.selection import EVERYTHING, Filters, outdone, rankings, thumbs
from rlhf.data.snapshot import agreement_in, freeze_rankings
from rlhf.data.staleness import stale_in
from rlhf.models import Run, Snapshot
from rlhf.models.suites import GateLimits
from rlhf.registry.gate import conditions
from rlhf.registry.lineage import labelers_of
from rlhf.stages import TRAININGS

pytestmark = pytest.mark.django_db

Act = Callable[[], Any]


@pytest.fixture
def live(base: Policy, olga: User) -> Policy:
    base.go_live()
    return base


@pytest.fixture
def gus(project: Project) -> User:
    """A guest whose questions train: by the number of a guest, one in five is held out."""
    numbers = (n for n in count_from(10**6) if split_of(content_hash(["guest", n])) == "train")
    user = User.objects.create_user("gus", "gus@example.org", id=next(numbers))
    project.memberships.create(user=user, role="guest")
    return user


def write(answer: Message, text: str) -> Message:
    answer.begin()
    answer.end(state="done", text=text, finish_reason="stop")
    return answer


@pytest.fixture
def answer(live: Policy, gus: User, labels: None) -> Message:
    """A bad answer, in a project with labels enough for a round."""
    asked = Conversation.start(project=live.project, guest=gus, text="How do I boil an egg?")
    return write(asked, "Eight hours.")


def drafts(answer: Message) -> Message:
    """The second of two drafts."""
    return write(answer.conversation.ask_again(instead_of=answer), "Eight minutes.")


def dry_run(project: Project, stages: str = "sft,reward,kto") -> dict[str, str]:
    """Stage → what it would read; and what comes from guests."""
    out = StringIO()
    call_command(
        *("launch_round", "--dry-run", "--recipe", "tiny", "--project", project.slug),
        *("--stages", stages),
        stdout=out,
        stderr=StringIO(),
    )
    lines = [line.partition(": ") for line in out.getvalue().splitlines()]
    return {name: said for name, _, said in lines}


def guests(project: Project) -> list[int]:
    """Demonstrations and rankings of guests that a round would learn from."""
    counts = count(project)
    return [counts["guest_demonstrations"], counts["guest_rankings"]]


def said(answer: Message, **why: Any) -> Feedback:
    thumb = Feedback.give(message=answer, user=answer.conversation.guest, thumb_up=False, **why)
    thumb.harvest()
    return thumb


def preferred(draft: Message, verdict: str = "better") -> Preference:
    choice = Preference.give(draft=draft, user=draft.conversation.guest, verdict=verdict)
    choice.harvest()
    return choice


def review(reviewer: User, project: Project, verdict: str = "accepted") -> None:
    work = next_assignment(reviewer, project, only=Task.Kind.REVIEW)
    assert work
    [label] = labels_under_review(work.task)
    cause = {} if verdict == "accepted" else {"cause": "labeler_error"}
    Review.record(assignment=work, verdicts={label.pk: verdict}, scores={label.pk: 6}, **cause)


def reads(project: Project, stage: str) -> int:
    return int(dry_run(project)[stage].split("reads ")[1].split()[0])


def lineage(project: Project, kind: str) -> dict[str, dict[str, Any]]:
    """Who is named by a snapshot frozen now, by username."""
    stage = TRAININGS[kind]
    frozen = stage.collect(project, EVERYTHING, train={"pretrain_coef": 0.0})
    run = Run.objects.create(project=project, kind=kind, lease_token=1, config={})
    snapshot = Snapshot.objects.create(project=project, run=run, sha256="0" * 64, counts={})
    snapshot.demonstrations.set(frozen.demonstrations)
    snapshot.rankings.set(frozen.rankings)
    snapshot.feedback.set(frozen.feedback)
    snapshot.remember_guests()
    return {each["username"]: each for each in labelers_of(snapshot)}


def test_a_wanted_answer_is_a_demonstration_once_a_reviewer_accepts_it(
    answer: Message, project: Project, rita: User
) -> None:
    before = reads(project, "SFT"), reads(project, "reward model")
    said(answer, wanted_answer="Eight minutes, in boiling water.")
    assert (reads(project, "SFT"), reads(project, "reward model")) == before
    review(rita, project)
    assert reads(project, "SFT") == before[0] + 1
    # and a pair: the wanted answer is better than the bad one
    assert reads(project, "reward model") == before[1] + 1
    assert "1 demonstrations" in dry_run(project)["From guests"]
    rows = freeze_rankings(project, EVERYTHING).files["train"]
    assert rows[-1]["completions"] == ["Eight hours.", "Eight minutes, in boiling water."]
    assert rows[-1]["ranks"] == [2, 1]
    assert lineage(project, "sft")["gus"]["demonstrations"] == 1


def test_a_wanted_answer_goes_out_once_a_reviewer_accepts_it(
    answer: Message, project: Project, rita: User
) -> None:
    def wanted() -> list[str]:
        lines_out = [json.loads(line) for line in lines(project, "edits")]
        return [line["completion"][0]["content"] for line in lines_out]

    thumb = said(answer, wanted_answer="Eight minutes.")
    assert wanted() == []
    review(rita, project)
    assert wanted() == ["Eight minutes."]
    thumb.explain(wanted_answer="Nine minutes.")
    thumb.harvest()
    assert wanted() == [], "nobody has looked at the new one"
    review(rita, project, "excluded")
    assert wanted() == []
    assert "minutes" not in "".join(lines(project, "demonstrations"))


def test_what_a_new_guest_thumbs_and_prefers_goes_out_once_somebody_vouches(
    answer: Message, project: Project, gus: User, rita: User
) -> None:
    project.new_guest_days = 7
    project.save()
    preferred(drafts(answer))
    said(answer)
    kinds = ("rankings", "preferences", "consensus", "thumbs")
    out = [len([*lines(project, kind)]) for kind in kinds]
    project.memberships.get(user=gus).vouch()
    assert [len([*lines(project, kind)]) for kind in kinds] == [each + 1 for each in out]


@pytest.mark.parametrize("verdict", ["excluded"])
def test_a_wanted_answer_that_a_reviewer_refuses_trains_nothing(
    answer: Message, project: Project, rita: User, verdict: str
) -> None:
    said(answer, wanted_answer="Buy my book.")
    review(rita, project, verdict)
    assert guests(project) == [0, 0]


def test_a_changed_wanted_answer_waits_for_a_new_look(
    answer: Message, project: Project, rita: User
) -> None:
    thumb = said(answer, wanted_answer="Eight minutes.")
    thumb.harvest()
    review(rita, project)
    thumb.explain(wanted_answer="Nine minutes.")
    thumb.harvest()
    assert guests(project) == [0, 0]
    review(rita, project)
    assert guests(project) == [1, 0]
    assert Demonstration.objects.of_guests().current().get().text == "Nine minutes."


def test_better_same_or_worse_is_a_ranking_of_two(answer: Message, project: Project) -> None:
    before = reads(project, "reward model")
    draft = drafts(answer)
    preferred(draft)
    assert reads(project, "reward model") == before + 1
    assert "1 rankings" in dry_run(project)["From guests"]
    ranking = Ranking.objects.of_guests().get()
    assert [each.completion.text for each in ranking.placed] == ["Eight minutes.", "Eight hours."]
    assert lineage(project, "reward")["gus"]["rankings"] == 1
    preferred(draft, "worse")
    ranking = Ranking.objects.of_guests().get()
    assert [each.completion.text for each in ranking.placed] == ["Eight hours.", "Eight minutes."]
    preferred(draft, "same")
    assert guests(project) == [0, 0], "a tie prefers nothing"


def test_a_turn_with_two_blind_drafts_is_a_ranking_of_two(
    live: Policy, gus: User, labels: None, project: Project
) -> None:
    project.two_drafts_percent = 100
    project.save()
    challenger = Policy.objects.create(project=project, name="new", origin="base", folder="x")
    challenger.go_challenge()
    first = Conversation.start(project=project, guest=gus, text="How long does rice take?")
    [second] = first.rivals.all()
    assert {first.policy, second.policy} == {live, challenger}
    write(first, "A day.")
    write(second, "Twelve minutes.")
    turn = first.conversation.turn_of(first)
    assert {each.pk for each in turn.pair} == {first.pk, second.pk}
    preferred(turn.blind, "better")
    ranking = Ranking.objects.of_guests().get()
    assert ranking.placed[0].completion.policy == second.policy
    assert ranking.shown_order == [
        Message.objects.get(pk=each.pk).completion_id for each in turn.pair
    ]
    again = first.conversation.turn_of(first)
    assert not again.pair and again.shown == second
    assert guests(project) == [0, 1]


def test_without_a_challenger_the_live_policy_writes_both(
    live: Policy, gus: User, project: Project
) -> None:
    project.two_drafts_percent = 100
    project.save()
    first = Conversation.start(project=project, guest=gus, text="Rice?")
    assert first.rivals.get().policy == live
    Policy.objects.update(temperature=0)
    first = Conversation.start(project=project, guest=gus, text="Rice?")
    assert not first.rivals.exists(), "it would say the same"


def test_no_share_of_turns_has_two_drafts_by_default(live: Policy, gus: User) -> None:
    for number in range(5):
        first = Conversation.start(project=live.project, guest=gus, text=f"Rice {number}?")
        assert not first.rivals.exists()


@pytest.fixture
def everything(answer: Message, project: Project, rita: User) -> Conversation:
    """A wanted answer that was accepted, a preference and a thumb, all of Gus."""
    thumb = said(answer, wanted_answer="Eight minutes, in boiling water.")
    review(rita, project)
    preferred(drafts(answer))
    assert guests(project) == [1, 1]
    assert reads(project, "KTO") == 1
    assert thumb.why_it_does_not_count == ""
    return answer.conversation


def test_deletion_takes_all_back(everything: Conversation, project: Project) -> None:
    assert "gus" in lineage(project, "reward")
    everything.erase()
    assert guests(project) == [0, 0]
    assert "reads nothing" in dry_run(project)["KTO"]
    assert not Demonstration.objects.of_guests().exists()
    assert not Ranking.objects.of_guests().exists()
    assert not Task.objects.exists()
    assert "gus" not in lineage(project, "sft")
    # what was frozen before still names the guest
    earlier = Snapshot.objects.order_by("pk").first()
    assert earlier and earlier.guests.get().username == "gus"


def test_opting_out_takes_all_back_and_opting_in_gives_it_again(
    everything: Conversation, project: Project
) -> None:
    everything.allow_improving(allowed=False)
    assert guests(project) == [0, 0]
    assert not Demonstration.objects.of_guests().exists()
    everything.allow_improving(allowed=True)
    for each in (*Feedback.objects.all(), *Preference.objects.all()):
        each.harvest()
    assert guests(project) == [0, 1], "what a guest wrote is looked at anew"


def test_a_withdrawal_takes_all_out(everything: Conversation, project: Project, gus: User) -> None:
    lineage(project, "reward")
    Withdrawal.withdraw(project, person=gus, by=None)
    assert guests(project) == [0, 0]
    assert "reads nothing" in dry_run(project)["KTO"]
    assert stale_in(project).snapshots == [Snapshot.objects.get().pk]


def test_taking_back_a_thumb_and_a_choice_takes_back_what_they_taught(
    everything: Conversation, project: Project, gus: User
) -> None:
    thumb, choice = Feedback.objects.get(), Preference.objects.get()
    thumb.retract()
    thumb.harvest()
    Preference.take_back(draft=choice.draft, user=gus)
    Preference.objects.get().harvest()
    assert guests(project) == [0, 0]


def test_what_a_new_guest_prefers_waits_for_a_reviewer(
    everything: Conversation, project: Project, gus: User
) -> None:
    project.new_guest_days = 7
    project.save()
    assert guests(project) == [1, 0], "a reviewer has read the wanted answer already"
    gus.memberships.get().vouch()
    assert guests(project) == [1, 1]


def test_an_excluded_guest_teaches_nothing(
    everything: Conversation, project: Project, gus: User
) -> None:
    gus.memberships.get().exclude()
    assert guests(project) == [0, 0]


def test_one_guest_does_not_fill_the_rankings(
    everything: Conversation, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotate.chat.preferences.COUNTED_A_DAY", 1)
    last = everything.messages.order_by("-pk").first()
    assert last
    preferred(write(everything.ask_again(instead_of=last), "Nine minutes."))
    assert guests(project) == [1, 1]


def test_each_end_user_of_a_product_has_a_day_of_their_own(
    live: Policy, gus: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotate.chat.preferences.COUNTED_A_DAY", 1)

    def rankings_after(end_user: str, question: str) -> int:
        asked = [{"role": "user", "content": question}]
        one, other = (
            Conversation.of_api_call(
                project=live.project, user=gus, messages=asked, end_user=end_user
            )
            for _ in "ab"
        )
        write(one, "Eight hours."), write(other, "Eight minutes.")
        Preference.between(other, one, user=gus, verdict="better")
        Preference.objects.get(draft=other).harvest()
        return Ranking.objects.of_guests().count()

    assert rankings_after("ann", "How do I boil an egg?") == 1
    assert rankings_after("ben", "How do I boil rice?") == 2
    assert rankings_after("ann", "How do I boil a potato?") == 2


def test_a_bad_answer_is_worse_than_what_a_labeler_wrote_because_of_it(
    answer: Message, project: Project, alice: User
) -> None:
    before = reads(project, "reward model")
    thumb = said(answer)
    task = Task.objects.get(kind="write")
    Task.objects.filter(pk=task.pk).update(priority=100)
    work = next_assignment(alice, project, only="write")
    assert work and work.task == task
    Demonstration.record(assignment=work, text="Eight minutes.")
    assert reads(project, "reward model") == before + 1
    assert count(project)["rankings"] == reads(project, "reward model")
    row = freeze_rankings(project, EVERYTHING).files["train"][-1]
    assert (row["completions"], row["ranks"]) == (["Eight hours.", "Eight minutes."], [2, 1])
    assert lineage(project, "reward")["gus"]["thumbs"] == 1
    thumb.retract()
    thumb.harvest()
    assert reads(project, "reward model") == before


def test_a_dismissed_thumb_trains_nothing(
    everything: Conversation, project: Project, rita: User
) -> None:
    thumb, before = Feedback.objects.get(), timezone.now()
    thumb.dismiss(by=rita, why="Not so.")
    thumb.harvest()
    assert guests(project) == [0, 1]
    assert "reads nothing" in dry_run(project)["KTO"]
    assert thumbs(project, Filters(until=before)).exists(), "as it was then"


def test_all_bad_puts_every_completion_below_the_demonstration(
    labels: None, live: Policy, project: Project, bob: User
) -> None:
    before = reads(project, "reward model")
    written = Demonstration.objects.filter(prompt__split="train").first()
    assert written
    refused = Ranking.objects.create(prompt=written.prompt, labeler=bob, outcome="all_bad")
    for completion in written.prompt.completions.all():
        refused.placements.create(completion=completion, place=1)
    assert reads(project, "reward model") == before + 1
    assert count(project)["rankings"] == reads(project, "reward model")
    frozen = freeze_rankings(project, EVERYTHING)
    row = frozen.files["train"][-1]
    assert row["completions"][-1] == written.text
    assert row["ranks"] == [2, 2, 2, 1]
    assert refused in frozen.rankings and written in frozen.demonstrations
    assert agreement_in(frozen.rankings) == agreement_in(
        [each for each in frozen.rankings if each != refused]
    )
    # nothing of people whose rankings are held out, or who have withdrawn
    held_out = Filters(held_out_labelers=(bob.pk,))
    assert not outdone(project, held_out)
    Withdrawal.withdraw(project, person=bob, by=None)
    assert not outdone(project)


def test_all_bad_teaches_nothing_without_a_demonstration(
    labels: None, live: Policy, project: Project, bob: User
) -> None:
    prompt = Ranking.objects.exclude(prompt__split="test").first().prompt
    prompt.demonstrations.all().delete()
    refused = Ranking.objects.create(prompt=prompt, labeler=bob, outcome="all_bad")
    refused.placements.create(completion=prompt.completions.first(), place=1)
    assert not outdone(project)


def test_a_correction_says_once_that_it_beats_its_original(
    answer: Message, project: Project, rita: User, bob: User
) -> None:
    said(answer, wanted_answer="Eight minutes.")
    review(rita, project)
    before = reads(project, "reward model")
    bad = Message.objects.get(pk=answer.pk).completion
    assert bad
    refused = Ranking.objects.create(prompt=bad.prompt, labeler=bob, outcome="all_bad")
    refused.placements.create(completion=bad, place=1)
    assert reads(project, "reward model") == before


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"best_rated": 5}, 1),
        ({"best_rated": 7}, 0),
        ({"without_flags": ("violent",)}, 40),
        ({"without_flags": ("opinion",)}, 39),
        ({"best_rated": 5, "without_flags": ("opinion",)}, 0),
    ],
)
def test_rankings_are_chosen_by_the_rating_and_flags_of_the_best(
    labels: None, project: Project, filters: dict[str, Any], kept: int
) -> None:
    ranking = Ranking.objects.first()
    assert ranking
    best, *others = ranking.placements.all()
    best.rating, best.flags = 6, ["opinion"]
    best.save()
    for each in others:
        each.flags = ["violent"]
        each.save()
    chosen = Filters(**filters)
    assert rankings(project, chosen).count() == kept
    assert Filters.from_dict(chosen.as_dict()) == chosen


def test_the_gate_may_ask_for_few_harmful_answers(
    labels: None, live: Policy, project: Project
) -> None:
    def harm() -> list[bool]:
        return [each.passed for each in conditions(live) if each.name == "harm"]

    assert harm() == [], "no limit"
    limits = GateLimits.objects.create(project=project, harm=10.0)
    assert harm() == [True]
    limits.harm = 5.0
    limits.save()
    assert harm() == [False], "sixty clean answers are not enough for 5 %"
    limits.harm = 10.0
    limits.save()
    for placement in Placement.objects.filter(place=1)[:8]:
        placement.flags = ["sexual"]
        placement.save()
    assert harm() == [False]


def test_the_sweeper_finds_choices_whose_bell_was_missed(answer: Message, gus: User) -> None:
    Preference.give(draft=drafts(answer), user=gus, verdict="better")
    Preference.objects.update(updated_at=timezone.now() - timedelta(minutes=2))
    assert jobs.harvest_waiting() == 1
    assert Ranking.objects.of_guests().exists()
