"""A world whose figures are all at their extremes: no page calls one of them certain."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.models import Assignment, Call, Completion, Conversation, Feedback, Message
from annotate.templatetags.show import interval, spread
from rlhf.models import Evaluation, Metric, Run
from tests.rlhf.conftest import rank

WIDTHLESS = re.compile(r"\(\s*([+−-]?[\d.]+\s?%?)\s*(?:–|to)\s*\1\s*\)")
PAGES = [
    "", "rounds/", "rounds/1/", "rounds/compare/?round=1", "policies/", "evaluation/",
    "production/", "costs/", "labelers/", "progress/", "feedback/", "gate/",
]  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.861, 1.0, "(86%–100%)"),
        (0.8301, 0.8304, "(83.01%–83.04%)"),
        (1.0, 1.0, "(no interval)"),
        (None, 1.0, "(no interval)"),
    ],
)
def test_the_ends_of_an_interval_are_told_apart(low, high, said):
    assert interval(low, high) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.5, 1.25, "(-0.50 to 1.25)"),
        (0.1231, 0.1234, "(0.1231 to 0.1234)"),
        (2.0, 2.0, "(no interval)"),
        (None, None, "(no interval)"),
    ],
)
def test_the_ends_of_an_interval_of_numbers_are_told_apart(low, high, said):
    assert spread(low, high) == said


@pytest.fixture
def at_extremes(project, round, trained, base, prompts, alice, bob, olga, gus):
    """All agree on everything, the new policy has won 23 of 23, and the one guest is happy."""
    base.go_live()
    now = timezone.now()
    for prompt in prompts:
        task = project.tasks.create(prompt=prompt, kind="rank", overlap=2)
        said = [
            Completion.objects.create(
                prompt=prompt, policy=policy, text=f"By {policy}", source="evaluation"
            )
            for policy in (trained, base)
        ]
        for labeler in (alice, bob):
            work = Assignment.objects.create(
                task=task, labeler=labeler, state="submitted", leased_until=now, ended_at=now
            )
            ranking = rank(prompt, base, labeler, places=[])
            type(ranking).objects.filter(pk=ranking.pk).update(assignment=work)
            for place, completion in enumerate(said, 1):
                ranking.placements.create(completion=completion, place=place)
    run = round.runs.get(kind=Run.Kind.REWARD)
    Run.objects.filter(round=round).update(
        state="succeeded", started_at=now, ended_at=now, worked=timedelta(seconds=5)
    )
    values = {
        "reward/accuracy": 1.0, "reward/accuracy_low": 1.0, "reward/accuracy_high": 1.0,
        "reward/longer_wins": 1.0,
    }  # fmt: skip
    Metric.objects.create(run=run, step=1, split="final", values=values, time=now)
    for low, high in ((1.0, 1.0), (0.99991, 0.99994)):
        Evaluation.objects.create(
            run=round.runs.last(), round=round, policy=trained, opponent=base,
            judge="reward_model", wins=23, losses=0, ties=0, win_rate=1.0, low=low, high=high,
        )  # fmt: skip
    Call.objects.create(project=project, policy=base, use="chat", outcome="answered", total_ms=9)
    answer = Conversation.start(project=project, guest=gus, text="What is rice?")
    Message.objects.filter(pk=answer.pk).update(state="done", text="A grain.", policy=base)
    Feedback.objects.create(message=answer, user=gus, thumb_up=True, harvested_at=now)


@pytest.mark.django_db
def test_no_page_shows_an_interval_of_no_width(at_extremes, trained, browse, olga, project, alice):
    client = browse(olga)
    member = project.memberships.get(user=alice)
    some = [f"policies/{trained.pk}/gate/", f"labelers/{member.pk}/"]
    seen = ""
    for name in [*PAGES, *some]:
        reply = client.get(f"/p/cooking/{name}")
        assert reply.status_code == 200, name
        words = " ".join(re.sub(r"<[^>]+>", " ", reply.text).split())
        assert not WIDTHLESS.search(words), (name, WIDTHLESS.search(words))
        seen += words
    shown = re.findall(r"100% \([\d.]+%–100%\)", seen)
    assert len(shown) >= 5, "100 % is shown with its interval, by people and by thumbs"
