"""The whole wheel, unattended, on the running stack: real queue, real workers, real training.

Only the people are simulated. What they like is known, so the last step can measure whether the
policy gives more of it on prompts it has never seen."""

from __future__ import annotations

import io
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper
from django.db import transaction

from annotate.chat.streaming import write_whole
from annotate.exchange.importing import ImportFailed, import_labels
from annotate.exchange.parsing import parse_prompt
from annotate.labels.kinds.ranking.tasks import open_rank_tasks
from annotate.management.commands.seed_demo import BUNDLED
from annotate.models import (
    Completion,
    Conversation,
    Demonstration,
    Feedback,
    Membership,
    Message,
    Policy,
    Project,
    Prompt,
    Ranking,
    User,
)
from annotate.projects import base_policy
from rlhf.command_line import wait_for
from rlhf.data.selection import HELD_OUT, TRAIN
from rlhf.demo.labelers import LIKING, NAMES, NOISE, gold_score, hire, rank_all
from rlhf.evaluation.win_rate import Result, compare, match_up
from rlhf.models.metrics import Metric
from rlhf.models.outcomes import Evaluation, RewardModel, Snapshot, TrainedPolicy
from rlhf.models.runs import Round, Run
from rlhf.registry.promotion import promote
from rlhf.rounds.launch import launch_round, launch_sampling
from rlhf.rounds.preflight import preflight
from rlhf.rounds.settings import Launch, stage_config, stage_configs
from rlhf.stages import DEFAULT_TRAININGS

K = 4
MOST_PROMPTS_SAMPLED = 200
# In characters. The tiny model can read no more, and one long prompt slows its whole batch down.
LONGEST_PROMPT = 450
OVERLAP = 2
# What the labelers of the demo like best, the guards of the recipes take for a collapse.
SHORTER_IS_BETTER = {"ppo": {"train": {"min_length": 0.0, "min_distinct": 0.0}}}
QUESTION = "What is the capital of Portugal?"
GUIDELINE = f"""# What the labelers of this project like

They are simulated, and like one thing: {LIKING}.
In {NOISE:.0%} of all pairs they choose the other one, as people do.
"""


@dataclass(frozen=True)
class Size:
    """How much of everything a model can take in the minutes there are."""

    recipe: str
    few_prompts: int  # sampled beside completions that were imported
    gold_samples: int  # per held-out prompt and policy
    gold_prompts: int


SIZES = {
    "tiny": Size("tiny", few_prompts=64, gold_samples=8, gold_prompts=48),
    "smol": Size("small", few_prompts=24, gold_samples=2, gold_prompts=32),
}


