"""From an import to a promotion with a training that is really done, by two clients: ours, and one
that `openapi-python-client` makes from the schema, where that program is installed."""

from __future__ import annotations

import importlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.conf import settings
from drf_spectacular.generators import SchemaGenerator
from feedback_site_client import Client, calls, tables

from annotate.models import Policy, User
from rlhf.models.leases import claim
from rlhf.runs.supervisor import supervise
from tests.learning.conftest import make_base
from tests.rlhf.test_client import token_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

ROWS = [{"prompt": f"How do I cook dish {n}?", "completion": f"Boil dish {n}."} for n in range(16)]
FRESH = [{"prompt": f"What is soup {n}?"} for n in range(3)]
SHORT = {"sft": {"train": {"epochs": 1, "sample_prompts": 1, "max_new_tokens": 8}}}
GENERATOR = shutil.which("openapi-python-client")


@pytest.fixture
def toy(policy: Policy, data_dir: Path) -> Policy:
    row = {"prompt": [{"role": "user", "content": "Any dish?"}], "completions": ["Boil rice."]}
    (data_dir / "corpus.jsonl").write_text(f"{json.dumps(row)}\n" * 8)
    make_base(data_dir / "models/toy", data_dir / "corpus.jsonl")
    policy.folder = "models/toy"
    policy.save()
    return policy


def train() -> None:
    """What a worker does, until nothing waits."""
    while lease := claim():
        supervise(lease, Event())


def lies_there(name: str) -> bool:
    folder = settings.DATA_DIR / Policy.objects.get(name=name).folder
    return (folder / "model.safetensors").stat().st_size > 0


def test_our_client_trains_a_policy_and_promotes_it(
    live_server: Any, olga: User, alice: User, toy: Policy, model_server: Any
) -> None:
    with Client(live_server.url, token_of(olga)) as site:
        assert tables.bring(site, ROWS)["new"]["demonstrations"] == len(ROWS)
        tables.bring(site, FRESH)
        asked = [each["id"] for each in site.every(calls.list_prompts(words="soup"))]
        assert site.send(calls.open_tasks("write", asked))["opened"] == len(FRESH)
    with Client(live_server.url, token_of(alice)) as labeler:
        while work := labeler.send(calls.next_assignment("write")):
            labeler.send(calls.submit_label(work["id"], text="A warm meal."))
    with Client(live_server.url, token_of(olga)) as site:
        chosen: Any = {"base": toy.pk, "stages": ["sft"], "recipe": "tiny", "settings": SHORT}
        stage = site.send(calls.plan_round(**chosen))["planned"][0]
        assert sum(stage["lines"].values()) == len(ROWS) + len(FRESH)
        number = site.send(calls.launch_round(**chosen))["number"]
        train()
        *_, ended = site.watch_round(number, every=0.1)
        assert ended["state"] == "succeeded", ended
        run = next(each for each in ended["runs"] if each["kind"] == "sft")
        losses = [row["values"] for row in site.send(calls.list_metrics(run["id"]))["rows"]]
        assert losses and run["summary"]["policy"] == "r1-sft" and lies_there("r1-sft")
        made = next(p for p in site.every(calls.list_policies()) if p["name"] == "r1-sft")
        site.send(calls.promote(made["id"], "It learnt.", override="A test."))
        live = [p["name"] for p in site.every(calls.list_policies()) if p["state"] == "live"]
        assert live == ["r1-sft"]


@pytest.mark.skipif(GENERATOR is None, reason="openapi-python-client is not installed")
def test_a_client_made_from_the_schema_trains_a_policy_and_promotes_it(
    live_server: Any,
    olga: User,
    alice: User,
    toy: Policy,
    model_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = generated(tmp_path, monkeypatch)
    models = importlib.import_module("made.models")
    types = importlib.import_module("made.types")
    clients = importlib.import_module("made.client")

    def client(user: User) -> Any:
        token = token_of(user)
        return clients.AuthenticatedClient(live_server.url, token, raise_on_unexpected_status=True)

    operator, labeler = client(olga), client(alice)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    file = types.File(io.BytesIO(lines.encode()), "rows.jsonl", "application/jsonl")
    upload = made("create_import", operator, body=models.NewImport(file=file))
    done = made("run_import", operator, upload.id, body=models.RunImport())
    assert done.new["demonstrations"] == len(ROWS)
    for row in FRESH:
        said = {"messages": [{"role": "user", "content": row["prompt"]}]}
        made("create_prompt", operator, body=models.NewPrompt.from_dict(said))
    found = made("list_prompts", operator, words="soup").results
    asked = models.TasksRequest(
        kind=models.TasksRequestKindEnum.WRITE, prompts=[p.id for p in found]
    )
    assert made("open_tasks", operator, body=asked).opened == len(FRESH)
    for _ in FRESH:
        work = made("next_assignment", labeler, body=models.NextRequest())
        made("submit_label", labeler, work.id, body=models.LabelRequest(text="A warm meal."))
    chosen = models.NewRound.from_dict(
        {"base": toy.pk, "stages": ["sft"], "recipe": "tiny", "settings": SHORT}
    )
    number = made("launch_round", operator, body=chosen).number
    train()
    assert made("retrieve_round", operator, number).state == "succeeded"
    policies = made("list_policies", operator).results
    best = next(each for each in policies if each.name == "r1-sft")
    assert lies_there("r1-sft")
    decision = models.PromotionRequest(reason="It learnt.", override="A test.")
    assert made("promote_policy", operator, best.id, body=decision).policy == "r1-sft"


def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a client; returns what calls an operation of it by name."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    (tmp_path / "names.yml").write_text("package_name_override: made\n")
    assert GENERATOR
    command = [GENERATOR, "generate", "--path", "schema.json", "--config", "names.yml"]
    command += ["--meta", "none", "--output-path", "made"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "made"]:
        monkeypatch.delitem(sys.modules, name)
    package = importlib.import_module("made.api")
    rooms = [each.name for each in Path(package.__path__[0]).iterdir() if each.is_dir()]

    def call(operation: str, client: Any, *args: Any, **kwargs: Any) -> Any:
        room = next(r for r in rooms if (tmp_path / f"made/api/{r}/{operation}.py").exists())
        answer = importlib.import_module(f"made.api.{room}.{operation}").sync_detailed(
            *args, client=client, **kwargs
        )
        assert answer.status_code < 300, answer.content
        return answer.parsed

    return call
