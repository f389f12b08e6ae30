"""Faults on purpose. Each test has a short form, in `make test`, and a long one, in `make faults`.

A report of the long form says what was done: N, seed, duration, figures. `FAULT_SEED` chooses other
instants for the faults."""

import json
import os
import random
import time
from collections.abc import Callable, Iterator

import pytest

from tests.rlhf.conftest import (
    base,
    data_dir,
    fake_trainer,
    hire,
    labels,
    model_folder,
    prompts,
    redis,
    round,
)

__all__ = [
    "base",
    "data_dir",
    "fake_trainer",
    "hire",
    "labels",
    "model_folder",
    "prompts",
    "redis",
    "round",
]

IS_LONG = os.environ.get("FAULTS") == "long"
SEED = int(os.environ.get("FAULT_SEED", "1"))

_reports: list[str] = []


def sized(*, short: int, long: int) -> int:
    return long if IS_LONG else short


# How much longer than promised something may take: the short form runs beside much else, and is
# there for what happens; the long one is there for how long it takes, too.
PATIENCE = sized(short=8, long=1)


@pytest.fixture
def chance() -> random.Random:
    return random.Random(SEED)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Call it with figures; they are printed when the tests are over."""
    facts: dict[str, object] = {}
    started = time.monotonic()
    yield facts.update
    seconds = round_to_tenths(time.monotonic() - started)
    form = "long" if IS_LONG else "short"
    about = {"test": request.node.name, "form": form, "seed": SEED, "seconds": seconds}
    _reports.append(json.dumps({**about, **facts}))


def round_to_tenths(seconds: float) -> float:
    return int(seconds * 10) / 10


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if IS_LONG:
        for line in _reports:
            terminalreporter.write_line(line)
