"""The first page of a project, and the time sheet: what is to do, and what was done."""

import csv
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from annotate.labelling.queue import next_assignment
from annotate.labels.reviews import Review
from annotate.models import Assignment, Demonstration
from annotate.views import home
from tests.annotate.answering import write


@pytest.mark.parametrize(
    ("hour", "said"),
    [(3, "evening"), (4, "morning"), (11, "morning"), (12, "afternoon"), (18, "evening")],
)
def test_the_greeting_knows_the_hour_where_the_viewer_is(monkeypatch, hour, said):
    now = datetime(2026, 5, 4, hour, 30, tzinfo=timezone.get_current_timezone())
    monkeypatch.setattr(home, "localtime", lambda: now)
    assert home.greeting() == f"Good {said}"


def test_home_leads_with_one_button_and_says_how_much_is_left(browse, alice, project, rank_task):
    for _ in range(3):
        rank_task()
    next_assignment(alice, project)
    text = browse(alice).get("/p/cooking/").text
    assert text.count('class="button primary"') == 1
    assert 'Continue ranking · <span class="figure">3</span> left' in text
    assert "Good " in text


def test_home_counts_today_and_this_week(alice, project, write_task):
    member = alice.memberships.get()
    assert home.work_of(member) is None
    for seconds in (30, 50, 70):
        write_task()
        write(alice, project, active_seconds=seconds)
    first = Assignment.objects.order_by("pk").first()
    long_ago = timezone.now() - timedelta(days=8)
    Assignment.objects.filter(pk=first.pk).update(ended_at=long_ago)
    work = home.work_of(member)
    assert (work.today.answers, work.today.seconds) == (2, 120)
    assert (work.week.answers, work.week.seconds) == (2, 120)


def test_other_rooms_tell_the_effect_of_the_work(browse, alice, monkeypatch):
    monkeypatch.setattr(home, "effects", [lambda member: iter([f"{member.user} did it."])])
    assert "alice did it." in browse(alice).get("/p/cooking/").text


def sheet(client, first, last):
    reply = client.get(f"/p/cooking/labelers/times.csv?first={first}&last={last}")
    return list(csv.DictReader(reply.text.splitlines()))


def test_a_time_sheet_has_a_row_for_each_person(
    browse, project, alice, bob, rita, write_task, settings
):
    today = timezone.localdate()
    for name, seconds in ((alice, 90), (alice, 120), (bob, 60)):
        write_task()
        write(name, project, text=f"{name} {seconds}", active_seconds=seconds)
    for label, verdict in zip(
        Demonstration.objects.order_by("pk"), ("accepted", "sent_back"), strict=False
    ):
        label.assignment.task.ask_for_review(["random"])
        review = next_assignment(rita, project, only="review")
        Review.record(
            assignment=review, verdicts={label.pk: verdict}, comment="So.", scores={label.pk: 3}
        )
    bob.first_name = "=1+1"
    bob.save()
    rows = {row["username"]: row for row in sheet(browse(rita), today, today)}
    kept = ("tasks", "accepted", "returned", "minutes")
    # What was returned is open again, and no answer of the period.
    assert [rows["alice"][name] for name in kept] == ["1", "1", "1", "1.5"]
    assert [rows["bob"][name] for name in kept] == ["1", "0", "0", "1.0"]
    assert rows["bob"]["name"] == "'=1+1"
    assert rows["rita"]["tasks"] == "2"
    project.wage, project.currency = Decimal(24), "EUR"
    project.save()
    page = browse(rita).get("/p/cooking/labelers/times/").text
    assert "Pay, EUR" in page and ">0.60<" in page and "first=2" in page
    tomorrow = today + timedelta(days=1)
    assert (
        "Nobody worked"
        in browse(rita).get(f"/p/cooking/labelers/times/?first={tomorrow}&last={tomorrow}").text
    )
    assert sheet(browse(rita), tomorrow, tomorrow) == []


@pytest.mark.parametrize("asked", ["first=x&last=y", "first=2026-05-02&last=2026-05-01"])
def test_a_period_that_is_none_says_what_to_do(browse, rita, asked):
    response = browse(rita).get(f"/p/cooking/labelers/times.csv?{asked}", follow=True)
    assert response.redirect_chain
    assert "Enter a valid date." in response.text or "Swap them." in response.text
    page = browse(rita).get(f"/p/cooking/labelers/times/?{asked}")
    assert page.status_code == 422
    assert "Enter a valid date." in page.text or "Swap them." in page.text


def test_labelers_do_not_see_the_times_of_others(browse, alice):
    assert browse(alice).get("/p/cooking/labelers/times.csv").status_code == 403
