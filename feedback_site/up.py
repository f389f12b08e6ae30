"""Everything one machine needs, in one terminal: `python -m feedback_site.up [COMMAND …]`.

Starts what the environment does not bring (PostgreSQL, Redis, an inference server), prepares the
database and the base model, and keeps the processes of the Procfile running until Ctrl-C. With a
COMMAND of manage.py it runs that instead of waiting, and leaves with its exit code."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType

import httpx
from django.core.exceptions import ImproperlyConfigured

from feedback_site import embedded
from feedback_site.embedded import CannotStart
from feedback_site.installation.home import HOME
from feedback_site.processes import Process, read_procfile, stop

CHECKPOINT_SECONDS = 30.0
Say = Callable[[str], None]
HEALTHY_SECONDS = 120.0
LOADED_SECONDS = 30.0  # for the base model to be loaded; the server goes on after that
HOPELESS_CRASHES = 3


def main(command: list[str]) -> int:
    """Runs the stack, with `command` of manage.py beside it if there is one; returns the exit
    code."""
    # The last line on standard output belongs to the command.
    say = partial(print, file=sys.stderr if command else sys.stdout, flush=True)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:  # nohup
            signal.signal(signum, _leave)
    try:
        with ExitStack() as stack:
            return up(command, say=say, stack=stack)
    except KeyboardInterrupt:
        say("stopped")
        return 0
    except (CannotStart, ImproperlyConfigured) as error:
        print(error, file=sys.stderr)
        return 1


def up(command: list[str], *, say: Say, stack: ExitStack) -> int:
    """Brings up what is needed in three steps; returns the exit code of `command`, or stays until a
    signal."""
    settings = read_settings()
    port = settings.PORT if "PORT" in os.environ or not command else free_port()
    site = f"http://127.0.0.1:{port}"
    stack.enter_context(embedded.claimed(settings.DATA_DIR, site_url=site))
    ensure_free(port)
    embedded.close(settings.DATA_DIR, say=say)

    # 1. The services that the environment does not bring.
    processes, addresses, owner = start_services(settings.DATA_DIR, stack=stack, say=say)
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DATA_DIR": str(settings.DATA_DIR),
        "PORT": str(port),
        "INFERENCE_PORT": str(free_port()),
        # Other people of this machine reach the port too.
        "INFERENCE_API_KEY": settings.INFERENCE_API_KEY or secrets.token_urlsafe(32),
    }
    procfile = read_procfile(HOME / "Procfile", env=env, logs=settings.DATA_DIR / "logs")
    procfile["trainer"].patience = CHECKPOINT_SECONDS
    if os.environ.get("INFERENCE_URL"):
        del procfile["inference"]
    else:
        addresses["inference_url"] = f"http://127.0.0.1:{env['INFERENCE_PORT']}/v1"
        addresses["inference_api_key"] = env["INFERENCE_API_KEY"]
    stack.enter_context(embedded.noted(settings.DATA_DIR, site_url=site, **addresses))
    stack.callback(stop, procfile.values())
    processes += procfile.values()

    # 2. What the others stand on. The inference server needs none of it, and takes its time.
    if "inference" in procfile:
        procfile["inference"].start()
    python = partial(run, env=env, say=say)
    prepare = ["app_role", "--migrate"] if owner else ["migrate", "--verbosity", "0"]
    python("migrations", "manage.py", *prepare, env=env | owner)
    python("static files", "manage.py", "collectstatic", "--no-input", "--verbosity", "0")
    base = settings.DATA_DIR / "models" / f"base-{Path(settings.BASE_MODEL).name}"
    if not base.exists():
        say(f"making the base model {settings.BASE_MODEL} (once)")
        corpus = ["--corpus", "demo/demonstrations.jsonl"]
        python(
            "base model", "-m", "rlhf.learning.models.base", settings.BASE_MODEL, str(base), *corpus
        )
    links = python("demo project", "manage.py", "seed_demo", "--links")

    # 3. The processes of the Procfile.
    with timed(", ".join(procfile), say=say):
        for process in procfile.values():
            if not process.is_running():
                process.start()
        wait_until_healthy(site, processes, say=say)
    if "inference" in procfile:
        warm(int(env["INFERENCE_PORT"]), base, key=env["INFERENCE_API_KEY"], say=say)
    if command:
        return run_beside(processes, command, env=env, say=say)
    say(f"\nready {site}\n\n{links}\nEach link signs in once. Ctrl-C stops everything.")
    while True:
        keep_up(processes, say=say)
        time.sleep(0.5)


def read_settings() -> ModuleType:
    """Imports the settings. Raises CannotStart, with a sentence, where the environment does not
    allow it."""
    try:
        from feedback_site import settings
    except OSError as error:
        raise CannotStart(
            f"Cannot write to {error.filename} ({error.strerror}). Choose another folder: "
            "make run DATA_DIR=/path/to/folder"
        ) from error
    except ValueError as error:
        raise CannotStart(f"A setting in the environment cannot be read: {error}") from error
    return settings


def start_services(
    data_dir: Path, *, stack: ExitStack, say: Say
) -> tuple[list[Process], dict[str, str], dict[str, str]]:
    """Starts PostgreSQL and Redis where the environment names none; returns them, their addresses,
    and the environment in which one owns the embedded database: the site itself does not."""
    processes, addresses, owner = [], {}, {}
    logs = data_dir / "logs"
    sockets = stack.enter_context(embedded.socket_folder(data_dir))
    if not os.environ.get("DATABASE_URL"):
        with timed("PostgreSQL", say=say):
            database = stack.enter_context(embedded.postgres(data_dir, sockets, logs=logs, say=say))
        processes.append(database.process)
        addresses["database_url"] = database.url.replace(embedded.OWNER, embedded.APP_ROLE, 1)
        owner = {"DATABASE_URL": database.url}
    if not os.environ.get("REDIS_URL"):
        with timed("Redis", say=say):
            redis = stack.enter_context(embedded.redis(sockets, logs=logs))
        processes.append(redis.process)
        addresses["redis_url"] = redis.url
    return processes, addresses, owner


def run(what: str, *arguments: str, env: dict[str, str], say: Say) -> str:
    """Runs Python with these arguments to its end and returns its output. Raises CannotStart with
    the end of it."""
    with timed(what, say=say):
        answer = subprocess.run(
            [sys.executable, *arguments], cwd=HOME, env=env, capture_output=True, text=True
        )
    if answer.returncode:
        last_words = "\n".join((answer.stdout + answer.stderr).splitlines()[-12:])
        raise CannotStart(f"{what} failed: python {' '.join(arguments)}\n{last_words}")
    return answer.stdout


def wait_until_healthy(site: str, processes: list[Process], *, say: Say) -> None:
    """Waits until /healthz is well, and goes on without what pages can do without. Raises
    CannotStart for a process that crashes again and again, and when the time is over."""
    deadline = time.monotonic() + HEALTHY_SECONDS
    while True:
        states = health(site)
        missing = [name for name, state in states.items() if state != "ok"]
        if not missing:
            return
        keep_up(processes, say=say)
        hopeless = [process for process in processes if process.crashes >= HOPELESS_CRASHES]
        if hopeless:
            process = hopeless[0]
            raise CannotStart(
                f"{process.name} does not start. The end of {process.log}:\n{process.last_words()}"
            )
        if time.monotonic() > deadline:
            if states.get("web") == states.get("database") == "ok":
                say(f"going on without {', '.join(missing)}: see {site}/healthz")
                return
            raise CannotStart(f"Not ready after {HEALTHY_SECONDS:g} s: {states}; see DATA_DIR/logs")
        time.sleep(0.2)


def health(site: str) -> dict[str, str]:
    """What /healthz says of each part: “ok”, or what is wrong."""
    try:
        answer = httpx.get(f"{site}/healthz", timeout=5, trust_env=False)
        if answer.status_code == 400:
            return {"web": "refuses 127.0.0.1: add it to ALLOWED_HOSTS"}
        return dict(answer.json())
    except (httpx.HTTPError, ValueError) as error:
        return {"web": str(error)}


def warm(inference_port: int, model: Path, *, key: str, say: Say) -> None:
    """Has the server load the model."""
    url = f"http://127.0.0.1:{inference_port}/v1/load"
    asked, headers = {"model": str(model)}, {"Authorization": f"Bearer {key}"}
    try:
        told = httpx.post(url, json=asked, headers=headers, timeout=LOADED_SECONDS, trust_env=False)
        told.raise_for_status()
    except httpx.HTTPError as error:
        say(f"the first answer will take longer: {model} is not loaded yet ({error})")


def run_beside(
    processes: list[Process], command: list[str], *, env: dict[str, str], say: Say
) -> int:
    """Runs a command of manage.py while the processes are kept up; returns its exit code."""
    child = subprocess.Popen([sys.executable, str(HOME / "manage.py"), *command], env=env)
    try:
        while child.poll() is None:
            keep_up(processes, say=say)
            time.sleep(0.2)
        return child.returncode
    finally:
        child.terminate()


def keep_up(processes: list[Process], *, say: Say) -> None:
    """Starts again what has crashed, and says so."""
    for process in processes:
        news = process.keep_up()
        if news:
            say(news)


@contextmanager
def timed(what: str, *, say: Say) -> Iterator[None]:
    """Says how long the block took, once it is done."""
    started = time.monotonic()
    yield
    say(f"{what} ({time.monotonic() - started:.1f} s)")


def ensure_free(port: int) -> None:
    """Raises CannotStart with another port to try if this one cannot be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError as error:
            raise CannotStart(
                f"Port {port} is for root alone. Choose one above 1023: make run PORT=8000"
            ) from error
        except (OSError, OverflowError) as error:
            raise CannotStart(
                f"Port {port} is in use. Choose another: make run PORT={port + 1}"
            ) from error


def free_port() -> int:
    """A port of this machine's that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _leave(signum: int, frame: FrameType | None) -> None:
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)  # leaving takes seconds; nobody shall interrupt it
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
