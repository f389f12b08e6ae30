"""Two tiny policies, an engine that decodes them, and who listens."""

import json
import threading
import time
from pathlib import Path

import pytest
import torch

from rlhf.learning.generation.sampling import generate, uniforms
from rlhf.learning.models import base, folders
from rlhf.learning.serving import shelf as shelves
from rlhf.learning.serving.engine import End, Engine, Piece, Row, Sampling

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 120
FRUIT = ("apple", "pear", "plum", "fig", "grape", "lemon", "melon", "cherry")
QUESTIONS = [
    [{"role": "user", "content": f"{'Please. ' * (i * 3)}Say something about the {fruit}."}]
    for i, fruit in enumerate(FRUIT)
]
KEY = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Two tiny policies that nothing has been taught: they talk until they are stopped."""
    root = tmp_path_factory.mktemp("data")
    corpus = root / "corpus.jsonl"
    rows = [{"prompt": each} for each in QUESTIONS]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    torch.set_num_threads(1)
    base.prepare("tiny", root / "models/live", corpus)
    base.prepare(str(root / "models/live"), root / "models/challenger")
    lm = folders.load_policy(root / "models/challenger").lm
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in lm.parameters():
            weight += 0.2 * torch.randn_like(weight)
    lm.save_pretrained(root / "models/challenger")
    return root / "models"


@pytest.fixture(scope="session")
def policy(models):
    return shelves.load(models / "live", rows=8)


class Heard:
    """Who listens to a row."""

    def __init__(self, policy, messages, seed=0, **sampling):
        self.events, self.over = [], threading.Event()
        ids = policy.render.messages(messages)
        self.row = Row(policy, ids, Sampling(**{"max_tokens": 24} | sampling), seed, self._tell)

    def _tell(self, event):
        self.events.append(event)
        if isinstance(event, End):
            self.over.set()

    @property
    def end(self):
        assert self.over.wait(SECONDS)
        return self.events[-1]

    @property
    def text(self):
        assert self.end
        return "".join(each.text for each in self.events if isinstance(each, Piece))

    @property
    def ids(self):
        assert self.end
        return self.row.ids


@pytest.fixture
def engine():
    made = []

    def start(**more):
        made.append(Engine(**{"rows": 8, "queue": 8, "limit": 1 << 30} | more))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.stop()


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def as_trained(policy, messages, seed, tokens, temperature):
    """What the trainer's sampler answers."""
    (answer,) = generate(
        policy.lm,
        [policy.render.messages(messages)],
        uniforms([seed], tokens),
        temperature,
        sorted(policy.stops),
        policy.render.pad,
    )
    return answer.ids


def endless(row, logits):
    row.ids.append(300)
    row.tell(Piece("a"))
    time.sleep(0.01)
    return False


def body(model="models/live", messages=QUESTIONS[0], **more):
    return {"model": model, "messages": messages, "max_tokens": 16, "seed": 5} | more
