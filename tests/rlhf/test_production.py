"""What guests and products got from each policy, and when a challenge is decided."""

import csv
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from annotate.models import Call, Conversation, Feedback, Message, Policy, User
from rlhf.costs.production import duel_of, production
from rlhf.models import Promotion
from rlhf.stages.chart import colours_of

NOW = timezone.now


@pytest.fixture
def live(project):
    return Policy.objects.create(project=project, name="old", origin="base", state="live")


@pytest.fixture
def challenger(project, olga):
    policy = Policy.objects.create(
        project=project, name="new", origin="prompted", state="challenger"
    )
    Promotion.objects.create(
        project=project, policy=policy, act="challenge", reason="Try it.", decided_by=olga
    )
    Promotion.objects.update(created_at=NOW() - timedelta(days=2))
    return policy


@pytest.fixture
def rate(project):
    """rate(policy, "ann", up) has this guest thumb an answer of the policy."""

    def rate(policy, name, is_up, *, days_ago=1.0, keeps_out=False, end_user=""):
        guest, _ = User.objects.get_or_create(username=name)
        chat = Conversation.objects.create(
            project=project, guest=guest, improves_model=not keeps_out, end_user=end_user
        )
        question = Message.objects.create(conversation=chat, role="user", text="How long, *Ann*?")
        answer = Message.objects.create(
            conversation=chat, role="assistant", answers=question, policy=policy, text="So long."
        )
        thumb = Feedback.objects.create(message=answer, user=guest, thumb_up=is_up)
        Feedback.objects.filter(pk=thumb.pk).update(
            created_at=NOW() - timedelta(days=days_ago), harvested_at=NOW()
        )
        return thumb

    return rate


def serve(policy, count, *, days_ago=1.0, **fields):
    told = {"use": "chat", "outcome": "answered", "total_ms": 900, "first_ms": 90, **fields}
    Call.objects.bulk_create(
        Call(project=policy.project, policy=policy, at=NOW() - timedelta(days=days_ago), **told)
        for _ in range(count)
    )


def counts(test):
    return [(each.ups, each.downs) for each in (test.live, test.challenger)]


def test_the_first_thumb_of_each_guest_since_the_challenge_counts_for_each_of_the_two(
    project, live, challenger, rate
):
    rate(live, "ann", True)
    rate(live, "ann", False)  # a second one
    rate(challenger, "ann", False)
    rate(live, "ben", True, days_ago=3)  # before the challenge
    rate(live, "cleo", True, keeps_out=True)
    for user in ("one", "two"):  # of a product that says who asks
        rate(challenger, "product", True, end_user=user)
    rate(challenger, "dora", True).retract()
    assert counts(duel_of(project).test) == [(1, 0), (2, 1)]


def test_without_a_challenger_nothing_is_compared(project, live):
    assert duel_of(project) is None


@pytest.mark.parametrize(
    ("ups", "said"),
    [
        (40, "challenger is better"),
        (0, "challenger is worse"),
        (22, "Continue"),
    ],
)
def test_the_page_says_when_to_stop_who_judged_and_of_how_many(
    live, challenger, rate, olga, browse, ups, said
):
    for number in range(40):
        rate(live, f"g{number}", number < 20)
        rate(challenger, f"g{number}", number < ups)
    serve(live, 3)
    page = browse(olga).get("/p/cooking/production/").content.decode()
    words = " ".join(page.split()).partition("Live against challenger")[2]
    assert said in words
    assert words.count("of 40 guests") == 2
    assert "Judged by guests" in words and "holds with 95 %" in words
    assert ("more guests to decide" in words) == (said == "Continue")


