"""Real workers: processes of `manage.py work train`, killed, deafened and asked to leave."""

import ast
import os
import pickle
import signal
import threading
import time
import zlib
from pathlib import Path

import pytest
from django.conf import settings
from redis import Redis
from rq import Queue
from rq.job import Job

from annotate import jobs
from annotate.models import Policy
from feedback_site import bell
from rlhf.management.commands.work import JOBS, Ear
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
    wait_for(lambda: not trainers(data_dir), 20)
    fake_trainer(steps=30)
    hire()
    wait_for(lambda: is_over(round))
    assert time.monotonic() - died < 120
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
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(90) == 0
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
    assert worker.wait(90) == 0
    assert not redis.smembers(f"rq:workers:{queue}")


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def plant(redis: Redis, queue: str, data: bytes, **fields: str | bytes) -> None:
    """An entry of RQ's, written by hand."""
    name = f"planted-{redis.incr('planted')}"
    redis.hset(Job.key_for(name), mapping={"data": data, "origin": queue, **fields})
    redis.rpush(f"rq:queue:{queue}", name)


@pytest.mark.parametrize("queue", ["label", "train"])
def test_what_is_planted_in_redis_is_not_run_and_ends_no_worker(db, hire, redis, tmp_path, queue):
    trace = tmp_path / "trace"
    touch = f"touch {trace}"
    worker = hire(queue)
    ours = sorted(JOBS[queue])[0]
    Queue(queue, connection=redis).enqueue(os.system, touch)
    Queue(queue, connection=redis, serializer="json").enqueue(os.system, touch)
    Queue(queue, connection=redis, serializer="json").enqueue(
        ours, 999_999, on_success=os.system, on_failure=os.system, on_stopped=os.system
    )
    plant(redis, queue, zlib.compress(pickle.dumps(Touch(trace))))
    plant(redis, queue, pickle.dumps(Touch(trace)))
    plant(redis, queue, b'["os.system", null, ["' + touch.encode() + b'"], {}]')
    plant(
        redis,
        queue,
        b'["' + ours.encode() + b'", null, [1], {}]',
        result=pickle.dumps(Touch(trace)),
    )
    plant(redis, queue, zlib.compress(b"[" * 1_000_000))
    plant(redis, queue, zlib.compress(bytes(2**30), 1))
    for odd in (b"", b"null", b"17", b'["os.system"]', b'[["os.system"], null, [1], {}]', b"\xff"):
        plant(redis, queue, odd)
    redis.rpush(f"rq:queue:{queue}", b"\xff\xfe", "")
    redis.sadd(Job.key_for("a-set"), "x")
    redis.rpush(f"rq:queue:{queue}", "a-set")
    bell._enqueue(queue, ours, 999_999)
    wait_for(lambda: redis.llen(f"rq:queue:{queue}") == 0)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(90) == 0
    assert not trace.exists()


def test_a_ring_starts_its_job_and_no_other(db, redis, monkeypatch):
    heard = []
    monkeypatch.setattr(jobs, "harvest", heard.append)
    ear = Ear("label", threading.Event())
    bell._enqueue("label", "annotate.jobs.harvest", 17)
    assert ear._hear()
    assert heard == [17]
    for function in ("annotate.jobs.harvest_waiting", "rlhf.jobs.train", "os.system"):
        bell._enqueue("label", function, 18)
        with pytest.raises(bell.NotARing, match=function):
            ear._hear()
    assert heard == [17] and not redis.keys("rq:job:*")


RINGS = ("enqueue_on_commit", "bell.enqueue_on_commit")


def test_every_ring_in_the_code_is_one_that_a_worker_knows():
    rings = set()
    for app in ("annotate", "rlhf"):
        for file in (settings.BASE_DIR / app).rglob("*.py"):
            for call in ast.walk(ast.parse(file.read_text())):
                if isinstance(call, ast.Call) and ast.unparse(call.func) in RINGS:
                    rings.add(tuple(ast.literal_eval(each) for each in call.args[:2]))
    assert rings == {(queue, job) for queue, known in JOBS.items() for job in known}


def test_a_ring_reaches_a_redis_that_wants_a_password(db, monkeypatch, redis):
    with_password = settings.REDIS_URL.replace("unix://", "unix://:secret@")
    redis.config_set("requirepass", "secret")
    monkeypatch.setattr(settings, "REDIS_URL", with_password)
    bell.connection.cache_clear()
    try:
        bell._enqueue("label", "annotate.jobs.harvest", 17)
        ring = bell.hear("label", Redis.from_url(with_password), seconds=1)
        assert ring == bell.Ring("annotate.jobs.harvest", (17,))
    finally:
        bell.connection().config_set("requirepass", "")
        bell.connection.cache_clear()


def test_a_redis_with_tls_has_to_show_its_certificate(monkeypatch):
    monkeypatch.setattr(settings, "REDIS_URL", "rediss://:secret@redis.example.org:6380/0")
    made = bell.connection.__wrapped__().connection_pool.make_connection()
    assert (made.cert_reqs.name, made.check_hostname) == ("CERT_REQUIRED", True)
