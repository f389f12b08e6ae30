"""Operators are told of a labeler who agrees with the others less than before."""

import random
from datetime import date, timedelta

import pytest
from django.utils import timezone

from annotate.jobs import look
from annotate.labels.agreement import Ranked
from annotate.models import Membership, Project, Webhook
from annotate.quality import drift
from annotate.quality.drift import drifts, look_for_drifts
from annotate.webhooks.models import Event
from annotate.webhooks.sending import in_words

TODAY = date(2026, 5, 20)


def ranked(seed, *, right_lately, days=30, a_day=6):
    """Three people who put each of two answers the right way in nine of ten; the third in the last
    days as often as is said."""
    generator = random.Random(seed)
    found = []
    for prompt in range(days * a_day):
        day = TODAY - timedelta(days=days - 1 - prompt // a_day)
        for labeler in (1, 2, 3):
            is_late = day > TODAY - drift.LATELY
            right = right_lately if labeler == 3 and is_late else 0.9
            order = {0: 1, 1: 2} if generator.random() < right else {0: 2, 1: 1}
            found.append(Ranked(prompt, labeler, order, day=day))
    return found


def test_who_begins_to_click_at_random_drifts_and_nobody_else():
    found = [dict(drifts(ranked(seed, right_lately=0.5), TODAY)) for seed in range(12)]
    assert sum(3 in each for each in found) >= 10
    assert sum(bool(each.keys() & {1, 2}) for each in found) <= 2


def test_who_stays_the_same_does_not_drift():
    found = [dict(drifts(ranked(seed, right_lately=0.9), TODAY)) for seed in range(12)]
    assert sum(map(bool, found)) <= 1


def test_who_is_new_has_nothing_to_drift_from():
    assert not dict(drifts(ranked(1, right_lately=0.5, days=7), TODAY))


@pytest.fixture
def drifting(project, alice, bob, monkeypatch):
    carol = project.admit(name="carol", role="labeler")
    people = dict(enumerate((alice, bob, carol), 1))
    monkeypatch.setattr(timezone, "localdate", lambda: TODAY)
    rankings = [
        Ranked(each.prompt, people[each.labeler].pk, each.places, day=each.day)
        for each in ranked(1, right_lately=0.4)
    ]
    monkeypatch.setattr(drift, "doubly_ranked", lambda of: rankings if of == project else [])
    return carol


@pytest.mark.django_db
def test_operators_and_webhooks_are_told_once_a_week(project, drifting, olga):
    webhook = Webhook(project=project, url="https://x.invalid/a", created_by=olga)
    webhook.events = [Event.DRIFT]
    webhook.make_secret()
    webhook.save()
    Project.objects.exclude(pk=project.pk).update(labelers_seen_at=timezone.now())
    look()
    member = project.memberships.get(user=drifting)
    [notice] = olga.notices.all()
    assert notice.subject.startswith("carol drifts: right on ") and f"/{member.pk}/" in notice.link
    [delivery] = webhook.deliveries.all()
    assert delivery.data["lately"] < delivery.data["before"] > 0.8
    assert in_words(delivery).startswith("carol drifts: right on ")
    olga.notices.all().mark_seen()

    def told_after(**ago):
        Project.objects.filter(pk=project.pk).update(labelers_seen_at=None)
        before = timezone.now() - timedelta(**ago)
        Membership.objects.filter(pk=member.pk).update(drift_told_at=before)
        return look_for_drifts()

    assert look_for_drifts() == 0, "not on the same day"
    assert (told_after(days=6), told_after(days=8)) == (0, 1)
    assert olga.notices.count() == 2