@dataclass
class Wheel:
    project: Project
    model: str
    out: OutputWrapper
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def size(self) -> Size:
        return SIZES[self.model]

    def turn(self, folder: Path | None, *, seed: int = 0) -> dict[str, Any]:
        """Everything from the import to the thumb. Returns the figures."""
        olga = self.project.admit(name="olga", role=Membership.Role.OPERATOR)
        labelers = [hire(self.project, name) for name in NAMES]
        guest = hire(self.project, "sim-gus", Membership.Role.GUEST)

        with self.stage("import"):
            self.project.publish_guideline(text=GUIDELINE, author=olga)
            base = self.base_policy()
            self.bring(folder, by=olga)
        with self.stage("sample"):
            # 1. What the base model says, for people to choose from.
            sampling = launch_sampling(
                self.project, by=olga, policies=[base], k=K, prompts=self.to_sample(), seed=seed
            )
            wait_for([sampling], self.out)
        with self.stage("rank"):
            # 2. What people prefer.
            counts = rank_all(self.project, labelers, seed=seed)
            self.say(
                f"{counts.rankings} rankings by simulated labelers, "
                f"{counts.noise or 0:.1%} of {counts.pairs} pairs against their liking"
            )
        with self.stage("round"):
            # 3. SFT, reward model, PPO, evaluation.
            round = self.launch(olga, base, seed)
            wait_for(round.runs.order_by("position"), self.out)
        made = TrainedPolicy.objects.made_in(round).final()
        sft, ppo = made.policy_by(Run.Kind.SFT), made.policy_by(Run.Kind.PPO)
        with self.stage("gold"):
            # 4. Do they say more of what is liked, where they have not been taught?
            gold = self.judge(round, [ppo, sft, base], by=olga, seed=seed)
        with self.stage("promote"):
            rate = gold["ppo_over_sft"]["win_rate"]
            promotion = promote(
                ppo,
                by=olga,
                reason=f"Wins {rate:.0%} against SFT by the measure",
                override="Judged by the stated measure: no person has compared anything.",
            )
            self.say(f"{ppo} is live")
        with self.stage("chat"):
            answer = self.chat(guest)
            thumb = Feedback.give(message=answer, user=guest, thumb_up=gold_is_good(answer))

        figures = [run_figures(run) for run in round.runs.order_by("position")]
        return {
            "model": self.model,
            "project": self.project.slug,
            "simulated": {"labelers": list(NAMES), "like": LIKING},
            "labels": self.labels(),
            "noise": {"aimed": NOISE, "measured": rounded(counts.noise), "pairs": counts.pairs},
            **{name: value for each in figures for name, value in each.items()},
            "gold_win_rates": gold,
            "chat": {"answer": answer.text, "thumb_up": thumb.thumb_up},
            "lineage": {
                "policy": ppo.pk,
                "sft_policy": sft.pk,
                "base_policy": base.pk,
                "promotion": promotion.pk,
                "round": round.pk,
                "sampling_run": sampling.pk,
                "runs": {run.kind: run.pk for run in round.runs.all()},
                "reward_model": RewardModel.objects.get(checkpoint__run__round=round).pk,
                "snapshots": {
                    snapshot.run.kind: {
                        "id": snapshot.pk,
                        "sha256": snapshot.sha256,
                        "demonstrations": snapshot.demonstrations.count(),
                        "rankings": snapshot.rankings.count(),
                        "prompts": snapshot.prompts.count(),
                    }
                    for snapshot in Snapshot.objects.filter(run__round=round).order_by("pk")
                },
                "message": answer.pk,
                "feedback": thumb.pk,
            },
            "seconds": {**self.seconds, "all": round_to_tenth(sum(self.seconds.values()))},
        }

    def base_policy(self) -> Policy:
        """Speaks as PPO will sample, so that length and temperature favour nobody."""
        base = base_policy(self.project, self.model)
        ppo = stage_config(Run.Kind.PPO, self.size.recipe, {})["train"]
        base.max_new_tokens, base.temperature = ppo["max_new_tokens"], ppo["temperature"]
        base.save(update_fields=["max_new_tokens", "temperature"])
        return base

    def bring(self, folder: Path | None, *, by: User) -> None:
        demonstrations = folder / "demonstrations.jsonl" if folder else BUNDLED
        self.bring_file(demonstrations, by)
        completions = folder / "completions.jsonl" if folder else None
        if completions and completions.exists():
            self.bring_file(completions, by)
            answered = self.project.prompts.active().with_completions(2)
            made = open_rank_tasks(self.project, answered, K, OVERLAP, "imported completions")
            self.say(f"{made} tasks to rank imported completions")

    def bring_file(self, path: Path, by: User) -> None:
        try:
            file, left_out = short_enough(path, LONGEST_PROMPT)
        except OSError as error:
            raise CommandError(f"Cannot read {path}: {error.strerror}.") from error
        if left_out:
            self.say(
                f"{left_out} prompts are longer than {LONGEST_PROMPT} characters and are left out"
            )
        try:
            self.say(str(import_labels(file, project=self.project, by=by, source=path.name)))
        except ImportFailed as error:
            raise CommandError(f"{path}: {error}") from error

    def to_sample(self) -> list[Prompt]:
        """All prompts if nothing is there to rank; else a few. One in five is held out."""
        prompts = self.project.prompts.active().order_by("pk")
        if not self.project.tasks.exists():
            return list(prompts[:MOST_PROMPTS_SAMPLED])
        held_out = self.size.few_prompts // 5
        train = prompts.in_split(*TRAIN)[: self.size.few_prompts - held_out]
        return [*train, *prompts.in_split(*HELD_OUT)[:held_out]]

    def launch(self, olga: User, base: Policy, seed: int) -> Round:
        configs = stage_configs(DEFAULT_TRAININGS, self.size.recipe, SHORTER_IS_BETTER)
        for warning in preflight(self.project, base, configs=configs).warnings:
            self.say(f"Warning: {warning.message}")
        launch = Launch(base=base, recipe=self.size.recipe, seed=seed, overrides=SHORTER_IS_BETTER)
        return launch_round(self.project, launch, by=olga)

    def judge(
        self, round: Round, policies: list[Policy], *, by: User, seed: int
    ) -> dict[str, dict[str, Any]]:
        """Each against the next by the gold measure, on prompts that trained nobody."""
        held_out = self.project.prompts.active().in_split(*HELD_OUT).order_by("pk")
        run = launch_sampling(
            self.project,
            by=by,
            policies=policies,
            k=self.size.gold_samples,
            prompts=list(held_out[: self.size.gold_prompts]),
            seed=seed + 1,
        )
        wait_for([run], self.out)
        scores: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for said in Completion.objects.filter(sampling__run=run.pk).order_by("pk"):
            scores[said.policy_id][said.prompt_id].append(gold_score(said))
        ppo, sft, base = policies
        results = {}
        for name, policy, opponent in (
            ("sft_over_base", sft, base),
            ("ppo_over_sft", ppo, sft),
            ("ppo_over_base", ppo, base),
        ):
            result = compare(match_up(scores[policy.pk], scores[opponent.pk]))
            Evaluation.objects.create(
                run=run,
                round=round,
                policy=policy,
                opponent=opponent,
                judge=Evaluation.Judge.GOLD,
                **vars(result),
            )
            results[name] = shown(result)
            self.say(
                f"{policy} wins {result.win_rate:.1%} against {opponent} "
                f"({result.low:.1%} to {result.high:.1%}) by the gold measure"
            )
        return results

    def chat(self, guest: User) -> Message:
        answer = Conversation.start(project=self.project, guest=guest, text=QUESTION)
        async_to_sync(write_whole)(answer)
        answer.refresh_from_db()
        if answer.state != Message.State.DONE:
            raise CommandError(f"The chat did not answer. {answer.failure}")
        self.say(f"{QUESTION} {answer.text}")
        return answer

    def labels(self) -> dict[str, int]:
        return {
            "prompts": self.project.prompts.count(),
            "demonstrations": Demonstration.objects.current().of_project(self.project).count(),
            "completions": Completion.objects.filter(prompt__project=self.project).count(),
            "rankings": Ranking.objects.current().of_project(self.project).count(),
            "thumbs": Feedback.objects.current().of_project(self.project).count(),
        }

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.say(f"— {name}")
        started = time.monotonic()
        yield
        self.seconds[name] = round_to_tenth(time.monotonic() - started)

    def say(self, line: str) -> None:
        self.out.write(line)
        self.out.flush()


