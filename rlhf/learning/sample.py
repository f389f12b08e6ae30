"""K answers from each of several policies to every prompt: what people are going to rank.

`completions.jsonl` gets `{id, policy, index, text, seed, temperature, max_new_tokens,
finish_reason, tokens}`, and `score` and `disagreement` when there is a reward model: where its
heads disagree, people should rank. A seed belongs to one answer (run seed, policy, prompt, index),
so any answer can be had again on its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from accelerate import Accelerator

from .config import SampledPolicy
from .folders import load_policy, renderer, stop_ids
from .hyperparameters import Sample
from .records import Message, Prompt, read_prompts
from .run_folder import RunFolder, StopAsked
from .sampling import derive, generate, uniforms
from .scoring import RewardModel

OUTPUT = "completions.jsonl"


def sample(
    folder: RunFolder, accelerator: Accelerator, stop_asked: Callable[[], bool]
) -> dict[str, Any]:
    settings, models = folder.config.train, folder.config.models
    assert isinstance(settings, Sample)
    prompts = read_prompts(folder.data("train"))
    if not accelerator.is_main_process:
        return {}
    reward = None
    if models.reward:
        reward = RewardModel(folder.resolve(models.reward), accelerator.device)
    batches = math.ceil(len(prompts) * settings.k / settings.batch_size)
    folder.total_steps = len(models.policies) * batches
    step = written = 0
    folder.rewind(-1, {})
    with (folder.path / OUTPUT).open("w", encoding="utf-8") as output:
        for name in models.policies:
            for rows in _answers(folder, name, prompts, reward, accelerator):
                output.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                output.flush()
                step, written = step + 1, written + len(rows)
                folder.metrics(
                    step,
                    "final",
                    {
                        "response/length": sum(row["tokens"] for row in rows) / len(rows),
                        "response/eos_rate": sum(row["finish_reason"] == "stop" for row in rows)
                        / len(rows),
                    },
                )
                if stop_asked():
                    raise StopAsked
    return {"completions": written, "file": OUTPUT}


def _answers(
    folder: RunFolder,
    name: str,
    prompts: list[Prompt],
    reward: RewardModel | None,
    accelerator: Accelerator,
) -> Iterator[list[dict[str, Any]]]:
    settings, policy = folder.config.train, folder.config.sampled_policy(name)
    assert isinstance(settings, Sample)
    place = folder.resolve(policy.path)
    render = renderer(place)
    lm = load_policy(place, accelerator.device).lm
    stops = stop_ids(lm, render)
    temperature = settings.temperature if policy.temperature is None else policy.temperature
    length = policy.max_new_tokens or settings.max_new_tokens
    wanted = [
        (prompt, render.prompt(Prompt(prompt.id, template(policy, prompt)), length), index)
        for prompt in prompts
        for index in range(settings.k)
    ]
    for start in range(0, len(wanted), settings.batch_size):
        batch = wanted[start : start + settings.batch_size]
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
        rows: list[dict[str, Any]] = [
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


def template(policy: SampledPolicy, prompt: Prompt) -> tuple[Message, ...]:
    """System prompt (joined with the prompt's own, if any), examples, then the prompt itself with
    its last message in the policy's format. As the product's chat does it."""
    own = [turn["content"] for turn in prompt.messages if turn["role"] == "system"]
    instructions = "\n\n".join(filter(None, [policy.system_prompt, *own]))
    system = [{"role": "system", "content": instructions}] if instructions else []
    *turns, asked = [turn for turn in prompt.messages if turn["role"] != "system"]
    if policy.prompt_format:
        content = policy.prompt_format.replace("{prompt}", asked["content"])
        asked = {**asked, "content": content}
    return (*system, *policy.few_shot, *turns, asked)
