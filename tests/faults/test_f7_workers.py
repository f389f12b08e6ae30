"""F7: a dead worker is replaced, one asked to leave saves its run first, a cancel is heard."""

import os
import signal
import time

import pytest

from rlhf.models import Round, Run
from rlhf.rounds.launch import cancel_round, launch_sampling, resume_round
from tests.faults.conftest import IS_LONG, PATIENCE, sized
from tests.rlhf.conftest import trainers, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(3600)]

REPLACED_WITHIN, LEAVES_WITHIN, CANCELLED_WITHIN = 90.0, 30.0, 10.0
DEATHS, LEAVINGS, CANCELS = (
    sized(short=1, long=5),
    sized(short=1, long=10),
    sized(short=2, long=40),
)
LEASE = {"LEASE_SECONDS": "60" if IS_LONG else "2"}


def works(run: Run) -> bool:
    """Its present attempt has written something."""
    run.refresh_from_db()
    is_held = run.state == Run.State.RUNNING
    return is_held and run.metrics.filter(lease_token=run.lease_token).exists()


def pid_of(run: Run) -> int:
    run.refresh_from_db()
    return int(run.worker.rsplit(":", 1)[1])


def seconds_until(condition, limit: float) -> float:
    began = time.monotonic()
    wait_for(condition, 2 * PATIENCE * limit)  # so that a miss is measured, and told below
    return time.monotonic() - began


def first_of(round: Round) -> Run:
    return round.runs.get(position=0)


def test_f7_a_dead_worker_is_replaced(round, hire, fake_trainer, data_dir, chance, report):
    fake_trainer(steps=100_000, seconds=0.05)
    run, waits = first_of(round), []
    workers = [hire(**LEASE), hire(**LEASE)]
    for _ in range(DEATHS):
        wait_for(lambda: works(run), 120)
        time.sleep(chance.uniform(0, 0.5))
        run.refresh_from_db()
        held, dead = run.lease_token, pid_of(run)
        os.kill(dead, signal.SIGKILL)
        waits.append(
            seconds_until(
                lambda held=held: Run.objects.get(pk=run.pk).lease_token > held, REPLACED_WITHIN
            )
        )
        next(worker for worker in workers if worker.pid == dead).wait()
        assert len(trainers(data_dir)) <= 1, "the dead worker's trainer lives on"
        workers.append(hire(**LEASE))
    report(deaths=DEATHS, slowest_seconds=round_up(max(waits)), lease_seconds=LEASE)
    assert max(waits) <= PATIENCE * REPLACED_WITHIN


@pytest.mark.skipif(IS_LONG, reason="the short form is enough to see the teeth")
def test_f7_with_a_lease_that_never_ends_it_would_not_be(
    round, hire, fake_trainer, project, base, prompts, olga
):
    fake_trainer(steps=100_000, seconds=0.05)
    run = first_of(round)
    worker = hire(LEASE_SECONDS="86400")
    wait_for(lambda: works(run), 120)
    worker.kill()
    worker.wait()
    fake_trainer()
    sampling = launch_sampling(project, by=olga, policies=[base], k=2, prompts=prompts[:1])
    hire(LEASE_SECONDS="86400")
    Run.objects.filter(pk=run.pk).update(slot="")  # the machine that died is another one
    wait_for(lambda: Run.objects.get(pk=sampling.pk).is_over, 120)
    run.refresh_from_db()
    assert (run.state, run.lease_token) == (Run.State.RUNNING, 1)


def test_f7_a_worker_that_is_asked_to_leave_saves_its_run(
    round, hire, fake_trainer, data_dir, report
):
    fake_trainer(steps=100_000, seconds=0.05)
    run, waits = first_of(round), []
    for _ in range(LEAVINGS):
        worker = hire(**LEASE)
        wait_for(lambda: works(run), 120)
        worker.send_signal(signal.SIGTERM)
        waits.append(seconds_until(lambda w=worker: w.poll() is not None, LEAVES_WITHIN))
        assert worker.returncode == 0
        run.refresh_from_db()
        last = run.metrics.order_by("-step").first().step
        assert run.state == Run.State.QUEUED
        assert run.checkpoints.filter(step=last).exists(), "it left without saving"
        assert not trainers(data_dir)
    report(leavings=LEAVINGS, slowest_seconds=round_up(max(waits)))
    assert max(waits) <= PATIENCE * LEAVES_WITHIN


def test_f7_a_cancel_is_heard(round, hire, fake_trainer, report):
    fake_trainer(steps=100_000, seconds=0.05)
    run, waits = first_of(round), []
    hire(**LEASE)
    for _ in range(CANCELS):
        wait_for(lambda: works(run), 120)
        assert cancel_round(round)
        waits.append(seconds_until(lambda: Run.objects.get(pk=run.pk).is_over, CANCELLED_WITHIN))
        run.refresh_from_db()
        assert run.state == Run.State.CANCELLED
        assert run.checkpoints.exists(), "it saves itself first"
        assert resume_round(round)
    slow = sorted(waits)[max(0, int(0.95 * len(waits)) - 1)]
    report(cancels=CANCELS, p95_seconds=round_up(slow), slowest_seconds=round_up(max(waits)))
    assert slow <= PATIENCE * CANCELLED_WITHIN


def round_up(seconds: float) -> float:
    return int(seconds * 1000 + 1) / 1000
