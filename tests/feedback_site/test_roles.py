"""S9: as the role that the site works as, nobody changes history."""

from io import StringIO

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from annotate.audit.chain import verify
from annotate.audit.recording import Act, recording
from annotate.erasure import erase
from annotate.labelling.queue import next_assignment
from annotate.labels.kinds import KINDS
from annotate.models import AuditEntry, Demonstration, Placement, Ranking
from feedback_site.embedded import APP_ROLE
from feedback_site.management.commands.app_role import append_only, grant
from rlhf.models import Metric, Run
from rlhf.models.leases import claim
from rlhf.runs.ingest import Ingester, rewind
from tests.rlhf.conftest import data_dir

__all__ = ["data_dir"]


@pytest.fixture
def history(project, alice, rank_task, write_task, data_dir, olga) -> Run:
    """A label of each kind, an entry, and a metric of a run that is under way."""
    write_task()
    Demonstration.record(assignment=next_assignment(alice, project), text="In hot water.")
    rank_task(k=2)
    work = next_assignment(alice, project)
    placements = [
        Placement(completion_id=pk, place=place) for place, pk in enumerate(work.shown_order, 1)
    ]
    Ranking.record(assignment=work, placements=placements)
    with recording(Act("rename")):
        project.save()
    run = Run.launch(project, kind=Run.Kind.SFT, config={"train": {}}, by=olga)
    return run


@pytest.fixture
def as_site(history):
    """From here on the test works as the site does."""
    grant(APP_ROLE)
    with connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {APP_ROLE}")
        yield history
        cursor.execute("RESET ROLE")


def ask(sql: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)


TABLES = sorted(append_only())
OF_LABELS = ["annotate_demonstration", "annotate_ranking", "annotate_placement"]
TAMPERING = [
    *(f"UPDATE {table} SET {column} = {column}" for table, column in [
        ("annotate_auditentry", "action"), ("annotate_demonstration", "text"),
        ("annotate_edit", "diff"), ("annotate_ranking", "comment"),
        ("annotate_placement", "place"), ("annotate_review", "comment"),
        ("rlhf_metric", "values"), ("django_migrations", "name"),
    ]),
    *(f"DELETE FROM {t}" for t in ("annotate_auditentry", "rlhf_metric", *OF_LABELS)),
    "WITH gone AS (DELETE FROM annotate_auditentry RETURNING 1) SELECT count(*) FROM gone",
    "INSERT INTO annotate_demonstration SELECT * FROM annotate_demonstration"
    " ON CONFLICT (id) DO UPDATE SET text = 'x'",
    "MERGE INTO annotate_auditentry AS a USING annotate_auditentry AS b ON a.number = b.number"
    " WHEN MATCHED THEN UPDATE SET action = 'x'",
    "SELECT * FROM annotate_auditentry FOR UPDATE",
    *(f"TRUNCATE {table} CASCADE" for table in TABLES),
    *(f"DROP TABLE {table} CASCADE" for table in TABLES),
    *(f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in TABLES),
    *(f"ALTER TABLE {table} OWNER TO {APP_ROLE}" for table in TABLES),
    "DROP TRIGGER chain ON annotate_auditentry",
    "DROP TRIGGER keep_history ON annotate_demonstration",
    "DROP TRIGGER require_lease ON rlhf_metric",
    "CREATE OR REPLACE FUNCTION annotate_chain_audit() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NEW; END'",
    "DROP FUNCTION annotate_keep_history() CASCADE",
    "CREATE RULE forget AS ON INSERT TO annotate_auditentry DO INSTEAD NOTHING",
    "CREATE TRIGGER lie BEFORE INSERT ON annotate_auditentry"
    " FOR EACH ROW EXECUTE FUNCTION annotate_keep_history()",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "COPY annotate_auditentry FROM PROGRAM 'echo'",
    "COPY (SELECT 1) TO '/tmp/feedback-site-tampering'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "SET session_replication_role = replica",
    "SET log_statement = 'none'",
    "CREATE EXTENSION file_fdw",
    "CREATE ROLE other SUPERUSER",
    f"ALTER ROLE {APP_ROLE} SUPERUSER",
    f"GRANT pg_write_all_data TO {APP_ROLE}",
    "CREATE TABLE public.annotate_more (id int)",
]  # fmt: skip


def test_the_site_cannot_change_history(as_site, subtests):
    for sql in TAMPERING:
        with subtests.test(sql):
            with pytest.raises(DatabaseError) as refused:
                ask(sql)
            assert getattr(refused.value.__cause__, "sqlstate", "") == "42501", refused.value


@pytest.mark.parametrize("sql", [each for each in TAMPERING if each.startswith("DELETE")])
def test_who_owns_the_tables_could(sql, history):
    """So that the test before says something of the role."""
    ask(sql.replace("annotate_ranking", "annotate_placement"))


def test_the_database_decides_what_an_entry_says_beside_what_was_done(as_site):
    ask(
        "INSERT INTO annotate_auditentry"
        " (number, at, action, about, details, request_id, previous, hash)"
        " VALUES (99, '2001-01-01', 'b', '', '{}', '', 'p', 'h')"
    )
    assert verify().number == 2


def test_the_site_erases_a_labeler_and_the_database_says_so(as_site, alice, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "DATA_DIR", tmp_path)
    erase(alice)
    assert Demonstration.objects.get().text == "[erased]"
    entry = AuditEntry.objects.first()
    assert (entry.action, entry.about) == ("erase_labels", f"user:{alice.pk}")
    assert entry.details == {"demonstrations": 1, "reviews": 0}
    verify()


def test_only_who_holds_the_lease_takes_metrics_back_and_that_is_recorded(as_site, data_dir):
    lease = claim()
    assert lease
    lease.path.mkdir(parents=True)
    line = '{"step": 1, "split": "train", "time": 1, "loss": 2.0}\n'
    (lease.path / "metrics.jsonl").write_text(line + line.replace('"step": 1', '"step": 2'))
    Ingester(lease, {}).ingest()
    assert Metric.objects.count() == 2
    assert AuditEntry.objects.count() == 1
    Ingester(lease, {}).ingest()  # the same lines, as after a crash
    assert Metric.objects.count() == 2
    rewind(lease, None)
    assert not Metric.objects.exists()
    assert [(each.action, each.details["rows"]) for each in AuditEntry.objects.all()[:2]] == [
        ("take_back_metrics", 2),
        ("take_back_metrics", 2),
    ]
    with pytest.raises(DatabaseError, match="was taken over"):
        ask(f"SELECT rlhf_take_back_metrics({lease.run.pk}, {lease.token + 1}, ARRAY[1])")


def test_granting_again_changes_nothing_and_names_are_checked(history):
    said = StringIO()
    call_command("app_role", stdout=said)
    call_command("app_role", stdout=said)
    assert said.getvalue().count("feedback_app may work") == 2
    with pytest.raises(CommandError, match="small letters"):
        call_command("app_role", "x; DROP TABLE annotate_project")


def test_each_table_of_labels_is_among_those_that_are_kept():
    kept = set(append_only())
    assert {kind.model._meta.db_table for kind in KINDS.values()} <= kept
    assert kept - {"django_migrations"} <= {m._meta.db_table for m in apps.get_models()}
