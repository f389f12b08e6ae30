"""What `deploy/` says of the site is what the site is."""

import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import pytest
import yaml

from feedback_site import settings
from tests.feedback_site.test_wheel_file import PYPROJECT, files_below, names_of
from tests.house import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
LOCKS = sorted(DEPLOY.glob("*.lock"))
IGNORE = [
    line
    for line in (ROOT / ".dockerignore").read_text().splitlines()
    if line and not line.startswith("#")
]


def goes_into_an_image(path: str) -> bool:
    """As Docker reads .dockerignore: the last line that fits the file, or a folder that it is in,
    decides. `*` stops at a slash, `**/` is any folder."""
    parts = PurePosixPath(path).parts
    places = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    is_in = True
    for line in IGNORE:
        pattern = line.removeprefix("!")
        if any(_fits(place, pattern) for place in places):
            is_in = line.startswith("!")
    return is_in


def _fits(place: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(place.rpartition("/")[2], pattern[3:])
    return place.count("/") == pattern.count("/") and fnmatchcase(place, pattern)


@pytest.mark.parametrize(
    "path",
    [
        *(".git/config", ".env", "deploy/.env", ".data/secret_key", "secret_key", ".venv/bin/pip"),
        *("data/secret_key", "data/postgres/PG_VERSION", "srv/runs/1/t1/model/model.safetensors"),
        *("backup/database.dump", "db.sqlite3", "erasures.jsonl", "shared/cases/labels.jsonl"),
        *("annotate/__pycache__/ids.pyc", "annotate/.env", "rlhf/learning/.netrc"),
    ],
)
def test_no_secret_and_no_data_goes_into_an_image(path):
    assert not goes_into_an_image(path)


def test_all_that_the_site_needs_goes_into_an_image():
    names = ("manage.py", "Procfile", "README.md", "LICENSE")
    needed = {*names, *(str(lock.relative_to(ROOT)) for lock in LOCKS)}
    needed |= files_below("annotate", "rlhf", "feedback_site", "templates", "demo")
    assert len(needed) > 500
    assert not [name for name in sorted(needed) if not goes_into_an_image(name)]


def test_what_the_dockerfile_copies_is_there_and_its_stages_are_compose_s():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE)
    for name in " ".join(copied).split():
        assert name == "." or goes_into_an_image(name) and (ROOT / name).exists(), name
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    builds = [service["build"] for service in COMPOSE["services"].values() if "build" in service]
    assert {build["target"] for build in builds} == {"web", "train"} <= stages


def test_compose_starts_the_lines_of_the_procfile():
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    services = COMPOSE["services"]
    own = {"--host", "--port", "127.0.0.1", "0.0.0.0", "8000", "9000", "$PORT", "$INFERENCE_PORT"}

    def words(command: str | list[str]) -> set[str]:
        text = command if isinstance(command, str) else " ".join(command)
        return {word for word in re.split(r"[\s=]+", text) if word not in own}

    for name, line in lines.items():
        line = re.sub(r"^env (-u \S+ |\S+=\S+ )+", "", line)  # compose gives no more to begin with
        assert words(services[name]["command"]) == words(line), name


def test_the_inference_server_is_given_no_secret_but_its_own():
    for name in ("inference", "inference-gpu"):
        service = COMPOSE["services"][name]
        assert service["env_file"] == []
        assert set(service["environment"]) == {"HF_HUB_OFFLINE", "INFERENCE_API_KEY"}


def test_each_name_of_the_example_environment_is_read_by_somebody():
    names = re.findall(r"^#?([A-Z_]+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE)
    settings_read = (ROOT / "feedback_site" / "settings.py").read_text()
    compose = (DEPLOY / "compose.yaml").read_text()
    others = {"COMPOSE_PROFILES", "WEB_CONCURRENCY"}  # of docker compose and uvicorn
    unknown = {n for n in names if f'"{n}"' not in settings_read and f"${{{n}:" not in compose}
    assert len(names) > 10 and unknown == others
    asked_for = set(re.findall(r"(?<!\$)\$\{([A-Z_]+):\?\}", compose))
    assert asked_for <= set(names)


def test_nginx_lets_the_largest_file_through():
    [size] = re.findall(r"client_max_body_size (\d+)m;", (DEPLOY / "nginx.conf").read_text())
    assert int(size) * 2**20 >= settings.LARGEST_UPLOAD


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_each_package_of_a_lock_has_hashes_and_the_version_that_is_tested(lock):
    blocks = re.split(r"\n(?=\S)", lock.read_text().strip())
    tested = dict(
        line.replace("_", "-").lower().split("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    )
    for block in blocks:
        name, version = re.match(r"([\w.-]+)==(\S+)", block).groups()
        assert "--hash=sha256:" in block, name
        assert tested.get(name, version) == version, name
    assert "http:" not in lock.read_text() and "https:" not in lock.read_text()


@pytest.mark.parametrize(("lock", "extras"), [("web", []), ("train", ["train", "datasets"])])
def test_the_locks_hold_what_is_declared(lock, extras):
    text = (DEPLOY / f"{lock}.lock").read_text()
    locked = names_of(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
    wanted = names_of(PYPROJECT["dependencies"])
    for extra in extras:
        wanted |= names_of(PYPROJECT["optional-dependencies"][extra])
    assert wanted <= locked
    assert ("torch" in locked) == (lock == "train")


NAMED = """
from django.templatetags.static import static
print(static("annotate/site.css"))
"""


def test_static_files_are_named_by_their_content_once_they_are_collected(tmp_path):
    env = {**os.environ, "DATA_DIR": str(tmp_path)}

    def manage(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=env, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    shell = ("shell", "--no-imports", "-c", NAMED)
    assert manage(*shell) == "/static/annotate/site.css\n"
    manage("collectstatic", "--no-input", "--verbosity", "0")
    name = manage(*shell).strip()
    assert re.fullmatch(r"/static/annotate/site\.[0-9a-f]{12}\.css", name)
    hashed = tmp_path / "static" / name.removeprefix("/static/")
    assert hashed.exists() and hashed.with_suffix(".css.gz").exists()
