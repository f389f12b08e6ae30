"""Erasing a person: their words are nowhere any more, and what others did is whole."""

import json
import re
from dataclasses import asdict
from io import StringIO

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from axes.models import AccessAttempt
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from annotate import erasure
from annotate.erasure import erase
from annotate.labelling.queue import next_assignment
from annotate.models import (
    ApiToken,
    Completion,
    Conversation,
    Demonstration,
    Feedback,
    Invitation,
    Mail,
    Placement,
    PromptDraft,
    PromptFlag,
    Ranking,
    Review,
    Upload,
    User,
)
from annotate.playground.grids import Grid
from annotate.playground.rows import Row
from rlhf.models import Run, Snapshot

CANARY = re.compile(r"canary\W?\w+", re.IGNORECASE)


@pytest.fixture
def plant():
    """Gives words that nobody else uses, and remembers how many there are."""
    made: list[str] = []

    def make(where: str) -> str:
        made.append(f"Canary-{where}")
        return made[-1]

    make.made = made
    return make


def dump() -> str:
    """All rows of all tables as text."""
    with connection.cursor() as cursor:
        names = connection.introspection.table_names(cursor)
        rows = []
        for name in names:
            cursor.execute(f'SELECT t::text FROM "{name}" t')
            rows += [f"{name}: {row}" for (row,) in cursor.fetchall()]
    return "\n".join(rows)


def on_disk(folder) -> list[str]:
    return [
        f"{file.relative_to(folder)}: {found}"
        for file in folder.rglob("*")
        if file.is_file()
        for found in CANARY.findall(file.read_text())
    ]


@pytest.fixture
def wendy(project, policy, base, plant, write_task, rank_task, new_prompt, rita, data_dir) -> User:
    """A labeler who has written wherever one can, chatted, and brought a program along."""
    wendy = User.objects.create_user(
        plant("username"), f"{plant('mail')}@example.org", "a long passphrase",
        first_name=plant("first"), last_name=plant("last"),
    )  # fmt: skip
    member = project.memberships.create(
        user=wendy, role="labeler", guideline_read=1, skills=[plant("skill")]
    )
    base.go_live()
    _chat(project, wendy, plant, base)
    own = new_prompt(plant("own_prompt"))
    own.author, own.kind, own.tags = wendy, "plain", [plant("tag")]
    own.save()
    Completion.objects.create(prompt=own, policy=base, text=plant("quoted"), source="sampled")
    grid = Grid.objects.create(
        project=project, author=rita, columns=[], asked=[asdict(row) for row in _rows_of(own)]
    )
    for row, text in enumerate(["Kept of another row", plant("in_a_grid")]):
        grid.cells.create(row=row, column=0, text=text)
    PromptDraft.objects.create(membership=member, kind="plain", values={"a": plant("draft")})
    write_task()
    work = next_assignment(wendy, project)
    work.skip(reason="other", note=plant("skip_note"))
    shared = new_prompt("A question of the project's")
    written = Demonstration.objects.create(
        prompt=shared, labeler=wendy, text=plant("written"), comment=plant("comment")
    )
    Demonstration.objects.create(
        prompt=shared, labeler=wendy, text=plant("second"), supersedes=written, revision_no=2
    )
    Review.objects.create(
        demonstration=written, reviewer=rita, verdict="approved", comment="Rita's own words"
    )
    ranking = Ranking.objects.create(prompt=shared, labeler=wendy, comment=plant("ranking"))
    said = Completion.objects.create(prompt=shared, policy=base, text="Six minutes.")
    Placement.objects.create(ranking=ranking, completion=said, place=1)
    Feedback.objects.create(
        completion=said, user=wendy, thumb_up=False,
        note=plant("thumb_note"), wanted_answer=plant("wanted"),
        dismissed_by=wendy, dismissed_why=plant("dismissed"),
    )  # fmt: skip
    wendy.sign_ins.create(way="password", session_key="x", browser=plant("browser"))
    EmailAddress.objects.create(user=wendy, email=f"{plant('new_mail')}@example.org")
    Authenticator.objects.create(
        user=wendy, type="recovery_codes", data={"migrated_codes": [plant("code")]}
    )
    SocialAccount.objects.create(user=wendy, provider="x", uid=plant("subject"))
    Mail.objects.create(kind="verify", to="x@example.org", person=wendy, trouble=plant("trouble"))
    PromptFlag.put_up(prompt=shared, labeler=wendy, reason="other", note=plant("flag"))
    Upload.objects.create(project=project, by=wendy, name=plant("file"), format="jsonl")
    ApiToken.objects.create(
        project=project,
        user=wendy,
        name=plant("token"),
        prefix="fs",
        sha256="0" * 64,
        scopes=["chat"],
    )
    Invitation.issue(project=project, name=wendy.username, role="labeler", by=rita)
    AccessAttempt.objects.create(
        username=wendy.username, user_agent=plant("agent"), ip_address="192.0.2.1",
        post_data="", get_data="", http_accept="", path_info="/sign-in/", failures_since_start=1,
    )  # fmt: skip
    _freeze(project, written, plant, data_dir, wendy)
    return wendy


def _rows_of(prompt) -> list[Row]:
    return [Row.saying("A question of another row"), Row(prompt.messages)]


def _chat(project, wendy, plant, base) -> None:
    answer = Conversation.start(project=project, guest=wendy, text=plant("question"))
    answer.text, answer.state = plant("answer"), "done"
    answer.save()
    answer.become_data()
    answer.feedback.create(user=wendy, thumb_up=True, note=plant("chat_note"))
    asked = [{"role": "user", "content": plant("api")}]
    Conversation.of_api_call(
        project=project, user=wendy, messages=asked, end_user=plant("end_user"),
        metadata={"customer": plant("metadata")},
    )  # fmt: skip


