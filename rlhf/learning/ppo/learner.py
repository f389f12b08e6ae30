"""PPO against the reward model (InstructGPT step 3).

reward = score of the whole answer on its last token - beta * KL to the reference on every token.
A *score* is what the reward model says; a *reward* is what a token gets. Details and their sources:
the masks, the place of the score and the missing-EOS penalty follow arXiv 2403.17031, the clipped
losses arXiv 1707.06347, the KL controller arXiv 1909.08593.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
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
from rlhf.learning.models.losses import adapted_beta
from rlhf.learning.models.networks import PolicyNetwork, collate
from rlhf.learning.models.offload import Resting
from rlhf.learning.models.render import Encoded
from rlhf.learning.models.scoring import RewardFunction, RewardModel, Scorer
from rlhf.learning.run.optimiser import Loss, Optimiser
from rlhf.learning.run.run_folder import RunFolder
from rlhf.learning.run.training import Learner, by_length, endless

from .critics import load_critic, publish_critic
from .figures import rollout_figures, whiten
from .minibatch import Sums, mean_norms, no_sums, policy_part, value_part
from .monitor import Watch
from .rollout import Explorer, Rollout

POLICY = "policy."  # what the names of its weights begin with


class PPOLearner(Learner):
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
            reference = Resting(copy, self.device, scratch)
        self.wrapper = choose_weights(policy.lm, tune)
        self.model, self.critic_wrapper = load_critic(folder, policy, self.wrapper, self.device)
        self.explorer = Explorer(
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
        self.beta = settings.kl_coef
        self.watch = Watch(settings, is_exact=self.is_exact)

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
        self.explorer.engine.refresh(self.optimiser.steps, pushes=pushes)
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
        return {"beta": self.beta, "watch": self.watch.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.beta = state["beta"]
        self.watch.restore(state["watch"])

    def update(self, step: int) -> dict[str, float]:
        settings = self.settings
        started = time.perf_counter()
        start, count = step * settings.batch_size, settings.batch_size
        chosen = self.share(endless(len(self.prompts), self.seed, start, count))
        places = self.share(range(start, start + count))
        with self.optimiser.whole():
            # 1. Answer a batch of prompts with the policy as it is.
            self._refresh()
            rollout = self.explorer.explore([self.prompts[i] for i in chosen], places)
            explored = time.perf_counter()
            # 2. Say what the answers were worth.
            self.explorer.judge(rollout, self.beta)
        numbers = rollout_figures(self, rollout, self.beta)
        if settings.whiten_advantages:
            whiten(self, rollout)
        judged = time.perf_counter()
        # 3. Learn from them, several times over; the critic alone while it warms up.
        warms_up = step < settings.critic_warmup
        self.optimiser.hold(POLICY if warms_up else None)
        numbers |= self._learn(rollout, step) | ({"lr": 0.0} if warms_up else {})
        learnt = time.perf_counter()
        # 4. Let beta follow the KL.
        numbers["objective/beta"] = self.beta
        if settings.kl_control == "adaptive":
            self.beta = adapted_beta(
                self.beta,
                numbers["objective/kl"],
                settings.kl_target,
                settings.kl_horizon,
                settings.batch_size,
            )
        if (step + 1) % settings.sample_every == 0:
            with self.optimiser.whole():
                self._refresh()
                self._show(step + 1)
        alarms = self.watch.alarms(step + 1, numbers)
        self._say(step + 1, alarms)
        seconds = time.perf_counter() - started
        tokens = numbers["response/length"] * settings.batch_size
        return {
            **numbers,
            **alarms,
            "seconds/rollout": explored - started,
            "seconds/judge": judged - explored,
            "seconds/learn": learnt - judged,
            "speed/episodes_per_s": settings.batch_size / seconds,
            "speed/tokens_per_s": tokens / seconds,
        }

    def _say(self, step: int, alarms: dict[str, float]) -> None:
        for name in alarms:
            self.folder.say(f"update {step}: {name.removeprefix('alarm/').replace('_', ' ')}")

    def _learn(self, rollout: Rollout, step: int) -> dict[str, float]:
        settings = self.settings
        count = settings.batch_size
        seen: dict[str, list[float]] = defaultdict(list)
        norms: list[list[float]] = []
        stop_at = 1.5 * settings.target_kl or math.inf
        approx_kl, first_ratio, first_mean, largest = 0.0, 0.0, 0.0, 0.0
        for epoch in range(settings.ppo_epochs):
            generator = torch.Generator().manual_seed(derive(self.seed, "minibatch", step, epoch))
            order = torch.randperm(count, generator=generator).tolist()
            size = count // settings.minibatches
            for start in range(0, count, size):
                rows = self.places(order[start : start + size])
                tokens = self.total(float(rollout.lengths_B[rows].sum()))[0]
                sums = no_sums()
                parts = by_length(
                    rows, lambda i: len(rollout.episodes[i].ids), settings.micro_batch_size
                )
                losses = [self._losses(rollout, part, tokens, step, sums) for part in parts]
                turns = [list(turn) for turn in zip(*losses, strict=True)] or [[]]
                turns[0] = self._ptx_losses(step, len(norms), sums) + turns[0]
                idle = partial(self._forward, rollout, rows[:1] or [0])
                norms.append(self.optimiser.step(turns, idle))
                deviation, ratio = sums.pop("ratio/deviation"), sums.pop("ratio/max")
                largest = max(largest, ratio)
                names = sorted(sums)
                sums = dict(zip(names, self.total(*(sums[name] for name in names)), strict=True))
                off = sums.pop("ratio/off")
                for name, value in sums.items():
                    if math.isfinite(value):  # else the step was skipped
                        seen[name].append(value)
                approx_kl = sums["policy/approx_kl"]
                if len(norms) == 1 and math.isfinite(off):
                    first_ratio, first_mean = deviation, off
                if approx_kl > stop_at:
                    break
            if approx_kl > stop_at:
                break
        first_ratio, largest = (
            self.everyone(torch.tensor([[first_ratio, largest]])).amax(0).tolist()
        )
        return {
            **{name: statistics.fmean(values) for name, values in seen.items()},
            **mean_norms(norms),
            "policy/optimizer_steps": len(norms),
            "policy/first_ratio_deviation": first_ratio,
            "policy/first_ratio_mean": first_mean,
            "policy/ratio_max": largest,
        }

    @property
    def learns_apart(self) -> bool:
        """Policy and critic share nothing that learns, so that activations and gradients of one
        need not wait for the other's; several processes exchange the gradients of both at once."""
        return self.settings.critic != "shared" and self.optimiser.module is self.model

    def _losses(
        self, rollout: Rollout, rows: Sequence[int], tokens: float, step: int, sums: Sums
    ) -> list[Loss]:
        """Of a micro-batch, already divided by the tokens of the global mini-batch: the policy's
        and the critic's, or one of both. While the critic warms up, the policy is only heard."""
        temperature = self.settings.temperature
        warming = step < self.settings.critic_warmup
        policy = partial(policy_part, rollout, rows, tokens, self.settings, warming, sums)
        values = partial(value_part, rollout, rows, tokens, self.settings, sums)

        def of_policy() -> Tensor:
            return policy(*self._heard(self.model.policy, rollout, rows, temperature)[:2])

        def of_critic() -> Tensor:
            return values(self._heard(self.model.values, rollout, rows))

        def of_both() -> Tensor:
            logprobs_N, entropy_N, values_N = self._forward(rollout, rows)
            return policy(logprobs_N, entropy_N) + values(values_N)

        if not self.learns_apart:
            return [of_both]
        if not warming:
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

    def _ptx_losses(self, step: int, place: int, sums: Sums) -> list[Loss]:
        """gamma x language-modelling loss on demonstrations (InstructGPT eq. 2, last term)."""
        settings = self.settings
        if not self.demonstrations or step < settings.critic_warmup:
            return []
        size = settings.ptx_batch_size
        cursor = (step * settings.ppo_epochs * settings.minibatches + place) * size
        chosen = endless(len(self.demonstrations), self.seed, cursor, size)
        rows = [self.demonstrations[i] for i in chosen]
        tokens = sum(len(row.completion) for row in rows)

        def loss(mine: list[Encoded]) -> Tensor:
            batch = collate(mine, self.render.pad, self.device)
            network = self.model.policy if self.learns_apart else self.optimiser.module
            with self.accelerator.autocast():
                logprobs_N, *others_N = network(batch, 1.0)
            value: Tensor = -logprobs_N.sum() / tokens
            sums["ptx/loss"] += float(value.detach())
            anchored: Tensor = settings.ptx_weight * value + 0.0 * others_N[-1].sum()
            return anchored

        sums["ptx/loss"] = 0.0  # of a process without rows, too
        parts = by_length(self.share(rows), lambda row: len(row.ids), settings.micro_batch_size)
        return [partial(loss, part) for part in parts]

    def guard(self, numbers: dict[str, float]) -> None:
        self.watch.guard(numbers)

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
            alarms = self.watch.over_optimised(score / episodes, mean, error)
            self._say(step, alarms)
            numbers |= {"objective/held_out_scores": mean, **alarms}
        self.folder.metrics(step, "test", numbers)

    def _answer(self, chosen: Sequence[tuple[int, Prompt]]) -> list[float]:
        """Sums over held-out prompts: their number, score, KL, length, ends, and what a reward
        model that never trained the policy says, and its square."""
        rollout = self.explorer.explore(
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
        shown: list[Prompt] = (self.test_prompts or self.prompts)[: self.settings.sample_prompts]
        if not shown or not self.accelerator.is_main_process:
            return
        rollout = self.explorer.explore(shown, [f"shown {i}" for i in range(len(shown))])
        for prompt, text, score, kl in zip(
            shown, rollout.texts, rollout.scores_B.tolist(), rollout.kl_B.tolist(), strict=True
        ):
            self.folder.sample(step, prompt.id, text, score, kl)

    def finish(self, step: int) -> dict[str, Any]:
        card = self.folder.card(f"Policy trained by PPO for {step} updates")

        def write(place: Path) -> None:
            if self.settings.save_critic:
                publish_critic(self.model, self.critic_wrapper, self.render, place / "critic")
            publish_policy(self.model.policy, self.wrapper, self.render, place, card)

        self.folder.publish(write)
        return {"steps": step, "beta": self.beta}
