"""Guests whose thumbs look unusual are shown to reviewers, honest ones are not."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from annotate.models import Completion, Feedback, Ranking, User
from annotate.quality.unusual import Given, reasons, twins, unusual_guests
from rlhf.data.checks import Labels, check_rankings
from rlhf.data.counts import count_rankings
from rlhf.data.selection import EVERYTHING

START = datetime(2026, 3, 1, tzinfo=UTC)


def given(ups: int, downs: int, *, seconds: float = 600, joined: float = 0) -> Given:
    """So many thumbs, one every so many seconds; `joined` in hours."""
    times = [START + n * timedelta(seconds=seconds) for n in range(ups + downs)]
    return Given(START + timedelta(hours=joined), times, ups)


def found(*guests: Given) -> dict[int, list[str]]:
    return reasons(dict(enumerate(guests)))


CROWD = [given(6, 5, joined=24 * n) for n in range(20)]


@pytest.mark.parametrize(
    ("guest", "why"),
    [
        (given(0, 30, joined=1000), ["30 of 30 thumbs down, unlike the other guests."]),
        (given(30, 0, joined=1000), ["30 of 30 thumbs up, unlike the other guests."]),
        (given(0, 9, joined=1000), None),  # too few to tell
        (given(9, 16, joined=1000), None),
        (given(6, 6, seconds=5, joined=1000), ["12 thumbs within a minute."]),
        (given(6, 6, seconds=7, joined=1000), None),
        (given(3000, 3000, seconds=61, joined=1000), None),
    ],
)
def test_what_is_unusual_of_one_guest(guest, why):
    assert found(*CROWD, guest) == ({len(CROWD): why} if why else {})


@pytest.mark.parametrize(("hours", "is_group"), [(0.4, True), (2, False)])
def test_accounts_made_together_are_looked_at_together(hours, is_group):
    """Each of them gives too few thumbs for anything to be told of it."""
    sybils = [given(0, 7, joined=1000 + hours * n) for n in range(3)]
    said = found(*CROWD, *sybils)
    if not is_group:
        assert said == {}
        return
    assert set(said) == {20, 21, 22}
    assert said[20] == ["One of 3 accounts made within an hour: together 21 of 21 thumbs down."]


def test_where_nearly_everybody_is_content_a_content_guest_is_not_unusual():
    content = [given(40, 2, joined=24 * n) for n in range(20)]
    assert found(*content, given(45, 0, joined=1000)) == {}


def asking(*questions: int) -> Given:
    mine = given(1, 1, joined=sum(questions))
    mine.asked = set(map(str, questions))
    return mine


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [
        (range(5), range(5), "5 of 5"),
        (range(4), range(4), None),  # too few to tell
        (range(10), range(2, 12), "8 of 10"),
        (range(10), range(3, 13), None),
        (range(10), range(60), None),  # among many, some are the same
    ],
)
def test_accounts_that_ask_the_same_are_looked_at(ours, theirs, both):
    said = found(asking(*ours), asking(*theirs))
    why = [f"{both} questions are those of another account."]
    assert said == ({0: why, 1: why} if both else {})


def test_what_everybody_asks_makes_nobody_unusual():
    assert found(*(asking(*range(6)) for _ in range(11))) == {}


def test_of_honest_guests_hardly_any_is_found():
    chance = random.Random(5)
    wrong = 0
    for _ in range(20):
        guests = []
        for n in range(100):
            count = chance.randint(1, 60)
            ups = sum(chance.random() < 0.7 for _ in range(count))
            guests.append(given(ups, count - ups, joined=3 * n))
        wrong += len(found(*guests))
    assert wrong <= 1


def test_nobody_has_given_anything():
    assert found() == {}


@pytest.fixture
def ranked(project, new_prompt, policy):
    """Four people rank 24 prompts: the first two as one, the others each as they please."""
    people = [User.objects.create_user(name) for name in ("alma", "ben", "carol", "dora")]
    for each in people:
        project.memberships.create(user=each, role="labeler")
    chance = random.Random(4)
    for n in range(24):
        prompt = new_prompt(f"Question {n}")
        said = [
            Completion.objects.create(prompt=prompt, policy=policy, text=f"Answer {k}.").pk
            for k in range(4)
        ]
        together = chance.sample(range(1, 5), 4)
        for person, places in zip(
            people,
            (together, together, *(chance.sample(range(1, 5), 4) for _ in "ab")),
            strict=True,
        ):
            ranking = Ranking.objects.create(
                prompt=prompt, labeler=person, outcome=Ranking.Outcome.RANKED
            )
            for completion, place in zip(said, places, strict=True):
                ranking.placements.create(completion_id=completion, place=place)
    return people


def test_labelers_who_never_differ_are_shown(ranked, project, browse, rita):
    [two] = twins(list(Ranking.objects.values_list("pk", flat=True)))
    assert set(two.labelers) == {each.pk for each in ranked[:2]}
    assert (two.same, two.shared) == (24, 24)
    page = browse(rita).get(reverse("labelers", args=["cooking"])).text
    assert "same order as alma in 24 of 24" in page and "same order as ben in 24 of 24" in page
    assert page.count("same order as") == 2
    [warned] = [
        each
        for each in check_rankings(
            Labels(project, EVERYTHING, {}, count_rankings(project, EVERYTHING))
        )
        if each.name == "same_orders"
    ]
    assert "alma and ben gave the same order" in warned.message


def test_a_reviewer_sees_them_and_may_ignore_them(project, new_prompt, policy, gus, rita, browse):
    others = [User.objects.create_user(f"guest{n}") for n in range(5)]
    for each in others:
        project.memberships.create(user=each, role="guest")
    answers = [
        Completion.objects.create(prompt=new_prompt(f"Question {n}"), policy=policy, text="Rice.")
        for n in range(30)
    ]
    for n, answer in enumerate(answers):
        Feedback.objects.create(completion=answer, user=others[n % 5], thumb_up=n % 2 == 0)
        Feedback.objects.create(completion=answer, user=gus, thumb_up=False)
    for n, thumb in enumerate(Feedback.objects.all()):
        at = timezone.now() - timedelta(hours=n)
        Feedback.objects.filter(pk=thumb.pk).update(created_at=at)
    for n, each in enumerate(others):
        joined = timezone.now() - timedelta(days=50 + n)
        User.objects.filter(pk=each.pk).update(date_joined=joined)
    [unusual] = unusual_guests(project)
    assert (unusual.member.user, unusual.ups, unusual.downs) == (gus, 0, 30)
    address = reverse("labelers_guests", args=["cooking"])
    page = browse(rita).get(address).text
    assert "Unusual thumbs" in page and "30 of 30 thumbs down, unlike the other guests." in page
    assert page.count("Question ") == 3, "the latest thumbs of the guest, to judge them by"
    told = (
        browse(rita)
        .post(address, {"member": unusual.member.pk, "act": "exclude"}, follow=True)
        .text
    )
    assert "excluded from new snapshots" in told and "Unusual thumbs" not in told
