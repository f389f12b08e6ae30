"""A full disk: a sentence for who labels, a banner for who operates, and nothing that is lost."""

import errno
from collections.abc import Iterator

import pytest
from django.db import connection

from annotate.labelling.queue import next_assignment
from annotate.models import Demonstration
from feedback_site import disk

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'could not extend file "base/1/2": No space left on device'
    USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON annotate_demonstration
FOR EACH ROW EXECUTE FUNCTION refuse();
"""
ANSWER = {"text": "Seven minutes.", "idempotency_key": "11111111-1111-4111-8111-111111111111"}


@pytest.fixture(autouse=True)
def forgotten(monkeypatch) -> None:
    monkeypatch.setattr(disk, "_refused_at", float("-inf"))


@pytest.fixture
def full_disk(db) -> Iterator[None]:
    """PostgreSQL says so of its own accord, with its own code, as it would of a full disk."""
    with connection.cursor() as cursor:
        cursor.execute(REFUSE)
    yield


@pytest.fixture
def address(write_task, alice, project) -> str:
    write_task()
    return f"/p/cooking/label/{next_assignment(alice, project).pk}/"


def test_who_labels_is_told_in_a_sentence_and_can_send_the_answer_again(
    browse, alice, address, full_disk
):
    client = browse(alice)
    answer = client.post(address, ANSWER)
    html = answer.content.decode()
    assert answer.status_code == 507
    assert "The disk of the site is full, so nothing can be saved now." in html
    assert 'value="Seven minutes."' in html and "Send again" in html
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER full_disk ON annotate_demonstration")
    assert client.post(address, ANSWER).status_code == 302
    assert Demonstration.objects.get().text == "Seven minutes."


def test_a_script_gets_the_sentence_alone(browse, alice, address, full_disk):
    answer = browse(alice).post(address, ANSWER, headers={"HX-Request": "true"})
    assert answer.status_code == 507
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "The disk of the site is full" in answer.content.decode()


def test_operators_see_a_banner_and_others_none(browse, alice, olga, address, full_disk):
    assert "Make room now" not in browse(olga).get("/p/cooking/settings/").content.decode()
    browse(alice).post(address, ANSWER)
    assert "Make room now" in browse(olga).get("/p/cooking/settings/").content.decode()
    assert "Make room now" not in browse(alice).get("/p/cooking/my-work/").content.decode()


def test_a_disk_that_is_nearly_full_is_told_before_anything_fails(browse, olga, monkeypatch):
    monkeypatch.setattr(disk, "LEAST_FREE", 2**70)
    assert "MB left): answers may not" in browse(olga).get("/p/cooking/settings/").content.decode()


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("disk full"), False),
    ],
)
def test_what_a_full_disk_is_is_known_by_its_code(error, full):
    assert disk.is_full(error) is full
