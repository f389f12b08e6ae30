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
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from .config import PPO, ConfigError
from .evaluate import correlation
from .losses import adapted_beta, policy_loss, value_loss
from .networks import (
    ScoreNetwork,
    choose_weights,
    collate,
    load_policy,
    load_score,
    publish_policy,
    renderer,
    stop_ids,
)
from .records import Prompt, read_demonstrations, read_prompts
from .render import Encoded
from .rollout import ActorCritic, Explorer, Rollout
from .run_folder import Paused, RunFolder
from .sampling import derive
from .scoring import RewardModel
from .training import Learner, Optimiser, by_length, endless

Sums = dict[str, float]


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
        models, lora = self.config.models, self.config.tune.mode == "lora"
        base = folder.resolve(models.policy)
        self.render = renderer(base)
        self.prompts = read_prompts(folder.data("train"))
        self.test_prompts = read_prompts(folder.data("test")) if self.config.data.test else []
        for prompt in self.prompts + self.test_prompts:
            self.render.prompt(prompt, settings.max_new_tokens)
        torch.manual_seed(self.seed)
        reward = RewardModel(folder.resolve(models.reward), self.device)
        policy = load_policy(base, self.device)
        self.stops = stop_ids(policy.lm, self.render)
        critic = self._load_critic(reward)
        reference = None
        if not lora or models.reference not in ("", models.policy):
            reference = load_policy(folder.resolve(models.reference or models.policy), self.device)
            reference.requires_grad_(False)
        self.wrapper = choose_weights(policy.lm, self.config.tune)
        self.model = ActorCritic(policy, critic)
        self.explorer = Explorer(
            self.model, reference, reward, self.render, self.stops, settings, self.seed
        )
        self.demonstrations = self._read_demonstrations()
        self.optimiser = Optimiser(
            accelerator,
            self.model,
            [("policy.", settings.learning_rate), ("", settings.critic_learning_rate)],
            settings,
        )
        self.total_steps = settings.updates
        self.beta = settings.beta
        self.first: dict[str, float] = {}

    def _load_critic(self, reward: RewardModel) -> ScoreNetwork | None:
        """A critic that starts from the reward model starts in the units of its scores."""
        settings, models = self.settings, self.config.models
        if settings.critic == "shared":
            return None
        source = models.critic or (models.reward if settings.critic == "reward" else models.policy)
        critic = load_score(self.folder.resolve(source), self.device)
        if settings.critic == "reward":
            scale = reward.calibration.std if settings.normalise_score else 1.0
            critic.head.weight.data /= scale
            critic.bias.data.fill_(reward.calibration.bias / scale)
        choose_weights(critic.model, self.config.tune)
        critic.bias.requires_grad_(True)
        return critic

    def _read_demonstrations(self) -> list[Encoded]:
        if not self.settings.ptx_weight:
            return []
        return [
            self.render.encode(each.prompt, each.text, 4 * self.settings.max_new_tokens)
            for each in read_demonstrations(self.folder.data("demonstrations"))
        ]

    def state(self) -> dict[str, Any]:
        return {"beta": self.beta, "first": self.first}

    def restore(self, state: dict[str, Any]) -> None:
        self.beta, self.first = state["beta"], state["first"]

    def update(self, step: int) -> dict[str, float]:
        settings = self.settings
        started = time.perf_counter()
        # 1. Answer a batch of prompts with the policy as it is.
        places = self.share(range(step * settings.batch_size, (step + 1) * settings.batch_size))
        chosen = [endless(len(self.prompts), self.seed, place, 1)[0] for place in places]
        rollout = self.explorer.explore([self.prompts[i] for i in chosen], places)
        # 2. Say what the answers were worth.
        self.explorer.judge(rollout, self.beta)
        numbers = self._describe(rollout)
        if settings.whiten_advantages:
            self._whiten(rollout)
        explored = time.perf_counter()
        # 3. Learn from them, several times over.
        numbers |= self._learn(rollout, step)
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
            self._show(step + 1)
        seconds = time.perf_counter() - started
        tokens = numbers["response/length"] * settings.batch_size
        return {
            **numbers,
            "seconds/rollout": explored - started,
            "speed/episodes_per_s": settings.batch_size / seconds,
            "speed/tokens_per_s": tokens / seconds,
        }

    def _describe(self, rollout: Rollout) -> dict[str, float]:
        """Figures of a rollout, before any learning, over all processes."""
        lengths_B, scores_B, kl_B = rollout.lengths_B.float(), rollout.scores_B, rollout.kl_B
        episodes, tokens, score, score2, kl, k3, length, eos = self.total(
            len(rollout.texts),
            float(lengths_B.sum()),
            float(scores_B.sum()),
            float((scores_B**2).sum()),
            float(kl_B.sum()),
            float(rollout.kl_k3_B.sum()),
            float(lengths_B.sum()),
            float(rollout.finished_B.sum()),
        )
        mask = rollout.mask_BT
        returns, values = rollout.returns_BT[mask], rollout.values_BT[mask]
        r, r2, e, e2 = self.total(
            float(returns.sum()),
            float((returns**2).sum()),
            float((returns - values).sum()),
            float(((returns - values) ** 2).sum()),
        )
        spread = r2 / tokens - (r / tokens) ** 2
        unexplained = e2 / tokens - (e / tokens) ** 2
        mean = score / episodes
        return {
            "objective/scores": mean,
            "objective/scores_std": math.sqrt(max(score2 / episodes - mean**2, 0.0)),
            "objective/kl": kl / episodes,
            "objective/kl_k3": k3 / episodes,
            "objective/rlhf_reward": mean - self.beta * kl / episodes,
            "response/length": length / episodes,
            "response/eos_rate": eos / episodes,
            "response/length_p95": float(lengths_B.quantile(0.95)),
            "response/identical": rollout.identical(),
            "response/score_length_correlation": correlation(scores_B.tolist(), lengths_B.tolist()),
            "val/explained_variance": 1 - unexplained / spread if spread > 0 else 0.0,
            "val/mean": float(values.mean()),
            "objective/advantage_std": float(rollout.advantages_BT[mask].std(correction=0)),
        }

    def _whiten(self, rollout: Rollout) -> None:
        """Mean 0, spread 1 over the valid tokens of all processes."""
        valid = rollout.advantages_BT[rollout.mask_BT].double()
        total, count = self.total(float(valid.sum()), float(len(valid)))
        mean = total / count
        squares = self.total(float(((valid - mean) ** 2).sum()))[0]
        spread = math.sqrt(squares / count) + 1e-8
        rollout.advantages_BT = (rollout.advantages_BT - mean) / spread * rollout.mask_BT

    def _learn(self, rollout: Rollout, step: int) -> dict[str, float]:
        settings = self.settings
        count = len(rollout.episodes)
        seen: Sums = defaultdict(float)
        norms: list[float] = []
        stop_at = 1.5 * settings.target_kl or math.inf
        approx_kl, first_ratio = 0.0, 0.0
        for epoch in range(settings.ppo_epochs):
            generator = torch.Generator().manual_seed(derive(self.seed, "minibatch", step, epoch))
            order = torch.randperm(count, generator=generator).tolist()
            size = count // settings.minibatches
            for start in range(0, count, size):
                rows = order[start : start + size]
                tokens = self.total(float(rollout.lengths_B[rows].sum()))[0]
                sums: Sums = defaultdict(float)
                losses = [
                    partial(self._loss, rollout, part, tokens, step, sums)
                    for part in by_length(
                        rows, lambda i: len(rollout.episodes[i].ids), settings.micro_batch_size
                    )
                ]
                losses = self._ptx_losses(step, len(norms), sums) + losses
                norms.append(self.optimiser.step(losses))
                deviation = sums.pop("ratio/deviation")
                names = sorted(sums)
                sums = dict(zip(names, self.total(*(sums[name] for name in names)), strict=True))
                for name, value in sums.items():
                    seen[name] += value
                approx_kl = sums["policy/approx_kl"]
                if len(norms) == 1:
                    first_ratio = deviation
                if approx_kl > stop_at:
                    break
            if approx_kl > stop_at:
                break
        if first_ratio > 1e-3:
            self.folder.say(f"update {step + 1}: the first ratio is off by {first_ratio:.2g}")
        return {
            **{name: value / len(norms) for name, value in seen.items()},
            "gradient/norm": statistics.fmean(norms),
            "policy/optimizer_steps": len(norms),
            "policy/first_ratio_deviation": first_ratio,
        }

    def _loss(
        self, rollout: Rollout, rows: Sequence[int], tokens: float, step: int, sums: Sums
    ) -> Tensor:
        """Loss of a micro-batch, already divided by the tokens of the global mini-batch."""
        settings = self.settings
        batch = collate([rollout.episodes[i] for i in rows], self.render.pad, self.device)
        with self.accelerator.autocast():
            logprobs_N, entropy_N, values_N = self.optimiser.module(batch, settings.temperature)
        old_logprobs_N, old_values_N, advantages_N, returns_N = (
            rollout.flat(each, rows).to(self.device)
            for each in (
                rollout.logprobs_BT,
                rollout.values_BT,
                rollout.advantages_BT,
                rollout.returns_BT,
            )
        )
        surrogate, ratio_N, clipped_N = policy_loss(
            logprobs_N, old_logprobs_N, advantages_N, settings.clip
        )
        error, value_clipped_N = value_loss(values_N, old_values_N, returns_N, settings.value_clip)
        warming = step < settings.critic_warmup
        loss: Tensor = (
            surrogate * (0.0 if warming else 1.0) + settings.value_weight * error
        ) / tokens
        with torch.no_grad():
            log_ratio_N = (logprobs_N - old_logprobs_N).clamp(-20, 20)
            for name, value in (
                ("loss", loss * tokens),
                ("policy/loss", surrogate),
                ("val/loss", error),
                ("policy/entropy", entropy_N.sum()),
                ("policy/clipfrac", clipped_N.sum()),
                ("val/clipfrac", value_clipped_N.sum()),
                ("policy/approx_kl", (log_ratio_N.expm1() - log_ratio_N).sum()),
            ):
                sums[name] += float(value) / tokens
            deviation = float((ratio_N - 1).abs().max())
            sums["ratio/deviation"] = max(sums["ratio/deviation"], deviation)
        return loss

    def _ptx_losses(self, step: int, place: int, sums: Sums) -> list[Any]:
        """gamma x language-modelling loss on demonstrations (InstructGPT eq. 2, last term)."""
        if not self.demonstrations:
            return []
        settings = self.settings
        size = settings.micro_batch_size
        cursor = (step * settings.ppo_epochs * settings.minibatches + place) * size
        chosen = endless(len(self.demonstrations), self.seed, cursor, size)
        rows = [self.demonstrations[i] for i in chosen]
        tokens = sum(len(row.completion) for row in rows)

        def loss(mine: list[Encoded]) -> Tensor:
            batch = collate(mine, self.render.pad, self.device)
            with self.accelerator.autocast():
                logprobs_N, _, values_N = self.optimiser.module(batch, 1.0)
            value: Tensor = -logprobs_N.sum() / tokens
            sums["ptx/loss"] += float(value.detach())
            anchored: Tensor = settings.ptx_weight * value + 0.0 * values_N.sum()
            return anchored

        mine = self.share(rows)
        return [partial(loss, mine)] if mine else []

    def guard(self, numbers: dict[str, float]) -> None:
        settings = self.settings
        for name in ("policy/entropy", "response/length"):
            self.first.setdefault(name, numbers[name])
        kl, identical = numbers["objective/kl"], numbers["response/identical"]
        entropy = numbers["policy/entropy"] / max(self.first["policy/entropy"], 1e-9)
        length = numbers["response/length"] / self.first["response/length"]
        tripped = (
            (
                "kl_limit",
                kl > settings.kl_limit > 0,
                f"KL per answer is {kl:.1f} nats, the limit is {settings.kl_limit:g}",
            ),
            (
                "entropy_collapse",
                entropy < settings.min_entropy,
                f"entropy is {entropy:.0%} of its start",
            ),
            (
                "length_blowup",
                length > settings.max_length > 0,
                f"answers are {length:.1f} times as long as at the start",
            ),
            (
                "identical_outputs",
                identical > settings.max_identical > 0,
                f"{identical:.0%} of the prompts got the same answer",
            ),
        )
        for reason, is_so, detail in tripped:
            if is_so:
                raise Paused(reason, detail)

    def evaluate(self, step: int) -> None:
        if step == 0:
            self._show(0)
        if not self.test_prompts:
            return
        chosen = self.share(list(enumerate(self.test_prompts))[: self.settings.evaluate_prompts])
        rollout = self.explorer.explore(
            [prompt for _, prompt in chosen], [f"test {i}" for i, _ in chosen]
        )
        episodes, score, kl, length, eos = self.total(
            len(chosen),
            float(rollout.scores_B.sum()),
            float(rollout.kl_B.sum()),
            float(rollout.lengths_B.sum()),
            float(rollout.finished_B.sum()),
        )
        self.folder.metrics(
            step,
            "test",
            {
                "objective/scores": score / episodes,
                "objective/kl": kl / episodes,
                "response/length": length / episodes,
                "response/eos_rate": eos / episodes,
            },
        )

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
        title = f"Policy trained by PPO for {step} updates"
        self.folder.publish(
            lambda place: publish_policy(
                self.model.policy, self.wrapper, self.render, place, self.folder.card(title)
            )
        )
        return {"steps": step, "beta": self.beta}
