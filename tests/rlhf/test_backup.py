"""The drill: a backup, a new machine, the same installation on it, without whom was erased."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from itertools import count
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from annotate.chat.conversations import Conversation
from annotate.erasure import erase
from annotate.exchange.exports.exporting import lines
from annotate.models import Demonstration, Project
from feedback_site.embedded import APP_ROLE
from feedback_site.installation import backup
from feedback_site.installation.backup import CannotRestore, back_up, restore
from feedback_site.management.commands.app_role import grant
from rlhf.data.snapshot import pseudonym
from rlhf.models import Run
from tests.rlhf.conftest import beside_the_test, work

pytestmark = pytest.mark.django_db(transaction=True)
KINDS = ("prompts", "demonstrations", "rankings")
Says = Callable[..., subprocess.CompletedProcess[str]]

# What the restored installation is asked: its exports, and to go on with the round.
ASKED = f"""
import json
from itertools import chain
from annotate.audit.chain import verify
from annotate.exchange.exports.exporting import lines
from annotate.models import Project
from rlhf.data.snapshot import pseudonym
from rlhf.models import Round
from rlhf.rounds.launch import resume_round
from tests.rlhf.conftest import work

project = Project.objects.get()
exports = {{kind: "".join(lines(project, kind, anonymous=True)) for kind in {KINDS}}}
names = {{m.user.username: pseudonym(m.user) for m in project.memberships.all()}}
verify()
resume_round(Round.objects.get())
run = work()
print(json.dumps([exports, names, run.state, run.lease_token, run.summary["steps"]]))
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Says]]:
    """Makes a new machine, with an empty database and an empty DATA_DIR; calls commands there."""
    made: list[str] = []
    numbers = count(1)

    def make(**environment: str) -> Says:
        name = f"machine_{next(numbers)}"
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        made.append(name)
        here = beside_the_test(tmp_path / name)
        here["DATABASE_URL"] = f"{here['DATABASE_URL'].rsplit('/', 1)[0]}/{name}"
        here |= {"TRAIN_LAUNCHER": settings.TRAIN_LAUNCHER, **environment}

        def says(*command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "manage.py", *command],
                cwd=settings.BASE_DIR,
                env=here,
                capture_output=True,
                text=True,
            )

        says.data_dir = tmp_path / name
        return says

    yield make
    for name in made:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def paused(round, fake_trainer) -> Run:
    """The first run of the round met a full disk after a checkpoint."""
    fake_trainer(mode="pause")
    run = work()
    assert run and run.state == Run.State.PAUSED and run.checkpoints.count() == 1
    fake_trainer()
    return run


@pytest.fixture
def site_s_role() -> Iterator[None]:
    """The site works as a role of its own, which no dump carries."""
    grant(APP_ROLE)
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"DROP OWNED BY {APP_ROLE}; DROP ROLE {APP_ROLE}")


@pytest.fixture
def words(project, prompts, base, bob, gus) -> list[str]:
    """Bob wrote a demonstration that the round learns from, gus chatted."""
    said = ["Canary of bob's", "Canary of gus's"]
    Demonstration.objects.create(prompt=prompts[0], labeler=bob, text=said[0])
    base.go_live()
    answer = Conversation.start(project=project, guest=gus, text=said[1])
    answer.text, answer.state = "Six minutes.", "done"
    answer.save()
    answer.become_data()
    return said


def exports(project: Project) -> dict[str, str]:
    return {kind: "".join(lines(project, kind, anonymous=True)) for kind in KINDS}


