"""For the whole session: PostgreSQL, Redis and an empty DATA_DIR of the tests' own."""

import os
from contextlib import ExitStack

import django
import pytest
from django.conf import settings

from feedback_site import embedded

_session = ExitStack()
if "PYTEST_XDIST_WORKER" not in os.environ:
    for name, value in _session.enter_context(embedded.throw_away()).items():
        if name == "DATA_DIR" or not os.environ.get(name):
            os.environ[name] = value

# The settings read these addresses, and the plugins import models. That is why this happens on
# import, and why pyproject.toml does not name the settings.
os.environ["DJANGO_SETTINGS_MODULE"] = "feedback_site.settings"
django.setup()
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick
pytest_plugins = ["tests.cast", "tests.model_server"]


def pytest_unconfigure(config: pytest.Config) -> None:
    _session.close()
