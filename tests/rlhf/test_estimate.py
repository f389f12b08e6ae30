"""What a round would take: by earlier runs where there are some, and never a guess where not."""

from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.models import Policy
from rlhf.data.counts import count
from rlhf.models import Machine, Round, Run, Snapshot
from rlhf.rounds import estimate as module
from rlhf.rounds.estimate import estimate
from rlhf.rounds.settings import stage_configs
from rlhf.stages import TRAININGS

pytestmark = pytest.mark.django_db

COUNTS = {"demonstrations": 100, "rankings": 50, "prompts": 10, "documents": 0}
SFT = {"train": {"epochs": 2, "batch_size": 16}, "tune": {"mode": "full"}}
PPO = {"train": {"updates": 10, "batch_size": 64, "critic": "reward"}, "tune": {"mode": "full"}}


@pytest.fixture
def ran(project, base, olga):
    """ran(seconds=10) is a run that took so long, of a round of its own."""

    def make(*, seconds, kind="sft", rows=50, start=base, state="succeeded", **fields) -> Run:
        number = Round.next_number(project)
        fields = {"config": SFT, **fields}
        round = Round.objects.create(
            project=project, number=number, recipe="tiny", base=start, launched_by=olga
        )
        took = timedelta(seconds=seconds)
        run = Run.objects.create(
            project=project, round=round, kind=kind, state=state, worked=took, **fields
        )
        Snapshot.objects.create(
            project=project, run=run, sha256="x", counts={"train": rows}, filters={}
        )
        return run

    return make


def seconds(base, kind="sft", config=SFT):
    [stage] = estimate(base, {kind: config}, COUNTS).stages
    span = stage.seconds
    return span and (span.low, span.middle, span.high)


def test_without_an_earlier_run_nothing_is_guessed(base):
    found = estimate(base, stage_configs(["sft", "reward", "ppo"], "tiny", {}), COUNTS)
    assert found.unknown == ["SFT", "reward model", "PPO", "evaluation"]
    assert (found.seconds, found.cost) == (None, None)


def test_time_grows_with_the_rows_and_epochs_by_the_median_of_earlier_runs(base, ran):
    for took in (10, 20, 60):  # 2 epochs over 50 rows
        ran(seconds=took)
    assert seconds(base) == pytest.approx((20, 40, 120))
    twice = {**SFT, "train": {**SFT["train"], "epochs": 4}}
    assert seconds(base, config=twice) == pytest.approx((40, 80, 240))


def test_practice_grows_with_its_updates_and_not_with_the_data(base, ran):
    ran(seconds=100, kind="ppo", rows=1000, config=PPO)
    longer = {**PPO, "train": {**PPO["train"], "updates": 20}}
    assert seconds(base, "ppo", PPO) == pytest.approx((100, 100, 100))
    assert seconds(base, "ppo", longer) == pytest.approx((200, 200, 200))


@pytest.mark.parametrize(
    "unlike",
    [
        {"kind": "kto"},
        {"state": "failed"},
        {"seconds": 0},
        {"rows": 0},
        {"config": {**SFT, "tune": {"mode": "lora"}}},
        {"config": {"train": {}, "tune": {"mode": "full"}}},
    ],
)
def test_what_is_not_alike_says_nothing(base, ran, unlike):
    ran(**{"seconds": 10, **unlike})
    assert seconds(base) is None


def test_a_base_of_the_same_size_is_alike_and_another_is_not(
    project, base, ran, data_dir, monkeypatch
):
    sizes = {"models/base": 100, "same": 100, "other": 900, "unknown": 0}
    monkeypatch.setattr(
        module, "parameters_of", lambda folder: sizes[str(folder.relative_to(data_dir))]
    )
    starts = {
        folder: Policy.objects.create(project=project, name=folder, origin="base", folder=folder)
        for folder in ("same", "other", "unknown")
    }
    ran(seconds=90, start=starts["other"])
    ran(seconds=90, start=starts["unknown"])
    assert seconds(base) is None
    ran(seconds=10, start=starts["same"])
    assert seconds(base) == pytest.approx((20, 20, 20))


def test_runs_of_machines_in_use_come_before_those_of_others(base, ran):
    ran(seconds=90, slot="gone")
    assert seconds(base) == pytest.approx((180, 180, 180))
    Machine.objects.create(slot="here", seen_at=timezone.now())
    ran(seconds=10, slot="here")
    assert seconds(base) == pytest.approx((20, 20, 20))


def test_a_round_costs_what_its_hours_cost(base, ran):
    ran(seconds=1800)  # for 100 rows; here are 200
    found = estimate(base, {"sft": SFT}, COUNTS, an_hour=3.0)
    assert found.seconds.middle == pytest.approx(3600)
    assert found.cost.middle == pytest.approx(3.0)
    assert estimate(base, {"sft": SFT}, COUNTS).cost is None


def test_the_page_says_what_it_goes_by(project, labels, base, ran, browse, olga):
    client, address = browse(olga), "/p/cooking/rounds/new/?stages=reward"
    assert "Reward model: no earlier run to go by." in " ".join(
        client.get(address).content.decode().split()
    )
    config = {**SFT, "train": {"epochs": 2, "batch_size": 8}}
    ran(seconds=120, kind="reward", config=config)
    page = " ".join(client.get(address).content.decode().split())
    assert "by 1 earlier run on a base of this size." in page


def test_every_training_counts_rows_that_are_counted(project, base):
    known = count(project)
    for kind, stage in TRAININGS.items():
        assert stage.counted and known.keys() >= set(stage.counted), kind


@pytest.mark.parametrize("config", [None, "", "{"])
def test_a_base_whose_folder_cannot_be_read_has_no_estimate(
    config, project, labels, base, data_dir, browse, olga
):
    file = data_dir / base.folder / "config.json"
    file.unlink() if config is None else file.write_text(config)
    assert estimate(base, {"sft": SFT}, COUNTS) is None
    assert browse(olga).get(f"/p/{project.slug}/rounds/new/").status_code == 200