def on_disk(folder: Path, word: str) -> list[str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [str(file.relative_to(folder)) for file in files if word.encode() in file.read_bytes()]


def in_database(says: Says, word: str) -> int:
    counted = "; ".join([
        "from django.db import connection as c",
        "k = c.cursor()",
        "rows = [r for t in c.introspection.table_names()"
        " for r in k.execute(f'SELECT x::text FROM \"{t}\" x').fetchall()]",
        f"print(sum({word!r} in r[0] for r in rows))",
    ])  # fmt: skip
    return int(says("shell", "--no-imports", "-c", counted).stdout)


def test_a_new_machine_goes_on_where_the_backup_was_made_without_whom_was_erased_since(
    words, paused, project, bob, gus, site_s_role, machine, tmp_path, data_dir
):
    (data_dir / "secret_key").write_text(settings.SECRET_KEY)
    call_command("backup", tmp_path / "backup")
    names = {m.user.username: pseudonym(m.user) for m in project.memberships.all()}
    erase(bob)
    erase(gus)
    for person in (bob, gus):
        names[f"erased-{person.pk}"] = names.pop(person.username)
    expected = exports(project)
    newest = data_dir / "erasures.jsonl"

    says = machine()
    restored = says("restore", str(tmp_path / "backup"), "--erasures", str(newest))
    assert restored.returncode == 0, restored.stderr
    assert "erased again: 2" in restored.stdout
    assert f"{APP_ROLE} may work, and change no history." in restored.stdout
    for word in words:
        assert on_disk(tmp_path / "backup" / "data", word) or word == words[1]
        assert not on_disk(says.data_dir, word) and in_database(says, word) == 0

    answer = says("shell", "--no-imports", "-c", ASKED)
    assert answer.returncode == 0, answer.stderr
    got, their_names, state, token, steps = json.loads(answer.stdout.splitlines()[-1])
    assert got == expected
    assert their_names == names
    assert (state, token, steps) == ("succeeded", paused.lease_token + 1, 6)


def test_with_another_key_nothing_is_restored(project, machine, tmp_path, data_dir):
    """The names of labelers in exports hang on it, and the keys of connections."""
    (data_dir / "secret_key").write_text(settings.SECRET_KEY)
    back_up(tmp_path / "backup")
    (tmp_path / "backup" / "data" / "secret_key").unlink()
    says = machine()
    refused = says("restore", str(tmp_path / "backup"))
    assert refused.returncode == 1 and "made with another SECRET_KEY" in refused.stderr
    assert "[ ] 0001_initial" in says("showmigrations", "auth").stdout


def test_a_key_of_the_environment_is_not_copied(project, tmp_path, data_dir, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", settings.SECRET_KEY)
    (data_dir / "secret_key").write_text("an older one, which does not count")
    said = StringIO()
    call_command("backup", tmp_path / "backup", stdout=said)
    assert "SECRET_KEY is not in it" in said.getvalue()
    assert [file.name for file in (tmp_path / "backup" / "data").iterdir()] == []
    assert settings.SECRET_KEY not in (tmp_path / "backup" / "backup.json").read_text()


def test_a_backup_is_for_its_owner_alone_and_never_written_over(project, tmp_path):
    folder = tmp_path / "backup"
    back_up(folder)
    assert [oct(place.stat().st_mode & 0o77) for place in (folder, *folder.iterdir())] == [
        "0o0"
    ] * 4
    with pytest.raises(CommandError, match="is not empty. Name a new folder"):
        call_command("backup", folder)


def test_what_vanishes_or_is_half_written_during_a_backup_is_left_out(
    project, tmp_path, data_dir, monkeypatch
):
    for name in ("1/t1/checkpoints/step-2", "1/t1/checkpoints/tmp-3", "2/t1"):
        (data_dir / "runs" / name).mkdir(parents=True)
        (data_dir / "runs" / name / "file").write_text("x")
    copy = shutil.copy2

    def copy_late(source: str, to: str) -> None:
        if "/runs/2/" in source:
            os.remove(source)  # as `prune_models` would
        copy(source, to)

    monkeypatch.setattr(shutil.copytree, "__defaults__", defaults_with(copy_late))
    back_up(tmp_path / "backup")
    kept = tmp_path / "backup" / "data" / "runs"
    files = [str(file.relative_to(kept)) for file in kept.rglob("file")]
    assert files == ["1/t1/checkpoints/step-2/file"]


def defaults_with(copy: Callable[[str, str], None]) -> tuple[object, ...]:
    return tuple(copy if each is shutil.copy2 else each for each in shutil.copytree.__defaults__)


def test_half_a_backup_a_changed_one_and_a_place_that_is_taken_are_refused(
    project, tmp_path, data_dir
):
    folder = tmp_path / "backup"
    back_up(folder)
    with pytest.raises(CannotRestore, match="The database is not empty"):
        restore(folder)
    with (folder / "database.dump").open("ab") as dump:
        dump.write(b"x")
    with pytest.raises(CannotRestore, match="is not as it was written"):
        restore(folder)
    (folder / "backup.json").unlink()
    with pytest.raises(CommandError, match="half of one"):
        call_command("restore", folder)
    with pytest.raises(CommandError, match="There is no"):
        call_command("restore", folder, erasures=tmp_path / "erasures.jsonl")


def test_each_program_is_as_old_as_the_server_allows(project, tmp_path, monkeypatch):
    """A newer pg_dump writes what an older server does not know; an older one refuses."""
    for version in ("14.2", "17.1", "99.0"):
        program = tmp_path / f"pg_dump-{version}"
        program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version} (Debian)'\n")
        program.chmod(0o700)
    chosen = {}
    for server in (14, 15, 17):
        for on_path, inside in (("14.2", "17.1"), ("17.1", "99.0"), ("99.0", "17.1")):
            found = [str(tmp_path / f"pg_dump-{version}") for version in (on_path, inside)]
            monkeypatch.setattr(shutil, "which", lambda _, path=found[0]: path)
            monkeypatch.setattr(backup, "_embedded", lambda _, path=found[1]: path)
            chosen[server, on_path] = backup._program("pg_dump", server)[-4:]
    assert chosen == {
        (14, "14.2"): "14.2", (14, "17.1"): "17.1", (14, "99.0"): "17.1",
        (15, "14.2"): "17.1", (15, "17.1"): "17.1", (15, "99.0"): "17.1",
        (17, "14.2"): "17.1", (17, "17.1"): "17.1", (17, "99.0"): "17.1",
    }  # fmt: skip
    with pytest.raises(backup.CannotBackUp, match="install postgresql-client-100"):
        backup._program("pg_dump", 100)
