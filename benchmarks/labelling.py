"""How long a labeler waits, and an operator, in a large project.

Builds a project in a PostgreSQL of its own, starts the web as `make run` does, and lets labelers
rank at the same time over HTTP, each resting between two tasks: `calm_labels_per_s` says how many
tasks that is, many times what people do. Times are those of the server: from the request's arrival
at the application to the beginning of its answer. Then nobody rests: `labels_per_s` is what the
machine can do, clients included. One line of JSON comes out.

    .venv/bin/python -m benchmarks.labelling [--prompts 100000] [--labels 50000] [--labelers 16]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import secrets
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.empty_site import empty_site

ROOT = Path(__file__).resolve().parent.parent
K = 4
WORDS = [
    *("water", "light", "stone", "river", "paper", "answer", "bread", "school", "winter"),
    *("garden", "music", "engine", "doctor", "market", "letter", "island", "forest", "number"),
    *("colour", "window", "summer", "evening", "morning", "country", "village", "kitchen"),
]
LIST_PAGES = {
    "prompts": "prompts/",
    "prompts_last": "prompts/?after={last}",
    "prompts_words": "prompts/?words=river+doctor",
    "prompts_rare": "prompts/?words=marker777",
    "prompts_tag": "prompts/?tag=t3",
    "prompts_source": "prompts/?source=s1",
    "prompts_labelled": "prompts/?work=ranked",
    # "tasks": "tasks/",
    "my_work": "my-work/",
    "my_work_kind": "my-work/?kind=rank",
    "home": "",
}


# The project


def build(*, prompts: int, labels: int, labelers: int, slug: str = "large") -> None:
    """`prompts` prompts with K completions and an open ranking task each; `labels` rankings by
    `labelers` people. Every seventh task with an answer still wants a second one."""
    from annotate.models import Membership, Project

    project = Project.objects.create(name="Large", slug=slug, ranking_size=K)
    project.publish_guideline(text="Be **helpful**, honest and short.", author=None)
    for number in range(labelers):
        project.admit(name=f"labeler{number}", role=Membership.Role.LABELER)
    project.admit(name="olga", role=Membership.Role.OPERATOR)
    project.memberships.update(guideline_read=1)
    policies = [project.policies.create(name=f"m{i}", origin="external").pk for i in range(K)]
    people = list(
        project.memberships.filter(role="labeler").order_by("user").values_list("user", flat=True)
    )
    _fill(
        project=project.pk,
        policies=policies,
        people=people,
        prompts=prompts,
        labels=min(labels, prompts),
    )


def _fill(
    *, project: int, policies: list[int], people: list[int], prompts: int, labels: int
) -> None:
    from django.db import connection, transaction

    from annotate.prompts.search import index_prompts

    rng = random.Random(7)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(15, 60))) for _ in range(997)]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE said (n serial, words text)")
        with cursor.copy("COPY said (words) FROM STDIN") as copy:
            for text in texts:
                copy.write_row([text])
        given = {
            "project": project, "policies": policies, "people": people,
            "prompts": prompts, "labels": labels, "k": K, "texts": len(texts),
        }  # fmt: skip
        for statement in (PROMPTS, COMPLETIONS, TASKS, LINKS, ASSIGNMENTS, RANKINGS, PLACEMENTS):
            cursor.execute(statement, given)
        index_prompts(cursor)
        cursor.execute("DROP TABLE said")
        cursor.execute("ANALYZE")


PROMPTS = """
INSERT INTO annotate_prompt
    (project_id, messages, text, content_hash, split, source, tags, created_at)
SELECT %(project)s, jsonb_build_array(jsonb_build_object('role', 'user', 'content', t)), t,
    encode(sha256(t::bytea), 'hex'), (ARRAY['train', 'validation', 'test'])[1 + (i %% 10) / 8],
    's' || i %% 5, ARRAY['t' || i %% 20, 'u' || i %% 7], now()
FROM generate_series(1, %(prompts)s) i
JOIN said ON n = 1 + i %% %(texts)s
CROSS JOIN LATERAL (SELECT 'Question marker' || i || ': ' || words AS t)
ORDER BY i"""
COMPLETIONS = """
INSERT INTO annotate_completion
    (prompt_id, policy_id, text, text_hash, source, sampling, template_hash, finish_reason,
     created_at)
