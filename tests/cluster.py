"""PostgreSQL's files with every migration applied: made once for all processes of the tests.

To migrate an empty database takes twelve seconds of a processor, and each process of the tests has
a server of its own, as has the site in front of the browser. They copy this one instead. It is kept
in .pytest_cache until a migration or a pinned package is another."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from feedback_site import embedded

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".pytest_cache" / "clusters"


def migrated() -> Path:
    """The folder, which is made first where there is none."""
    KEPT.mkdir(parents=True, exist_ok=True)
    cluster = KEPT / _name()
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits, and finds it made
        if not cluster.exists():
            for outdated in KEPT.glob("cluster-*"):
                shutil.rmtree(outdated)
            _make(cluster)
    return cluster


def copied(cluster: Path, data_dir: Path) -> None:
    """As the cluster of this DATA_DIR, with its owner: root's PostgreSQL runs as somebody else."""
    subprocess.run(["cp", "-a", str(cluster), str(data_dir / "postgres")], check=True)


def _name() -> str:
    """Another one for whatever makes another database."""
    files = [ROOT / "requirements.lock", ROOT / "feedback_site" / "embedded.py", Path(__file__)]
    files += sorted(ROOT.glob("*/migrations/*.py"))
    told = hashlib.sha256()
    for file in files:
        told.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return f"cluster-{told.hexdigest()[:16]}"


def _make(cluster: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="feedback-site-") as folder:
        data_dir = Path(folder)
        with (
            embedded.socket_folder(data_dir) as sockets,
            embedded.postgres(
                data_dir, sockets, logs=data_dir / "logs", lasting=False, say=lambda _: None
            ) as service,
        ):
            subprocess.run(
                [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
                cwd=ROOT,
                env=os.environ | {"DATABASE_URL": service.url, "DATA_DIR": folder},
                check=True,
            )
            with psycopg.connect(
                host=str(sockets), user=embedded.OWNER, dbname="postgres", autocommit=True
            ) as connection:
                site = embedded.DATABASE
                connection.execute(f"CREATE DATABASE test_{site} TEMPLATE {site}")
        half = cluster.with_suffix(".new")
        shutil.rmtree(half, ignore_errors=True)
        subprocess.run(["cp", "-a", str(data_dir / "postgres"), str(half)], check=True)
        half.rename(cluster)
