"""For the whole session: PostgreSQL, Redis and an empty DATA_DIR of the tests' own."""

import os
from contextlib import ExitStack

import pytest

from feedback_site import embedded

_session = ExitStack()


# The settings are read once these stand: that is why pyproject.toml does not name them.
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        environment = _session.enter_context(embedded.throw_away())
        for name, value in environment.items():
            if name == "DATA_DIR" or not os.environ.get(name):
                os.environ[name] = value
    os.environ["DJANGO_SETTINGS_MODULE"] = "feedback_site.settings"

    import django

    django.setup()


def pytest_unconfigure(config: pytest.Config) -> None:
    _session.close()
