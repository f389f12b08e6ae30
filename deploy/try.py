"""Tries `deploy/` on one machine with Debian's PostgreSQL, Redis and nginx, without Docker and
systemd, and prints what came of it as a table:

    .venv/bin/python deploy/try.py [--from COMMIT] [--before COMMIT] [--keep]

As root on Debian, with PostgreSQL installed; Redis and nginx are unpacked from their packages, not
installed. All runs below one temporary folder, on ports of 127.0.0.1, and ends with the script.
With --from, the database is made by an earlier commit first, and upgraded. --before names the
version to which the web is rolled back, with the database of this one; else it is the last commit
but one. What is tried is what is committed."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import httpx

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
PACKAGES = ("nginx", "redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
UNIT = (DEPLOY / "systemd" / "feedback-site@.service").read_text()
PYTHON = sys.executable
LOOK = """
import json
from rlhf.models import Run
print(json.dumps(list(Run.objects.values_list("state", "slot"))))
"""
PIN = """
from rlhf.models import Run
for run, host in zip(Run.objects.order_by("pk"), ("host-b", "host-a"), strict=False):
    Run.objects.filter(pk=run.pk).update(pinned_to=host)
"""
results: list[tuple[str, str]] = []


def result(what: str, figure: object) -> None:
    results.append((what, str(figure)))
    print(f"{what}: {figure}", flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], T], *, seconds: float = 90) -> T:
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds:g} s in vain")
        time.sleep(0.2)
    return found


class Place:
    """The temporary folder, its ports and secrets, and what runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.site = folder / "site"  # where the web's code lies, as it would be upgraded
        self.ports = {name: free_port() for name in ("pg", "redis", "web", "model", "http", "tls")}
        self.owner = self.database_url("feedback_site", "owner's-word")
        self.site_url = f"https://localhost:{self.ports['tls']}"
        self.env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
            "SECRET_KEY": secrets.token_urlsafe(64),
            "INFERENCE_API_KEY": "between-web-and-model",
            "SITE_URL": self.site_url,
            "ALLOWED_HOSTS": "localhost,127.0.0.1",
            "TRUSTED_PROXIES": "127.0.0.1",
            "WEB_CONCURRENCY": "4",
            "BASE_MODEL": "tiny",
            "DATABASE_URL": self.database_url("feedback_app", "app's-word"),
            "REDIS_URL": f"rediss://:ring@localhost:{self.ports['redis']}/0"
            f"?ssl_ca_certs={folder / 'cert.pem'}",
            "DATA_DIR": str(self.data),
            "PORT": str(self.ports["web"]),
            "INFERENCE_PORT": str(self.ports["model"]),
            "INFERENCE_URL": f"http://127.0.0.1:{self.ports['model']}/v1",
            "OMP_NUM_THREADS": "1",
        }

    def database_url(self, role: str, password: str, name: str = "feedback_site") -> str:
        return f"postgres://{role}:{password}@127.0.0.1:{self.ports['pg']}/{name}"

    def manage(self, *command: str, root: Path = ROOT, **env: str) -> str:
        answer = subprocess.run(
            [PYTHON, "manage.py", *command],
            cwd=root,
            env=self.env | env,
            capture_output=True,
            text=True,
        )
        if answer.returncode:
            raise RuntimeError(f"manage.py {' '.join(command)}: {answer.stderr[-2000:]}")
        return answer.stdout + answer.stderr

    def browser(self) -> httpx.Client:
        trust = ssl.create_default_context(cafile=str(self.folder / "cert.pem"))
        return httpx.Client(
            base_url=self.site_url, verify=trust, trust_env=False, timeout=60, follow_redirects=True
        )


@contextmanager
def running(name: str, command: list[str], place: Place, **options: object) -> Iterator[int]:
    """A process in the background, until the end of the block; its output is in NAME.log."""
    with (place.folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **options)
        try:
            yield process.pid
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(40)
            process.kill()


def unit(name: str, place: Place) -> list[str]:
    """What systemd would run for feedback-site@NAME.service."""
    [line] = re.findall(r"^ExecStart=(.+)$", UNIT, re.MULTILINE)
    shell = re.fullmatch(r"/bin/sh -c '(.+)'", line)
    assert shell
    return ["/bin/sh", "-c", shell[1].replace("%i", name).replace("$$", "$")]


