"""The secret of an installation: made once, whole, and for its owner's eyes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from feedback_site import settings


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "DATA_DIR", tmp_path)
    monkeypatch.delenv("SECRET_KEY", raising=False)
    return tmp_path


def test_a_key_is_made_once_and_only_its_owner_reads_it(data_dir):
    key = settings._secret_key()
    assert len(key) >= 50 and settings._secret_key() == key
    assert [file.name for file in data_dir.iterdir()] == ["secret_key"]
    assert stat.S_IMODE((data_dir / "secret_key").stat().st_mode) == 0o600


def test_of_two_processes_that_start_at_once_both_take_the_key_of_the_first(data_dir, monkeypatch):
    others = settings._secret_key()
    monkeypatch.setattr(Path, "exists", lambda path: False)  # it was not there a moment ago
    assert settings._secret_key() == others
    assert [file.name for file in data_dir.iterdir()] == ["secret_key"]


def test_a_key_is_not_there_before_it_is_whole(data_dir, monkeypatch):
    """As the next process would see it while this one writes."""
    seen = []
    make = settings.secrets.token_urlsafe

    def look(size):
        seen.append((data_dir / "secret_key").exists())
        return make(size)

    monkeypatch.setattr(settings.secrets, "token_urlsafe", look)
    settings._secret_key()
    assert seen == [False]


def test_a_short_key_is_refused_with_what_to_do(data_dir, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "short")
    with pytest.raises(ImproperlyConfigured, match="Unset it"):
        settings._secret_key()


def django_says(command: str, data_dir: Path, **env: str) -> subprocess.CompletedProcess[str]:
    given = {"DATA_DIR": str(data_dir), "DATABASE_URL": "postgres://nowhere.invalid/x", **env}
    return subprocess.run(
        [sys.executable, "manage.py", *command.split()],
        cwd=settings.BASE_DIR,
        env=os.environ | given,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("host", ["feedback.example.org", "*", "10.0.0.7", ".example.org"])
def test_debug_is_refused_where_others_reach_it(tmp_path, host):
    env = {"DEBUG": "1", "ALLOWED_HOSTS": f"localhost,{host}"}
    ended = django_says("check", tmp_path, **env)
    assert ended.returncode != 0
    assert "DEBUG shows settings and code" in ended.stderr


def test_debug_is_for_one_s_own_machine(tmp_path):
    assert django_says("check", tmp_path, DEBUG="1", ALLOWED_HOSTS="localhost").returncode == 0


def test_a_real_installation_passes_django_s_checks_for_one(tmp_path):
    env = {"SITE_URL": "https://feedback.example.org", "ALLOWED_HOSTS": "feedback.example.org"}
    ended = django_says("check --deploy --fail-level WARNING", tmp_path, **env)
    assert ended.returncode == 0, ended.stderr


def test_what_the_site_writes_is_for_its_owner_alone(tmp_path):
    """The folder of the data, what Django makes in it, and what its children make."""
    home = tmp_path / "new" / "data"
    script = (
        "import pathlib, subprocess; from django.conf import settings\n"
        "(settings.DATA_DIR / 'runs' / '1').mkdir(parents=True)\n"
        "(settings.DATA_DIR / 'runs' / '1' / 'labels.jsonl').write_text('')\n"
        "subprocess.run(['mkdir', settings.DATA_DIR / 'runs' / '1' / 't1'])\n"
    )
    env = os.environ | {"DATA_DIR": str(home), "DJANGO_SETTINGS_MODULE": "feedback_site.settings"}
    open_to_all = ["sh", "-c", 'umask 022; exec "$@"', "-"]
    subprocess.run(
        [*open_to_all, sys.executable, "-c", script], cwd=settings.BASE_DIR, env=env, check=True
    )
    made = [home, *home.rglob("*")]
    assert {"labels.jsonl", "t1", "secret_key"} <= {each.name for each in made}
    assert [each for each in made if each.stat().st_mode & 0o077] == []


def test_an_address_says_all_there_is_to_say_of_a_server(tmp_path):
    script = (
        "from django.conf import settings as s\n"
        "print(s.EMAIL_HOST, s.EMAIL_PORT, s.EMAIL_HOST_USER, s.EMAIL_HOST_PASSWORD,"
        " s.EMAIL_USE_TLS, s.DEFAULT_FROM_EMAIL)\n"
        "print(s.OIDC_ISSUER, s.OIDC_CLIENT_ID, s.OIDC_CLIENT_SECRET, s.OIDC_NAME,"
        " s.OIDC_CREATE_ACCOUNTS)\n"
        "o = s.DATABASES['default']['OPTIONS']\n"
        "print(s.PREPARED_QUERIES, 'prepared' in o, o['sslmode'])\n"
    )
    env = os.environ | {
        "DATA_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "feedback_site.settings",
        "DATABASE_URL": "postgres://ann@db.example.org/x?prepared=off&sslmode=require",
        "EMAIL_URL": "smtp+tls://ann:p%40ss@mail.example.org:587?from=site@example.org",
        "OIDC_URL": "https://site:s%2Fecret@id.example.org/a?name=Example+ID&create_accounts=1",
    }
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=settings.BASE_DIR, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout.splitlines() == [
        "mail.example.org 587 ann p@ss True site@example.org",
        "https://id.example.org/a site s/ecret Example ID True",
        "False False require",
    ]


@pytest.mark.parametrize("url", ["https://id.example.org", "http://site:secret@id.example.org"])
def test_an_identity_provider_without_a_secret_or_tls_is_refused(tmp_path, url):
    ended = django_says("check", tmp_path, OIDC_URL=url)
    assert ended.returncode != 0 and "OIDC_URL" in ended.stderr
