"""Notices: each operator is told once, in an inbox of their own, and by e-mail if they wish."""

from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotate import jobs
from annotate.accounts import addresses
from annotate.erasure import erase
from annotate.labelling.queue import next_assignment
from annotate.models import Demonstration, Mail, Notice, Task
from annotate.notices.models import COUNTED, KEPT, News
from annotate.webhooks.models import Event, announce
from annotate.work import tasks

INBOX = "/p/cooking/notices/"
ADDRESS = "olga@example.org"
EGGS = News("Round 3: SFT has ended", "/p/cooking/rounds/3/")


def tell(project, news=EGGS):
    announce(project.pk, Event.RUN, subject="run 3", data=dict, news=news)


@pytest.fixture
def otto(project):
    """A second operator."""
    return project.admit(name="otto", role="operator")


@pytest.fixture
def wants_mail(olga, settings):
    settings.MAIL_IS_SET_UP = True
    olga.notices_by_mail = True
    olga.save()
    addresses.verify(olga, ADDRESS)
    return olga


def sent():
    mail.outbox.clear()
    jobs.look()
    return list(mail.outbox)


def test_each_operator_is_told_and_nobody_else(project, olga, otto, alice, rita, gus, mallory):
    tell(project)
    assert {each.person for each in Notice.objects.all()} == {olga, otto}
    assert {(each.subject, each.link) for each in Notice.objects.all()} == {
        (EGGS.subject, EGGS.link)
    }


def test_who_has_left_or_cannot_sign_in_is_told_nothing(project, olga, otto):
    otto.memberships.get().leave()
    olga.is_active = False
    olga.save()
    tell(project)
    assert not Notice.objects.exists()


def test_the_same_is_told_again_only_to_who_has_seen_it(project, olga, otto):
    tell(project), tell(project)
    assert Notice.objects.count() == 2
    Notice.objects.filter(person=otto).mark_seen()
    tell(project)
    assert (olga.notices.count(), otto.notices.count()) == (1, 2)


def test_a_notice_goes_with_what_did_not_happen(project, olga):
    with transaction.atomic():
        tell(project)
        transaction.set_rollback(True)
    assert not Notice.objects.exists()


def test_without_news_nobody_is_told(project, olga):
    announce(project.pk, Event.THUMB, subject="x", data=dict)
    assert not Notice.objects.exists()


def test_what_was_seen_long_ago_is_forgotten(project, olga):
    for number, seen in enumerate([KEPT + timedelta(hours=1), KEPT - timedelta(hours=1), None]):
        at = seen and timezone.now() - seen
        olga.notices.create(project=project, event="x", subject=number, link="/", seen_at=at)
    tell(project)
    assert set(olga.notices.values_list("subject", flat=True)) == {"1", "2", EGGS.subject}


@pytest.mark.parametrize("crowd", [1, tasks.CROWD])
def test_the_last_answer_of_a_batch_tells_once(
    project, olga, alice, write_task, monkeypatch, crowd
):
    monkeypatch.setattr(tasks, "CROWD", crowd)
    for batch in ("first", "first", "", "second"):
        write_task(batch=batch)
    for done in range(3):
        assert Notice.objects.count() == (done >= 2)
        work = next_assignment(alice, project)
        Demonstration.record(assignment=work, text="Boil it.")
    notice = Notice.objects.get()
    assert (notice.subject, notice.link) == (
        "All tasks of batch “first” are done",
        "/p/cooking/progress/",
    )
    assert Task.objects.open().get().batch == "second"


def test_the_inbox_shows_ones_own_and_marks_them_seen(project, olga, otto, browse):
    tell(project)
    client = browse(olga)
    page = client.get(INBOX).content.decode()
    assert f'href="{EGGS.link}"' in page and "Notices: 1 new" in page
    shown = olga.notices.get()
    tell(project, News("Round 4: PPO has failed", "/p/cooking/rounds/4/"))
    client.post(INBOX, {"newest": shown.pk})
    assert [each.subject for each in olga.notices.unseen()] == ["Round 4: PPO has failed"]
    assert otto.notices.unseen().count() == 2
    client.post(INBOX, {"newest": olga.notices.first().pk})
    page = client.get(INBOX).content.decode()
    assert EGGS.subject in page and "Mark all seen" not in page and "Notices: " not in page


