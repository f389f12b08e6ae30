"""A project that has enough labels for a round, and a trainer that only pretends."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from threading import Event

import pytest
from django.conf import settings
from django.db import connection
from redis import Redis

from annotate.models import (
    Completion,
    Demonstration,
    Placement,
    Policy,
    Project,
    Prompt,
    Ranking,
    User,
)
from feedback_site import bell
from rlhf.data import snapshot
from rlhf.data.snapshot import Frozen
from rlhf.learning.contract.manifest import sha256, write_manifest
from rlhf.models import Checkpoint, Evaluation, Round, Run, Snapshot, TrainedPolicy
from rlhf.models.leases import Lease, claim
from rlhf.rounds.launch import launch_round
from rlhf.rounds.settings import Launch
from rlhf.runs.supervisor import supervise
from rlhf.stages import TRAININGS

FAKE = Path(__file__).with_name("fake_trainer.py")
CARD = (
    "---\nlibrary_name: transformers\n---\n\n# Policy trained by PPO\n\n<script>alert(1)</script>\n"
)


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "DATA_DIR", tmp_path)
    return tmp_path


@pytest.fixture
def fake_trainer(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Trainings are pretended; call it to say how: steps, seconds, mode."""
    monkeypatch.setattr(settings, "TRAIN_LAUNCHER", f"{sys.executable} {FAKE}")

    def behave(**told: object) -> None:
        (data_dir / "fake_trainer.json").write_text(json.dumps(told))

    return behave


@pytest.fixture
def model_folder(data_dir: Path) -> str:
    folder = data_dir / "models/base"
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return "models/base"


@pytest.fixture
def base(policy: Policy, model_folder: str) -> Policy:
    policy.folder = model_folder
    policy.save()
    return policy


@pytest.fixture
def prompts(project: Project) -> list[Prompt]:
    """Sixteen to train on and four held out."""

    def make(number: int) -> Prompt:
        messages = [{"role": "user", "content": f"How do I cook dish {number}?"}]
        return Prompt(project=project, messages=messages).derive()

    made = [make(number) for number in range(60)]
    train = [prompt for prompt in made if prompt.split == Prompt.Split.TRAIN][:16]
    held_out = [prompt for prompt in made if prompt.split != Prompt.Split.TRAIN][:4]
    assert len(train) == 16 and len(held_out) == 4
    return Prompt.objects.bulk_create([*train, *held_out])


@pytest.fixture
def labels(prompts: list[Prompt], base: Policy, alice: User, bob: User) -> None:
    """A demonstration, three answers and two rankings of each prompt. In four statements: half of
    the tests here begin with it."""
    Demonstration.objects.bulk_create(
        Demonstration(prompt=prompt, labeler=alice, text=f"Cook it: {prompt.text}")
        for prompt in prompts
    )
    answers = {prompt: [answer(prompt, base, number) for number in range(3)] for prompt in prompts}
    Completion.objects.bulk_create(chain.from_iterable(answers.values()))
    places = {alice: [1, 2, 2], bob: [1, 1, 2]}
    Placement.objects.bulk_create(
        Placement(ranking=ranking, completion=completion, place=place)
        for ranking in Ranking.objects.bulk_create(
            Ranking(prompt=prompt, labeler=labeler) for prompt in prompts for labeler in places
        )
        for completion, place in zip(answers[ranking.prompt], places[ranking.labeler], strict=True)
    )


def answer(prompt: Prompt, policy: Policy, number: int) -> Completion:
    source = Completion.Source.SAMPLED
    return Completion(prompt=prompt, policy=policy, text=f"Answer {number}", source=source).derive()


def rank(prompt: Prompt, policy: Policy, labeler: User, *, places: list[int]) -> Ranking:
    """Of completions 'Answer 0', 'Answer 1' …, made when they are missing."""
    ranking = Ranking.objects.create(prompt=prompt, labeler=labeler)
    for number, place in enumerate(places):
        completion, _ = Completion.objects.get_or_create(
            prompt=prompt,
            policy=policy,
            text=f"Answer {number}",
            source=Completion.Source.SAMPLED,
        )
        ranking.placements.create(completion=completion, place=place)
    return ranking


@pytest.fixture
def round(project: Project, labels: None, base: Policy, olga: User) -> Round:
    return launch_round(project, Launch(base=base, recipe="tiny"), by=olga)


@pytest.fixture
def evaluated(round, fake_trainer) -> Run:
    work_until_idle()
    return round.runs.get(kind=Run.Kind.EVALUATE)


