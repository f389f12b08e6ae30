"""Which machine does what, what waits, in which order; and machines that take nothing."""

from datetime import timedelta
from threading import Event

import pytest
from django.utils import timezone

from annotate.models import Policy, Project
from rlhf import jobs
from rlhf.models import Machine, Round, Run
from rlhf.models.leases import claim
from rlhf.rounds.launch import launch_round
from rlhf.rounds.settings import Launch
from rlhf.runs import machine_figures as measuring
from rlhf.runs.machine_figures import machine_figures, read_gpu
from rlhf.runs.queue import move, queue

pytestmark = pytest.mark.django_db
PAGE = "/p/cooking/rounds/queue/"
A_GPU = "1, NVIDIA H200, 37, 2048, 143771"


@pytest.fixture
def three(project, base, labels, olga) -> list[Round]:
    return [launch_round(project, Launch(base=base, recipe="tiny"), by=olga) for _ in range(3)]


def machine(slot: str = "gpu1/0", **fields) -> Machine:
    return Machine.objects.create(slot=slot, seen_at=timezone.now(), **fields)


def order() -> list[int]:
    return [run.round.number for run in queue().waiting if run.round]


@pytest.mark.parametrize(
    ("number", "by", "after"),
    [
        (3, -1, [1, 3, 2]),
        (3, -2, [3, 1, 2]),
        (1, 1, [2, 1, 3]),
        (1, -1, None),
        (3, 1, None),
    ],
)
def test_a_waiting_round_moves_by_so_many_places(three, number, by, after):
    run = Run.objects.get(round__number=number, position=0)
    assert move(run, by=by) == (after is not None)
    assert order() == (after or [1, 2, 3])


def test_later_stages_go_with_their_round_and_keep_their_turn(three):
    """Round 1 works; its next stage still comes before what was launched after it."""
    first = claim(Run.objects.get(round__number=1, position=0).pk)
    assert move(Run.objects.get(round__number=3, position=0), by=-1)
    first.run.succeed(token=first.token, summary={})
    assert order() == [1, 3, 2]
    done = Run.launch(three[0].project, kind=Run.Kind.SCORECARD, config={}, by=None)
    done.request_cancel()
    assert not move(done, by=-1), "what is over does not wait"


def test_the_page_shows_all_kinds_of_runs_and_moves_them(three, project, olga, browse):
    Run.launch(project, kind=Run.Kind.SCORECARD, config={}, by=olga)
    client = browse(olga)
    page = " ".join(client.get(PAGE).content.decode().split())
    assert page.index("Round 1</a>, SFT") < page.index("Round 3</a>, SFT") < page.index("Scorecard")
    card = Run.objects.get(kind=Run.Kind.SCORECARD)
    client.post(PAGE, {"act": "up", "run": card.pk})
    assert [run.pk for run in queue().waiting][2] == card.pk
    said = client.post(PAGE, {"act": "nonsense", "run": card.pk}, follow=True)
    assert "Nothing was changed" in said.content.decode()
    last = queue().waiting[-1]
    said = client.post(PAGE, {"act": "down", "run": last.pk}, follow=True)
    assert "Nothing was changed" in said.content.decode()


def test_what_another_project_trains_has_no_name_and_cannot_be_moved(three, browse, olga):
    other = Project.objects.create(name="Elsewhere", slug="elsewhere-2")
    secret = Policy.objects.create(project=other, name="secret")
    round = Round.objects.create(
        project=other, number=77, recipe="tiny", base=secret, launched_by=olga
    )
    run = Run.objects.create(project=other, round=round, kind="sft", launched_by=olga)
    page = browse(olga).get(PAGE).content.decode()
    assert "A run of another project" in page and "Round 77" not in page
    assert browse(olga).post(PAGE, {"act": "up", "run": run.pk}).status_code == 404


@pytest.mark.parametrize("takes", ["nothing", "nothing_new"])
def test_a_machine_that_takes_nothing_claims_nothing(three, takes):
    machine(takes=takes)
    assert claim(slot="gpu1/0") is None
    lease = claim(slot="gpu1/1")
    assert lease, "another GPU of the same host does"
    Machine.objects.update(takes="any")
    assert claim(slot="gpu1/0")


def test_a_machine_is_drained_paused_and_opened_from_the_page(three, browse, olga):
    here = machine(figures={"cpu": 0.5, "cores": 8, "memory": [2**30, 2**32], "gpus": []})
    client = browse(olga)
    page = client.get(PAGE).content.decode()
    assert "gpu1/0" in page and "takes runs" in page and "50% of 8 cores" in page
    for act, takes in (("drain", "nothing_new"), ("pause", "nothing"), ("open", "any")):
        client.post(PAGE, {"act": act, "machine": here.pk})
        here.refresh_from_db()
        assert here.takes == takes
    assert client.post(PAGE, {"act": "pause", "machine": "x"}).status_code == 404


def test_a_machine_shows_its_run_and_one_that_is_silent_says_so(three, browse, olga):
    machine()
    lease = claim(slot="gpu1/0")
    [place] = queue().places
    assert place.run == lease.run and place.is_here
    Machine.objects.update(seen_at=timezone.now() - timedelta(minutes=5))
    assert "not responding" in browse(olga).get(PAGE).content.decode()
    Machine.objects.update(seen_at=timezone.now() - timedelta(days=2))
    assert not queue().places and queue().elsewhere == [lease.run], "it is still said to work"


def test_a_report_says_what_there_is_and_hears_of_the_pause(monkeypatch):
    monkeypatch.setattr(jobs, "close_old_connections", lambda: None)  # within a transaction
    monkeypatch.setattr(jobs, "slot", "here/1")
    monkeypatch.setattr(measuring, "_gpus", lambda: [read_gpu(A_GPU)])
    jobs.report()
    [here] = Machine.objects.all()
    assert here.slot == "here/1" and here.figures["gpus"][0]["load"] == 0.37
    assert 0 < here.figures["memory"][0] < here.figures["memory"][1]
    assert not jobs.stop.is_set()
    here.take(Machine.Takes.NOTHING)
    jobs.report()
    assert jobs.stop.is_set() and not jobs.leaving.is_set() and not jobs.look()
    here.take(Machine.Takes.NOTHING_NEW)
    jobs.report()
    assert not jobs.stop.is_set(), "what runs there is finished"


def test_gpus_are_read_from_the_driver_and_only_ours_is_reported(monkeypatch):
    assert read_gpu(A_GPU) == {
        "index": "1",
        "name": "NVIDIA H200",
        "load": 0.37,
        "memory": [2**31, 143771 * 2**20],
    }
    for odd in ("", "0, NVIDIA, [N/A], 1, 2", "a, b"):
        assert read_gpu(odd) is None
    both = [read_gpu(A_GPU), read_gpu(A_GPU.replace("1,", "0,", 1))]
    monkeypatch.setattr(measuring, "_gpus", lambda: both)
    assert len(machine_figures()["gpus"]) == 2
    assert [each["index"] for each in machine_figures("0")["gpus"]] == ["0"]


@pytest.mark.django_db(transaction=True)
def test_the_run_of_a_paused_machine_goes_back_in_the_queue(round, fake_trainer):
    """Saved, and no attempt lost."""
    from rlhf.runs.supervisor import supervise

    fake_trainer(steps=400, seconds=60)
    lease = claim(slot="gpu1/0")
    stop = Event()
    stop.set()
    supervise(lease, stop)
    run = Run.objects.get(pk=lease.run.pk)
    assert (run.state, run.attempts_without_progress) == ("queued", 0)
