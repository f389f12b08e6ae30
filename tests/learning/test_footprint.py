"""The plan for 7 billion weights: the table in the docs is what tensors without data take."""

import pytest

from rlhf.data.resources import Networks, training_resources
from rlhf.learning.contract.hyperparameters import Tune
from tests.learning.conftest import ROOT

LAYERS, WIDTH, INNER, WORDS = 32, 4096, 11008, 32000
A_LAYER = 4 * WIDTH**2 + 3 * WIDTH * INNER + 2 * WIDTH
PARAMETERS = LAYERS * A_LAYER + 2 * WORDS * WIDTH + WIDTH
FLOAT = 4


@pytest.fixture
def footprint(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import footprint

    return footprint


def test_the_table_in_the_docs_is_what_is_counted(footprint):
    options = footprint.arguments().parse_args([])
    assert footprint.table(options) in (ROOT / "docs/operations.md").read_text()


def test_the_counts_are_those_of_the_arithmetic(footprint):
    full = footprint.Footprint(Tune(), footprint.LLAMA_7B)
    assert full.weights == full.learns == PARAMETERS * FLOAT
    assert full.cache(1, 1) == 2 * LAYERS * WIDTH * FLOAT
    # Of bf16: attention's input, queries, keys, values and answer, the inner layer's three; of
    # fp32 the sums between them. Each weight is cast once.
    casts = 2 * (PARAMETERS - 2 * WORDS * WIDTH)
    a_token = LAYERS * (2 * (5 * WIDTH + 4 * INNER) + 4 * 4 * WIDTH)
    assert full.kept(1, 2048) == pytest.approx(casts + 2048 * a_token, rel=0.15)
    # Twice the rows, and as many casts.
    one, two = (full.kept(rows, 512) - casts for rows in (1, 2))
    assert two == pytest.approx(2 * one, rel=0.02)


def test_an_adapter_has_two_thin_matrices_beside_each_product(footprint):
    lora = footprint.Footprint(Tune(mode="lora", rank=16), footprint.LLAMA_7B)
    thin = 4 * 2 * WIDTH + 3 * (WIDTH + INNER)
    assert lora.learns == LAYERS * 16 * thin * FLOAT
    assert lora.weights - lora.learns == PARAMETERS * FLOAT


def test_preflight_reckons_with_the_same_bytes(footprint):
    config = {"tune": {"mode": "full", "layers": 0}, "train": {}}
    one = training_resources(PARAMETERS, LAYERS, config, Networks())
    assert one.memory == PARAMETERS * FLOAT * (2 + footprint.MOMENTS)
