"""What trackers are told of a run. Their clients are stood in for by modules of their names, whose
calls have the names that the real ones document."""

import json
import sys
import time
from datetime import UTC, datetime
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command

from rlhf import jobs
from rlhf.models import Metric, Run
from rlhf.models.leases import claim
from rlhf.trackers import clients, telling
from rlhf.trackers.clients import Told
from rlhf.trackers.telling import tell, told_of
from tests.rlhf.test_tensorboard import frames, scalars

TAG = "feedback_site.run"
MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
TOLD = Told(
    project="cooking",
    id="run-7",
    name="round-1-sft-7",
    group="round-1",
    kind="sft",
    url="https://site.example/p/cooking/rounds/1/",
    state="succeeded",
    started=1.0,
    ended=9.0,
    config={"learning_rate": 0.1, "odd(name)": "x" * 600},
    summary={"steps": 2.0},
    points=[(1, 2.0, {"train/loss": 2.0}), (2, 3.0, {"train/loss": 1.0, "test/loss": 1.5})],
)


def module(monkeypatch, name: str, **members) -> ModuleType:
    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)
    vars(made).update(members)
    monkeypatch.setitem(sys.modules, name, made)
    return made


class Wandb:
    """Keeps runs by id, refuses steps that it has, as the real one does."""

    def __init__(self):
        self.runs = {}

    def init(self, *, id, resume, **given):
        assert resume == "allow"
        run = self.runs.setdefault(id, SimpleNamespace(history={}, summary={}, exit_codes=[]))
        run.given = given
        run.starting_step = max(run.history, default=-1) + 1
        run.log = lambda values, step: run.history.update({step: values})
        run.finish = lambda exit_code: run.exit_codes.append(exit_code)
        return run


def test_wandb_hears_config_figures_by_step_state_and_the_rounds_page(monkeypatch):
    wandb = Wandb()
    module(monkeypatch, "wandb", init=wandb.init)
    clients.tell_wandb(TOLD)
    [(id, run)] = wandb.runs.items()
    assert (id, run.given["project"], run.given["name"]) == ("run-7", "cooking", "round-1-sft-7")
    assert (run.given["group"], run.given["job_type"]) == ("round-1", "sft")
    assert run.given["notes"] == run.given["config"]["url"] == TOLD.url
    assert run.given["config"]["learning_rate"] == 0.1
    assert run.history == {1: {"train/loss": 2.0}, 2: {"train/loss": 1.0, "test/loss": 1.5}}
    assert run.summary == {"steps": 2.0, "state": "succeeded"}
    assert run.exit_codes == [0]


def test_wandb_hears_of_a_resumed_run_only_the_later_steps(monkeypatch):
    wandb = Wandb()
    module(monkeypatch, "wandb", init=wandb.init)
    first = {"state": "failed", "points": TOLD.points[:1]}
    clients.tell_wandb(Told(**{**vars(TOLD), **first}))
    wandb.runs["run-7"].history[1] = "as it was"
    clients.tell_wandb(TOLD)
    [run] = wandb.runs.values()
    assert run.history == {1: "as it was", 2: {"train/loss": 1.0, "test/loss": 1.5}}
    assert run.exit_codes == [1, 0]


class Mlflow:
    """An `MlflowClient` that keeps what it is given."""

    def __init__(self):
        self.experiments, self.runs = {}, {}

    def get_experiment_by_name(self, name):
        found = self.experiments.get(name)
        return found and SimpleNamespace(experiment_id=found)

    def create_experiment(self, name):
        return self.experiments.setdefault(name, str(len(self.experiments) + 1))

    def search_runs(self, experiment_ids, filter_string=""):
        same = [
            r for r in self.runs.values() if f"'{r.tags['feedback_site.run']}'" in filter_string
        ]
        return [run for run in same if run.experiment in experiment_ids]

    def delete_run(self, run_id):
        del self.runs[run_id]

    def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
        id = f"{run_name}#{len(self.runs)}"
        self.runs[id] = SimpleNamespace(
            info=SimpleNamespace(run_id=id), experiment=experiment_id, tags=tags, metrics=[],
            params={}, status="RUNNING", batches=0,
        )  # fmt: skip
        return self.runs[id]

    def log_batch(self, run_id, metrics=(), params=(), tags=()):
        assert len(metrics) <= 1000 and len(params) <= 100
        self.runs[run_id].metrics += metrics
        self.runs[run_id].params.update(params)
        self.runs[run_id].batches += 1

    def set_terminated(self, run_id, status=None, end_time=None):
        self.runs[run_id].status = status