SELECT p.id, (%(policies)s::bigint[])[1 + i], t, encode(sha256(t::bytea), 'hex'), 'imported',
    '{}', '', 'stop', now()
FROM annotate_prompt p
CROSS JOIN generate_series(0, %(k)s - 1) i
JOIN said ON n = 1 + (p.id * 31 + i * 7) %% %(texts)s
CROSS JOIN LATERAL (SELECT words || ' ' || i AS t)
WHERE p.project_id = %(project)s ORDER BY p.id, i"""
TASKS = """
INSERT INTO annotate_task
    (project_id, prompt_id, kind, overlap, priority, batch, created_at, closed_at)
SELECT project_id, id, 'rank', 1 + (n %% 7 = 0)::int, 0, 'bench', now(),
    CASE WHEN n <= %(labels)s AND n %% 7 <> 0 THEN now() END
FROM (SELECT *, row_number() OVER (ORDER BY id) n FROM annotate_prompt
      WHERE project_id = %(project)s) p
ORDER BY id"""
LINKS = """
INSERT INTO annotate_task_completions (task_id, completion_id)
SELECT t.id, c.id FROM annotate_task t JOIN annotate_completion c USING (prompt_id)
WHERE t.project_id = %(project)s ORDER BY t.id, c.id"""
ASSIGNMENTS = """
INSERT INTO annotate_assignment
    (task_id, labeler_id, state, leased_until, shown_order, guideline_version, draft,
     active_seconds, skip_reason, skip_note, created_at, ended_at)
SELECT id, (%(people)s::bigint[])[1 + n %% cardinality(%(people)s::bigint[])], 'submitted', then_,
    (SELECT jsonb_agg(completion_id ORDER BY completion_id) FROM annotate_task_completions
     WHERE task_id = t.id), 1, '{}', 40, '', '', then_, then_
FROM (SELECT *, row_number() OVER (ORDER BY id) n FROM annotate_task
      WHERE project_id = %(project)s) t
CROSS JOIN LATERAL (SELECT now() - '1 day'::interval - n * '1 s'::interval AS then_)
WHERE n <= %(labels)s ORDER BY id"""
RANKINGS = """
INSERT INTO annotate_ranking
    (assignment_id, prompt_id, labeler_id, revision_no, retracted, guideline_version,
     active_seconds, pasted_share, late, comment, source, created_at, outcome, reason, shown_order)
SELECT a.id, t.prompt_id, labeler_id, 1, false, 1, 40, 0, false, '', '', a.ended_at, 'ranked', '',
    shown_order