@pytest.fixture
def publish(project: Project, data_dir: Path) -> Callable[..., Checkpoint]:
    """Puts a model folder into DATA_DIR, and its row into the database."""

    def make(kind: str = Run.Kind.PPO, **fields: object) -> Checkpoint:
        fields = {"state": Run.State.SUCCEEDED, "config": {"train": {"kl_coef": 0.05}}, **fields}
        run = Run.objects.create(project=project, kind=kind, lease_token=1, **fields)
        folder = data_dir / run.folder / "t1/model"
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(CARD)
        for name in ("config.json", "tokenizer.json"):
            (folder / name).write_text("{}")
        (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
        write_manifest(folder)
        return Checkpoint.objects.create(
            run=run,
            lease_token=1,
            step=16,
            folder=f"{run.folder}/t1/model",
            manifest_sha256=sha256(folder / "manifest.json"),
            is_final=True,
        )

    return make


@pytest.fixture
def publish_policy(publish: Callable[..., Checkpoint]) -> Callable[..., Policy]:
    """Publishes a model that a policy of this name speaks with."""

    def make(name: str = "r1-ppo", **fields: object) -> Policy:
        checkpoint = publish(**fields)
        policy = checkpoint.run.project.policies.create(
            name=name, origin=Policy.Origin.TRAINED, folder=checkpoint.folder
        )
        TrainedPolicy.objects.create(policy=policy, checkpoint=checkpoint)
        return policy

    return make


@pytest.fixture
def model(publish_policy: Callable[..., Policy]) -> Checkpoint:
    return publish_policy().training.checkpoint


@pytest.fixture
def redis() -> Redis:
    redis = bell.connection()
    redis.flushdb()
    return redis


Hire = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def hire(data_dir: Path, redis: Redis) -> Iterator[Hire]:
    """Starts a worker: a process of `manage.py work`."""
    workers: list[subprocess.Popen[bytes]] = []

    def start(queue: str = "train", **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "manage.py", "work", queue]
        log = (data_dir / f"worker-{len(workers)}.log").open("wb")
        env = {
            **beside_the_test(data_dir),
            "TRAIN_LAUNCHER": f"{sys.executable} {FAKE}",
            "LEASE_SECONDS": "2",
            **environment,
        }
        worker = subprocess.Popen(command, cwd=settings.BASE_DIR, env=env, stdout=log, stderr=log)
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
        worker.wait()


def beside_the_test(data_dir: Path) -> dict[str, str]:
    """The environment of a process that works on this test's database and files."""
    server = os.environ["DATABASE_URL"].rsplit("/", 1)[0]
    database = f"{server}/{connection.settings_dict['NAME']}"
    return {**os.environ, "DATABASE_URL": database, "DATA_DIR": str(data_dir)}


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def collect(run: Run) -> Frozen:
    """What a training would learn from now."""
    stage, filters = TRAININGS[run.kind], snapshot.filters_of(run)
    return stage.collect(run.project, filters, train=run.config["train"])


def freeze(lease: Lease) -> Snapshot:
    return snapshot.freeze(lease, TRAININGS[lease.run.kind].collect)


def trainers(data_dir: Path) -> dict[int, str]:
    """The trainers that work in this DATA_DIR now, and what starts them: pid → command line. A
    fork that waits to read what its trainer publishes is not counted while that one lives."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            command = file.read_text().replace("\0", " ")
            if "-m rlhf.learning" in command and str(data_dir) in command:
                found[int(file.parent.name)] = command
    return {pid: command for pid, command in found.items() if found.get(_parent(pid)) != command}


def _parent(pid: int) -> int:
    with suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_text()
        return int(status.rpartition(")")[2].split()[1])
    return 0


def work(leaving: Event | None = None) -> Run | None:
    """What a worker does with the next run that waits."""
    lease = claim()
    if lease is None:
        return None
    supervise(lease, leaving or Event())
    return Run.objects.get(pk=lease.run.pk)


def work_until_idle() -> list[Run]:
    return list(iter(work, None))


@pytest.fixture
def trained(round, base) -> Policy:
    """What the first stage left behind."""
    lease = claim()
    policy = Policy.objects.create(
        project=round.project,
        name="r1-sft",
        origin=Policy.Origin.TRAINED,
        parent=base,
        folder="runs/1/t1/model",
    )
    checkpoint = Checkpoint.objects.create(
        run=lease.run, lease_token=1, step=6, folder=policy.folder, manifest_sha256="a" * 64
    )
    TrainedPolicy.objects.create(policy=policy, checkpoint=checkpoint)
    Evaluation.objects.create(
        run=lease.run, round=round, policy=policy, opponent=base, judge="reward_model",
        wins=6, losses=2, ties=2, win_rate=0.7, low=0.55, high=0.82,
    )  # fmt: skip
    lease.run.succeed(token=1, summary={"policy": "r1-sft", "steps": 6})
    return policy
