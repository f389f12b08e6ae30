"""Answers of a policy in training to a few fixed prompts, with the same randomness every time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from transformers import PreTrainedModel

from rlhf.learning.contract.hyperparameters import Speaking
from rlhf.learning.contract.records import Prompt
from rlhf.learning.contract.seeds import derive
from rlhf.learning.models.folders import stop_ids
from rlhf.learning.models.render import Renderer
from rlhf.learning.run.run_folder import RunFolder

from .sampling import generate, uniforms


class FixedPrompts:
    """The prompts that a run answers at each evaluation, those that leave room for an answer."""

    def __init__(
        self, folder: RunFolder, lm: PreTrainedModel, render: Renderer, prompts: Sequence[Prompt]
    ) -> None:
        settings = folder.config.train
        assert isinstance(settings, Speaking)
        self.folder, self.lm, self.render, self.settings = folder, lm, render, settings
        # A prompt may be learnt from though it leaves no room for the longest answer.
        room = render.context - settings.max_new_tokens
        read = ((prompt, render.messages(prompt.messages)) for prompt in prompts)
        fitting = ((prompt, ids) for prompt, ids in read if len(ids) <= room)
        self.prompts = list(islice(fitting, settings.sample_prompts))
        self.stops = stop_ids(lm, render)

    def show(self, step: int) -> None:
        """Write the answers to samples.jsonl."""
        if not self.prompts or not self.folder.writes:
            return
        settings, seed = self.settings, self.folder.config.seed
        noise_BT = uniforms(
            [derive(seed, "shown", i) for i in range(len(self.prompts))], settings.max_new_tokens
        )
        answers = generate(
            self.lm,
            [ids for _, ids in self.prompts],
            noise_BT,
            settings.temperature,
            self.stops,
            self.render.pad,
        )
        for (prompt, _), answer in zip(self.prompts, answers, strict=True):
            self.folder.sample(step, prompt.id, self.render.text(answer.ids), None, None)
