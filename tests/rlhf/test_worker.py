"""Real workers: processes of `manage.py work train`, killed, deafened and asked to leave."""

import signal
import time

import pytest

from annotate.models import Policy
from feedback_site import bell
from rlhf.models import Round, Run
from tests.rlhf.conftest import trainers, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

NO_REDIS = "redis://127.0.0.1:9/0"


def is_over(round: Round) -> bool:
    return not round.runs.not_over().exists()


def figures(run: Run) -> list[tuple]:
    return list(run.metrics.values_list("step", "split", "values").order_by("step", "split"))


def test_a_run_of_a_killed_worker_is_taken_over_and_ends_the_same(
    round, hire, fake_trainer, data_dir
):
    fake_trainer(steps=30, seconds=0.2)
    run = round.runs.get(position=0)
    first = hire()
    wait_for(lambda: run.checkpoints.filter(step=6).exists())
    assert trainers(data_dir)
    first.kill()
    died = time.monotonic()
    wait_for(lambda: not trainers(data_dir), 2)
    fake_trainer(steps=30)
    hire()
    wait_for(lambda: is_over(round))
    assert time.monotonic() - died < 30
    run.refresh_from_db()
    assert (run.state, run.lease_token) == (Run.State.SUCCEEDED, 2)
    uninterrupted = [(step, 1 / step) for step in range(1, 31)]
    trained = run.metrics.filter(split="train").order_by("step")
    assert [(row.step, row.values["loss"]) for row in trained] == uninterrupted
    assert trained.first().lease_token == 1 and trained.last().lease_token == 2
    assert run.samples.count() == 30
    assert Policy.objects.filter(name="r1-ppo").exists()


def test_a_round_goes_on_when_redis_is_emptied_in_the_middle(round, hire, fake_trainer, redis):
    fake_trainer(steps=10, seconds=0.1)
    hire()
    for position in (0, 2):
        run = round.runs.get(position=position)
        wait_for(lambda run=run: run.metrics.exists())
        redis.flushall()
    wait_for(lambda: is_over(round))
    assert set(round.runs.values_list("state", flat=True)) == {Run.State.SUCCEEDED}
    assert set(round.runs.values_list("lease_token", flat=True)) == {1}, "a run was done twice"


def test_a_worker_finds_the_work_without_redis(round, hire, fake_trainer):
    worker = hire(REDIS_URL=NO_REDIS)
    wait_for(lambda: is_over(round))
    assert round.runs.filter(state=Run.State.SUCCEEDED).count() == 4
    assert worker.poll() is None


def test_leftovers_in_redis_do_no_harm(round, hire, fake_trainer, redis):
    redis.rpush("rq:queue:train", "no-such-job")
    bell._enqueue("train", "rlhf.jobs.train", 999_999)
    bell._enqueue("train", "rlhf.jobs.no_such_function", 1)
    for run in round.runs.all():
        bell._enqueue("train", "rlhf.jobs.train", run.pk)
        bell._enqueue("train", "rlhf.jobs.train", run.pk)
    worker = hire()
    wait_for(lambda: is_over(round) and redis.llen("rq:queue:train") == 0)
    assert set(round.runs.values_list("state", "lease_token")) == {("succeeded", 1)}
    assert worker.poll() is None


def test_sigterm_saves_the_run_and_ends_the_worker(round, hire, fake_trainer, data_dir):
    fake_trainer(steps=2000, seconds=0.05)
    worker = hire()
    run = round.runs.get(position=0)
    wait_for(lambda: run.metrics.exists())
    asked = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert time.monotonic() - asked < 30
    run.refresh_from_db()
    assert (run.state, run.leased_until) == (Run.State.QUEUED, None)
    assert run.checkpoints.filter(step=run.metrics.order_by("-step").first().step).exists()
    assert not trainers(data_dir)


@pytest.mark.parametrize("queue", ["label", "train"])
def test_a_worker_shows_itself_even_after_redis_was_emptied(db, hire, redis, queue):
    worker = hire(queue)

    def is_seen() -> bool:
        keys = redis.smembers(f"rq:workers:{queue}")
        return any(redis.hget(key, "last_heartbeat") for key in keys)

    wait_for(is_seen)
    redis.flushdb()
    wait_for(is_seen)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert not redis.smembers(f"rq:workers:{queue}")
