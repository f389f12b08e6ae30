"""The whole of a round with the real trainer, on a model small enough for a test."""

import json
import os
import signal
import sys
from pathlib import Path
from threading import Event

import pytest
from django.conf import settings

from annotate.documents.models import Document
from annotate.models import Completion, Feedback, Policy
from rlhf.learning.generation import sample
from rlhf.learning.run.run_folder import DONE, STOPPED
from rlhf.models import Checkpoint, Evaluation, RewardModel, Run
from rlhf.models.checkpoints import ensure_whole
from rlhf.models.leases import claim
from rlhf.registry.lineage import lineage_of
from rlhf.rounds.launch import launch_round, launch_sampling
from rlhf.rounds.settings import Launch
from rlhf.runs.supervisor import supervise
from rlhf.stages import prepare
from tests.learning.conftest import learn, make_base
from tests.rlhf.conftest import trainers, wait_for
from tests.rlhf.test_supervisor import hired, work

pytestmark = pytest.mark.django_db(transaction=True)

SHORT = {
    "sft": {"train": {"epochs": 1, "sample_prompts": 1, "max_new_tokens": 8}},
    "reward": {"train": {"epochs": 1}},
    "ppo": {
        "train": {
            "updates": 2,
            "batch_size": 8,
            "micro_batch_size": 8,
            "max_new_tokens": 8,
            "sample_prompts": 1,
            "evaluate_prompts": 4,
            "critic_warmup": 0,
        }
    },
}


