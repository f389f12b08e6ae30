"""For the whole session: PostgreSQL, Redis and an empty DATA_DIR of the tests' own."""

import gc
import os
import stat
from contextlib import ExitStack
from functools import partial

import django
import hypothesis
import pytest
from django.conf import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from feedback_site import embedded
from tests import cluster

SIDE_BY_SIDE = "PYTEST_XDIST_WORKER" in os.environ  # one of several processes with tests

BROWSER = "tests/browser/"
LONGEST = (
    *(BROWSER, "tests/rlhf/test_real_round", "tests/learning/test_processes", "tests/faults/"),
    *("tests/rlhf/test_worker", "tests/learning/test_runs", "tests/rlhf/test_withdrawals"),
)

IS_OURS = SIDE_BY_SIDE or not os.environ.get("DATABASE_URL")  # the server

_session = ExitStack()
_site = embedded.throw_away(partial(cluster.copied, cluster.migrated()))
for name, value in _session.enter_context(_site).items():
    if name == "DATA_DIR" or SIDE_BY_SIDE or not os.environ.get(name):
        os.environ[name] = value
if SIDE_BY_SIDE:
    os.environ["OMP_NUM_THREADS"] = "1"  # torch would start a thread per core in each of them
    gc.disable()  # until the first test

# The settings read these addresses, and the plugins import models. That is why this happens on
# import, and why pyproject.toml does not name the settings.
os.environ["DJANGO_SETTINGS_MODULE"] = "feedback_site.settings"
django.setup()
if not SIDE_BY_SIDE:
    del os.environ["DJANGO_SETTINGS_MODULE"]  # its heirs would read the settings before this file
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick
settings.WHITENOISE_AUTOREFRESH = True  # else each test client begins by reading all static files
# How long one example takes says more about the machine than about what is tried.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")
pytest_plugins = ["tests.cast", "tests.model_server"]


@pytest.fixture(scope="session")
def django_db_modify_db_settings_xdist_suffix() -> None:
    """Each process has a server of its own: the database needs no other name."""


@pytest.fixture(scope="session")
def django_db_keepdb(request: pytest.FixtureRequest) -> bool:
    """The database of the tests is there before them, in a server that goes with them."""
    is_asked: bool = request.config.option.reuse_db
    return is_asked or IS_OURS


@pytest.fixture(scope="session", autouse=True)
def passable_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Root's PostgreSQL runs as somebody else, who must reach the folders of the tests."""
    made = tmp_path_factory.getbasetemp()
    for folder in (made, *made.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)


class Rooms(LoadFileScheduling):
    """Side by side, a file stays whole, and the browser's tests share one site."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return BROWSER if file.startswith(BROWSER) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Rooms:
    return Rooms(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, in this order, so that no process is left alone with one of them."""

    def place(item: pytest.Item) -> int:
        places = (n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(places, len(LONGEST))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end, and a collector that looks at all of it again and
    again takes a fifth of the time of the tests."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    _session.close()
