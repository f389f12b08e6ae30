"""When what waits will start: the machine that is free first takes the next run."""

from datetime import timedelta

import pytest
from django.utils import timezone

from rlhf.models import Machine, Metric, Run
from rlhf.rounds import starts
from rlhf.rounds.launch import launch_round
from rlhf.rounds.settings import Launch
from rlhf.rounds.starts import seconds_left_of, starts_of
from rlhf.runs.queue import queue

pytestmark = pytest.mark.django_db


@pytest.fixture
def waiting(project, base, labels, olga, monkeypatch):
    """Four runs in the queue, each of which takes 100 s."""
    monkeypatch.setattr(starts, "seconds_as_before", lambda run: 100.0)
    rounds = [launch_round(project, Launch(base=base, recipe="tiny"), by=olga) for _ in range(4)]
    return [round.runs.first() for round in rounds]


def machine(slot, **fields):
    return Machine.objects.create(slot=slot, seen_at=timezone.now(), **fields)


def in_order(runs):
    found = starts_of(queue())
    return [found.get(run.pk) for run in runs]


def test_without_a_machine_nothing_starts(waiting):
    assert in_order(waiting) == [None] * 4
    machine("gpu1/0", takes=Machine.Takes.NOTHING_NEW)
    Machine.objects.create(slot="gone", seen_at=timezone.now() - timedelta(hours=1))
    assert in_order(waiting) == [None] * 4


def test_each_goes_to_the_machine_that_is_free_first(waiting):
    machine("gpu1/0")
    assert in_order(waiting) == [0, 100, 200, 300]
    machine("gpu1/1")
    assert in_order(waiting) == [0, 0, 100, 100]


def test_a_run_waits_for_the_machine_it_is_pinned_to(waiting):
    machine("gpu1/0")
    machine("gpu2/0")
    pins = ["gpu1/0", "gpu1", "gpu1", "nowhere"]
    for run, pin in zip(waiting, pins, strict=True):
        Run.objects.filter(pk=run.pk).update(pinned_to=pin)
    assert in_order(waiting) == [0, 100, 200, None]


def test_after_a_run_of_which_nothing_is_known_nothing_is_known(waiting, monkeypatch):
    monkeypatch.setattr(starts, "seconds_as_before", lambda run: None)
    machine("gpu1/0")
    assert in_order(waiting) == [0, None, None, None]


def test_the_run_that_works_is_counted_by_its_own_pace(waiting, browse, olga):
    now = timezone.now()
    first, second, *_ = waiting
    machine("gpu1/0")
    Run.objects.filter(pk=first.pk).update(
        state="running", slot="gpu1/0", started_at=now, taken_at=now, step=10, total_steps=30
    )
    assert starts_of(queue()) == {}, "no pace yet"
    for step in (1, 10):
        Metric.objects.create(
            run=first, lease_token=0, step=step, split="train", values={},
            time=now + timedelta(seconds=2 * step),
        )  # fmt: skip
    first.refresh_from_db()
    assert seconds_left_of(first) == pytest.approx(40)
    assert starts_of(queue())[second.pk] == pytest.approx(40)
    page = browse(olga).get("/p/cooking/rounds/queue/").text
    assert "Starts in about" in page and ">40 s<" in page
