"""A claimed run, carried out by a real child process that only pretends to learn."""

import json
import sys
import threading
import time
from threading import Event

import pytest
from django.conf import settings
from django.db import connection

from annotate.models import Completion, Demonstration, Policy
from rlhf.models import Evaluation, RewardModel, Run, Snapshot, TrainedPolicy
from rlhf.models.leases import claim
from rlhf.rounds.launch import cancel_round, launch_sampling, resume_round
from rlhf.runs.supervisor import _second_chance
from tests.rlhf.conftest import FAKE, trainers, work, work_until_idle

pytestmark = pytest.mark.django_db(transaction=True)


def hired(leaving: Event | None = None) -> threading.Thread:
    """Somebody else who does that, once started."""

    def work_and_go() -> None:
        try:
            work(leaving)
        finally:
            connection.close()

    return threading.Thread(target=work_and_go)


def lines(run: Run) -> list[tuple]:
    return list(run.metrics.values_list("step", "split", "values"))


def wait_for(condition, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def test_a_round_trains_evaluates_and_leaves_policies(round, fake_trainer):
    runs = work_until_idle()
    assert [(run.kind, run.state) for run in runs] == [
        ("sft", "succeeded"),
        ("reward", "succeeded"),
        ("ppo", "succeeded"),
        ("evaluate", "succeeded"),
        ("scorecard", "succeeded"),
    ]
    sft, ppo = Policy.objects.get(name="r1-sft"), Policy.objects.get(name="r1-ppo")
    assert (sft.parent, ppo.parent) == (round.base, sft)
    assert (sft.origin, sft.state) == (Policy.Origin.TRAINED, Policy.State.CANDIDATE)
    assert (settings.DATA_DIR / ppo.folder / "model.safetensors").exists()
    assert TrainedPolicy.objects.of(ppo).checkpoint.run == runs[2]
    assert RewardModel.objects.get().accuracy == 0.75
    assert [s.run for s in Snapshot.objects.order_by("pk")] == runs[:3]
    rates = {str(e.policy) + " " + str(e.opponent): e.win_rate for e in Evaluation.objects.all()}
    assert rates == {"r1-ppo r1-sft": 1.0, "r1-ppo base": 1.0, "r1-sft base": 1.0}
    scored = Completion.objects.filter(source=Completion.Source.EVALUATION)
    assert scored.count() == 3 * 4 * 2  # policies, held-out prompts, k
    assert runs[3].summary["prompts"] == 4


def test_what_the_trainer_writes_lands_in_the_database(round, fake_trainer):
    run = work()
    assert (run.step, run.total_steps, run.share_done) == (6, 6, 1.0)
    rows = lines(run)
    assert [row[:2] for row in rows if row[1] == "train"] == [(s, "train") for s in range(1, 7)]
    assert rows[0][2]["loss"] == 1
    assert rows[0][2]["gradient/norm"] is None, "NaN has no place in JSON"
    assert run.samples.count() == 6
    assert sorted(run.checkpoints.values_list("step", "is_final")) == [
        (2, False),
        (4, False),
        (6, False),
        (6, True),
    ]
    assert run.summary["steps"] == 6


def test_a_crash_fails_the_run_with_its_last_lines_and_stops_the_round(round, fake_trainer):
    fake_trainer(mode="crash")
    [run] = work_until_idle()
    assert run.state == Run.State.FAILED
    assert run.reason == "ValueError: the third step went wrong"
    assert "Traceback" in run.log_tail
    assert not Policy.objects.filter(origin=Policy.Origin.TRAINED).exists()
    assert round.runs.filter(state=Run.State.QUEUED).count() == 3


def test_resume_goes_on_from_the_last_checkpoint(round, fake_trainer):
    fake_trainer(mode="crash")
    work()
    fake_trainer(mode="ok")
    assert resume_round(round)
    run = work()
    assert run.state == Run.State.SUCCEEDED
    output = settings.DATA_DIR / f"runs/{run.pk}/t2/output.txt"
    assert f"runs/{run.pk}/t1/checkpoints/step-00000002" in output.read_text()
    tokens = dict(run.metrics.filter(split="train").values_list("step", "lease_token"))
    assert tokens == {1: 1, 2: 1, 3: 2, 4: 2, 5: 2, 6: 2}
    assert Policy.objects.get(name="r1-sft").folder == f"runs/{run.pk}/t2/model"


def test_resume_passes_over_a_damaged_checkpoint(round, fake_trainer):
    fake_trainer(steps=5, mode="crash")
    run = work()
    fake_trainer(steps=5, mode="ok")
    checkpoint = run.checkpoints.get(step=2)
    (settings.DATA_DIR / checkpoint.folder / "state.json").write_text("3")
    resume_round(round)
    assert work().state == Run.State.SUCCEEDED
    tokens = dict(run.metrics.filter(split="train").values_list("step", "lease_token"))
    assert set(tokens.values()) == {2}, "it did not begin anew"


def test_nothing_is_trained_on_a_damaged_model(round, fake_trainer):
    sft = work()
    folder = settings.DATA_DIR / f"runs/{sft.pk}/t1/model"
    (folder / "model.safetensors").write_text("something else")
    reward = work()
    assert reward.state == Run.State.FAILED
    assert "model.safetensors does not match" in reward.reason and "backup" in reward.reason


def test_what_lies_past_the_checkpoint_is_dropped_before_going_on(round, fake_trainer):
    fake_trainer(mode="crash")  # in step 3, after the checkpoint of step 2
    work()
    fake_trainer(steps=2)
    resume_round(round)
    run = work()
    assert set(run.metrics.values_list("step", flat=True)) == {1, 2}
    assert set(run.samples.values_list("step", flat=True)) == {1, 2}


def test_a_trainer_that_is_killed_again_and_again_is_quarantined(round, fake_trainer):
    fake_trainer(mode="killed")
    runs = work_until_idle()
    # The first attempt published a checkpoint; the three after it got nowhere.
    assert [run.state for run in runs] == ["queued"] * 3 + ["failed"]
    assert runs[-1].reason.startswith("quarantined")
    assert "fake trainer sft" in runs[-1].log_tail


def test_what_a_killed_trainer_was_writing_is_gone_once_the_next_one_starts(round, fake_trainer):
    fake_trainer(mode="killed")
    folder = settings.DATA_DIR / work().folder
    assert len(list(folder.rglob("tmp-*"))) == 2
    fake_trainer(mode="ok")
    assert work().state == Run.State.SUCCEEDED
    assert not list(folder.rglob("tmp-*"))


def test_a_worker_that_dies_of_a_run_is_not_given_it_for_ever(round, fake_trainer):
    run = round.runs.get(position=0)
    Run.objects.filter(pk=run.pk).update(attempts_without_progress=3)
    assert work().reason.startswith("quarantined")


def test_a_quarantined_run_lets_the_next_one_start(round, fake_trainer, base, prompts, olga):
    fake_trainer(mode="killed")
    launch_sampling(round.project, by=olga, policies=[base], k=2, prompts=prompts)
    runs = work_until_idle()
    assert [run.state for run in runs if run.kind == Run.Kind.SAMPLE] == ["succeeded"]


def test_a_guard_pauses_the_run_and_says_why(round, fake_trainer):
    fake_trainer(mode="pause")
    run = work()
    assert (run.state, run.reason) == (Run.State.PAUSED, "disk full: 0 MB are free")


# Exits with 1 whatever its trainer's code was, as torchrun does.
AGENT = "import subprocess, sys; sys.exit(bool(subprocess.call([sys.executable, *sys.argv[1:]])))"


@pytest.mark.parametrize(
    ("mode", "state", "reason"),
    [
        ("pause", "paused", "disk full: 0 MB are free"),
        ("crash", "failed", "ValueError: the third step went wrong"),
        ("not_finite", "queued", ""),
        ("stopped", "queued", ""),
        ("ok", "succeeded", ""),
    ],
)
def test_a_launcher_that_hides_the_exit_code_does_not_hide_how_it_ended(
    round, fake_trainer, monkeypatch, mode, state, reason
):
    monkeypatch.setattr(settings, "TRAIN_LAUNCHER", f"{sys.executable} -c '{AGENT}' {FAKE}")
    fake_trainer(mode=mode)
    run = work()
    assert (run.state, run.reason) == (state, reason)


def test_processes_that_stop_one_another_again_and_again_are_quarantined(
    round, fake_trainer, monkeypatch
):
    monkeypatch.setattr(settings, "TRAIN_LAUNCHER", f"{sys.executable} -c '{AGENT}' {FAKE}")
    fake_trainer(mode="stopped")
    runs = work_until_idle()
    assert [run.state for run in runs] == ["queued"] * 3 + ["failed"]
    assert runs[-1].reason.startswith("quarantined")


def test_out_of_memory_is_tried_again_with_half_the_rows_at_once(round, fake_trainer):
    config = round.runs.get(position=0).config["train"]
    rows = config["micro_batch_size"]
    fake_trainer(mode="memory", fits=rows // 4)
    runs = [work() for _ in range(3)]
    assert [run.state for run in runs] == ["queued", "queued", "succeeded"]
    assert runs[-1].config["train"] == {**config, "micro_batch_size": rows // 4}
    assert runs[-1].retries == [
        {"why": "out_of_memory", "changes": {"micro_batch_size": rows // 2}},
        {"why": "out_of_memory", "changes": {"micro_batch_size": rows // 4}},
    ]
    told = json.loads((settings.DATA_DIR / f"runs/{runs[-1].pk}/t3/config.json").read_text())
    assert told["train"]["micro_batch_size"] == rows // 4


def test_out_of_memory_for_the_third_time_is_a_failure(round, fake_trainer):
    fake_trainer(mode="memory", fits=0)
    runs = [work() for _ in range(3)]
    assert [run.state for run in runs] == ["queued", "queued", "failed"]
    assert runs[-1].reason == "OutOfMemoryError: 80 GB"


def test_a_sampling_out_of_memory_writes_fewer_answers_at_once(
    project, prompts, base, olga, fake_trainer, monkeypatch
):
    launch_sampling(project, by=olga, policies=[base], k=2, prompts=prompts[:2])
    lease = claim()
    again = _second_chance(lease.run, {"reason": "out_of_memory"})
    assert again["changes"] == {"batch_size": lease.run.config["train"]["batch_size"] // 2}


@pytest.mark.parametrize(("fits", "ends"), [(0.6, "succeeded"), (0.1, "paused")])
def test_gradients_that_are_not_finite_get_half_the_rate_once(round, fake_trainer, fits, ends):
    rate = round.runs.get(position=0).config["train"]["learning_rate"]
    fake_trainer(mode="not_finite", fits=rate * fits)
    runs = [work() for _ in range(2)]
    assert [run.state for run in runs] == ["queued", ends]
    assert runs[-1].config["train"]["learning_rate"] == rate / 2
    first, second = (
        (settings.DATA_DIR / f"runs/{runs[-1].pk}/t{token}/output.txt").read_text()
        for token in (1, 2)
    )
    assert "t1/checkpoints/step-00000002" in second, "not from the last good checkpoint"
    # The trainer would refuse another rate that nobody has said is meant.
    assert "as it was" in first and "may have changed" in second


def test_a_full_disk_at_the_snapshot_pauses_the_run(round, fake_trainer, monkeypatch):
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlhf.data.snapshot.write", full)
    run = work()
    assert (run.state, run.reason) == (Run.State.PAUSED, "disk full")


def test_cancel_saves_a_checkpoint_and_does_not_wait_for_the_end(round, fake_trainer):
    fake_trainer(steps=20_000, seconds=0.05)
    worker = hired()
    worker.start()
    run = round.runs.get(position=0)
    wait_for(lambda: run.metrics.exists())
    cancel_round(round)
    worker.join(120)
    assert not worker.is_alive()
    states = round.runs.order_by("position").values_list("state", flat=True)
    assert list(states) == ["cancelled"] * 4
    assert run.checkpoints.exists()


def test_a_trainer_that_does_not_listen_is_cancelled_all_the_same(round, fake_trainer, monkeypatch):
    monkeypatch.setattr("rlhf.runs.supervisor.CANCEL_GRACE", 0.5)
    fake_trainer(mode="hang")
    worker = hired()
    worker.start()
    run = round.runs.get(position=0)
    wait_for(lambda: run.metrics.filter(step=3).exists())
    run.request_cancel()
    worker.join(120)
    run.refresh_from_db()
    assert run.state == Run.State.CANCELLED


def test_a_leaving_worker_gives_the_run_back_with_a_checkpoint(round, fake_trainer):
    fake_trainer(steps=2000, seconds=0.05)
    leaving = Event()
    worker = hired(leaving)
    worker.start()
    run = round.runs.get(position=0)
    wait_for(lambda: run.metrics.exists())
    leaving.set()
    worker.join(120)
    run.refresh_from_db()
    assert (run.state, run.leased_until) == (Run.State.QUEUED, None)
    assert run.attempts_without_progress == 0
    assert run.checkpoints.exists()


def test_a_worker_that_lost_its_lease_kills_the_trainer_and_writes_nothing(
    round, fake_trainer, monkeypatch
):
    fake_trainer(steps=2000, seconds=0.05)
    worker = hired()
    worker.start()
    run = round.runs.get(position=0)
    wait_for(lambda: run.metrics.exists())
    assert trainers(settings.DATA_DIR)
    Run.objects.filter(pk=run.pk).update(lease_token=7)
    written = run.metrics.count()
    worker.join(120)
    assert not worker.is_alive()
    run.refresh_from_db()
    assert (run.state, run.lease_token) == (Run.State.RUNNING, 7)
    assert run.metrics.count() == written
    assert not trainers(settings.DATA_DIR), "the trainer outlived its lease"


def test_a_round_without_held_out_prompts_ends_without_an_evaluation(round, fake_trainer):
    from annotate.models import Prompt

    Prompt.objects.exclude(split="train").update(split="train")
    runs = work_until_idle()
    assert runs[-1].state == Run.State.SUCCEEDED
    assert "nothing to compare" in runs[-1].summary["note"]
    assert not Evaluation.objects.exists()


def test_a_run_whose_labels_vanished_says_what_to_do(round, fake_trainer):

    Demonstration.objects.update(retracted=True)
    run = work()
    assert run.state == Run.State.FAILED
    assert "no demonstrations" in run.reason and "resume" in run.reason


def test_a_trainer_that_leaves_no_model_is_a_failure(round, fake_trainer, monkeypatch):
    monkeypatch.setattr(
        "rlhf.runs.supervisor.conclude",
        lambda *_: (_ for _ in ()).throw(FileNotFoundError("no model")),
    )
    with pytest.raises(FileNotFoundError):
        work()
    run = round.runs.get(position=0)
    assert (run.state, run.reason) == (Run.State.FAILED, "FileNotFoundError: no model")
