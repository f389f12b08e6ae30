import threading
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from rlhf.models import Checkpoint, LeaseLost, Metric, Run, Sample, leases
from rlhf.models.leases import Lease, beating, claim
from rlhf.rounds.launch import prioritise_round


def a_run(project, **fields) -> Run:
    return Run.objects.create(project=project, kind=Run.Kind.SFT, **fields)


def expire(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(leased_until=timezone.now() - timedelta(seconds=1))


def a_metric(lease: Lease, step: int = 1) -> Metric:
    values = {"split": "train", "values": {}, "time": timezone.now()}
    return Metric(run=lease.run, lease_token=lease.token, step=step, **values)


def test_a_claim_leases_the_run_and_grows_the_token(project):
    run = a_run(project)
    lease = claim(run.pk)
    assert (lease.run, lease.token) == (run, 1)
    assert lease.run.state == Run.State.RUNNING
    assert lease.run.leased_until > timezone.now()
    assert lease.run.started_at
    assert claim(run.pk) is None
    assert claim() is None


@pytest.mark.parametrize("state", [s for s in Run.State.values if s not in ("queued", "running")])
def test_nobody_claims_a_run_that_does_not_wait(project, state):
    a_run(project, state=state)
    assert claim() is None


def test_the_oldest_waiting_run_comes_first(project):
    first, second = a_run(project), a_run(project)
    assert [claim().run, claim().run] == [first, second]


def test_a_higher_priority_goes_first(project):
    low, high, none = a_run(project, priority=1), a_run(project, priority=2), a_run(project)
    places = [run.place_in_queue() for run in (low, high, none)]
    assert places == [2, 1, 3]
    assert [claim().run for _ in range(3)] == [high, low, none]
    assert low.place_in_queue() is None


def test_a_round_put_first_passes_all_that_wait(project, round):
    a_run(project, priority=7)
    first = round.runs.get(position=0)
    assert first.place_in_queue() == 2
    assert prioritise_round(round)
    assert first.place_in_queue() == 1
    assert not prioritise_round(round), "twice"
    assert {run.place_in_queue() for run in round.runs.exclude(pk=first.pk)} == {None}


def test_one_run_at_a_time_works_in_a_slot(project):
    first, second = a_run(project), a_run(project)
    assert claim(slot="box/0").run == first
    assert claim(slot="box/0") is None
    assert claim(slot="box/1").run == second


def test_a_slot_is_free_once_its_run_is_over_or_its_worker_dead(project):
    runs = [a_run(project) for _ in range(3)]
    lease = claim(slot="box")
    lease.run.succeed(token=lease.token, summary={})
    dead = claim(slot="box")
    assert dead.run == runs[1]
    expire(dead.run)
    assert claim(slot="box").run == runs[1]


@pytest.mark.parametrize(
    ("pinned_to", "slot", "may"),
    [
        ("", "box", True),
        ("", "", True),
        ("box", "box", True),
        ("box", "box/1", True),
        ("box/1", "box/1", True),
        ("box/1", "box/0", False),
        ("box/1", "box", False),
        ("box", "other", False),
        ("box", "", False),
    ],
)
def test_a_pinned_run_waits_for_its_machine(project, pinned_to, slot, may):
    a_run(project, pinned_to=pinned_to)
    assert (claim(slot=slot) is not None) == may


@pytest.mark.django_db(transaction=True)
def test_two_workers_of_one_slot_never_claim_at_once(project):
    for _ in range(20):
        a_run(project)
    claimed: list[Lease] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(5):
            if lease := claim(slot="box/0"):
                claimed.append(lease)
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert len(claimed) == 1


def test_a_run_whose_worker_went_silent_is_taken_over(project):
    run = a_run(project)
    old = claim()
    expire(run)
    new = claim()
    assert (new.token, new.run.attempts_without_progress) == (2, 2)
    with pytest.raises(LeaseLost):
        old.beat()
    new.beat()


def test_a_run_waits_for_the_earlier_ones_of_its_round(round):
    kinds = []
    while lease := claim():
        assert claim() is None, "two runs of one round at once"
        kinds.append(lease.run.kind)
        lease.run.succeed(token=lease.token, summary={})
    assert kinds == ["sft", "reward", "ppo", "evaluate"]


def test_a_beat_prolongs_the_lease_and_carries_the_wish_to_cancel(project):
    run = a_run(project)
    lease = claim()
    expire(run)
    assert lease.beat() is False
    run.refresh_from_db()
    assert run.leased_until > timezone.now()
    run.request_cancel()
    assert lease.beat() is True


def test_the_fence_stops_a_stale_worker(project):
    run = a_run(project)
    stale = claim()
    expire(run)
    claim()
    with pytest.raises(LeaseLost), stale.fenced():
        pytest.fail("a stale worker came through the fence")


@pytest.mark.parametrize("kind", ["metric", "sample", "checkpoint"])
def test_the_database_itself_rejects_a_stale_lease(project, new_prompt, kind):
    run = a_run(project)
    stale = claim()
    expire(run)
    fresh = claim()
    prompt = new_prompt()

    def row(lease: Lease) -> Metric | Sample | Checkpoint:
        if kind == "metric":
            return a_metric(lease)
        mine = {"run": run, "lease_token": lease.token, "step": 1}
        if kind == "sample":
            return Sample(prompt=prompt, text="x", **mine)
        return Checkpoint(folder=f"t{lease.token}", manifest_sha256="0", **mine)

    with pytest.raises(DatabaseError, match="taken over"), transaction.atomic():
        row(stale).save()
    written = row(fresh)
    written.save()
    written.lease_token = stale.token
    with pytest.raises(DatabaseError, match="taken over"), transaction.atomic():
        written.save()


def test_without_the_trigger_a_stale_worker_would_write(project):
    """The teeth: what refuses above is the trigger."""
    run = a_run(project)
    stale = claim()
    expire(run)
    claim()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE rlhf_metric DISABLE TRIGGER require_lease")
    a_metric(stale).save()
    assert run.metrics.count() == 1


@pytest.mark.django_db(transaction=True)
def test_many_workers_claim_each_run_once(project):
    runs = {a_run(project).pk for _ in range(12)}
    claimed: list[int] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        while len(claimed) < len(runs):
            if lease := claim():
                claimed.append(lease.run.pk)
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert sorted(claimed) == sorted(runs)


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_a_run_that_another_is_just_claiming(project):
    a_run(project)
    claimed: list[Lease | None] = []

    def work() -> None:
        claimed.append(claim())
        connection.close()

    worker = threading.Thread(target=work)
    with transaction.atomic():
        assert claim()
        worker.start()
        worker.join(30)
        was_waiting = worker.is_alive()
    worker.join()
    assert not was_waiting
    assert claimed == [None]


@pytest.mark.django_db(transaction=True)
def test_contested_writes_are_all_by_the_holder(project, settings):
    """Workers with 30 ms leases write as fast as they can; a row of an older lease that comes
    after one of a newer lease is an inversion."""
    settings.LEASE_SECONDS = 0.03
    run = a_run(project)
    stop, refused = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            lease = claim(run.pk)
            for step in range(40 if lease else 0):
                try:
                    with transaction.atomic():
                        a_metric(lease, step=lease.token * 1000 + step).save()
                except DatabaseError:
                    refused.append(lease.token)
                    break
                stop.wait(0.005)
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    ends = time.monotonic() + 60
    while not refused or run.metrics.values("lease_token").distinct().count() < 6:
        assert time.monotonic() < ends, "nobody took over, or no stale write was tried"
        stop.wait(0.1)
    stop.set()
    for worker in workers:
        worker.join(120)
    tokens = list(run.metrics.order_by("pk").values_list("lease_token", flat=True))
    assert tokens == sorted(tokens)


@pytest.mark.django_db(transaction=True)
def test_a_lost_lease_is_told_at_once(project, settings, monkeypatch):
    settings.LEASE_SECONDS = 60
    monkeypatch.setattr(leases, "LONGEST_BEAT", 0.05)
    run = a_run(project)
    lease = claim()
    killed = threading.Event()
    with beating(lease) as heart:
        heart.when_lost = killed.set
        expire(run)
        with suppress(LeaseLost):  # a beat may come between the two
            while claim() is None:
                expire(run)
        assert killed.wait(60)
        assert heart.lost.is_set()