def unpack(place: Place) -> dict[str, str]:
    """The packages' files in a folder of their own; returns the environment that finds them."""
    folder = place.folder / "packages"
    folder.mkdir()
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True, capture_output=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package.name, "."], cwd=folder, check=True)
    libraries = [str(each) for each in folder.glob("usr/lib/*-linux-gnu")]
    path = f"{folder}/usr/bin:{folder}/usr/sbin:{os.environ['PATH']}"
    return {"PATH": path, "LD_LIBRARY_PATH": ":".join(libraries)}


def certificate(place: Place) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        + ["-keyout", str(place.folder / "key.pem"), "-out", str(place.folder / "cert.pem")],
        check=True,
        capture_output=True,
    )


def start_postgres(place: Place, stack: ExitStack) -> None:
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda b: int(b.parent.name))
    files, password = place.folder / "postgres", place.folder / "owner.txt"
    password.write_text("owner's-word")
    user = pwd.getpwnam("postgres")
    for each in (files, password):
        files.mkdir(exist_ok=True)
        os.chown(each, user.pw_uid, user.pw_gid)
    as_postgres = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": files}
    subprocess.run(
        [str(binaries / "initdb"), "--pgdata", str(files / "db"), "--username", "feedback_site"]
        + ["--auth", "scram-sha-256", "--pwfile", str(password), "--encoding", "UTF8"],
        check=True,
        capture_output=True,
        **as_postgres,
    )
    command = [str(binaries / "postgres"), "-D", str(files / "db"), "-p", str(place.ports["pg"])]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={files}"]
    stack.enter_context(running("postgres", command, place, **as_postgres))
    psql = {
        **os.environ,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(place.ports["pg"]),
        "PGPASSWORD": "owner's-word",
        "POSTGRES_USER": "feedback_site",
        "POSTGRES_DB": "feedback_site",
        "APP_PASSWORD": "app's-word",
    }

    def make(name: str) -> bool:
        sql = ["psql", "-qU", "feedback_site", "postgres", "-c", f"CREATE DATABASE {name}"]
        return not subprocess.run(sql, env=psql, capture_output=True).returncode

    wait_for(lambda: make("feedback_site"))
    make("restored")
    subprocess.run([str(DEPLOY / "postgres-init.sh")], env=psql, check=True)
    version = subprocess.run([binaries / "postgres", "-V"], capture_output=True, text=True).stdout
    result("PostgreSQL, passwords by SCRAM, two roles by postgres-init.sh", version.strip())


def start_redis(place: Place, stack: ExitStack, found: dict[str, str]) -> None:
    pem, key, port = place.folder / "cert.pem", place.folder / "key.pem", place.ports["redis"]
    command = ["redis-server", "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1"]
    command += ["--tls-cert-file", str(pem), "--tls-key-file", str(key)]
    command += ["--tls-auth-clients", "no", "--requirepass", "ring", "--save", ""]
    program = shutil.which("redis-server", path=found["PATH"]) or "redis-server"
    env = os.environ | found
    options = {"env": env, "cwd": place.folder}
    stack.enter_context(running("redis", [program, *command[1:]], place, **options))
    said = subprocess.run([program, "--version"], env=env, capture_output=True, text=True).stdout
    result("Redis, TLS and password (rediss://)", said.split(" sha")[0].strip())


