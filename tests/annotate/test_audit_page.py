"""The audit log for people: its page, its filter, its file."""

import csv
import io
import json

import pytest
from django.core.management import call_command
from django.utils import timezone

from annotate.audit.chain import verify
from annotate.audit.recording import Act, recording
from annotate.models import AuditEntry, Project, User

PAGE = "/p/cooking/audit/"
EXPORT = "/p/cooking/audit/export/"


@pytest.fixture
def entries(project, olga, mallory):
    """Three of this project, one of another."""
    elsewhere = Project.objects.get(slug="elsewhere")
    for action, of, who in (
        ("project_settings", project, olga),
        ("labelers_members", project, olga),
        ("labelers_members", project, None),
        ("guideline_new", elsewhere, mallory),
    ):
        with recording(Act(action, actor=who and who.pk, project=of.pk, thing=of)):
            of.overlap += 1
            of.save()


def numbers(page) -> list[int]:
    return [each.number for each in page.context["page"].rows]


def exported(client, query="") -> list[int]:
    reply = client.get(EXPORT + query)
    return [json.loads(line)["number"] for line in reply.getvalue().decode().splitlines()]


def test_an_operator_sees_what_was_done_in_the_project_the_newest_first(entries, olga, browse):
    page = browse(olga).get(PAGE)
    assert numbers(page) == [3, 2, 1]
    text = page.content.decode()
    assert "overlap: " in text and "1 row of project changed" in text
    assert "guideline_new" not in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [3, 2, 1]),
        ("?who=olga", [2, 1]),
        ("?who=nobody", []),
        ("?action=labelers", [3, 2]),
        ("?about=project", [3, 2, 1]),
        ("?about=policy", []),
        ("?about=project:0", []),
        ("?since=2001-01-01&until=2001-12-31", []),
        ("?since={today}&until={today}", [3, 2, 1]),
        ("?since=yesterday", [3, 2, 1]),
        ("?action=labelers&after=3", [2]),
    ],
)
def test_page_and_file_hold_what_was_asked_for(query, found, entries, olga, browse):
    query = query.format(today=timezone.now().date())
    client = browse(olga)
    assert numbers(client.get(PAGE + query)) == found
    if "after" not in query:
        assert exported(client, query) == found[::-1]


def test_long_logs_have_pages(project, olga, browse):
    for number in range(60):
        with recording(Act(f"act {number}", project=project.pk)):
            project.save()
    client = browse(olga)
    first = client.get(PAGE)
    assert (len(numbers(first)), first.context["count"]) == (50, "60")
    rest = client.get(f"{PAGE}?after={first.context['page'].next}")
    assert numbers(rest) == [*range(10, 0, -1)]


def test_the_file_is_csv_or_json_lines(entries, olga, browse):
    client = browse(olga)
    reply = client.get(f"{EXPORT}?format=csv")
    assert reply.headers["Content-Disposition"] == 'attachment; filename="cooking-audit.csv"'
    table = list(csv.DictReader(io.StringIO(reply.getvalue().decode())))
    assert [row["actor"] for row in table] == ["olga", "olga", ""]
    lines = client.get(f"{EXPORT}?format=jsonl").getvalue().decode().splitlines()
    first = json.loads(lines[0])
    assert (first["project"], first["hash"]) == ("cooking", AuditEntry.objects.get(number=1).hash)
    assert client.get(f"{EXPORT}?format=xlsx").status_code == 404


def test_administrators_see_the_whole_site_and_nobody_else_does(entries, olga, browse):
    assert browse(olga).get("/audit/").status_code == 404
    assert browse(olga).get("/audit/export/").status_code == 404
    root = User.objects.create_superuser("root")
    client = browse(root)
    page = client.get("/audit/")
    assert numbers(page) == [4, 3, 2, 1]
    assert b"Elsewhere" in page.content
    lines = client.get("/audit/export/").getvalue().decode().splitlines()
    assert len(lines) == 4
    assert b'href="/audit/"' in client.get("/").content


def test_settings_lead_to_the_log(project, olga, browse):
    assert f'href="{PAGE}"' in browse(olga).get("/p/cooking/settings/").content.decode()


def test_commands_are_recorded(project, alice, tmp_path, settings):
    settings.DATA_DIR = tmp_path
    call_command("add_member", "ida", "--project", "cooking", "--role", "labeler")
    call_command("api_token", "--project", "cooking", "--user", "alice")
    call_command("login_link", "alice")
    call_command("erase", "--user", "alice")
    said = list(AuditEntry.objects.in_order().values_list("action", "project", "about"))
    own = (project.pk, f"project:{project.pk}")
    assert said == [
        ("manage.py add_member", *own),
        ("manage.py api_token", *own),
        ("erase_labels", None, f"user:{alice.pk}"),
        ("manage.py erase", None, f"user:{alice.pk}"),
    ]
    verify()