@transaction.atomic
def new_project() -> Project:
    """A project of its own for each turn: demo-wheel-1, demo-wheel-2…"""
    taken = set(Project.objects.values_list("slug", flat=True))
    number = next(n for n in range(1, len(taken) + 2) if f"demo-wheel-{n}" not in taken)
    return Project.objects.create(
        name=f"Demo wheel {number}",
        slug=f"demo-wheel-{number}",
        ranking_size=K,
        overlap=OVERLAP,
        rate_before_ranking=False,
    )


def short_enough(path: Path, longest: int) -> tuple[io.BytesIO, int]:
    """The file, with an empty line for each prompt that is longer; and how many those are."""
    kept, left_out = io.BytesIO(), 0
    for line in path.read_bytes().splitlines():
        try:
            row = parse_prompt(json.loads(line))
        except ValueError:  # the import says what is wrong with it
            row = None
        is_long = row and sum(len(message["content"]) for message in row.prompt) > longest
        kept.write(b"\n" if is_long else line + b"\n")
        left_out += bool(is_long)
    kept.seek(0)
    return kept, left_out


def run_figures(run: Run) -> dict[str, Any]:
    """What a run of this kind is judged by, and how that went."""
    if run.kind == Run.Kind.SFT:
        return {
            "sft_loss": course(run, "train", "loss"),
            "sft_test_loss": course(run, "test", "loss"),
        }
    if run.kind == Run.Kind.REWARD:
        names = ("accuracy", "accuracy_low", "accuracy_high", "longer_wins")
        return {
            "reward_model": {name: rounded(run.summary.get(name)) for name in names},
            "reward_loss": course(run, "train", "loss"),
        }
    if run.kind == Run.Kind.PPO:
        return {
            "ppo_score": course(run, "train", "objective/scores"),
            "ppo_kl": course(run, "train", "objective/kl"),
            "ppo_length": course(run, "train", "response/length"),
        }
    return {}


def course(run: Run, split: str, name: str) -> dict[str, Any]:
    """The first and the last value, and about nine of them by step."""
    rows = Metric.objects.filter(run=run, split=split, values__has_key=name).order_by("step")
    points = [(row.step, rounded(row.values[name])) for row in rows]
    if not points:
        raise CommandError(f"{run} has left no {name}.")
    some = [*points[:-1][:: max(1, len(points) // 8)], points[-1]]
    return {"first": points[0][1], "last": points[-1][1], "by_step": dict(some)}


def gold_is_good(answer: Message) -> bool:
    return bool(answer.text.strip()) and answer.finish_reason != "length"


def shown(result: Result) -> dict[str, Any]:
    rates = {name: rounded(getattr(result, name)) for name in ("win_rate", "low", "high")}
    return {**rates, "wins": result.wins, "ties": result.ties, "losses": result.losses}


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def round_to_tenth(seconds: float) -> float:
    return round(seconds, 1)


def base_folder(model: str) -> Path:
    return settings.DATA_DIR / "models" / f"base-{model}"
