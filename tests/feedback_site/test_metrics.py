"""/metrics: the figures, for those who may see them; and logs that programs can read."""

import json
import logging
import os
import subprocess
import sys

import pytest
from django.conf import settings as installed
from prometheus_client.parser import text_string_to_metric_families

from annotate.models import Demonstration, Feedback
from feedback_site.web.logs import Json
from rlhf.models import Run


@pytest.fixture
def read(client, settings, db):
    """What /metrics says: (name, labels) → figure."""
    settings.METRICS_TOKEN = "a-token"

    def ask() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        page = client.get("/metrics", headers={"Authorization": "Bearer a-token"})
        assert page.status_code == 200
        return {
            (each.name, frozenset(each.labels.items())): each.value
            for family in text_string_to_metric_families(page.content.decode())
            for each in family.samples
        }

    return ask


def figure(figures, name, **labels):
    return figures.get((f"feedback_site_{name}", frozenset(labels.items())), 0)


@pytest.mark.parametrize(
    ("token", "networks", "sent", "address", "status"),
    [
        ("", [], "", "127.0.0.1", 403),
        ("", [], "Bearer ", "127.0.0.1", 403),
        ("secret", [], "", "127.0.0.1", 403),
        ("secret", [], "Bearer secre", "127.0.0.1", 403),
        ("secret", [], "Bearer sécret", "127.0.0.1", 403),
        ("secret", [], "Bearer secret", "192.0.2.9", 200),
        ("", ["10.0.0.0/8"], "", "10.1.2.3", 200),
        ("", ["10.0.0.0/8"], "", "11.1.2.3", 403),
        ("", ["10.0.0.0/8"], "", "", 403),
    ],
)
def test_they_are_for_a_token_or_an_address(
    client, settings, db, token, networks, sent, address, status
):
    settings.METRICS_TOKEN, settings.METRICS_FROM = token, networks
    headers = {"Authorization": sent} if sent else {}
    assert client.get("/metrics", headers=headers, REMOTE_ADDR=address).status_code == status


def test_being_signed_in_lets_nobody_see_them(browse, olga):
    assert browse(olga).get("/metrics").status_code == 403


def test_requests_are_counted_by_route_and_status(read, browse, alice):
    before = read()
    browse(alice).get("/p/cooking/my-work/")
    browse(alice).get("/p/cooking/my-work/")
    browse(alice).get("/p/nowhere/my-work/")
    browse(alice).get("/no/such/page/a-secret")
    after = read()

    def grew(name: str, **labels: str) -> float:
        return figure(after, name, **labels) - figure(before, name, **labels)

    assert grew("requests_total", route="my_work", method="GET", status="200") == 2
    assert grew("requests_total", route="my_work", method="GET", status="404") == 1
    assert grew("requests_total", route="none", method="GET", status="404") == 1
    assert grew("request_seconds_count", route="my_work") == 3
    assert grew("request_seconds_sum", route="my_work") > 0
    assert not any("a-secret" in str(labels) for _, labels in after)


def test_labels_tasks_and_runs_are_counted_as_they_are_in_the_database(
    read, project, write_task, rank_task, new_prompt, alice
):
    write_task()
    rank_task()
    rank_task()
    Demonstration.objects.create(prompt=new_prompt(), labeler=alice, text="Seven minutes.")
    Run.objects.create(project=project, kind=Run.Kind.SAMPLE, config={})
    figures = read()
    assert figure(figures, "tasks_waiting", kind="write") == 1
    assert figure(figures, "tasks_waiting", kind="rank") == 2
    assert figure(figures, "labels", kind="write") == 1
    assert figure(figures, "labels", kind="thumb") == Feedback.objects.count() == 0
    assert figure(figures, "runs", state="queued") == 1
    assert figure(figures, "runs", state="failed") == 0
    assert figure(figures, "runs_waiting") == 1


def test_a_record_is_one_object_a_line_with_its_request_and_its_traceback():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("a", 40, "f.py", 1, "at %s", ("/x",), sys.exc_info())
    record.request_id = "abc"
    line = Json().format(record)
    assert "\n" not in line
    read = json.loads(line)
    assert (read["level"], read["logger"], read["message"]) == ("ERROR", "a", "at /x")
    assert read["request_id"] == "abc" and read["time"].endswith("+00:00")
    assert 'raise ValueError("two' in read["exception"]


@pytest.mark.parametrize("name", ["django.request", "uvicorn.error", "rlhf.runs", "root"])
def test_with_json_every_logger_of_web_and_workers_writes_objects(tmp_path, name):
    script = (
        "import logging, uvicorn, django\n"
        "uvicorn.Config('x', log_level='info')\n"  # as it starts: its loggers come first
        "django.setup()\n"
        f"logging.getLogger({name!r}).warning('read %s', 'this')\n"
    )
    env = {"LOG_FORMAT": "json", "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": ""}
    env = os.environ | env | {"DJANGO_SETTINGS_MODULE": "feedback_site.settings"}
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, cwd=installed.BASE_DIR, env=env, capture_output=True, text=True)
    [line] = said.stderr.splitlines()
    assert json.loads(line)["message"] == "read this"


def test_a_format_that_there_is_not_is_named(tmp_path):
    env = os.environ | {"LOG_FORMAT": "xml", "DATA_DIR": str(tmp_path)}
    command = [sys.executable, "manage.py", "check"]
    said = subprocess.run(command, cwd=installed.BASE_DIR, env=env, capture_output=True, text=True)
    assert said.returncode and "choose line or json" in said.stderr
