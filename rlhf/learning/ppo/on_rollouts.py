"""Learning from the policy's own answers: what PPO, RLOO and GRPO have in common.

An update answers a batch of prompts, scores the answers, says how much better than expected they
were, and passes over them once or several times. A *score* is what the reward model says of a whole
answer; a *reward* is what is left of it after the price of KL to the reference.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rlhf.learning.contract.hyperparameters import ConfigError, OnRollouts
from rlhf.learning.contract.reading import read_prompts
from rlhf.learning.contract.records import Prompt
from rlhf.learning.contract.seeds import derive
from rlhf.learning.generation.engines import (
    AdapterSync,
    Engine,
    HFEngine,
    NCCLSync,
    VLLMEngine,
    server_of,
)
from rlhf.learning.models.adapters import choose_weights
from rlhf.learning.models.folders import load_policy, renderer, stop_ids
from rlhf.learning.models.networks import PolicyNetwork, collate
from rlhf.learning.models.offload import Offloaded
from rlhf.learning.models.rewards import ComposedReward
from rlhf.learning.models.scoring import RewardFunction, RewardModel, Scorer
from rlhf.learning.publishing.writing import publish_policy
from rlhf.learning.run.optimiser import Loss
from rlhf.learning.run.run_folder import RunFolder
from rlhf.learning.run.training import Learner, by_length, endless

from .minibatch import EXTREMES, Stats, Step, add_up, step_figures
from .monitor import Monitor
from .rollout import Rollout, Sampler

Tell = Callable[[Stats], None]


class RolloutLearner(Learner):
    """An algorithm that learns from rollouts; a subclass sets the optimiser in `__init__`."""

    settings: OnRollouts
    epochs = 1  # passes over one rollout
    answers = 1  # to each prompt of a batch

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        assert isinstance(self.config.train, OnRollouts)
        self.settings = settings = self.config.train
        share = accelerator.num_processes * settings.minibatches
        if settings.batch_size % share:
            name = type(settings).__name__
            raise ConfigError(
                f"{name}.batch_size {settings.batch_size} is not a multiple of"
                f" {share} = processes x minibatches"
            )
        models, tune = self.config.models, self.config.tune
        base = folder.resolve(models.policy)
        self.render = renderer(base, self.config.day)
        self.prompts = read_prompts(folder.data("train"))
        self.test_prompts = read_prompts(folder.data("test")) if self.config.data.test else []
        for prompt in self.prompts + self.test_prompts:
            self.render.prompt(prompt, settings.max_new_tokens)
        torch.manual_seed(self.seed)
        scratch = folder.path if settings.offload_frozen else None
        scorer = self._scorer(scratch)
        reward = ComposedReward(scorer, settings)
        reward.check(self.prompts)
        self.held_out_reward = None
        if models.held_out_reward:
            held_out = folder.resolve(models.held_out_reward)
            self.held_out_reward = RewardModel(held_out, self.device, scratch, day=self.config.day)
        for judge in (scorer, self.held_out_reward):
            if isinstance(judge, RewardModel):
                judge.check(self.prompts + self.test_prompts)
        self.policy = load_policy(base, self.device, tune)
        reference = None
        if not tune.is_adapter or models.reference not in ("", models.policy):
            copy = load_policy(folder.resolve(models.reference or models.policy), self.device)
            reference = Offloaded(copy, self.device, scratch)
        self.wrapper = choose_weights(self.policy.lm, tune)
        self._prepare()
        self.sampler = Sampler(
            self.policy,
            reference,
            reward,
            self.render,
            self._engine(self.policy),
            settings,
            self.seed,
            accelerator.autocast,
            self.config.engine.importance_cap,
        )
        self.total_steps = settings.updates
        self.kl_coef = settings.kl_coef
        self.monitor = Monitor(settings, is_exact=self.is_exact)

    def _prepare(self) -> None:
        """Loads what learns beside the policy, before anything is sampled."""
        return None

    @abstractmethod
    def _judge(self, rollout: Rollout) -> dict[str, float]:
        """Sets the advantages of a rollout and returns its figures, before any learning."""

    @abstractmethod
    def _turns(
        self, rollout: Rollout, rows: Sequence[int], step: int, number: int, tell: Tell
    ) -> Sequence[Sequence[Loss]]:
        """Losses of a mini-batch, for `Optimiser.step`: optimizer step `number` of update `step`.
        Each calls `tell` with its figures."""

    def _more_sums(self, step: int) -> Sequence[str]:
        """Names of figures that the losses of this update tell beside those of the policy."""
        return ()

    def _adapt(self, numbers: dict[str, float]) -> None:
        """Changes what the next update is told, by the figures of this one."""
        return None

    @property
    def is_exact(self) -> bool:
        """Full precision: what the sampler computes is what learning computes."""
        return str(self.accelerator.mixed_precision) == "no"

    def _engine(self, policy: PolicyNetwork) -> Engine:
        settings, models = self.settings, self.config.models
        wanted = server_of(
            self.config.engine, settings.vllm_server, self.folder.resolve(models.policy)
        )
        stops = stop_ids(policy.lm, self.render)
        if wanted.name == "hf":
            return HFEngine(
                policy.lm,
                settings,
                stops,
                self.render.pad,
                self._value_head(),
                is_exact=self.is_exact,
            )
        sync: AdapterSync | NCCLSync
        if self.wrapper is None:
            sync = NCCLSync(policy.lm, wanted)
        else:
            sync = AdapterSync(self.wrapper, wanted, self.folder.path / "engine")
        return VLLMEngine(wanted, settings, stops, sync)

    def _value_head(self) -> nn.Linear | None:
        """Speaks of each token while it is sampled; None: nothing does."""
        return None

    def _refresh(self) -> None:
        """Everybody answers with the weights as they are now."""
        pushes = self.accelerator.is_main_process
        self.sampler.engine.refresh(self.optimiser.steps, pushes=pushes)
        self.accelerator.wait_for_everyone()

    def _scorer(self, scratch: Path | None) -> Scorer | None:
        models = self.config.models
        if models.reward:
            place = self.folder.resolve(models.reward)
            return RewardModel(place, self.device, scratch, day=self.config.day)
        if not models.reward_function:
            return None
        if not self.folder.allows_code:
            raise ConfigError(
                "models.reward_function runs code of yours: start the trainer with --allow-code"
            )
        return RewardFunction(models.reward_function)

    def state(self) -> dict[str, Any]:
        return {"kl_coef": self.kl_coef, "monitor": self.monitor.state()}

    def restore(self, state: dict[str, Any]) -> None:
        # Runs under way may have checkpoints with the earlier names.
        self.kl_coef = state["kl_coef"] if "kl_coef" in state else state["beta"]
        self.monitor.restore(state["monitor"] if "monitor" in state else state["watch"])

    def update(self, step: int) -> dict[str, float]:
        settings = self.settings
        started = time.perf_counter()
        # 1. Answer a batch of prompts with the policy as it is, and score the answers.
        with self.optimiser.whole():
            self._refresh()
            rollout = self._rollout(step)
            sampled = time.perf_counter()
            # 2. What was better than expected, and by how much.
            numbers = self._judge(rollout)
            if isinstance(self.sampler.engine, VLLMEngine):
                behind = self.optimiser.steps - self.sampler.engine.version
                numbers["engine/staleness"] = float(behind)
        judged = time.perf_counter()
        # 3. Learn from them, once or several times over.
        numbers |= self._learn(rollout, step)
        learnt = time.perf_counter()
        # 4. Let the price of KL follow the KL, where it does.
        numbers["objective/kl_coef"] = self.kl_coef
        self._adapt(numbers)
        if (step + 1) % settings.sample_every == 0:
            with self.optimiser.whole():
                self._refresh()
                self._show(step + 1)
        alarms = self.monitor.alarms(step + 1, numbers)
        self._say(step + 1, alarms)
        seconds = time.perf_counter() - started
        tokens = numbers["response/length"] * settings.batch_size
        return {
            **numbers,
            **alarms,
            "seconds/rollout": sampled - started,
            "seconds/judge": judged - sampled,
            "seconds/learn": learnt - judged,
            "speed/episodes_per_s": settings.batch_size / seconds,
            "speed/tokens_per_s": tokens / seconds,
        }

    def _rollout(self, step: int) -> Rollout:
        """Answers a batch of prompts: first each of them once, then each once more, and so on.

        A prompt's answers are all of one process, if the prompts are shared out evenly."""
        count = self.settings.batch_size
        prompts = count // self.answers
        chosen = self.share(endless(len(self.prompts), self.seed, step * prompts, prompts))
        numbers = self.share(range(step * count, (step + 1) * count))
        return self.sampler.rollout([self.prompts[i] for i in chosen * self.answers], numbers)

    def _say(self, step: int, alarms: dict[str, float]) -> None:
        for name in alarms:
            self.folder.say(f"update {step}: {name.removeprefix('alarm/').replace('_', ' ')}")

    def _learn(self, rollout: Rollout, step: int) -> dict[str, float]:
        """Several passes over the rollout, until the policy has moved too far from it."""
        stop_at = 1.5 * self.settings.target_kl or math.inf
        steps: list[Step] = []
        for rows in self._minibatches(step):
            steps.append(self._step(rollout, rows, step, len(steps)))
            if steps[-1].stats["policy/approx_kl"] > stop_at:
                break
        first = steps[0].stats
        is_number = math.isfinite(first["ratio/off"])  # else the step was skipped
        first_ratio, first_mean = (
            (first["ratio/deviation"], first["ratio/off"]) if is_number else (0.0, 0.0)
        )
        largest = max([0.0, *(each.stats["ratio/max"] for each in steps)])
        extremes = self.everyone(torch.tensor([[first_ratio, largest]])).amax(0).tolist()
        return {
            **step_figures(steps),
            "policy/first_ratio_deviation": extremes[0],
            "policy/first_ratio_mean": first_mean,
            "policy/ratio_max": extremes[1],
        }

    def _minibatches(self, step: int) -> Iterator[list[int]]:
        """Episodes of this process for each optimizer step of an update, shuffled every epoch."""
        settings = self.settings
        size = settings.batch_size // settings.minibatches
        for epoch in range(self.epochs):
            generator = torch.Generator().manual_seed(derive(self.seed, "minibatch", step, epoch))
            order = torch.randperm(settings.batch_size, generator=generator).tolist()
            for start in range(0, settings.batch_size, size):
                yield self.places(order[start : start + size])

    def _step(self, rollout: Rollout, rows: list[int], step: int, number: int) -> Step:
        """Optimizer step `number` of an update, on a mini-batch in micro-batches of like length."""
        heard: list[Stats] = []
        turns = self._turns(rollout, rows, step, number, heard.append)
        norms = self.optimiser.step(turns, partial(self._forward, rollout, rows[:1] or [0]))
        stats = add_up(heard, self._more_sums(step))
        names = sorted(stats.keys() - set(EXTREMES))
        sums = self.total(*(stats[name] for name in names))
        return Step(norms, stats | dict(zip(names, sums, strict=True)))

    def _parts(self, rollout: Rollout, rows: Sequence[int]) -> list[list[int]]:
        """Micro-batches of a mini-batch."""
        size = self.settings.micro_batch_size
        return by_length(rows, lambda i: len(rollout.episodes[i].ids), size)

    def _tokens(self, rollout: Rollout, rows: Sequence[int]) -> float:
        """Answer tokens of a mini-batch, over all processes."""
        return self.total(float(rollout.lengths_B[list(rows)].sum()))[0]

    def _forward(self, rollout: Rollout, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """(logprobs_N, entropy_N, whatever else the module says) of some episodes."""
        said: tuple[Tensor, Tensor, Tensor] = self._heard(
            self.optimiser.module, rollout, rows, self.settings.temperature
        )
        return said

    def _heard(
        self, network: Callable[..., Any], rollout: Rollout, rows: Sequence[int], *more: float
    ) -> Any:
        """What a network says of some episodes, in the precision of learning."""
        batch = collate([rollout.episodes[i] for i in rows], self.render.pad, self.device)
        with self.accelerator.autocast():
            return network(batch, *more)

    def guard(self, numbers: dict[str, float]) -> None:
        self.monitor.guard(numbers)

    def evaluate(self, step: int) -> None:
        self._refresh()
        if step == 0:
            self._show(0)
        if not self.test_prompts:
            return
        chosen = self.share(list(enumerate(self.test_prompts))[: self.settings.evaluate_prompts])
        # A process without a prompt of its own still adds its zeros to the sums.
        names = self.sampler.reward.names
        episodes, score, kl, length, eos, held_out, squares, *parts = self.total(
            *(self._answer(chosen) if chosen else [0.0] * (7 + len(names)))
        )
        numbers = {
            "objective/scores": score / episodes,
            "objective/kl": kl / episodes,
            "objective/sqrt_kl": math.sqrt(max(kl / episodes, 0.0)),
            "response/length": length / episodes,
            "response/eos_rate": eos / episodes,
            **{f"reward/{name}": sum_ / episodes for name, sum_ in zip(names, parts, strict=True)},
        }
        if self.held_out_reward:
            mean = held_out / episodes
            error = math.sqrt(max(squares / episodes - mean**2, 0.0) / episodes)
            alarms = self.monitor.over_optimised(score / episodes, mean, error)
            self._say(step, alarms)
            numbers |= {"objective/held_out_scores": mean, **alarms}
        self.folder.metrics(step, "test", numbers)

    def _answer(self, chosen: Sequence[tuple[int, Prompt]]) -> list[float]:
        """Sums over held-out prompts: their number, score, KL, length, ends, what a reward model
        that never trained the policy says, its square, and the parts of the score."""
        rollout = self.sampler.rollout(
            [prompt for _, prompt in chosen], [f"test {i}" for i, _ in chosen]
        )
        held_out_B = torch.zeros(len(chosen))
        if self.held_out_reward:
            prompts, finished = rollout.prompts, rollout.finished_B.tolist()
            held_out_B = self.held_out_reward.score(prompts, rollout.texts, finished)
        sums = (
            *(rollout.scores_B, rollout.kl_B, rollout.lengths_B, rollout.finished_B),
            *(held_out_B, held_out_B**2),
            *rollout.parts_B.values(),
        )
        return [len(chosen), *(float(each_B.sum()) for each_B in sums)]

    def _show(self, step: int) -> None:
        fixed: list[Prompt] = (self.test_prompts or self.prompts)[: self.settings.sample_prompts]
        if not fixed or not self.accelerator.is_main_process:
            return
        rollout = self.sampler.rollout(fixed, [f"shown {i}" for i in range(len(fixed))])
        for prompt, text, score, kl in zip(
            fixed, rollout.texts, rollout.scores_B.tolist(), rollout.kl_B.tolist(), strict=True
        ):
            self.folder.sample(step, prompt.id, text, score, kl)

    def finish(self, step: int) -> dict[str, Any]:
        name = type(self.settings).__name__
        card = self.folder.card(f"Policy trained by {name} for {step} updates")
        self.folder.publish(lambda place: self._write(place, card))
        return {"steps": step, "kl_coef": self.kl_coef}

    def _write(self, place: Path, card: str) -> None:
        publish_policy(self.policy, self.wrapper, self.render, place, card)