def _freeze(project, written, plant, data_dir, wendy) -> None:
    said = f"first row: {written.text}\nloss 0.1 – kept"
    run = Run.objects.create(project=project, kind=Run.Kind.SFT, config={}, log_tail=said)
    snapshot = Snapshot.objects.create(
        project=project, run=run, sha256="a" * 64, counts={}, filters={}
    )
    snapshot.demonstrations.add(written)
    folder = data_dir / "runs" / str(run.pk) / "data"
    folder.mkdir(parents=True)
    rows = [{"id": 1, "text": written.text}, {"id": 2, "text": "Another's words"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(lines)
    (data_dir / "logs").mkdir()
    (data_dir / "logs" / "web.log").write_text(f"wrong password of {wendy.username}\nkept line\n")


def test_no_word_of_theirs_is_left_in_the_database_the_folders_and_the_logs(
    wendy, plant, data_dir, browse
):
    browse(wendy).get("/")  # a session
    before = dump()
    assert len(plant.made) >= 24
    missing = {each for each in plant.made if each not in before}
    assert missing == {"Canary-end_user"}  # of which a digest alone was ever kept
    assert len(on_disk(data_dir)) == 2
    erase(wendy)
    assert [line for line in dump().splitlines() if CANARY.search(line)] == []
    assert on_disk(data_dir) == []
    assert not browse_sessions(wendy)


def browse_sessions(person: User) -> list[str]:
    from django.contrib.sessions.models import Session

    decoded = [session.get_decoded() for session in Session.objects.all()]
    return [each for each in decoded if each.get("_auth_user_id") == str(person.pk)]


def test_what_others_did_stays(wendy, data_dir):
    erase(wendy)
    grid = Grid.objects.get()
    assert grid.asked[0] == asdict(Row.saying("A question of another row"))
    assert [cell.text for cell in grid.cells.all()] == ["Kept of another row", ""]
    assert Review.objects.get().comment == "Rita's own words"
    assert Placement.objects.get().completion.text == "Six minutes."
    [file] = (data_dir / "runs").rglob("train.jsonl")
    mangled, whole = map(json.loads, file.read_text().splitlines())
    assert whole == {"id": 2, "text": "Another's words"} and set(mangled["text"]) == {"*"}
    assert "kept line" in (data_dir / "logs" / "web.log").read_text()
    first, kept = Run.objects.get(kind=Run.Kind.SFT).log_tail.splitlines()
    assert first.endswith("***") and kept == "loss 0.1 – kept"


def test_nobody_is_left_who_could_sign_in_and_nothing_of_them_trains(wendy, project):
    erase(wendy)
    wendy.refresh_from_db()
    assert wendy.username == f"erased-{wendy.pk}" and not wendy.is_active
    assert not wendy.has_usable_password()
    assert not Demonstration.objects.in_force(project).filter(labeler=wendy).exists()


def test_the_report_names_what_was_made_of_their_data(wendy):
    out = StringIO()
    call_command("erase", user=wendy.username, stdout=out)
    assert "cooking: snapshot aaaaaaaaaaaa of SFT held their data" in out.getvalue()
    assert "data/train.jsonl: 1 places" in out.getvalue()


def test_a_restored_backup_is_erased_again_and_nobody_else(wendy, alice, data_dir):
    names = {"username": wendy.username, "first_name": wendy.first_name, "is_active": True}
    erase(wendy)
    User.objects.filter(pk=wendy.pk).update(**names)  # as an older backup has it
    Demonstration.objects.filter(labeler=wendy).update(text="Canary-restored")
    out = StringIO()
    call_command("erase", replay=True, stdout=out)
    assert out.getvalue() == "erased again: 1\n"
    assert not CANARY.search(dump())
    call_command("erase", replay=True, stdout=out)
    assert out.getvalue().endswith("erased again: 0\n")
    log = (data_dir / "erasures.jsonl").read_text()
    assert len(log.splitlines()) == 2 and not CANARY.search(log)
    # The number went to somebody else meanwhile.
    User.objects.filter(pk=wendy.pk).update(username="new", date_joined=timezone.now())
    assert erasure.replay() == 0
    assert User.objects.get(pk=wendy.pk).username == "new"


def test_one_erases_oneself_on_the_account_page_by_typing_one_s_name(wendy, browse):
    client = browse(wendy)
    client.post("/account/", {"act": "erase", "erase_name": "somebody"})
    assert (
        client.post("/account/", {"act": "erase", "erase_name": wendy.username}).status_code == 403
    )
    assert User.objects.filter(username=wendy.username).exists()
    sent = {"act": "erase", "erase_name": wendy.username, "confirm_password": "a long passphrase"}
    answer = client.post("/account/", sent)
    assert answer.headers["Location"] == "/sign-in/"
    assert not User.objects.filter(username=wendy.username).exists()
    assert client.get("/account/").status_code == 302
    assert not CANARY.search(dump())


def test_who_operates_a_project_hands_it_over_first(olga, browse):
    with pytest.raises(CommandError, match="Hand your projects over"):
        call_command("erase", user="olga")
    browse(olga).post("/account/", {"act": "erase", "erase_name": "olga"})
    assert User.objects.filter(username="olga", is_active=True).exists()


def test_a_question_that_somebody_else_asked_too_stays(project, base, alice, gus):
    base.go_live()
    for guest in (alice, gus):
        answer = Conversation.start(project=project, guest=guest, text="How do I boil an egg?")
        answer.text, answer.state = "Six minutes.", "done"
        answer.save()
        answer.become_data()
    erase(gus)
    assert [prompt.text for prompt in project.prompts.all()] == ["How do I boil an egg?"]
    assert Conversation.objects.get().guest == alice
