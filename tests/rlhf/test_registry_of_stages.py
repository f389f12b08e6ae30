"""Every kind of run is a stage, and a stage has all that the rooms ask of it."""

import dataclasses
import re
from types import SimpleNamespace

import pytest

from rlhf import stages
from rlhf.data.checks import check_rankings
from rlhf.learning.contract.config import Data
from rlhf.learning.contract.kinds import KINDS as TOLD
from rlhf.models import Run
from rlhf.rounds.preflight import resources_of
from rlhf.rounds.settings import stage_configs
from rlhf.stages import DEFAULT_TRAININGS, STAGES, TRAININGS, in_order
from rlhf.stages.stage import Stage
from rlhf.stages.training import Training

KINDS = list(Run.Kind)
GB = 10**9


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_is_one_stage_that_knows_its_own_kind(kind):
    assert STAGES[kind].kind == kind
    assert STAGES[kind].label == kind.label


def test_there_is_no_stage_without_a_kind():
    assert set(STAGES) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_prepares_and_concludes(kind):
    stage = STAGES[kind]
    for verb in ("prepare", "conclude"):
        assert getattr(type(stage), verb) is not getattr(Stage, verb), verb


@pytest.mark.parametrize("kind", TRAININGS)
def test_every_training_says_all_that_pages_and_trainers_ask_of_it(kind):
    stage = TRAININGS[kind]
    assert type(stage).collect is not Training.collect
    assert stage.hint and stage.learnt_from and stage.charts
    assert "then resume the run." in stage.without_data
    assert {"train", "test"} <= set(stage.data_files) <= {f.name for f in dataclasses.fields(Data)}
    assert stage.makes_policy != stage.makes_reward_model
    assert stage.reads_rankings == (check_rankings in stage.label_checks)
    assert TOLD[kind].settings, "it has hyperparameters"


@pytest.mark.parametrize("kind", TRAININGS)
def test_the_page_of_a_new_round_shows_what_the_stage_counts(
    kind, project, base, olga, browse, labels
):
    page = browse(olga).get(f"/p/{project.slug}/rounds/new/", {"base": base.pk, "stages": [kind]})
    text = " ".join(page.text.split()).partition('id="estimate-title"')[0]
    shown = re.findall(r"<dt> ?(?:<a [^>]*>)?([^<]+?)(?:</a>)? ?</dt>", text)
    for each in TRAININGS[kind].shows:
        assert each.name in page.context["checks"].counts
    assert shown == [
        *("Demonstrations", "Rankings", "Comparisons", "Prompts"),
        *(each.label for each in TRAININGS[kind].shows),
        "Held out",
    ]


@pytest.mark.parametrize("kind", TRAININGS)
@pytest.mark.parametrize("size", ["tiny", "small", "large"])
def test_every_training_has_a_recipe_and_takes_memory_and_disk(kind, size):
    configs = stage_configs([kind], size, {})
    assert (Run.Kind.EVALUATE in configs) == TRAININGS[kind].makes_policy
    needed = resources_of(10**9, 4, {kind: configs[kind]})
    assert needed.memory > GB and needed.disk > GB


@pytest.mark.parametrize("kind", [kind for kind in STAGES if kind not in TRAININGS])
def test_a_stage_that_trains_nothing_takes_nothing(kind):
    needed = resources_of(10**9, 4, {kind: {"train": {}}})
    assert (needed.memory, needed.disk) == (0, 0)


def test_a_policy_that_learns_from_a_reward_model_comes_after_it():
    order = list(TRAININGS)
    makers = [order.index(kind) for kind, each in TRAININGS.items() if each.makes_reward_model]
    for kind in Run.BY_REWARD_MODEL:
        assert order.index(kind) > max(makers)
        assert TRAININGS[kind].by_reward_model


def test_what_is_trained_by_default_are_trainings_in_order():
    assert in_order(reversed(DEFAULT_TRAININGS)) == list(DEFAULT_TRAININGS)


UNKNOWN = SimpleNamespace(run=SimpleNamespace(kind="sfd", seed=0))


@pytest.mark.parametrize(
    "ask",
    [
        lambda: in_order(["sft", "sfd"]),
        lambda: in_order(["evaluate", "sfd"]),
        lambda: stage_configs(["sfd"], "tiny", {}),
        lambda: resources_of(10**9, 4, {"sfd": {"train": {}, "tune": {"mode": "full"}}}),
        lambda: stages.prepare(UNKNOWN),
        lambda: stages.conclude(UNKNOWN, {}),
    ],
)
def test_an_unknown_kind_is_named_and_never_taken_for_another(ask):
    with pytest.raises((KeyError, ValueError), match="sfd"):
        ask()


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"train": 1}, "1 ranking to learn from"),
        (
            {"train": 2, "test": 1, "calibration": 1, "demonstrations": 0},
            "2 rankings to learn from, 1 held out, 1 demonstration to calibrate",
        ),
        (
            {"calibration": 2, "demonstrations": 3},
            "2 demonstrations to calibrate, 3 demonstrations mixed in",
        ),
        ({}, ""),
    ],
)
def test_one_row_is_said_in_the_singular(counts, said):
    assert TRAININGS[Run.Kind.REWARD].reads(counts) == said
