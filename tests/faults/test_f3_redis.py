"""F3: Redis only rings. Killed and emptied at any moment, it costs time and nothing else."""

import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.urls import reverse
from redis.exceptions import RedisError

from annotate.models import Completion
from feedback_site import bell, embedded
from feedback_site.processes import Process
from rlhf.management.commands import work
from rlhf.models import Run
from tests.faults.conftest import PATIENCE, sized
from tests.rlhf.conftest import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

DEATHS = sized(short=3, long=20)
ANSWERS_WITHIN, STARTS_WITHIN = 1.0, 60.0


@pytest.fixture
def own_redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """A Redis that may die; the rest of the session has another one."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        with embedded.redis(Path(folder), logs=Path(folder)) as service:
            monkeypatch.setattr(settings, "REDIS_URL", service.url)
            bell.connection.cache_clear()
            yield service.process
        bell.connection.cache_clear()


@contextmanager
def dead(redis: Process) -> Iterator[None]:
    """Killed, and so emptied: it comes back with nothing."""
    redis.kill()
    wait_for(lambda: not redis.is_running())
    yield
    redis.start()
    wait_for(_listens)


def _listens() -> bool:
    try:
        return bool(bell.connection().ping())
    except RedisError:
        return False


class Deaths:
    """Kills Redis at random instants, from a thread of its own, until so many times."""

    def __init__(self, redis: Process, chance: random.Random) -> None:
        self.redis, self.chance, self.left = redis, chance, DEATHS
        self.thread = threading.Thread(target=self._die)

    def _die(self) -> None:
        while self.left:
            time.sleep(self.chance.uniform(0.2, 1.5))
            self.redis.kill()
            time.sleep(self.chance.uniform(0, 1.0))
            self.redis.start()
            self.left -= 1


def launch(client, project, base) -> float:
    """Posts a sampling, of a policy of its own: the same one again, while it is under way, would be
    no other run. How many seconds the answer took."""
    policy = project.policies.create(
        name=f"speaker {project.policies.count()}", origin=base.origin, folder=base.folder
    )
    url = reverse("policies_sample", args=[project.slug])
    started = time.monotonic()
    answer = client.post(url, {"policies": [policy.pk], "k": 2, "split": "test"})
    assert answer.status_code == 302, answer.content
    return time.monotonic() - started


@pytest.mark.timeout(1800)
def test_f3_no_run_is_lost_or_doubled_however_often_redis_dies(
    project, base, prompts, olga, browse, hire, fake_trainer, own_redis, chance, report
):
    hire(REDIS_URL=settings.REDIS_URL)
    hire(REDIS_URL=settings.REDIS_URL)
    fake_trainer(seconds=0.1)
    client, waits = browse(olga), []
    deaths = Deaths(own_redis, chance)
    deaths.thread.start()
    while deaths.left or len(waits) < DEATHS:
        waits.append(launch(client, project, base))
        time.sleep(chance.uniform(0, 0.5))
    deaths.thread.join()
    wait_for(lambda: not Run.objects.not_over().exists(), 120)
    runs = Run.objects.all()
    lost = [run.pk for run in runs if run.state != Run.State.SUCCEEDED]
    doubled = [run.pk for run in runs if run.lease_token != 1]
    expected = sum(run.summary.get("completions", 0) for run in runs)
    report(deaths=DEATHS, runs=len(runs), lost=len(lost), doubled=len(doubled))
    report(slowest_post_seconds=round_up(max(waits)))
    assert not lost and not doubled
    assert len(runs) == len(waits) >= DEATHS
    assert Completion.objects.count() == expected > 0


def round_up(seconds: float) -> float:
    return int(seconds * 1000 + 1) / 1000


@pytest.mark.timeout(1800)
def test_f3_a_run_posted_without_redis_starts_once_it_is_back(
    project, base, prompts, olga, browse, hire, fake_trainer, own_redis, report
):
    hire(REDIS_URL=settings.REDIS_URL)
    client, waits, starts = browse(olga), [], []
    launch(client, project, base)  # the first request of a process loads its templates
    wait_for(lambda: not Run.objects.not_over().exists())
    for _ in range(sized(short=1, long=10)):
        with dead(own_redis):
            waits.append(launch(client, project, base))
        back = time.monotonic()
        run = Run.objects.latest("pk")
        wait_for(lambda run=run: Run.objects.get(pk=run.pk).is_over, PATIENCE * STARTS_WITHIN)
        starts.append(time.monotonic() - back)
    report(slowest_post_seconds=round_up(max(waits)), slowest_start_seconds=round_up(max(starts)))
    assert max(waits) < PATIENCE * ANSWERS_WITHIN


def test_f3_without_the_look_in_postgresql_a_lost_ring_would_be_a_lost_run(
    project, base, prompts, olga, browse, hire, fake_trainer, own_redis, monkeypatch
):
    """The teeth: a worker that only listens."""
    looks = []
    monkeypatch.setattr(work, "LOOK_EVERY", 0.5)
    leaving = threading.Event()
    ear = threading.Thread(target=work.Ear("train", leaving).listen, args=[lambda: looks.append(1)])
    with dead(own_redis):
        launch(browse(olga), project, base)
    ear.start()
    wait_for(lambda: len(looks) > 2)
    leaving.set()
    ear.join()
    assert Run.objects.get().state == Run.State.QUEUED
