"""What the trainer's alarms become: words on the pages of a round, also once it is over."""

import json
from threading import Event

import pytest
from django.utils import timezone
from django.utils.html import escape

from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.ppo.monitor import Monitor
from rlhf.learning.run.run_folder import Paused
from rlhf.models import Checkpoint, Run
from rlhf.models.leases import claim
from rlhf.runs.alarms import MEANING, alarms_of, heard_in
from rlhf.runs.ingest import Ingester, rewind
from rlhf.runs.supervisor import _why_paused, supervise

GOOD = {
    "objective/kl": 1.0,
    "policy/first_ratio_deviation": 0.0,
    "val/explained_variance": 0.5,
    "policy/clipfrac": 0.0,
    "policy/entropy": 2.0,
    "response/eos_rate": 1.0,
    "response/length": 20.0,
    "response/distinct_2": 0.8,
    "response/identical": 0.0,
}
BAD = {
    "objective/kl": -1.0,
    "policy/first_ratio_deviation": 1.0,
    "val/explained_variance": -1.0,
    "policy/clipfrac": 1.0,
    "policy/entropy": 0.0,
    "response/eos_rate": 0.0,
    "response/length": 100.0,
    "response/distinct_2": 0.1,
}


def test_every_alarm_has_its_words():
    watch = Monitor(PPO())
    watch.alarms(1, GOOD)
    rung: dict[str, float] = {}
    for update in range(21, 26):
        rung |= watch.alarms(update, BAD)
    rung |= watch.alarms(26, {**BAD, "response/length": 1.0})
    watch.over_optimised(0.0, held_out=1.0, error=0.0)
    rung |= watch.over_optimised(1.0, held_out=0.0, error=0.0)
    assert {name.removeprefix("alarm/") for name in rung} == set(MEANING)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("limits", "numbers", "says"),
    [
        ({"kl_limit": 0.5}, {}, "higher kl_limit"),
        ({"min_entropy": 0.5}, {"policy/entropy": 0.1}, "again and again"),
        ({"max_length": 2.0}, {"response/length": 41.0}, "higher max_length"),
        ({"max_identical": 0.3}, {"response/identical": 0.4}, "one answer"),
        ({"min_length": 0.5}, {"response/length": 3.8}, "lower min_length"),
        ({"min_distinct": 0.5}, {"response/distinct_2": 0.1}, "lower min_distinct"),
        ({}, {"policy/entropy": float("nan")}, "lower learning_rate"),
    ],
)
def test_every_guard_says_what_to_do(round, browse, olga, limits, numbers, says):
    watch = Monitor(PPO(**limits))
    watch.alarms(1, GOOD)
    with pytest.raises(Paused) as paused:
        watch.guard({**GOOD, **numbers})
    reason = _why_paused({"reason": paused.value.reason, "detail": paused.value.detail})
    round.runs.filter(position=0).update(state=Run.State.PAUSED, reason=reason)
    page = browse(olga).get("/p/cooking/rounds/1/").content.decode()
    assert escape(reason) in page and says in page


@pytest.mark.django_db
def test_a_run_that_met_a_limit_resumes_with_another(round, browse, olga):
    run = round.runs.get(kind=Run.Kind.PPO)
    round.runs.exclude(pk=run.pk).filter(position__lt=run.position).update(state="succeeded")
    paused = {"state": Run.State.PAUSED, "reason": "length halved: answers are 0.15 times as long"}
    round.runs.filter(pk=run.pk).update(**paused)
    assert run.config["train"]["min_length"] == 0.5, "the recipe's"
    client, url = browse(olga), "/p/cooking/rounds/1/"
    page = client.get(url).content.decode()
    assert "Resume with <code>min_length</code>" in page
    said = client.post(url, {"act": "resume_with", "limit": "-1"}, follow=True).content.decode()
    assert "a number of at least 0" in said
    client.post(url, {"act": "resume_with", "limit": "0.1"})
    run.refresh_from_db()
    assert (run.state, run.config["train"]["min_length"]) == ("queued", 0.1)
    round.runs.filter(pk=run.pk).update(state="paused", reason="over optimised: score 0 to 1")
    client.post(url, {"act": "resume_with", "limit": "0"})
    run.refresh_from_db()
    assert run.config["train"]["stop_over_optimised"] is False


def test_a_row_heard_twice_changes_nothing():
    rows = [{"step": step, "alarm/eos_rate": 1.0, "loss": 0.0} for step in (7, 9)]
    heard = heard_in(rows, {"low_entropy": [3, 4], "eos_rate": [8, 8]})
    assert heard == {"low_entropy": [3, 4], "eos_rate": [7, 9]}
    assert heard_in(rows, heard) == heard


@pytest.mark.django_db(transaction=True)
def test_alarms_stand_on_the_pages_of_a_round_that_is_over(round, fake_trainer, browse, olga):
    fake_trainer(alarms={"low_entropy": [2, 5], "eos_rate": [4]})
    while lease := claim():
        supervise(lease, Event())
    ppo = round.runs.get(kind=Run.Kind.PPO)
    assert ppo.alarms == {"low_entropy": [2, 5], "eos_rate": [4, 4]}
    page = " ".join(browse(olga).get("/p/cooking/rounds/1/").content.decode().split())
    assert "Entropy below a quarter of its start" in page
    assert "first at step 2, last at step 5" in page and "(PPO, at step 4)" in page
    rounds = " ".join(browse(olga).get("/p/cooking/rounds/").content.decode().split())
    assert "6 alarms" in rounds  # 2 a stage


@pytest.mark.django_db(transaction=True)
def test_an_attempt_that_begins_again_forgets_what_rang_past_its_checkpoint(round, data_dir):
    lease = claim()
    lease.path.mkdir(parents=True)
    told = {"split": "train", "time": timezone.now().timestamp()}
    rings = {1: "eos_rate", 3: "eos_rate", 6: "low_entropy", 8: "eos_rate"}
    rows = [{"step": n, **told, **({f"alarm/{rings[n]}": 1.0} if n in rings else {})}
            for n in range(1, 9)]  # fmt: skip
    (lease.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Ingester(lease, {}).ingest()
    run = Run.objects.get(pk=lease.run.pk)
    assert run.alarms == {"eos_rate": [1, 8], "low_entropy": [6, 6]}
    assert [alarm.first for alarm in alarms_of(run)] == [1, 6]
    save = Checkpoint.objects.create(
        run=run, lease_token=lease.token, step=4, folder="x", manifest_sha256="a" * 64
    )
    rewind(lease, save)
    assert Run.objects.get(pk=run.pk).alarms == {"eos_rate": [1, 3]}