@pytest.fixture
def mlflow(monkeypatch) -> Mlflow:
    client = Mlflow()
    module(monkeypatch, "mlflow", MlflowClient=lambda: client)
    entities = {
        "Metric": lambda key, value, timestamp, step: (key, value, timestamp, step),
        "Param": lambda key, value: (key, value),
    }
    module(monkeypatch, "mlflow.entities", **entities)
    return client


def test_mlflow_hears_params_figures_by_step_state_and_the_rounds_page(mlflow):
    clients.tell_mlflow(TOLD)
    [run] = mlflow.runs.values()
    assert mlflow.experiments == {"cooking": run.experiment}
    assert run.metrics == [
        ("train/loss", 2.0, 2000, 1),
        ("train/loss", 1.0, 3000, 2),
        ("test/loss", 1.5, 3000, 2),
        ("summary/steps", 2.0, 9000, 2),
    ]
    assert run.params == {"learning_rate": "0.1", "odd_name_": "x" * 500}
    assert (run.status, run.tags["mlflow.note.content"]) == ("FINISHED", TOLD.url)


@pytest.mark.parametrize(
    ("state", "status"), [("failed", "FAILED"), ("cancelled", "KILLED"), ("paused", "KILLED")]
)
def test_mlflow_has_one_run_of_a_resumed_one_and_each_step_once(mlflow, state, status):
    clients.tell_mlflow(Told(**{**vars(TOLD), "state": state}))
    assert [run.status for run in mlflow.runs.values()] == [status]
    clients.tell_mlflow(TOLD)
    [run] = mlflow.runs.values()
    assert run.status == "FINISHED"
    assert len({(name, step) for name, _, _, step in run.metrics}) == len(run.metrics)


def test_mlflow_takes_a_long_run_in_batches(mlflow):
    points = [(step, 2.0, {"train/loss": 1.0}) for step in range(2500)]
    clients.tell_mlflow(Told(**{**vars(TOLD), "points": points}))
    [run] = mlflow.runs.values()
    assert (len(run.metrics), run.batches) == (2501, 3 + 1)


def test_trackio_hears_it_anew(monkeypatch):
    runs = []

    def init(**given):
        run = SimpleNamespace(name=given["name"], given=given, logged=[], finished=False)
        run.log = lambda values, step: run.logged.append((step, values))
        run.delete = lambda: runs.remove(run)
        run.finish = lambda: setattr(run, "finished", True)
        runs.append(run)
        return run

    def runs_of(project):
        if not runs:
            raise ValueError(f"Project '{project}' does not exist")
        return list(runs)

    module(monkeypatch, "trackio", init=init, Api=lambda: SimpleNamespace(runs=runs_of))
    clients.tell_trackio(TOLD)
    clients.tell_trackio(TOLD)
    [run] = runs
    assert run.logged == [(step, values) for step, _, values in TOLD.points]
    assert run.given["config"]["url"] == TOLD.url
    assert (run.given["config"]["state"], run.finished) == ("succeeded", True)


def measure(run: Run, rows, token: int = 1) -> None:
    for step, split, values in rows:
        Metric.objects.create(
            run=run, step=step, split=split, values=values, time=MOMENT, lease_token=token
        )


@pytest.fixture
def failed(round) -> Run:
    lease = claim()
    rows = [(1, "train", {"loss": 2.0, "note": "x", "bad": None}), (2, "train", {"loss": 1.0})]
    measure(lease.run, [*rows, (2, "test", {"loss": 1.5})])
    lease.run.fail(token=1, reason="it broke")
    return Run.objects.select_related("project", "round__base").get(pk=lease.run.pk)


@pytest.mark.django_db
def test_of_a_run_the_figures_and_the_recipe_are_told_and_no_text(failed, settings):
    settings.SITE_URL = "https://site.example"
    told = told_of(failed, failed.round)
    assert told.url == "https://site.example/p/cooking/rounds/1/"
    assert (told.state, told.kind) == ("failed", "sft")
    assert told.config["learning_rate"] == failed.config["train"]["learning_rate"]
    seconds = MOMENT.timestamp()
    assert told.points == [
        (1, seconds, {"train/loss": 2.0}),
        (2, seconds, {"train/loss": 1.0, "test/loss": 1.5}),
    ]


@pytest.fixture
def stand_in(tmp_path, monkeypatch, settings):
    """A module `trackio` for the process in which the client works."""
    settings.TRACKERS = ["trackio"]
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SECRET_KEY", "the site's own")

    def write(source: str) -> None:
        (tmp_path / "trackio.py").write_text(source)

    return write


