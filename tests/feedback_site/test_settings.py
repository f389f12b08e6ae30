"""The secret of an installation: made once, whole, and for its owner's eyes."""

import stat
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
