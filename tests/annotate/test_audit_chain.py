"""The audit log: written with the change or not at all, and chained."""

import threading

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from annotate.audit.chain import Head, verify
from annotate.audit.recording import Act, recording
from annotate.models import AuditEntry, Project


def do(action: str, project: Project, name: str) -> None:
    with recording(Act(action, project=project.pk, thing=project)):
        project.name = name
        project.edit_minutes += 1
        project.save()


def tamper(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_an_entry_says_what_was_written_and_keeps_no_text(project):
    minutes = project.edit_minutes
    do("rename", project, "Secret name")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.about, entry.number) == ("rename", f"project:{project.pk}", 1)
    assert entry.details == {
        "wrote": {"annotate_project": {"changed": 1}},
        "before": {"edit_minutes": minutes},
        "after": {"edit_minutes": minutes + 1},
    }


def test_what_changes_nothing_leaves_no_entry(project):
    with recording(Act("look")):
        assert Project.objects.count()
    assert not AuditEntry.objects.exists()


def test_what_fails_leaves_neither_the_change_nor_an_entry(project):
    with pytest.raises(ZeroDivisionError), recording(Act("rename")):
        Project.objects.update(name="Other")
        _ = 1 / 0
    assert not AuditEntry.objects.exists()
    assert not Project.objects.filter(name="Other").exists()


def test_a_change_without_its_entry_is_taken_back(project, monkeypatch):
    def fail(**_: object) -> int:
        raise RuntimeError("no entry")

    monkeypatch.setattr(AuditEntry, "append", fail)
    with pytest.raises(RuntimeError), recording(Act("rename")):
        Project.objects.update(name="Other")
    assert not Project.objects.filter(name="Other").exists()


def test_one_recording_within_another_is_part_of_it(project):
    with recording(Act("outer")):
        do("inner", project, "Other")
    assert AuditEntry.objects.get().action == "outer"


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE annotate_auditentry SET action = 'x' WHERE number = 3", "Entry 3 was changed."),
        ("UPDATE annotate_auditentry SET actor_id = 7 WHERE number = 2", "Entry 2 was changed."),
        (
            "UPDATE annotate_auditentry SET at = at + interval '1 microsecond' WHERE number = 4",
            "Entry 4 was changed.",
        ),
        (
            "UPDATE annotate_auditentry SET previous = repeat('0', 64) WHERE number = 3",
            "Entry 3 does not follow from entry 2.",
        ),
        ("DELETE FROM annotate_auditentry WHERE number = 1", "Entry 1 is missing."),
        ("DELETE FROM annotate_auditentry WHERE number = 3", "Entry 3 is missing."),
        ("DELETE FROM annotate_auditentry WHERE number > 3", "Entry 4 is missing"),
        ("TRUNCATE annotate_auditentry", "Entry 1 is missing"),
    ],
)
def test_verify_names_the_first_entry_that_is_not_as_it_was_written(project, capsys, sql, said):
    for name in "abcde":
        do(name, project, name)
    head = verify()
    assert head.number == 5
    call_command("audit", "verify", "--known", str(head))
    assert str(head) in capsys.readouterr().out
    tamper(sql)
    with pytest.raises(CommandError, match=said):
        call_command("audit", "verify", "--known", str(head))


def test_a_chain_that_was_written_anew_is_not_the_one_that_was_known(project):
    do("a", project, "a")
    head = verify()
    tamper("TRUNCATE annotate_auditentry")
    do("b", project, "b")
    verify()
    with pytest.raises(CommandError, match="another one"):
        call_command("audit", "verify", "--known", str(head))
    with pytest.raises(ValueError, match="NUMBER:HASH"):
        Head.read("12")


def test_who_writes_an_entry_chooses_neither_number_nor_time_nor_hash(project):
    do("a", project, "a")
    tamper(
        "INSERT INTO annotate_auditentry"
        " (number, at, action, about, details, request_id, previous, hash)"
        " VALUES (99, '2001-01-01', 'b', '', '{}', '', 'p', 'h')"
    )
    assert verify().number == 2
    assert AuditEntry.objects.get(number=2).at > AuditEntry.objects.get(number=1).at


@pytest.mark.django_db(transaction=True)
def test_many_at_once_make_one_chain_without_a_gap(project):
    """Half of them take back what they did, at the last moment."""
    trouble: list[BaseException] = []

    def work(which: int) -> None:
        try:
            for n in range(20):
                with transaction.atomic():
                    with recording(Act(f"{which}-{n}", project=project.pk)):
                        Project.objects.create(name=f"{which}-{n}", slug=f"{which}-{n}")
                    if n % 2:
                        transaction.set_rollback(True)
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            trouble.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not trouble
    assert verify().number == AuditEntry.objects.count() == 8 * 10
    made = set(Project.objects.exclude(pk=project.pk).values_list("name", flat=True))
    assert made == set(AuditEntry.objects.values_list("action", flat=True))
