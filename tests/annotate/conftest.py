"""What the tests of imports share."""

import io
import json

import pytest

from annotate.importing import Imported, import_labels
from annotate.models import (
    Completion,
    Demonstration,
    Feedback,
    Placement,
    Policy,
    Prompt,
    Ranking,
    User,
)

HELLO = [{"role": "user", "content": "Hello?"}]
HI = [{"role": "assistant", "content": "Hi!"}]


@pytest.fixture
def bring(project, olga):
    """Imports lines, each an object or the bytes of a line, or one blob."""

    def bring(lines: list | bytes, **options) -> Imported:
        if isinstance(lines, list):
            lines = b"\n".join(
                line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
            )
        return import_labels(io.BytesIO(lines), project=project, by=olga, **options)

    return bring


def rows() -> dict[str, int]:
    kinds = (Prompt, Completion, Policy, Demonstration, Ranking, Placement, Feedback, User)
    return {kind.__name__: kind.objects.count() for kind in kinds}


def ranking(**changes):
    line = {"prompt": "Which?", "completions": ["a", "b", "c"], "ranks": [1, 2, 2]}
    return {**line, **changes}
