"""F6: PostgreSQL stops as in a power cut; what was acknowledged is there, and work goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings

from feedback_site import embedded
from feedback_site.processes import Process
from tests.faults.conftest import IS_LONG, sized
from tests.faults.test_f4_web_kills import Client, label, web
from tests.rlhf.conftest import FAKE, wait_for

CUTS, CLIENTS, PROMPTS = (
    sized(short=2, long=20),
    sized(short=4, long=16),
    sized(short=500, long=20_000),
)
RESUMES_WITHIN = 90.0
SET_UP = f"""
import json
from annotate.models import Demonstration, Project, Prompt, Task
from rlhf.rounds.launch import launch_round
from rlhf.rounds.settings import Launch
from tests.faults.test_f4_web_kills import session_of
project = Project.objects.create(name="Cooking", slug="cooking", new_writer_reviews=0)
olga = project.admit(name="olga", role="operator")
people = [project.admit(name=f"labeler{{n}}", role="labeler") for n in range({CLIENTS})]
asked = [[{{"role": "user", "content": f"Question {{n}}?"}}] for n in range({PROMPTS})]
prompts = Prompt.objects.bulk_create(Prompt(project=project, messages=m).derive() for m in asked)
train = [each for each in prompts if each.split == "train"][:10]
Demonstration.objects.bulk_create(
    Demonstration(prompt=each, labeler=people[0], text=f"Earlier {{each.pk}}") for each in train
)
Task.objects.bulk_create(Task(project=project, prompt=p, kind="write") for p in prompts)
base = project.policies.create(name="base", origin="base", folder="models/base")
launch_round(project, Launch(base=base, recipe="tiny", stages=["sft"]), by=olga)
print(json.dumps([session_of(person) for person in people]))
"""


@dataclass
class Installation:
    """A PostgreSQL of its own, with what works on it in processes beside it."""

    sockets: Path
    postgres: Process
    env: dict[str, str]
    clients: list[Client] = field(default_factory=list)

    def ask(self, query: str) -> list[Any]:
        with self._connected() as connection:
            return connection.execute(query).fetchall()

    def tell(self, statement: str) -> None:
        with self._connected() as connection:
            connection.execute(statement)

    def _connected(self) -> psycopg.Connection:
        where = {"host": str(self.sockets), "user": embedded.OWNER, "dbname": embedded.DATABASE}
        return psycopg.connect(**where, autocommit=True, connect_timeout=5)

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=settings.BASE_DIR, env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cut_the_power(self, seconds: float) -> None:
        """`immediate`: nothing is flushed, nobody is told; away for so long."""
        self.postgres.signal(signal.SIGQUIT)
        wait_for(lambda: not self.postgres.is_running())
        time.sleep(seconds)
        self.postgres.start()
        wait_for(self._listens, 120)

    def _listens(self) -> bool:
        self.postgres.keep_up()  # the dead one's children may hold its memory for a moment
        try:
            return bool(self.ask("SELECT 1"))
        except psycopg.OperationalError:
            return False

    @property
    def last_step(self) -> int:
        return int(self.ask("SELECT coalesce(max(step), 0) FROM rlhf_metric")[0][0])


@pytest.fixture(scope="module")
def here() -> Iterator[Installation]:
    """With a round in training, and people who are signed in."""
    with tempfile.TemporaryDirectory(prefix="feedback-site-") as folder, ExitStack() as stack:
        data_dir = Path(folder)
        sockets = stack.enter_context(embedded.socket_folder(data_dir))
        service = embedded.postgres(data_dir, sockets, logs=data_dir, say=lambda _: None)
        database = stack.enter_context(service)
        env = {
            **os.environ,
            "DATA_DIR": folder,
            "SECRET_KEY": settings.SECRET_KEY,
            "DATABASE_URL": database.url,
            "REDIS_URL": stack.enter_context(embedded.redis(sockets, logs=data_dir)).url,
            "TRAIN_LAUNCHER": f"{sys.executable} {FAKE}",
            "LEASE_SECONDS": "60" if IS_LONG else "6",
        }
        base = data_dir / "models/base"
        base.mkdir(parents=True)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (base / name).write_text("{}")
        (data_dir / "fake_trainer.json").write_text('{"steps": 100000, "seconds": 0.1}')
        here = Installation(sockets, database.process, env)
        here.manage("migrate", "--verbosity", "0")
        sessions = json.loads(here.manage("shell", "--no-imports", "-c", SET_UP))
        stack.enter_context(training(here))
        site = stack.enter_context(web(here.env))
        here.clients = [Client(each, site.port, number=n) for n, each in enumerate(sessions)]
        yield here


@contextmanager
def training(here: Installation) -> Iterator[None]:
    command = [sys.executable, "manage.py", "work", "train"]
    with (Path(here.env["DATA_DIR"]) / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            command, cwd=settings.BASE_DIR, env=here.env, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: here.last_step, 120)
        yield
    finally:
        worker.kill()
        worker.wait()


def labelled_through(
    here: Installation, cuts: int, chance: random.Random
) -> tuple[list[str], list[float], list[BaseException]]:
    """What was acknowledged while the power was cut so often, how long the training stood still
    after each, and who met something else than a page that goes on."""
    acknowledged: list[str] = []
    resumed: list[float] = []
    enough = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        working = [pool.submit(label, client, acknowledged, enough) for client in here.clients]
        try:
            for _ in range(cuts):
                before = len(acknowledged)
                wait_for(lambda before=before: len(acknowledged) >= before + 2 * CLIENTS, 120)
                time.sleep(chance.uniform(0, 0.5))
                here.cut_the_power(chance.uniform(0, 3))
                back, last = time.monotonic(), here.last_step
                wait_for(lambda last=last: here.last_step > last, 2 * RESUMES_WITHIN)
                resumed.append(round(time.monotonic() - back, 2))
        finally:
            enough.set()
        surprised = [error for each in working if (error := each.exception(timeout=120))]
    return acknowledged, resumed, surprised


def lost_of(here: Installation, acknowledged: list[str]) -> tuple[list[str], list[str]]:
    """Acknowledged answers that are not there, and answers that are there twice."""
    stored = Counter(text for (text,) in here.ask("SELECT text FROM annotate_demonstration"))
    lost = [text for text in acknowledged if text not in stored]
    return lost, [text for text, times in stored.items() if times > 1]


@pytest.mark.timeout(3600)
def test_f6_no_acknowledged_answer_is_lost_and_the_training_goes_on(here, chance, report):
    start = here.last_step
    acknowledged, resumed, surprised = labelled_through(here, CUTS, chance)
    lost, twice = lost_of(here, acknowledged)
    [(rows, last, leases)] = here.ask(
        "SELECT count(*), max(metric.step), max(run.lease_token) FROM rlhf_metric AS metric"
        f" JOIN rlhf_run AS run ON run.id = run_id WHERE metric.step > {start}"
    )
    report(power_cuts=CUTS, clients=CLIENTS, acknowledged=len(acknowledged), lost=len(lost))
    report(twice=len(twice), slowest_resume_seconds=max(resumed), leases=leases, metric_rows=rows)
    assert not lost and not twice and not surprised
    assert rows == last - start, "a row of metrics is missing"
    assert max(resumed) <= RESUMES_WITHIN


@pytest.mark.skipif(IS_LONG, reason="the short form is enough to see the teeth")
@pytest.mark.timeout(600)
def test_f6_answers_acknowledged_before_they_are_on_the_disk_would_be_lost(here, chance):
    here.tell("ALTER SYSTEM SET synchronous_commit = 'off'")
    here.tell("ALTER SYSTEM SET wal_writer_delay = '10s'")
    here.tell("SELECT pg_reload_conf()")
    acknowledged, _, surprised = labelled_through(here, 1, chance)
    here.tell("ALTER SYSTEM RESET ALL")
    here.tell("SELECT pg_reload_conf()")
    lost, _ = lost_of(here, acknowledged)
    assert lost or surprised, "not even a lease that was given is gone"