RECORDS = """
import json, os
class Api:
    def runs(self, project):
        return []
class Run:
    def log(self, values, step):
        print(json.dumps([step, values]), file=open("told.jsonl", "a"))
    def finish(self):
        print(json.dumps(["SECRET_KEY" in os.environ]), file=open("told.jsonl", "a"))
def init(**given):
    return Run()
"""


@pytest.mark.django_db
def test_the_client_works_in_a_process_without_the_sites_secrets(failed, stand_in, data_dir):
    stand_in(RECORDS)
    assert tell(failed) == {"trackio": ""}
    lines = (data_dir / "trackers/told.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        [1, {"train/loss": 2.0}],
        [2, {"test/loss": 1.5, "train/loss": 1.0}],
        [False],
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise OSError('no way to the server')", "OSError: no way to the server"),
        ("import time; time.sleep(60)", "no answer for 1 seconds"),
        ("import os; os._exit(9)", "its client ended and said nothing"),
    ],
)
def test_a_tracker_that_fails_is_logged_once_and_named_on_the_rounds_page(
    failed, stand_in, olga, browse, monkeypatch, caplog, source, why
):
    monkeypatch.setattr(telling, "PATIENCE", 1.0)
    stand_in(source)
    tell(failed)
    said = [record.getMessage() for record in caplog.records if "not told" in record.getMessage()]
    assert said == [f"trackio was not told of {failed}: {why}"]
    failed.refresh_from_db()
    assert (failed.state, failed.reason) == ("failed", "it broke")
    page = browse(olga).get("/p/cooking/rounds/1/").content.decode()
    assert "trackio was not told of SFT" in page and why in page


@pytest.mark.django_db
def test_one_that_fails_keeps_no_other_from_hearing(failed, stand_in, settings, data_dir):
    settings.TRACKERS = ["trackio", "tensorboard"]
    stand_in("raise OSError('no')")
    assert tell(failed) == {"trackio": "OSError: no", "TensorBoard": ""}
    [file] = (data_dir / "tensorboard/cooking/round-1/sft/train").iterdir()
    events = [scalars(payload[13:]) for payload in frames(file.read_bytes())[1:]]
    assert [each["loss"] for each in events] == [2.0, 1.0]


@pytest.mark.django_db(transaction=True)
def test_a_worker_tells_of_a_run_when_it_ends_and_not_before(round, fake_trainer, monkeypatch):
    heard = []
    monkeypatch.setattr(
        jobs, "tell_soon", lambda pk: heard.append((pk, Run.objects.get(pk=pk).state))
    )
    fake_trainer(mode="crash")
    jobs.look()
    run = round.runs.get(kind=Run.Kind.SFT)
    assert heard == [(run.pk, "failed")]


@pytest.mark.django_db(transaction=True)
def test_it_does_so_beside_its_work(round, fake_trainer, settings, data_dir):
    settings.TRACKERS = ["tensorboard"]
    fake_trainer(mode="crash")
    jobs.look()
    run = round.runs.get(kind=Run.Kind.SFT)
    until = time.monotonic() + 30
    while run.tracking != {"TensorBoard": ""}:
        assert time.monotonic() < until, f"waited in vain: {run.tracking}"
        time.sleep(0.02)
        run.refresh_from_db()
    assert list((data_dir / "tensorboard/cooking/round-1/sft/train").iterdir())


@pytest.mark.django_db
def test_what_goes_on_is_not_told(round, stand_in):
    stand_in("raise OSError('nobody should hear this')")
    assert tell(claim().run) == {}


@pytest.mark.django_db
def test_a_round_is_told_again_by_a_command(failed, stand_in, settings, capsys):
    stand_in("raise OSError('no')")
    with pytest.raises(CommandError, match="Not all was told"):
        call_command("track", "cooking", "1")
    stand_in(RECORDS)
    call_command("track", "cooking", "1")
    assert "trackio: told" in capsys.readouterr().out
    failed.refresh_from_db()
    assert failed.tracking == {"trackio": ""}
    settings.TRACKERS = []
    with pytest.raises(CommandError, match="TRACKERS names nobody"):
        call_command("track", "cooking", "1")


def test_a_client_that_is_not_installed_is_said_before_a_command_runs(settings, monkeypatch):
    settings.TRACKERS = ["wandb", "tensorboard"]
    monkeypatch.setattr(telling, "find_spec", lambda name: None)
    said = [str(each) for each in run_checks() if each.id == "rlhf.W001"]
    assert len(said) == 1
    assert "the client of Weights & Biases is not installed" in said[0]
    assert "pip install 'feedback-site[wandb]'" in said[0]
    settings.TRACKERS = []
    assert not [each for each in run_checks() if each.id == "rlhf.W001"]