@pytest.mark.parametrize("newest", ["", "x", "-1", "9" * 30])
def test_a_number_that_is_none_marks_nothing(project, olga, browse, newest):
    tell(project)
    assert browse(olga).post(INBOX, {"newest": newest}).status_code == 302
    assert olga.notices.unseen().exists()


def test_the_script_hears_the_count_and_the_newest_of_ones_own(project, olga, otto, browse):
    tell(project)
    client = browse(olga)
    mine = olga.notices.get()
    newest = {"id": mine.pk, "subject": EGGS.subject}
    assert client.get(f"{INBOX}unseen/").json() == {"unseen": "1", "newest": newest}
    olga.notices.mark_seen()
    reply = client.get(f"{INBOX}unseen/")
    assert reply.json() == {"unseen": "", "newest": None}
    assert "no-store" in reply["Cache-Control"]


def test_more_than_can_be_counted_are_many(project, olga, browse):
    rows = [
        Notice(person=olga, project=project, event="x", subject=number, link="/")
        for number in range(COUNTED + 1)
    ]
    Notice.objects.bulk_create(rows)
    assert browse(olga).get(f"{INBOX}unseen/").json()["unseen"] == "99+"


@pytest.mark.parametrize(("name", "asked"), [("olga", 1), ("rita", 0), ("alice", 0)])
def test_only_operators_pay_for_the_count_and_once(project, request, browse, name, asked):
    client = browse(request.getfixturevalue(name))
    with CaptureQueriesContext(connection) as queries:
        page = client.get("/p/cooking/guideline/").content.decode()
    assert sum("annotate_notice" in each["sql"] for each in queries) == asked
    assert ("notices.js" in page) == bool(asked)


def test_an_e_mail_comes_to_who_wants_it_and_has_a_verified_address(
    project, wants_mail, otto, settings
):
    addresses.verify(otto, "otto@example.org")
    tell(project), tell(project)
    (message,) = sent()
    assert message.to == [ADDRESS]
    assert message.subject == f"{project}: {EGGS.subject}"
    assert settings.SITE_URL + EGGS.link in message.body
    assert sent() == [] and not Mail.objects.exists()


@pytest.mark.parametrize("change", ["seen", "unwanted", "left", "moved"])
def test_an_e_mail_that_has_no_use_any_more_is_not_sent(project, wants_mail, otto, change):
    tell(project)
    match change:
        case "seen":
            wants_mail.notices.mark_seen()
        case "unwanted":
            wants_mail.notices_by_mail = False
            wants_mail.save()
        case "left":
            wants_mail.memberships.get().leave()
        case "moved":
            addresses.verify(wants_mail, "other@example.org")
    assert sent() == [] and not Mail.objects.exists()


def test_without_an_address_or_a_mail_server_nothing_is_written(project, olga, settings):
    olga.notices_by_mail = True
    olga.save()
    settings.MAIL_IS_SET_UP = True
    addresses.ask_to_verify(olga, ADDRESS)
    tell(project)
    addresses.verify(olga, ADDRESS)
    settings.MAIL_IS_SET_UP = False
    tell(project, News("Another", "/"))
    assert olga.notices.count() == 2 and not Mail.objects.exists()


def test_the_choice_is_made_on_the_account_page_and_is_off_at_first(olga, browse, settings):
    settings.MAIL_IS_SET_UP = True
    client = browse(olga)
    assert not olga.notices_by_mail
    assert "no verified address" in client.get("/account/").content.decode()
    client.post("/account/", {"act": "notices", "notices_by_mail": "on"})
    olga.refresh_from_db()
    assert olga.notices_by_mail
    client.post("/account/", {"act": "notices"})
    olga.refresh_from_db()
    assert not olga.notices_by_mail


def test_labelers_and_sites_without_mail_are_offered_none(olga, alice, browse, settings):
    settings.MAIL_IS_SET_UP = True
    assert "notices_by_mail" not in browse(alice).get("/account/").content.decode()
    settings.MAIL_IS_SET_UP = False
    assert "notices_by_mail" not in browse(olga).get("/account/").content.decode()


def test_erasing_a_person_erases_what_they_were_told(project, olga, otto):
    tell(project)
    otto.memberships.get().leave()
    erase(otto)
    assert [each.person for each in Notice.objects.all()] == [olga]
