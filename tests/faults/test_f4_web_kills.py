"""F4: an acknowledged answer is stored once, though connections drop and the web is killed."""

import random
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection

from annotate.models import Demonstration, Membership, Prompt, Task, User
from tests.browser.conftest import free_port
from tests.faults.conftest import SEED, sized
from tests.rlhf.conftest import beside_the_test

pytestmark = pytest.mark.django_db(transaction=True)
SUBMITS, CLIENTS, KILLS = (
    sized(short=60, long=20_000),
    sized(short=4, long=32),
    sized(short=1, long=10),
)
DROPPED = 0.1
REDIRECT, UNKNOWN = 302, 0


class Web:
    """The web process, killed and started again on the same port."""

    def __init__(self, env: dict[str, str]) -> None:
        self.port = free_port()
        self.env = {**env, "SECRET_KEY": settings.SECRET_KEY, "ALLOWED_HOSTS": "127.0.0.1"}
        self.start()

    def start(self) -> None:
        command = ["uvicorn", "feedback_site.asgi:application", "--port", str(self.port)]
        quiet = ["--lifespan", "off", "--no-access-log", "--log-level", "critical"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command, *quiet], cwd=settings.BASE_DIR, env=self.env
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def web(env: dict[str, str]) -> Iterator[Web]:
    running = Web(env)
    try:
        yield running
    finally:
        running.kill()


def session_of(user: User) -> str:
    """As if this person had signed in: the key in their cookie."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[-1]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


class Client:
    """A labeler whose connections drop; every request is sent until it is answered."""

    def __init__(self, session: str, port: int, *, number: int) -> None:
        token = secrets.token_hex(16)
        cookies = f"sessionid={session}; csrftoken={token}"
        self.headers = {"cookie": cookies, "x-csrftoken": token}
        self.port = port
        self.chance = random.Random(f"{SEED}/{number}")

    def ask(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        while True:
            status, where = self._once(method, path, form)
            if status != UNKNOWN and status < 500:
                return status, where
            time.sleep(0.05)

    def _once(self, method: str, path: str, form: dict[str, str] | None) -> tuple[int, str]:
        line = HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {**self.headers, "content-type": "application/x-www-form-urlencoded"}
        try:
            line.request(method, path, urlencode(form) if form else None, headers)
            if form and self.chance.random() < DROPPED:
                time.sleep(self.chance.uniform(0, 0.05))
                return UNKNOWN, ""  # hung up before the answer came
            answer = line.getresponse()
            answer.read()
            return answer.status, answer.headers.get("location", "")
        except (OSError, HTTPException):
            return UNKNOWN, ""
        finally:
            line.close()


def label(client: Client, acknowledged: list[str], enough: threading.Event) -> None:
    """Writes answers until it is enough; those whose submit was answered are acknowledged."""
    where = ""
    while not enough.is_set():
        if not re.search(r"label/\d+/$", where):
            _, where = client.ask("GET", "/p/cooking/label/")
            continue
        text = f"Answer {uuid.uuid4()}"
        status, onward = client.ask("POST", where, {"text": text, "idempotency_key": text[7:]})
        assert status == REDIRECT, status
        acknowledged.append(text)
        where = onward


def test_no_acknowledged_answer_is_lost_or_doubled(project, data_dir, chance, report):
    people = [User.objects.create(username=f"labeler{n}") for n in range(CLIENTS)]
    for person in people:
        project.memberships.create(user=person, role=Membership.Role.LABELER, guideline_read=1)
    asked = [[{"role": "user", "content": f"Question {n}?"}] for n in range(SUBMITS + 2 * CLIENTS)]
    prompts = Prompt.objects.bulk_create(
        Prompt(project=project, messages=m).derive() for m in asked
    )
    Task.objects.bulk_create(Task(project=project, prompt=p, kind=Task.Kind.WRITE) for p in prompts)

    acknowledged: list[str] = []
    enough = threading.Event()
    kills = 0
    with web(beside_the_test(data_dir)) as site, ThreadPoolExecutor(CLIENTS) as pool:
        clients = [Client(session_of(each), site.port, number=each.pk) for each in people]
        connection.close()
        working = [pool.submit(label, client, acknowledged, enough) for client in clients]
        try:
            while len(acknowledged) < SUBMITS and not enough.wait(0.01):
                if any(each.done() for each in working):
                    break
                if kills < KILLS and len(acknowledged) >= (kills + 1) * SUBMITS // (KILLS + 1):
                    time.sleep(chance.uniform(0, 0.3))
                    site.kill()
                    site.start()
                    kills += 1
        finally:
            enough.set()
        for each in working:
            each.result(timeout=120)
    connection.close()
    stored = Counter(Demonstration.objects.values_list("text", flat=True))
    lost = [text for text in acknowledged if text not in stored]
    twice = [text for text, count in stored.items() if count > 1]
    a_task = Counter(Demonstration.objects.values_list("prompt", flat=True))
    report(
        acknowledged=len(acknowledged), clients=CLIENTS, kills=kills, lost=len(lost), twice=twice
    )
    assert kills == KILLS and len(acknowledged) >= SUBMITS
    assert not lost and not twice
    assert max(a_task.values()) == 1