def test_a_policy_is_shown_with_what_it_served_and_how_it_was_received(
    project, live, rate, olga, browse
):
    serve(live, 8, tokens_in=10, tokens_out=5, price=Decimal("0.01"))
    serve(live, 2, outcome="failed", total_ms=60_000)
    serve(live, 4, use="grid", total_ms=99_000)  # by operators
    serve(live, 4, days_ago=20)
    for name in ("ann", "ann", "ann", "ben"):
        rate(live, name, name == "ann")
    (row,) = production(project, days=7).served
    assert (row.total.answered, row.total.failed, row.total.tokens) == (8, 2, 120)
    assert (row.total.price, row.times.whole.p95, row.times.first.p50) == (Decimal("0.08"), 900, 90)
    assert (row.thumbs.value, row.thumbs.trials, row.guests) == (0.75, 4, 2)
    low, high = row.thumbs.interval
    assert low < 0.2 and high > 0.95  # two guests, not four thumbs
    assert production(project, days=30).served[0].total.answered == 12
    page = browse(olga).get("/p/cooking/production/?days=7").content.decode()
    assert f"/p/cooking/policies/{live.pk}/" in page
    assert "How long, *Ann*?" in page


def test_answers_that_were_logged_are_counted_as_such(project, live, rate, olga, browse):
    for number in range(3):
        thumb = rate(live, "ann", is_up=True)
        chat = Conversation.objects.filter(pk=thumb.message.conversation_id)
        chat.update(external_id=f"a{number}", via_api=True)
    rate(live, "ben", is_up=True)
    (row,) = production(project, days=7).served
    assert (row.total.answered, row.logged) == (0, 3)
    assert "3 logged" in browse(olga).get("/p/cooking/production/?days=7").content.decode()


@pytest.mark.parametrize(
    ("days", "unit", "long_ago"),
    [(1, "hour", 0.5), (7, "day", 4), (30, "day", 9), (90, "week", 50)],
)
def test_time_is_cut_into_hours_days_or_weeks(project, live, days, unit, long_ago):
    serve(live, 2, days_ago=0.001)
    serve(live, 1, days_ago=long_ago)
    serve(live, 1, days_ago=days + 1)
    shown = production(project, days=days)
    assert shown.unit == unit
    assert [each.total.answered for each in shown.moments] == [2, 1]
    lines = {line["label"] for chart in shown.charts for line in chart["series"]}
    assert lines == {"old", "old, median", "old, 95th percentile"}


def _coloured(charts) -> set[tuple[str, int]]:
    return {
        (line["label"].split(",")[0], line["colour"])
        for each in charts.values()
        for line in each["series"]
    }


def test_a_line_keeps_its_colour_in_all_charts_and_shows_its_interval(
    project, live, challenger, rate
):
    serve(live, 5)
    serve(challenger, 2)
    rate(live, "ann", True)
    rate(challenger, "ann", True)
    rate(challenger, "ben", False)
    charts = {each["title"]: each for each in production(project, days=7).charts}
    colours = colours_of([live.pk, challenger.pk])
    expected = {("old", colours[live.pk]), ("new", colours[challenger.pk])}
    assert _coloured(charts) == expected
    serve(challenger, 9)
    charts = {each["title"]: each for each in production(project, days=7).charts}
    assert _coloured(charts) == expected, "whoever has more answers"
    (row,) = charts["Thumbs up"]["rows"]
    name = f"{challenger.pk} 0"
    assert row["values"][f"{name} low"] < 0.5 == row["values"][name] < row["values"][f"{name} high"]
    assert "Cost" not in charts  # no price is known


def test_everything_is_in_the_csv(live, rate, olga, browse):
    serve(live, 3, price=Decimal("0.5"), tokens_in=7, tokens_out=1)
    rate(live, "ann", True)
    reply = browse(olga).get("/p/cooking/production/production.csv?days=7")
    header, row = csv.reader(reply.content.decode().splitlines())
    found = dict(zip(header, row, strict=True))
    assert (found["policy"], found["answers"], found["tokens in"]) == ("old", "3", "21")
    assert (found["whole answer p95 ms"], found["thumbs"], found["thumbs up"]) == (
        "900",
        "1",
        "1.0",
    )
    assert Decimal(found["price"]) == Decimal("1.5")


def test_the_page_says_what_to_do_before_anybody_has_asked(olga, browse, project):
    page = browse(olga).get("/p/cooking/production/").content.decode()
    assert "No answers in this period" in page and "promote a policy" in page