FROM annotate_assignment a JOIN annotate_task t ON t.id = task_id
WHERE t.project_id = %(project)s ORDER BY a.id"""
PLACEMENTS = """
INSERT INTO annotate_placement (ranking_id, completion_id, place, flags)
SELECT r.id, shown.id::bigint, place, '{}'
FROM annotate_ranking r JOIN annotate_prompt p ON p.id = prompt_id
CROSS JOIN jsonb_array_elements_text(shown_order) WITH ORDINALITY shown(id, place)
WHERE p.project_id = %(project)s"""


# The web, with a clock at its door


def timed_application() -> Callable[..., Any]:
    from feedback_site.asgi import application

    async def timed(scope: dict[str, Any], receive: Any, send: Any) -> None:
        started = time.perf_counter()

        async def send_with_time(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                spent = f"{(time.perf_counter() - started) * 1000:.3f}".encode()
                message["headers"] = [*message["headers"], (b"x-milliseconds", spent)]
            await send(message)

        await application(scope, receive, send_with_time)

    return timed


@contextmanager
def web(port: int) -> Iterator[None]:
    command = [
        *("uvicorn", "--factory", "benchmarks.labelling:timed_application", "--port", str(port)),
        *("--lifespan", "off", "--no-access-log", "--log-level", "warning"),
    ]
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                Browser(port, "").get("/sign-in/")
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


class Browser:
    """One signed-in person on one kept-open connection."""

    def __init__(self, port: int, name: str) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=60)
        token = secrets.token_hex(16)
        cookies = {"csrftoken": token}
        if name:
            cookies["sessionid"] = _session_of(name)
        self.headers = {
            "cookie": "; ".join(f"{key}={value}" for key, value in cookies.items()),
            "x-csrftoken": token,
        }

    def get(self, path: str) -> tuple[str, str, float]:
        return self._ask("GET", path)

    def post(self, path: str, form: dict[str, str]) -> tuple[str, str, float]:
        return self._ask("POST", path, urlencode(form))

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[str, str, float]:
        """(where it leads, the page, milliseconds in the server)"""
        headers = dict(self.headers)
        if body is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        page = answer.read().decode()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status}\n{page[:500]}")
        spent = float(answer.headers["x-milliseconds"])
        return answer.headers.get("location", ""), page, spent


def _session_of(name: str) -> str:
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    from annotate.models import User

    user = User.objects.get(username=name)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[-1]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


# The measurements


def label(browser: Browser, tasks: int, rest: float) -> list[tuple[float, float, float]]:
    """Ranks `tasks` tasks; the milliseconds of each: (next, page, submit). The submit leases the
    task after it in the same request."""
    spent = []
    rng = random.Random()
    for _ in range(tasks):
        time.sleep(rest * rng.uniform(0.5, 1.5))
        browser.connection.close()  # uvicorn would, after five seconds
        where, _, to_next = browser.get("/p/large/label/")
        _, page, to_show = browser.get(where)
        form = {"idempotency_key": str(uuid.uuid4()), "active_seconds": "20"}
        for place, name in enumerate(re.findall(r'name="(place_\d+)"', page), start=1):
            form[name] = str(place)
        _, _, to_submit = browser.post(where, form)
        spent.append((to_next, to_show, to_submit))
    return spent


def walk_lists(port: int) -> dict[str, float]:
    """The median milliseconds of each list, of five looks."""
    from annotate.models import Prompt

    last = Prompt.objects.order_by("-pk").values_list("pk", flat=True)[10]
    people = {"my": Browser(port, "labeler0"), "": Browser(port, "olga")}
    found = {}
    for name, path in LIST_PAGES.items():
        browser = people["my" if name.startswith("my") else ""]
        address = f"/p/large/{path.format(last=last)}"
        try:
            found[f"{name}_ms"] = statistics.median(browser.get(address)[2] for _ in range(5))
        except RuntimeError as error:
            print(error, file=sys.stderr)
    return found


def measure(arguments: argparse.Namespace, port: int) -> dict[str, float]:
    browsers = [Browser(port, f"labeler{n}") for n in range(arguments.labelers)]
    for browser in browsers:
        label(browser, 1, 0)  # what is loaded once is loaded now
    with ThreadPoolExecutor(arguments.labelers) as pool:
        began = time.monotonic()
        calm = list(pool.map(lambda b: label(b, arguments.tasks, arguments.rest), browsers))
        calm_seconds = time.monotonic() - began
        began = time.monotonic()
        hurried = list(pool.map(lambda b: label(b, arguments.tasks, 0), browsers))
        seconds = time.monotonic() - began
    result: dict[str, float] = {}
    triples = [triple for each in calm for triple in each]
    for index, name in enumerate(("next", "page", "submit")):
        spent = [triple[index] for triple in triples]
        result[f"{name}_p50_ms"] = statistics.median(spent)
        result[f"{name}_p95_ms"] = statistics.quantiles(spent, n=20)[-1]
    result["calm_labels_per_s"] = sum(map(len, calm)) / calm_seconds
    result["labels_per_s"] = sum(map(len, hurried)) / seconds
    return result | walk_lists(port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=50_000)
    parser.add_argument("--labelers", type=int, default=16)
    parser.add_argument("--tasks", type=int, default=40, help="that each labeler does, twice")
    parser.add_argument("--rest", type=float, default=2.0, help="seconds between two tasks")
    arguments = parser.parse_args()

    with empty_site():
        began = time.monotonic()
        build(prompts=arguments.prompts, labels=arguments.labels, labelers=arguments.labelers)
        built = time.monotonic() - began
        from feedback_site.up import free_port

        port = free_port()
        with web(port):
            found = measure(arguments, port)
    what = vars(arguments) | {"build_s": built} | found
    print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in what.items()}))


if __name__ == "__main__":
    main()
