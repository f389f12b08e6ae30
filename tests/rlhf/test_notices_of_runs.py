"""What operators are told of a run: that it came to a halt, once."""

import pytest

from annotate.models import Notice
from rlhf.models import Run
from rlhf.models.leases import claim

ENDS = {
    "succeed": ({"summary": {}}, "Round 1: SFT has ended"),
    "fail": ({"reason": "out of memory"}, "Round 1: SFT has failed: out of memory"),
    "pause": ({"reason": "disk full"}, "Round 1: SFT is paused: disk full"),
}


@pytest.mark.parametrize("how", ENDS)
def test_each_halt_of_a_run_tells_its_operators_once(round, how):
    fields, said = ENDS[how]
    lease = claim()
    assert not Notice.objects.exists(), "that it began is no news"
    run = Run.objects.get(pk=lease.run.pk)
    assert getattr(run, how)(token=lease.token, **fields)
    assert not getattr(run, how)(token=lease.token, **fields), "a second time"
    notice = Notice.objects.get()
    assert (notice.person.username, notice.subject) == ("olga", said)
    assert notice.link == "/p/cooking/rounds/1/"


def test_what_an_operator_cancels_is_no_news(round):
    for run in round.runs.all():
        run.request_cancel()
    assert not Notice.objects.exists()


def test_a_run_of_no_round_leads_to_its_own_page(project, olga):
    run = Run.launch(project, kind=Run.Kind.SCORECARD, config={}, by=olga)
    lease = claim()
    lease.run.fail(token=lease.token, reason="")
    notice = Notice.objects.get()
    assert notice.subject == f"Scorecard run {run.pk} has failed"
    assert notice.link == f"/p/cooking/runs/{run.pk}/"
