"""Home, New round and Rounds count the same labels."""

import re

import pytest
from django.utils import timezone

from annotate.models import Demonstration, Membership, Ranking, Review, Withdrawal
from annotate.views.home import to_do
from rlhf.rounds.launch import launch_round
from rlhf.rounds.report import reports_of
from rlhf.rounds.settings import Launch
from tests.rlhf.conftest import work

NEW_ROUND, ROUNDS = "/p/cooking/rounds/new/", "/p/cooking/rounds/"


def of_home(operator):
    """(demonstrations, rankings) that Home tells of, and the page that it opens."""
    for card in to_do(operator.memberships.get()):
        if card.title == "Launch a round":
            said = re.search(r"(\d+) demonstrations? and (\d+) rankings?", card.detail)
            return (int(said[1]), int(said[2])), card.url_name
    return (0, 0), ""


def of_new_round(browse, operator):
    page = browse(operator).get(NEW_ROUND).content.decode()
    return tuple(
        int(re.search(rf"<dt>{name}</dt><dd>(\d+)</dd>", page)[1])
        for name in ("Demonstrations", "Rankings")
    )


def withdraw(project, olga, alice, bob, prompts):
    Withdrawal.withdraw(project, person=bob, by=olga)


def leave_out(project, olga, alice, bob, prompts):
    Membership.objects.filter(user=bob).update(excluded_at=timezone.now())


def archive(project, olga, alice, bob, prompts):
    prompts[0].archived_at = timezone.now()
    prompts[0].save()


def refuse(project, olga, alice, bob, prompts):
    for verdict, ranking in zip(("excluded", "sent_back"), Ranking.objects.all(), strict=False):
        Review.objects.create(ranking=ranking, reviewer=olga, verdict=verdict)
    Review.objects.create(
        demonstration=Demonstration.objects.first(), reviewer=olga, verdict="excluded"
    )


def accept_after_all(project, olga, alice, bob, prompts):
    refuse(project, olga, alice, bob, prompts)
    for ranking in Ranking.objects.all()[:2]:
        Review.objects.create(ranking=ranking, reviewer=olga, verdict="accepted")


def retract(project, olga, alice, bob, prompts):
    label = Demonstration.objects.first()
    Demonstration.objects.create(
        prompt=label.prompt, labeler=alice, text="", supersedes=label, revision_no=2, retracted=True
    )


def leave_empty(project, olga, alice, bob, prompts):
    Demonstration.objects.create(prompt=prompts[0], labeler=bob, text="  \n")


def tie_all(project, olga, alice, bob, prompts):
    ranking = Ranking.objects.first()
    ranking.placements.update(place=1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (None, (16, 32)),
        (withdraw, (16, 16)),
        (leave_out, (16, 16)),
        (archive, (15, 30)),
        (refuse, (15, 30)),
        (accept_after_all, (15, 32)),
        (retract, (15, 32)),
        (leave_empty, (16, 32)),
        (tie_all, (16, 31)),
    ],
)
def test_home_new_round_and_rounds_count_the_same_labels(
    project, labels, base, olga, alice, bob, prompts, browse, fake_trainer, change, counts
):
    if change:
        change(project, olga, alice, bob, prompts)
    assert of_home(olga) == (counts, "rounds_new")
    assert of_new_round(browse, olga) == counts
    launch_round(project, Launch(base=base, recipe="tiny", stages=("sft", "reward")), by=olga)
    fake_trainer(steps=2)
    assert [work().state for _ in range(2)] == ["succeeded", "succeeded"]
    learns_from = f"{counts[0]} demonstrations · {counts[1]} rankings"
    assert [report.counts for report in reports_of(project)] == [learns_from]
    assert learns_from in browse(olga).get(ROUNDS).content.decode()