@pytest.fixture
def tiny(policy: Policy, labels, data_dir: Path) -> Policy:
    row = {"prompt": [{"role": "user", "content": "Any dish?"}], "completions": ["Cook rice."]}
    (data_dir / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" * 8))
    make_base(data_dir / "models/tiny", data_dir / "corpus.jsonl")
    policy.folder = "models/tiny"
    policy.save()
    return policy


@pytest.mark.timeout(600)
def test_labels_become_policies_by_ppo_and_rloo_in_a_round_launched_from_its_page(
    project, tiny, labels, olga, browse
):
    chosen = {**SHORT, "rloo": {"train": {**SHORT["ppo"]["train"], "k": 4}}}
    del chosen["rloo"]["train"]["critic_warmup"]
    fields = {
        f"{kind}.train.{name}": str(value)
        for kind, parts in chosen.items()
        for name, value in parts["train"].items()
    }
    stages = ["rloo", "ppo", "reward", "sft"]
    page = {"base": tiny.pk, "recipe": "tiny", "stages": stages, **fields}
    answer = browse(olga).post("/p/cooking/rounds/new/", page)
    assert answer.url == "/p/cooking/rounds/1/"
    round = project.rounds.get()
    while lease := claim():
        supervise(lease, Event())
        run = Run.objects.get(pk=lease.run.pk)
        assert run.state == Run.State.SUCCEEDED, f"{run.reason}\n{run.log_tail}"
    assert round.runs.get(kind=Run.Kind.SFT).samples.exists()
    assert 0 <= RewardModel.objects.get().accuracy <= 1
    before = "r1-sft"
    for kind in ("ppo", "rloo"):  # the second goes on where the first has ended
        made = Policy.objects.get(name=f"r1-{kind}")
        assert made.parent.name == before
        before = made.name
        run = made.training.checkpoint.run
        assert [m.step for m in run.metrics.filter(split="train")] == [1, 2]
        drawn = {"objective/scores", "objective/kl", "policy/entropy", "response/length"}
        values = run.metrics.filter(split="train").first().values
        assert drawn <= set(values)
        assert any(name.startswith("val/") for name in values) == (kind == "ppo")
        assert lineage_of(made)[0]["training"]["reward_model"] is not None
        assert (settings.DATA_DIR / made.folder / "generation_config.json").exists()
    assert (run.config["train"]["k"], run.config["train"]["updates"]) == (4, 2)
    assert "RLOO score" in browse(olga).get("/p/cooking/rounds/1/charts/").text
    assert Evaluation.objects.filter(round=round).count() == 6  # each of four with each other


BRIEF = {"epochs": 1, "sample_prompts": 1, "max_new_tokens": 8}
OTHER_STAGES = {
    "pretrain": {"train": {"epochs": 1, "row_tokens": 64}},
    "dpo": {"train": BRIEF},
    "kto": {"train": BRIEF},
}


@pytest.mark.timeout(600)
def test_documents_rankings_and_thumbs_become_policies(project, tiny, labels, prompts, alice, olga):
    Document.add(project, [f"Chapter {number}: salt the water." for number in range(20)])
    for number, prompt in enumerate(prompts):
        answer = Completion.objects.create(prompt=prompt, policy=tiny, text="So.", source="chat")
        Feedback.objects.create(completion=answer, user=alice, thumb_up=number % 3 > 0)
    stages = list(OTHER_STAGES)
    round = launch_round(
        project, Launch(base=tiny, recipe="tiny", stages=stages, overrides=OTHER_STAGES), by=olga
    )
    while lease := claim():
        supervise(lease, Event())
        run = Run.objects.get(pk=lease.run.pk)
        assert run.state == Run.State.SUCCEEDED, f"{run.reason}\n{run.log_tail}"
    for kind in stages:
        run = round.runs.get(kind=kind)
        assert run.summary["policy"] == f"r1-{kind}"
        assert run.metrics.filter(split="train").exists()
    evaluation = round.runs.get(kind=Run.Kind.EVALUATE)
    assert Completion.objects.sampled_by(evaluation.pk).values("policy").distinct().count() == 4
    assert not Evaluation.objects.exists()  # no reward model has ever been trained here


TORCHRUN = "-m torch.distributed.run --nproc-per-node 2 --standalone"


@pytest.mark.timeout(600)
def test_several_processes_die_with_their_launcher_and_pause_through_it(
    project, tiny, labels, data_dir, olga, monkeypatch
):
    monkeypatch.setattr(settings, "TRAIN_LAUNCHER", f"{sys.executable} {TORCHRUN}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    endless = {"sft": {"train": {**BRIEF, "epochs": 100_000}}}
    round = launch_round(
        project, Launch(base=tiny, recipe="tiny", stages=["sft"], overrides=endless), by=olga
    )
    run = round.runs.get(kind="sft")
    worker = hired()
    worker.start()
    wait_for(run.metrics.exists, 200)
    [agent] = [pid for pid, command in trainers(data_dir).items() if TORCHRUN in command]
    wait_for(lambda: len(trainers(data_dir)) == 3, 30)
    os.kill(agent, signal.SIGKILL)
    try:
        wait_for(lambda: not trainers(data_dir), 30)
    finally:
        for orphan in trainers(data_dir):
            os.kill(orphan, signal.SIGKILL)
    worker.join(60)
    run.refresh_from_db()
    assert run.state == Run.State.QUEUED

    train = {**run.config["train"], "learning_rate": 1e30, "max_skipped": 1}
    Run.objects.filter(pk=run.pk).update(
        config={**run.config, "train": train}, retries=[{"why": "not_finite", "changes": {}}]
    )
    run = work()
    assert (run.state, run.reason[:11]) == (Run.State.PAUSED, "not finite:"), run.log_tail


def test_the_next_attempt_of_a_sampling_asks_for_no_answer_twice(
    project, tiny, prompts, olga, monkeypatch
):
    run = launch_sampling(project, by=olga, policies=[tiny], k=2, prompts=prompts[:5])
    run.config["train"] |= {"batch_size": 4, "max_new_tokens": 5}
    run.save()
    asked, generate = [], sample.generate
    monkeypatch.setattr(
        sample,
        "generate",
        lambda lm, rows, *more: asked.append(len(rows)) or generate(lm, rows, *more),
    )
    for stop, code in ((True, STOPPED), (False, DONE)):
        lease = claim()
        lease.path.mkdir(parents=True)
        (lease.path / "config.json").write_text(json.dumps(prepare(lease)))
        assert learn(lease.path, settings.DATA_DIR, stop=lambda stop=stop: stop) == code
        assert lease.run.release(token=lease.token)
    assert asked == [4, 4, 2]
    assert len((lease.path / "completions.jsonl").read_text().splitlines()) == 10


@pytest.mark.timeout(600)
def test_the_attempt_after_a_kill_takes_over_the_epoch_that_was_kept(
    project, tiny, labels, data_dir, olga, monkeypatch
):
    monkeypatch.setattr("rlhf.runs.supervisor.LOOK_EVERY", 0.05)
    train = {**BRIEF, "epochs": 3, "batch_size": 4, "checkpoint_every": 1, "keep_epochs": True}
    choice = {"stages": ["sft"], "overrides": {"sft": {"train": train}}}
    run = launch_round(project, Launch(base=tiny, recipe="tiny", **choice), by=olga).runs.get(
        kind="sft"
    )
    worker = hired()
    worker.start()
    wait_for((data_dir / run.folder / "t1/epochs/1").exists, 200)
    wait_for(lambda: run.checkpoints.filter(step__gte=4).exists() or not worker.is_alive())
    for trainer in trainers(data_dir):
        os.kill(trainer, signal.SIGKILL)
    worker.join(60)
    run.refresh_from_db()
    assert run.state == Run.State.QUEUED, "it was killed too late"
    assert work().state == Run.State.SUCCEEDED
    for epoch in (1, 2):
        model = Checkpoint.objects.get(run=run, epoch=epoch)
        assert model.trained_policy.policy.name == f"r1-sft-epoch-{epoch}"
        assert model.folder == f"{run.folder}/t2/epochs/{epoch}"
        ensure_whole(model)
    weights = "epochs/1/model.safetensors"
    assert (data_dir / run.folder / "t1" / weights).samefile(data_dir / run.folder / "t2" / weights)
