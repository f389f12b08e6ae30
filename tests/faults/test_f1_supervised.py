"""F1 with everything around it: workers are killed while a real round trains, and the rows in
PostgreSQL and the weights are those of a round that nobody killed."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from annotate.models import Policy
from rlhf.learning.contract.manifest import sha256
from rlhf.models import Round, Run
from rlhf.rounds.launch import cancel_round, launch_round
from rlhf.rounds.settings import Launch
from tests.faults.conftest import sized
from tests.learning.conftest import make_base
from tests.learning.test_runs import TIME_FIELDS
from tests.rlhf.conftest import trainers, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(3600)]

STAGES = sized(short=("sft",), long=("sft", "reward", "ppo"))
KILLS = sized(short=1, long=10)  # of each stage
OFTEN = {"checkpoint_every": 1}
BRIEF = {"max_new_tokens": 8, "sample_prompts": 1}
OVERRIDES = {
    "sft": {"train": {**OFTEN, **BRIEF, "epochs": sized(short=3, long=300)}},
    "reward": {"train": {**OFTEN, "epochs": 300}},
    "ppo": {
        "train": {
            **OFTEN,
            **BRIEF,
            "updates": 60,
            "batch_size": 8,
            "micro_batch_size": 8,
            "evaluate_prompts": 4,
            "critic_warmup": 0,
        }
    },
}
REAL = {"TRAIN_LAUNCHER": "", "LEASE_SECONDS": "3", "OMP_NUM_THREADS": "1"}

Hire = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def small(labels, base: Policy, prompts, data_dir: Path) -> Policy:
    """A base model that is really one."""
    corpus = data_dir / "corpus.jsonl"
    rows = [{"prompt": p.messages, "completions": [f"Cook it: {p.text}"]} for p in prompts]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_base(data_dir / "models/small", corpus)
    base.folder = "models/small"
    base.save()
    return base


def stages_of(round: Round) -> list[Run]:
    return list(round.runs.exclude(kind=Run.Kind.EVALUATE).order_by("position"))


def has_ended(run: Run) -> bool:
    run.refresh_from_db()
    assert run.state not in (Run.State.FAILED, Run.State.PAUSED), f"{run.reason}\n{run.log_tail}"
    return run.state == Run.State.SUCCEEDED


def numbers(run: Run) -> list[tuple[int, str, dict[str, Any]]]:
    """Its metric rows without what a clock or the operating system says."""
    return [
        (step, split, {n: v for n, v in values.items() if not n.startswith(TIME_FIELDS)})
        for step, split, values in run.metrics.order_by("step", "split").values_list(
            "step", "split", "values"
        )
    ]


def samples(run: Run) -> list[tuple[Any, ...]]:
    return list(run.samples.order_by("step", "prompt").values_list("step", "prompt", "text"))


def weights(run: Run) -> str:
    folder = run.checkpoints.get(is_final=True).folder
    return sha256(settings.DATA_DIR / folder / "model.safetensors")


def kill_a_worker(run: Run, hire: Hire, chance: random.Random) -> None:
    """A step or two after it has saved something of its own, or right in the middle of a save."""
    worker = hire(**REAL)
    wait_for(lambda: has_saved(run, worker), 300)
    time.sleep(chance.uniform(0, 0.3))
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    wait_for(lambda: not trainers(settings.DATA_DIR), 60)


def has_saved(run: Run, worker: subprocess.Popen[bytes]) -> bool:
    assert not has_ended(run), "the run was over before its worker could be killed"
    return run.checkpoints.filter(lease_token=run_token(run, worker)).exists()


def run_token(run: Run, worker: subprocess.Popen[bytes]) -> int:
    """The lease under which this worker has it; 0 before that."""
    run.refresh_from_db()
    return run.lease_token if run.worker.endswith(f":{worker.pid}") else 0


def test_f1_a_round_whose_workers_are_killed_is_the_same_round(
    project, small, olga, hire, chance, report
):
    launch = Launch(base=small, recipe="tiny", stages=STAGES, overrides=OVERRIDES)
    whole = launch_round(project, launch, by=olga)
    patient = hire(**REAL)
    for run in stages_of(whole):
        wait_for(lambda run=run: has_ended(run), 600)
    patient.kill()
    patient.wait()
    cancel_round(whole)

    killed, kills = launch_round(project, launch, by=olga), 0
    for run in stages_of(killed):
        for _ in range(KILLS):
            kill_a_worker(run, hire, chance)
            kills += 1
        worker = hire(**REAL)
        wait_for(lambda run=run: has_ended(run), 600)
        worker.kill()
        worker.wait()

    pairs = list(zip(stages_of(whole), stages_of(killed), strict=True))
    rows = sum(run.metrics.count() for run, _ in pairs)
    tokens = [other.lease_token for _, other in pairs]
    report(stages=STAGES, kills=kills, leases=tokens, rows=rows)
    for one, other in pairs:
        assert other.lease_token > KILLS
        assert numbers(one) == numbers(other), one.kind
        assert samples(one) == samples(other), one.kind
        assert weights(one) == weights(other), one.kind
