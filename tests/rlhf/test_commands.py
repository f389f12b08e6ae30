import io
import threading
from threading import Event

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from rlhf import command_line
from rlhf.models import Round, Run
from rlhf.models.leases import claim
from rlhf.registry import promotion
from rlhf.runs.supervisor import supervise


@pytest.fixture(autouse=True)
def be_quick(monkeypatch) -> None:
    monkeypatch.setattr(command_line, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(promotion, "warm", lambda policy: None)


def manage(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=out)
    return out.getvalue()


@pytest.fixture
def worker():
    """Somebody who does what waits."""
    stop = Event()

    def work() -> None:
        while not stop.wait(0.05):
            if lease := claim():
                supervise(lease, stop)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.django_db(transaction=True)
def test_launch_round_waits_and_says_how_it_goes(project, labels, olga, fake_trainer, worker):
    said = manage("launch_round", "--project", "cooking", "--recipe", "tiny", "--wait")
    assert "Round 1 of Cooking is launched from base." in said
    assert "SFT run" in said and "evaluation run" in said
    assert said.count("Succeeded after") == 4


@pytest.mark.django_db(transaction=True)
def test_launch_round_ends_badly_when_a_stage_does(project, labels, olga, fake_trainer, worker):
    fake_trainer(mode="crash")
    with pytest.raises(CommandError, match="Failed: ValueError: the third step went wrong"):
        manage("launch_round", "--project", "cooking", "--recipe", "tiny", "--wait")


@pytest.mark.django_db(transaction=True)
def test_sample_waits_and_counts(project, base, prompts, olga, fake_trainer, worker):
    arguments = ["--project", "cooking", "--policy", "base", "--k", "2", "--split", "train"]
    said = manage("sample", *arguments, "--wait")
    assert "32 completions, 16 to rank." in said


def test_launch_round_without_labels_says_what_to_do(project, prompts, base, olga):
    with pytest.raises(CommandError) as refused:
        manage("launch_round", "--project", "cooking", "--recipe", "tiny")
    assert "There are no demonstrations yet" in str(refused.value)
    assert not Round.objects.exists()


def test_promote_and_roll_back(project, base, olga):
    project.policies.create(name="old", origin="base", folder="x").go_live()
    at = ["--project", "cooking", "--reason", "because"]
    with pytest.raises(CommandError, match="Blind win rate: people have compared it with old on 0"):
        manage("promote", *at, "--policy", "base")
    told = manage("promote", *at, "--policy", "base", "--override", "nobody is there to ask")
    assert told == "base is live instead of old.\n"
    assert manage("promote", *at, "--roll-back") == "old is live instead of base.\n"
    with pytest.raises(CommandError, match="nothing to roll back to"):
        manage("promote", *at, "--roll-back")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("launch_round --project nowhere --recipe tiny", "no project “nowhere”"),
        ("launch_round --project cooking --recipe tiny --base x", "no policy “x”"),
        ("launch_round --project cooking --recipe tiny --by alice", "alice is not an operator"),
        ("launch_round --project cooking --recipe huge", "invalid choice"),
        ("sample --project cooking --policy x --k 2", "no policy “x”. Its policies are: base"),
        ("sample --project cooking --policy base --k 99", "between 1 and 16"),
        ("promote --project cooking --policy base", "--reason"),
        ("promote --project cooking --reason x", "one of the arguments"),
    ],
)
def test_mistakes_are_told_in_words(project, prompts, base, olga, alice, arguments, told):
    with pytest.raises(CommandError, match=told):
        manage(*arguments.split())
    assert not Run.objects.exists()