def start_nginx(place: Place, stack: ExitStack, found: dict[str, str]) -> None:
    """deploy/nginx.conf with other names, ports and certificates, and nothing else changed."""
    folder, ports = place.folder, place.ports
    server = (DEPLOY / "nginx.conf").read_text().replace("feedback.example.org", "localhost")
    for old, new in (
        ("listen 80;", f"listen 127.0.0.1:{ports['http']};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{ports['tls']} ssl;"),
        ("/etc/letsencrypt/live/localhost/fullchain.pem", str(folder / "cert.pem")),
        ("/etc/letsencrypt/live/localhost/privkey.pem", str(folder / "key.pem")),
        ("127.0.0.1:8000", f"127.0.0.1:{ports['web']}"),
        ("Host $host;", "Host $http_host;"),  # another port than 443
    ):
        assert old in server, old
        server = server.replace(old, new)
    temporary = "".join(
        f"{name}_temp_path {folder}/nginx_{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user root; pid {folder}/nginx.pid; daemon off; error_log {folder}/nginx_errors.log;\n"
        f"events {{}}\nhttp {{\naccess_log {folder}/nginx_access.log;\n{temporary}{server}}}\n"
    )
    program = shutil.which("nginx", path=found["PATH"]) or "nginx"
    command = [program, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    stack.enter_context(running("nginx", command, place, env=os.environ | found))
    said = subprocess.run([program, "-v"], env=os.environ | found, capture_output=True, text=True)
    result("nginx with deploy/nginx.conf, own certificate", said.stderr.strip())


def lay_out(folder: Path, commit: str) -> None:
    """The files of a commit, and no others; each takes the place of the old one at once, and what
    is gone goes last, as `rsync -a --delay-updates --delete-after` does it: the web may still read
    a template."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as unpacked:
        subprocess.run(["tar", "-x"], cwd=unpacked, input=archive.stdout, check=True)
        new = {each.relative_to(unpacked) for each in Path(unpacked).rglob("*") if each.is_file()}
        for each in new:
            (folder / each).parent.mkdir(parents=True, exist_ok=True)
            (Path(unpacked) / each).replace(folder / each)
    for each in folder.rglob("*"):
        if each.is_file() and each.suffix != ".pyc" and each.relative_to(folder) not in new:
            each.unlink()


def prepare(place: Place, earlier: str | None) -> None:
    lay_out(place.site, "HEAD")
    if earlier:
        old = place.folder / "earlier"
        lay_out(old, earlier)
        place.manage("migrate", "--verbosity", "0", root=old, DATABASE_URL=place.owner)
        place.manage("seed_demo", root=old, DATABASE_URL=place.owner)
        count = len(pending(place))
        result(f"database made by {earlier}", f"{count} migrations behind")
    began = time.monotonic()
    place.manage("app_role", "--migrate", DATABASE_URL=place.owner)
    result("app_role --migrate", f"{time.monotonic() - began:.1f} s, {len(pending(place))} behind")
    place.manage("collectstatic", "--no-input", "--verbosity", "0")
    base = place.data / "models" / "base-tiny"
    corpus = ["--corpus", "demo/demonstrations.jsonl"]
    command = [PYTHON, "-m", "rlhf.learning.models.base", "tiny", str(base), *corpus]
    subprocess.run(command, cwd=ROOT, env=place.env, check=True, capture_output=True)
    place.manage("seed_demo")
    said = place.manage("check", "--deploy")
    result("check --deploy", said.strip().splitlines()[-1])


def pending(place: Place) -> list[str]:
    said = place.manage("showmigrations", "--plan", DATABASE_URL=place.owner)
    return [line for line in said.splitlines() if line.startswith("[ ]")]


def try_proxy(place: Place, browser: httpx.Client) -> None:
    health = browser.get("/healthz").json()
    result("/healthz through TLS", ", ".join(f"{name} {state}" for name, state in health.items()))
    plain = httpx.get(f"http://127.0.0.1:{place.ports['http']}/x", trust_env=False)
    result("plain HTTP", f"{plain.status_code} to {plain.headers['Location']}")
    page = browser.get(place.manage("login_link", "olga").split()[0])
    form = dict(re.findall(r'name="(csrfmiddlewaretoken)" value="(\w+)"', page.text))
    page = browser.post(page.url, data=form, headers={"Referer": str(page.url)})
    cookie = next(each for each in browser.cookies.jar if each.name == "sessionid")
    hsts = page.headers.get("Strict-Transport-Security", "no HSTS")
    result("signed in by a link", f"{page.status_code}, cookie secure {cookie.secure}, {hsts}")
    css = re.search(r'href="(/static/annotate/site\.[^"]+)"', browser.get("/").text)
    assert css
    kept = browser.get(css[1]).headers["Cache-Control"]
    result("static files", f"{css[1].rpartition('/')[2]}, {kept}")
    for size in (30, 205):
        page = browser.get("/p/demo/prompts/import/")
        token = dict(re.findall(r'name="(csrfmiddlewaretoken)" value="(\w+)"', page.text))
        row = b'{"prompt": "' + b"x" * (size * 2**20) + b'"}'
        file = {"file": ("prompts.jsonl", row)}
        headers = {"Referer": str(page.url)}
        try:
            answer = browser.post(page.url, data=token, files=file, headers=headers)
            result(f"a file of {size} MB", f"{answer.status_code} by {by_whom(answer)}")
        except httpx.HTTPError as error:  # it may hang up before all was sent
            result(f"a file of {size} MB", f"refused ({type(error).__name__})")


def by_whom(answer: httpx.Response) -> str:
    return "nginx" if "<center>nginx" in answer.text else "the site"


def try_stream(place: Place) -> None:
    secret = place.manage("api_token", "--project", "demo", "--user", "gus").split()[0]
    asked = {
        "model": "live",
        "stream": True,
        "max_tokens": 200,
        "messages": [{"role": "user", "content": "How do I boil an egg?"}],
    }
    headers = {"Authorization": f"Bearer {secret}"}
    began = time.monotonic()
    url = "/v1/chat/completions"
    with (
        place.browser() as program,
        program.stream("POST", url, json=asked, headers=headers) as answer,
    ):
        if answer.status_code != 200:
            raise RuntimeError(answer.read().decode()[:500])
        times = [time.monotonic() - began for line in answer.iter_lines() if "data: {" in line]
    gaps = sorted(times)
    result(
        "a streamed answer through nginx",
        f"{len(times)} events, the first after {gaps[0]:.2f} s, the last after {gaps[-1]:.2f} s",
    )


def requests_while(
    place: Place, act: Callable[[], object], *, seconds: float, browser: httpx.Client
) -> Counter[str]:
    """Pages asked for by four at once, each in a connection of its own, while `act` happens: the
    sign-in page and what olga sees."""
    outcomes: Counter[str] = Counter()
    cookies = {each.name: each.value or "" for each in browser.cookies.jar}
    pages = itertools.cycle(("/sign-in/", "/p/demo/", "/p/demo/prompts/", "/p/demo/rounds/"))
    over = threading.Event()
    trust = ssl.create_default_context(cafile=str(place.folder / "cert.pem"))

    def ask() -> None:
        while not over.is_set():
            try:
                page = next(pages)
                seen = cookies if page != "/sign-in/" else {}
                answer = httpx.get(
                    place.site_url + page, verify=trust, timeout=30, cookies=seen,
                    follow_redirects=True, trust_env=False,
                )  # fmt: skip
                lost = page != "/sign-in/" and "/sign-in/" in str(answer.url)
                outcomes["signed out" if lost else str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                outcomes[type(error).__name__] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    began = time.monotonic()
    time.sleep(2)
    act()
    time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    over.set()
    for each in threads:
        each.join()
    return outcomes


def children(pid: int) -> set[str]:
    said = subprocess.run(["pgrep", "-P", str(pid), "-f", "spawn_main"], capture_output=True)
    return set(said.stdout.decode().split())


def renew(web: int, count: int = 4) -> None:
    """`systemctl reload`, as the unit has it; waits until all are new."""
    assert "kill -HUP $MAINPID" in UNIT
    before = children(web)
    assert len(before) == count, before
    os.kill(web, signal.SIGHUP)
    wait_for(lambda: len(children(web)) == count and not children(web) & before, seconds=240)


def try_restart(place: Place, web: int, browser: httpx.Client) -> None:
    outcomes = requests_while(place, lambda: renew(web), seconds=12, browser=browser)
    result("four web processes renewed under load (reload)", told(outcomes))


def try_versions(place: Place, web: int, before: str, browser: httpx.Client) -> None:
    """Back to the version before with the database of this one, and to this one again."""
    for what, commit in (("rolled back to the version before", before), ("this one again", "HEAD")):

        def change(commit: str = commit) -> None:
            lay_out(place.site, commit)
            place.manage("collectstatic", "--no-input", "--verbosity", "0", root=place.site)
            renew(web)

        outcomes = requests_while(place, change, seconds=12, browser=browser)
        result(f"web {what} under load ({short(commit)})", told(outcomes))


def short(commit: str) -> str:
    asked = ["git", "rev-parse", "--short", commit]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def try_worker_restart(place: Place, stack: ExitStack, pid: int) -> None:
    """One of the trainers is stopped, as systemd does, while it works, and started again."""
    for seed in ("4", "5", "6"):
        asked = ("sample", "--project", "demo", "--policy", "base-tiny", "--k", "4")
        place.manage(*asked, "--seed", seed)

    def runs() -> list[list[str]]:
        found: list[list[str]] = json.loads(
            place.manage("shell", "--no-imports", "-c", LOOK).splitlines()[-1]
        )
        return found

    wait_for(lambda: any(state == "running" for state, _ in runs()), seconds=120)
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not alive(pid), seconds=60)
    left = time.monotonic() - began
    start_trainer(place, stack, "host-a")
    wait_for(lambda: not {"queued", "running"} & {state for state, _ in runs()}, seconds=300)
    ended = Counter(state for state, _ in runs())
    result("a trainer restarted at work", f"left after {left:.1f} s; all runs: {dict(ended)}")


def start_trainer(place: Place, stack: ExitStack, host: str) -> int:
    mounted = place.folder / host
    if not mounted.exists():
        mounted.symlink_to(place.data)
    env = place.env | {"DATA_DIR": str(mounted)}
    command = [PYTHON, "manage.py", "work", "train", "--host", host]
    return stack.enter_context(running(host, command, place, cwd=ROOT, env=env))


def alive(pid: int) -> bool:
    """Whether it still runs: one that has ended waits for its parent as a zombie."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def told(outcomes: Counter[str]) -> str:
    failed = sum(count for name, count in outcomes.items() if name != "200")
    return f"{failed} of {outcomes.total()} requests failed ({dict(outcomes)})"


def try_two_hosts(place: Place, stack: ExitStack) -> int:
    """Two machines that have mounted the same DATA_DIR, each under a name of its own; one run is
    pinned to each, and a third is anybody's. Returns the process of the first."""
    asked = ("sample", "--project", "demo", "--policy", "base-tiny", "--k", "2", "--split", "test")
    for seed in ("1", "2", "3"):
        place.manage(*asked, "--seed", seed)
    place.manage("shell", "--no-imports", "-c", PIN)
    first, _ = [start_trainer(place, stack, host) for host in ("host-a", "host-b")]

    def over() -> list[list[str]] | None:
        said = place.manage("shell", "--no-imports", "-c", LOOK)
        runs: list[list[str]] = json.loads(said.splitlines()[-1])
        return None if {"queued", "running"} & {state for state, _ in runs} else runs

    runs = wait_for(over, seconds=240)
    result("two worker hosts, one queue", ", ".join(f"{s} on {host}" for s, host in runs))
    return first


def try_backup(place: Place) -> None:
    backup = place.folder / "backup"
    began = time.monotonic()
    said = place.manage("backup", str(backup)).splitlines()[0]
    result("backup as the site's role", f"{time.monotonic() - began:.1f} s. {said.split('. ')[1]}")
    restored = {
        "DATABASE_URL": place.database_url("feedback_site", "owner's-word", "restored"),
        "DATA_DIR": str(place.folder / "restored"),
    }
    began = time.monotonic()
    place.manage("restore", str(backup), **restored)
    heads = [place.manage("audit", "verify", **env).split()[-1] for env in ({}, restored)]
    result(
        "restored into another database",
        f"{time.monotonic() - began:.1f} s, the audit log ends alike: {heads[0] == heads[1]}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="earlier", metavar="COMMIT")
    parser.add_argument("--before", metavar="COMMIT", default="HEAD~1")
    parser.add_argument("--keep", action="store_true", help="Leave the folder with the logs.")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="feedback-site-"))
    folder.chmod(0o711)
    try:
        with ExitStack() as stack:
            go(Place(folder), stack, options.earlier, options.before)
    finally:
        print("\n| what | what came of it |\n|---|---|")
        print("\n".join(f"| {what} | {figure} |" for what, figure in results))
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


def go(place: Place, stack: ExitStack, earlier: str | None, before: str) -> None:
    found = unpack(place)
    certificate(place)
    start_postgres(place, stack)
    start_redis(place, stack, found)
    prepare(place, earlier)
    pids = {}
    for name in ("inference", "worker", "web"):
        options = {"cwd": place.site if name == "web" else ROOT, "env": place.env}
        pids[name] = stack.enter_context(running(name, unit(name, place), place, **options))
    start_nginx(place, stack, found)
    browser = stack.enter_context(place.browser())

    def ready() -> bool:
        with suppress(httpx.HTTPError, ValueError):
            return set(browser.get("/healthz").json().values()) == {"ok"}
        return False

    trainer = try_two_hosts(place, stack)
    wait_for(ready, seconds=240)
    result("the unit's commands", "web (4 processes), worker, inference answer")
    try_proxy(place, browser)
    try_stream(place)
    try_restart(place, pids["web"], browser)
    try_versions(place, pids["web"], before, browser)
    try_worker_restart(place, stack, trainer)
    try_backup(place)


if __name__ == "__main__":
    main()
