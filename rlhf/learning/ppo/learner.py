"""PPO against the reward model (InstructGPT step 3).

reward = score of the whole answer on its last token - kl_coef * KL to the reference on every token.
A *score* is what the reward model says; a *reward* is what a token gets. Details and their sources:
the masks, the place of the score and the missing-EOS penalty follow arXiv 2403.17031, the clipped
losses arXiv 1707.06347, the KL controller arXiv 1909.08593.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from rlhf.learning.contract.hyperparameters import ConfigError
from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.contract.records import Prompt, read_demonstrations, read_prompts
from rlhf.learning.contract.seeds import derive
from rlhf.learning.generation.engines import AdapterSync, Engine, HFEngine, NCCLSync, VLLMEngine
from rlhf.learning.models.adapters import choose_weights
from rlhf.learning.models.folders import load_policy, publish_policy, renderer, stop_ids
from rlhf.learning.models.losses import adapted_kl_coef
from rlhf.learning.models.networks import PolicyNetwork, collate
from rlhf.learning.models.offload import Offloaded
from rlhf.learning.models.render import Encoded
from rlhf.learning.models.scoring import RewardFunction, RewardModel, Scorer
from rlhf.learning.run.optimiser import Loss, Optimiser
from rlhf.learning.run.run_folder import RunFolder
from rlhf.learning.run.training import Learner, by_length, endless

from .advantages import estimate_advantages, whiten
from .critics import load_critic, publish_critic
from .figures import rollout_figures
from .minibatch import (
    EXTREMES,
    Stats,
    Step,
    add_up,
    clipped_policy_loss,
    clipped_value_loss,
    step_figures,
)
from .monitor import Monitor
from .rollout import Rollout, Sampler

POLICY = "policy."  # what the names of its weights begin with


class PPOLearner(Learner):
    """PPO: an update is one rollout and several passes over it."""

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        assert isinstance(self.config.train, PPO)
        self.settings = settings = self.config.train
        share = accelerator.num_processes * settings.minibatches
        if settings.batch_size % share:
            raise ConfigError(
                f"PPO.batch_size {settings.batch_size} is not a multiple of"
                f" {share} = processes x minibatches"
            )
        models, tune = self.config.models, self.config.tune
        base = folder.resolve(models.policy)
        self.render = renderer(base)
        self.prompts = read_prompts(folder.data("train"))
        self.test_prompts = read_prompts(folder.data("test")) if self.config.data.test else []
        for prompt in self.prompts + self.test_prompts:
            self.render.prompt(prompt, settings.max_new_tokens)
        torch.manual_seed(self.seed)
        scratch = folder.path if settings.offload_frozen else None
        reward = self._scorer(scratch)
        self.held_out_reward = None
        if models.held_out_reward:
            held_out = folder.resolve(models.held_out_reward)
            self.held_out_reward = RewardModel(held_out, self.device, scratch)
        for judge in (reward, self.held_out_reward):
            if isinstance(judge, RewardModel):
                judge.check(self.prompts + self.test_prompts)
        policy = load_policy(base, self.device, tune)
        reference = None
        if not tune.is_adapter or models.reference not in ("", models.policy):
            copy = load_policy(folder.resolve(models.reference or models.policy), self.device)
            reference = Offloaded(copy, self.device, scratch)
        self.wrapper = choose_weights(policy.lm, tune)
        self.model, self.critic_wrapper = load_critic(folder, policy, self.wrapper, self.device)
        self.sampler = Sampler(
            self.model,
            reference,
            reward,
            self.render,
            self._engine(policy),
            settings,
            self.seed,
            accelerator.autocast,
            self.config.engine.importance_cap,
        )
        self.demonstrations = self._read_demonstrations()
        critic_rate = settings.critic_learning_rate
        self.optimiser = Optimiser(
            accelerator,
            self.model,
            [(".critic.", critic_rate), (POLICY, settings.learning_rate), ("", critic_rate)],
            settings,
            apart="" if settings.critic == "shared" else POLICY,
        )
        self.total_steps = settings.updates
        self.kl_coef = settings.kl_coef
        self.monitor = Monitor(settings, is_exact=self.is_exact)

    @property
    def is_exact(self) -> bool:
        """Full precision: what the sampler computes is what learning computes."""
        return str(self.accelerator.mixed_precision) == "no"

    def _engine(self, policy: PolicyNetwork) -> Engine:
        settings, wanted = self.settings, self.config.engine
        stops = stop_ids(policy.lm, self.render)
        if wanted.name == "hf":
            heard = settings.critic == "shared" and self.is_exact
            head = self.model.value_head if heard else None
            return HFEngine(
                policy.lm, settings, stops, self.render.pad, head, is_exact=self.is_exact
            )
        sync: AdapterSync | NCCLSync
        if self.wrapper is None:
            sync = NCCLSync(policy.lm, wanted)
        else:
            sync = AdapterSync(self.wrapper, wanted, self.folder.path / "engine")
        return VLLMEngine(wanted, settings, stops, sync)

    def _refresh(self) -> None:
        """Everybody answers with the weights as they are now."""
        pushes = self.accelerator.is_main_process
        self.sampler.engine.refresh(self.optimiser.steps, pushes=pushes)
        self.accelerator.wait_for_everyone()

    def _scorer(self, scratch: Path | None) -> Scorer:
        function = self.config.models.reward_function
        if not function:
            place = self.folder.resolve(self.config.models.reward)
            return RewardModel(place, self.device, scratch)
        if not self.folder.allows_code:
            raise ConfigError(
                "models.reward_function runs code of yours: start the trainer with --allow-code"
            )
        return RewardFunction(function)

    def _read_demonstrations(self) -> list[Encoded]:
        if not self.settings.ptx_weight:
            return []
        return [
            self.render.encode(each.prompt, each.text, 4 * self.settings.max_new_tokens)
            for each in read_demonstrations(self.folder.data("demonstrations"))
        ]

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
            self.sampler.estimate_values(rollout)
        # 2. What each token was better than expected.
        estimate_advantages(rollout, self.kl_coef, settings)
        numbers = rollout_figures(self, rollout, self.kl_coef)
        if settings.whiten_advantages:
            whiten(self, rollout)
        judged = time.perf_counter()
        # 3. Learn from them, several times over; the critic alone while it warms up.
        numbers |= self._learn(rollout, step)
        learnt = time.perf_counter()
        # 4. Let the price of KL follow the KL.
        numbers["objective/kl_coef"] = self.kl_coef
        self._adapt_kl_coef(numbers["objective/kl"])
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
        start, count = step * self.settings.batch_size, self.settings.batch_size
        chosen = self.share(endless(len(self.prompts), self.seed, start, count))
        numbers = self.share(range(start, start + count))
        return self.sampler.rollout([self.prompts[i] for i in chosen], numbers)

    def _adapt_kl_coef(self, kl: float) -> None:
        settings = self.settings
        if settings.kl_control == "adaptive":
            self.kl_coef = adapted_kl_coef(
                self.kl_coef, kl, settings.kl_target, settings.kl_horizon, settings.batch_size
            )

    def _say(self, step: int, alarms: dict[str, float]) -> None:
        for name in alarms:
            self.folder.say(f"update {step}: {name.removeprefix('alarm/').replace('_', ' ')}")

    def _learn(self, rollout: Rollout, step: int) -> dict[str, float]:
        """Several passes over the rollout, until the policy has moved too far from it."""
        warms_up = step < self.settings.critic_warmup
        self.optimiser.hold(POLICY if warms_up else None)
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
            **({"lr": 0.0} if warms_up else {}),
        }

    def _minibatches(self, step: int) -> Iterator[list[int]]:
        """Episodes of this process for each optimizer step of an update, shuffled every epoch."""
        settings = self.settings
        size = settings.batch_size // settings.minibatches
        for epoch in range(settings.ppo_epochs):
            generator = torch.Generator().manual_seed(derive(self.seed, "minibatch", step, epoch))
            order = torch.randperm(settings.batch_size, generator=generator).tolist()
            for start in range(0, settings.batch_size, size):
                yield self.places(order[start : start + size])

    def _step(self, rollout: Rollout, rows: list[int], step: int, number: int) -> Step:
        """Optimizer step `number` of an update, on a mini-batch in micro-batches of like length."""
        tokens = self.total(float(rollout.lengths_B[rows].sum()))[0]
        parts = by_length(
            rows, lambda i: len(rollout.episodes[i].ids), self.settings.micro_batch_size
        )
        heard: list[Stats] = []
        losses = [self._losses(rollout, part, tokens, step, heard.append) for part in parts]
        turns = [list(turn) for turn in zip(*losses, strict=True)] or [[]]
        has_anchor = self.demonstrations and step >= self.settings.critic_warmup
        if has_anchor:
            turns[0] = self._ptx_losses(step, number, heard.append) + turns[0]
        norms = self.optimiser.step(turns, partial(self._forward, rollout, rows[:1] or [0]))
        stats = add_up(heard, ["ptx/loss"] if has_anchor else [])
        names = sorted(stats.keys() - set(EXTREMES))
        sums = self.total(*(stats[name] for name in names))
        return Step(norms, stats | dict(zip(names, sums, strict=True)))

    @property
    def learns_apart(self) -> bool:
        """Policy and critic share nothing that learns, so that activations and gradients of one
        need not wait for the other's; several processes exchange the gradients of both at once."""
        return self.settings.critic != "shared" and self.optimiser.module is self.model

    def _losses(
        self,
        rollout: Rollout,
        rows: Sequence[int],
        tokens: float,
        step: int,
        tell: Callable[[Stats], None],
    ) -> list[Loss]:
        """Of a micro-batch, already divided by the tokens of the global mini-batch: the policy's
        and the critic's, or one of both. While the critic warms up, the policy is only heard."""
        settings = self.settings
        warms_up = step < settings.critic_warmup

        def policy_loss(logprobs_N: Tensor, entropy_N: Tensor) -> Tensor:
            loss, stats = clipped_policy_loss(
                rollout, rows, logprobs_N, entropy_N, tokens, settings.clip_range
            )
            tell({**stats, "loss": 0.0 * stats["loss"]} if warms_up else stats)
            return 0.0 * loss if warms_up else loss

        def value_loss(values_N: Tensor) -> Tensor:
            loss, stats = clipped_value_loss(rollout, rows, values_N, tokens, settings)
            tell(stats)
            return loss

        def of_policy() -> Tensor:
            heard = self._heard(self.model.policy, rollout, rows, settings.temperature)
            return policy_loss(*heard[:2])

        def of_critic() -> Tensor:
            return value_loss(self._heard(self.model.values, rollout, rows))

        def of_both() -> Tensor:
            logprobs_N, entropy_N, values_N = self._forward(rollout, rows)
            return policy_loss(logprobs_N, entropy_N) + value_loss(values_N)

        if not self.learns_apart:
            return [of_both]
        if not warms_up:
            return [of_policy, of_critic]
        with torch.no_grad():
            of_policy()
        return [of_critic]

    def _forward(self, rollout: Rollout, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
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

    def _ptx_losses(self, step: int, number: int, tell: Callable[[Stats], None]) -> list[Loss]:
        """gamma x language-modelling loss on demonstrations (InstructGPT eq. 2, last term), for
        optimizer step `number` of an update."""
        settings = self.settings
        size = settings.ptx_batch_size
        cursor = (step * settings.ppo_epochs * settings.minibatches + number) * size
        chosen = endless(len(self.demonstrations), self.seed, cursor, size)
        rows = [self.demonstrations[i] for i in chosen]
        tokens = sum(len(row.completion) for row in rows)

        def loss(mine: list[Encoded]) -> Tensor:
            batch = collate(mine, self.render.pad, self.device)
            network = self.model.policy if self.learns_apart else self.optimiser.module
            with self.accelerator.autocast():
                logprobs_N, *others_N = network(batch, 1.0)
            value: Tensor = -logprobs_N.sum() / tokens
            tell({"ptx/loss": float(value.detach())})
            anchored: Tensor = settings.ptx_weight * value + 0.0 * others_N[-1].sum()
            return anchored

        parts = by_length(self.share(rows), lambda row: len(row.ids), settings.micro_batch_size)
        return [partial(loss, part) for part in parts]

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
        episodes, score, kl, length, eos, held_out, squares = self.total(
            *(self._answer(chosen) if chosen else [0.0] * 7)
        )
        numbers = {
            "objective/scores": score / episodes,
            "objective/kl": kl / episodes,
            "objective/sqrt_kl": math.sqrt(max(kl / episodes, 0.0)),
            "response/length": length / episodes,
            "response/eos_rate": eos / episodes,
        }
        if self.held_out_reward:
            mean = held_out / episodes
            error = math.sqrt(max(squares / episodes - mean**2, 0.0) / episodes)
            alarms = self.monitor.over_optimised(score / episodes, mean, error)
            self._say(step, alarms)
            numbers |= {"objective/held_out_scores": mean, **alarms}
        self.folder.metrics(step, "test", numbers)

    def _answer(self, chosen: Sequence[tuple[int, Prompt]]) -> list[float]:
        """Sums over held-out prompts: their number, score, KL, length, ends, and what a reward
        model that never trained the policy says, and its square."""
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
        card = self.folder.card(f"Policy trained by PPO for {step} updates")

        def write(place: Path) -> None:
            if self.settings.save_critic:
                publish_critic(self.model, self.critic_wrapper, self.render, place / "critic")
            publish_policy(self.model.policy, self.wrapper, self.render, place, card)

        self.folder.publish(write)
        return {"steps": step, "kl_coef": self.kl_coef}
