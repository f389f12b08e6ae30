"""A policy is sampled alike wherever it speaks: the chat's request to the model server and the
sampler give every token the same probability, whatever the folder's generation config says."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytest_django import Settings
from transformers import GenerationConfig
from transformers.cli.serving.chat_completion import ChatCompletionHandler

from annotate.chat import inference
from annotate.models import Policy
from rlhf.learning.generation.sampling import draw
from rlhf.learning.models import base, folders

ODD = {
    "do_sample": False,
    "top_k": 1,
    "top_p": 0.3,
    "min_p": 0.2,
    "typical_p": 0.4,
    "epsilon_cutoff": 0.1,
    "eta_cutoff": 0.1,
    "repetition_penalty": 1.7,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 4,
    "num_beams": 2,
}
QUESTION = [{"role": "user", "content": "How do I boil an egg?"}]


@pytest.fixture(scope="module")
def odd_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "odd"
    base.prepare("tiny", folder)
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**config, **ODD}))
    return folder


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_chat_and_sampler_give_every_token_the_same_probability(
    odd_base: Path, settings: Settings, temperature: float
) -> None:
    settings.DATA_DIR = odd_base.parent
    settings.INFERENCE_URL = "http://127.0.0.1:1/v1"
    policy = Policy(name="odd", folder="odd", temperature=temperature, max_new_tokens=5)
    _, request = inference._request(policy, QUESTION, stream=False)
    lm = folders.load_policy(odd_base).lm
    handler = ChatCompletionHandler.__new__(ChatCompletionHandler)
    handler.generation_state = SimpleNamespace(_compile=False)  # type: ignore[assignment]
    served = handler._build_generation_config(
        request["json"], GenerationConfig.from_pretrained(odd_base)
    )
    render = folders.renderer(odd_base)
    ids = torch.tensor([render.messages(request["json"]["messages"])])
    torch.manual_seed(0)
    out = lm.generate(
        ids, generation_config=served, output_scores=True, return_dict_in_generate=True
    )
    assert sorted(served.eos_token_id) == folders.stop_ids(lm, render)
    for step, scores in enumerate(out.scores):
        with torch.no_grad():
            logits = lm(out.sequences[:, : ids.shape[1] + step]).logits[:, -1]
        theirs = scores.softmax(-1)
        chosen, logprobs = draw(logits.repeat(200, 1), torch.rand(200), temperature)
        assert (theirs > 0).all()
        ours = theirs[0, chosen].log()
        torch.testing.assert_close(ours, logprobs, atol=1e-4, rtol=1e-4)


def test_a_base_that_is_prepared_samples_plainly(odd_base: Path, tmp_path: Path) -> None:
    base.prepare(str(odd_base), tmp_path / "prepared")
    config = json.loads((tmp_path / "prepared/generation_config.json").read_text())
    assert not (ODD.keys() - {"do_sample", "top_k", "top_p", "num_beams"}) & {
        name for name, value in config.items() if value not in (None, 1.0)
    }
    assert (config["top_k"], config["top_p"], config["do_sample"]) == (0, 1.0, True)
    render = folders.renderer(tmp_path / "prepared")
    assert set(config["eos_token_id"]) == render.ends
