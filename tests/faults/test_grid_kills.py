"""Workers that ask the cells of a playground grid, killed in the middle."""

from collections import Counter

import pytest

from annotate.models import Grid
from annotate.playground.grids import Column
from tests.faults.conftest import sized
from tests.rlhf.conftest import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_killed_worker_loses_no_cell_and_none_is_asked_twice(
    project, olga, live, model_server, hire
):
    """Each prompt is another, so that the server knows who asks it again."""
    rows = sized(short=25, long=200)
    prompts = [f"Prompt {number}" for number in range(rows)]
    columns = [Column(live.pk, system_prompt=f"Column {number}") for number in range(4)]
    grid = Grid.lay_out(project=project, author=olga, prompts=prompts, columns=columns)
    worker = hire("label", INFERENCE_URL=model_server.url)
    wait_for(lambda: grid.cells.answered().count() >= rows, 240)
    worker.kill()
    worker.wait()
    assert not all_over(grid), "it must be killed in the middle"
    hire("label", INFERENCE_URL=model_server.url)
    wait_for(lambda: not grid.cells.waiting().exists(), 240)
    wait_for(lambda: all_over(grid), 240)  # the lease of what was just being asked has to lapse
    asked = Counter(
        (each["messages"][0]["content"], each["messages"][1]["content"])
        for each in model_server.asked
    )
    assert set(asked.values()) == {1}
    states = Counter(grid.cells.values_list("state", flat=True))
    assert set(states) <= {"answered", "interrupted"}
    assert states["interrupted"] <= 2, "as many as are asked at once"
    grid.cells.ask_again()
    wait_for(lambda: grid.cells.answered().count() == rows * 4, 240)


def all_over(grid: Grid) -> bool:
    return not grid.cells.unfinished().exists()
