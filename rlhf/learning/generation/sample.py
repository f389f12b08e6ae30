"""K answers from each of several policies to every prompt: what people are going to rank.

A prompt may go on: the user's next turns follow the policy's own answers, and the last is kept.
`completions.jsonl` gets `{id, policy, index, text, seed, temperature, max_new_tokens,
finish_reason, tokens}`, and `score` and `disagreement` when there is a reward model: where its
heads disagree, people should rank. A seed belongs to one answer (run seed, policy, prompt, index),
so any answer can be had again on its own. A run that goes on keeps the batches it finds whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from accelerate import Accelerator

from rlhf.learning.contract.hyperparameters import SampledPolicy
from rlhf.learning.contract.kinds.sample import Sample
from rlhf.learning.contract.manifest import sha256
from rlhf.learning.contract.reading import read_prompts
from rlhf.learning.contract.records import Message, Prompt, content_hash
from rlhf.learning.contract.seeds import derive
from rlhf.learning.models.folders import load_policy, renderer, stop_ids
from rlhf.learning.models.scoring import RewardModel
from rlhf.learning.run.provenance import folder_hash
from rlhf.learning.run.run_folder import RunFolder, StopAsked

from .sampling import generate, uniforms

OUTPUT = "completions.jsonl"
TOLD = "completions.told"  # hash of all that its answers follow from

Rows = list[dict[str, Any]]
Batch = list[tuple[Prompt, int]]


def sample(
    folder: RunFolder, accelerator: Accelerator, stop_asked: Callable[[], bool]
) -> dict[str, Any]:
    """Writes the completions of a sampling run; returns what its outcome says.

    Raises StopAsked between two batches; a later call keeps the batches that are whole."""
    settings, models = folder.config.train, folder.config.models
    assert isinstance(settings, Sample)
    prompts = read_prompts(folder.data("train"))
    if not accelerator.is_main_process:
        return {}
    asked = [(prompt, index) for prompt in prompts for index in range(settings.k)]
    size = settings.batch_size
    batches = [asked[start : start + size] for start in range(0, len(asked), size)]
    plan = [(name, batch) for name in models.policies for batch in batches]
    folder.total_steps = len(plan)
    folder.rewind(-1, {})
    done = _done(folder, [len(batch) for _, batch in plan])
    written = 0
    with (folder.path / OUTPUT).open("a", encoding="utf-8") as output:
        fresh = _fresh(folder, plan[len(done) :], accelerator)
        for step, rows in enumerate(chain(done, fresh), 1):
            if step > len(done):
                output.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                output.flush()
            written += len(rows)
            folder.metrics(
                step,
                "final",
                {
                    "response/length": sum(row["tokens"] for row in rows) / len(rows),
                    "response/eos_rate": sum(row["finish_reason"] == "stop" for row in rows)
                    / len(rows),
                },
            )
            if len(done) < step < len(plan) and stop_asked():
                raise StopAsked
    return {"completions": written, "file": OUTPUT}


def _done(folder: RunFolder, sizes: Sequence[int]) -> list[Rows]:
    """The batches that an earlier attempt has left whole, if it was told the same; the rest of its
    output is cut off."""
    output, told = folder.path / OUTPUT, folder.path / TOLD
    config, models = folder.config, folder.config.models
    places = [*(each["path"] for each in models.policies.values()), *filter(None, [models.reward])]
    weights = [folder_hash(folder.resolve(place)) for place in places]
    rows = sha256(folder.data("train"))
    mark = content_hash({**config.as_dict(), "data": rows, "weights": weights})
    if not told.exists() or told.read_text() != mark:
        output.unlink(missing_ok=True)
        told.write_text(mark)
    lines = output.read_bytes().splitlines(keepends=True) if output.exists() else []
    done: list[Rows] = []
    start = 0
    for size in sizes:
        batch = lines[start : start + size]
        if len(batch) < size or not batch[-1].endswith(b"\n"):
            break
        done.append([json.loads(line) for line in batch])
        start += size
    if lines:
        os.truncate(output, sum(map(len, lines[:start])))
    return done


def _fresh(
    folder: RunFolder, plan: Sequence[tuple[str, Batch]], accelerator: Accelerator
) -> Iterator[Rows]:
    models, reward = folder.config.models, None
    if models.reward and plan:
        reward = RewardModel(
            folder.resolve(models.reward), accelerator.device, day=folder.config.day
        )
    for name, batches in groupby(plan, itemgetter(0)):
        yield from _answers(folder, name, [batch for _, batch in batches], reward, accelerator)


def _answers(
    folder: RunFolder,
    name: str,
    batches: Sequence[Batch],
    reward: RewardModel | None,
    accelerator: Accelerator,
) -> Iterator[Rows]:
    settings, policy = folder.config.train, folder.config.models.sampled(name)
    assert isinstance(settings, Sample)
    place = folder.resolve(policy.path)
    render = renderer(place, folder.config.day)
    lm = load_policy(place, accelerator.device).lm
    stops = stop_ids(lm, render)
    temperature = settings.temperature if policy.temperature is None else policy.temperature
    length = policy.max_new_tokens or settings.max_new_tokens
    wanted = [
        [
            (prompt, render.prompt(asked, length), index)
            for prompt, index in batch
            for asked in [Prompt(prompt.id, template(policy, prompt, name))]
        ]
        for batch in batches
    ]
    for batch in wanted:
        seeds = [derive(folder.config.seed, name, prompt.id, index) for prompt, _, index in batch]
        answers = generate(
            lm,
            [ids for _, ids, _ in batch],
            uniforms(seeds, length),
            temperature,
            stops,
            render.pad,
        )
        texts = [render.text(answer.ids) for answer in answers]
        talks = [[*prompt.messages] for prompt, _, _ in batch]
        for turn in range(max(len(prompt.then) for prompt, _, _ in batch)):
            going_on = [i for i, (prompt, _, _) in enumerate(batch) if turn < len(prompt.then)]
            for i in going_on:
                talks[i] += [
                    {"role": "assistant", "content": texts[i]},
                    {"role": "user", "content": batch[i][0].then[turn]},
                ]
            asked = [Prompt(batch[i][0].id, tuple(talks[i])) for i in going_on]
            said = generate(
                lm,
                [
                    render.prompt(Prompt(each.id, template(policy, each, name)), length)
                    for each in asked
                ],
                uniforms([derive(seeds[i], turn + 1) for i in going_on], length),
                temperature,
                stops,
                render.pad,
            )
            for i, answer in zip(going_on, said, strict=True):
                answers[i], texts[i] = answer, render.text(answer.ids)
        rows: Rows = [
            {
                "id": prompt.id,
                "policy": name,
                "index": index,
                "text": text,
                "seed": seed,
                "temperature": temperature,
                "max_new_tokens": length,
                "finish_reason": "stop" if answer.finished else "length",
                "tokens": len(answer.ids),
            }
            for (prompt, _, index), text, seed, answer in zip(
                batch, texts, seeds, answers, strict=True
            )
        ]
        if reward:
            scores, disagreement = reward.opinions(
                [prompt for prompt, _, _ in batch], texts, [answer.finished for answer in answers]
            )
            for row, score, apart in zip(rows, scores.tolist(), disagreement.tolist(), strict=True):
                row |= {"score": score, "disagreement": apart}
        yield rows


def template(policy: SampledPolicy, prompt: Prompt, name: str = "") -> tuple[Message, ...]:
    """System prompt (joined with the prompt's own, if any), examples, then the prompt itself with
    its last message in the policy's format, behind what the policy of this name reads. As the
    product's chat does it."""
    own = [turn["content"] for turn in prompt.messages if turn["role"] == "system"]
    instructions = "\n\n".join(filter(None, [policy.system_prompt, *own]))
    system = [{"role": "system", "content": instructions}] if instructions else []
    *turns, asked = [turn for turn in prompt.messages if turn["role"] != "system"]
    if policy.prompt_format:
        content = policy.prompt_format.replace("{prompt}", asked["content"])
        asked = {**asked, "content": content}
    if reads := prompt.reads.get(name):
        asked = {**asked, "content": reads + asked["content"]}
    return (*system, *policy.few_shot, *turns, asked)
