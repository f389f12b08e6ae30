"""Learning from whole rankings: what the reward model and DPO have in common.

`data.train` and `data.test` are rankings (or pairs); without a test file a share of the *prompts*
is held out. One element is a prompt with its K completions, each encoded once; all its comparisons
enter one loss with weights that sum to 1: K = 9 does not count more than K = 2 and nothing is seen
twice.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor

from rlhf.learning.contract.figures import agreement_figures, correct, ranking_figures
from rlhf.learning.contract.hyperparameters import OnRankings
from rlhf.learning.contract.reading import read_rankings
from rlhf.learning.contract.records import DataError, Judged, Ranking, aggregate, agreement_weights
from rlhf.learning.models.folders import renderer
from rlhf.learning.models.losses import pairwise_loss
from rlhf.learning.models.networks import collate
from rlhf.learning.models.render import Encoded, cut_share
from rlhf.learning.models.scoring import in_order
from rlhf.learning.run.run_folder import RunFolder
from rlhf.learning.run.training import Epochs, Learner, by_length


@dataclass(frozen=True)
class Element:
    """A prompt with its K completions, encoded, and what people said of them."""

    judged: Judged
    rows: list[Encoded]

    @property
    def length(self) -> int:
        return max(len(row.ids) for row in self.rows)


class RankingLearner(Learner):
    """Subclasses make `self.optimiser` over a network that gives one number a row."""

    settings: OnRankings

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        super().__init__(folder, accelerator)
        assert isinstance(self.config.train, OnRankings)
        self.settings = settings = self.config.train
        self.render = renderer(folder.resolve(self.config.models.policy), self.config.day)
        rankings = self._weigh(read_rankings(folder.data("train")))
        everything = aggregate(rankings, settings.ties)
        if self.config.data.test:
            held_out = aggregate(read_rankings(folder.data("test")))
            kept = everything
        else:
            kept, held = hold_out(everything, settings.holdout)
            # Half a vote each way may teach; as a question it would have no right answer.
            held_out = aggregate(ranking for each in held for ranking in each.rankings)
        if not kept:
            raise DataError("no ranking tells its completions apart")
        self.elements = self._encoded(kept)
        if not self.elements:
            raise DataError(
                "no ranking tells apart what is left of its completions after the cut to"
                f" {settings.max_completion_tokens} tokens (max_completion_tokens)"
            )
        self.test_elements = self._encoded(held_out)
        held_out_labelers = self.config.data.held_out_labelers
        unseen = read_rankings(folder.data("held_out_labelers")) if held_out_labelers else []
        self.unseen_elements = self._encoded(aggregate(unseen))
        taught = [row for element in self.elements for row in element.rows]
        self.truncated = cut_share(taught, settings.max_completion_tokens)
        self.labelers = {each.labeler for one in kept for each in one.rankings}
        self.epochs = Epochs(
            [element.length for element in self.elements], settings.batch_size, self.seed
        )
        self.total_steps = settings.epochs * self.epochs.steps_per_epoch

    def _weigh(self, rankings: list[Ranking]) -> list[Ranking]:
        return agreement_weights(rankings) if self.settings.reliability == "agreement" else rankings

    def _encoded(self, judged: Sequence[Judged]) -> list[Element]:
        """Without what cannot be told apart; how many comparisons that were is said."""
        elements = [element for each in judged if (element := self._encode(each))]
        before = sum(len(each.comparisons) for each in judged)
        if lost := before - sum(len(each.judged.comparisons) for each in elements):
            self.folder.say(
                f"{lost} of {before} comparisons are left out: both answers are the same, or are"
                f" after the cut to {self.settings.max_completion_tokens} tokens"
            )
        return elements

    def _encode(self, judged: Judged) -> Element | None:
        """None where all that its comparisons tell apart is the same tokens."""
        room = self.settings.max_completion_tokens
        rows = [
            self.render.encode(judged.prompt, text, room, finished)
            for text, finished in zip(judged.completions, judged.finished, strict=True)
        ]
        if empty := [i for i, row in enumerate(rows, 1) if not row.completion]:
            raise DataError(
                f"prompt {judged.prompt.id}: completion {empty[0]} has no token to learn from"
            )
        same = {
            frozenset((each.better, each.worse))
            for each in judged.comparisons
            if rows[each.better].completion == rows[each.worse].completion
        }
        told_apart = judged.without(same)
        return Element(told_apart, rows) if told_apart else None

    @abstractmethod
    def scores(self, rows: Sequence[Encoded]) -> Tensor:
        """Scores of rows, the row first, with gradient, by way of `forward`."""

    def opinion(self, scores_K: Tensor) -> Tensor:
        """One number a row."""
        return scores_K

    @abstractmethod
    def raw(self, rows: Sequence[Encoded]) -> list[float]:
        """Scores of rows, for looking only."""

    def update(self, step: int) -> dict[str, float]:
        started = time.perf_counter()
        batch = [self.elements[i] for i in self.epochs.rows(step)]
        sums: dict[str, float] = defaultdict(float)
        losses = [
            partial(self._loss, elements, len(batch), sums)
            for elements in by_length(
                self.share(batch), lambda element: element.length, self.settings.micro_batch_size
            )
        ]
        [norm] = self.optimiser.step([losses], lambda: self.forward(batch[0].rows[:1]))
        loss, right, margin, better, weight = self.total(
            *(sums[name] for name in ("loss", "right", "margin", "better", "weight"))
        )
        seconds = time.perf_counter() - started
        comparisons = sum(len(element.judged.comparisons) for element in batch)
        tokens = sum(len(row.ids) for element in batch for row in element.rows)
        return {
            "loss": loss,
            "reward/accuracy": right / weight,
            "reward/margin": margin / weight,
            "reward/chosen": better / weight,
            "reward/rejected": (better - margin) / weight,
            "gradient/norm": norm,
            "epoch": (step + 1) / self.epochs.steps_per_epoch,
            "data/tokens": tokens,
            "data/truncated": self.truncated,
            "speed/comparisons_per_s": comparisons / seconds,
            "speed/tokens_per_s": tokens / seconds,
        }

    def _loss(self, elements: list[Element], prompts: int, sums: dict[str, float]) -> Tensor:
        scores = self.scores([row for element in elements for row in element.rows])
        loss, start = torch.zeros((), device=self.device), 0
        for element in elements:
            scores_K = scores[start : start + len(element.rows)]
            start += len(element.rows)
            loss = loss + self.element_loss(scores_K, element.judged)
            plain = self.opinion(scores_K.detach()).tolist()
            for pair in element.judged.comparisons:
                better, worse, share = plain[pair.better], plain[pair.worse], pair.weight
                sums["right"] += share * correct(better - worse)
                sums["margin"] += share * (better - worse)
                sums["better"] += share * better
                sums["weight"] += share
        loss = loss / prompts
        sums["loss"] += float(loss.detach())
        return loss

    def element_loss(self, scores_K: Tensor, judged: Judged) -> Tensor:
        return element_loss(scores_K, judged, self.settings.margin)

    def forward(self, rows: Sequence[Encoded]) -> Tensor:
        """The network's number for each row, rows of like length together to spare padding."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
        size = len(order) if self.accelerator.num_processes > 1 else self.settings.forward_rows
        pieces = []
        for start in range(0, len(order), size):
            chosen = [rows[i] for i in order[start : start + size]]
            with self.accelerator.autocast():
                pieces.append(
                    self.optimiser.module(collate(chosen, self.render.pad, self.device)).float()
                )
        return in_order(pieces, order, self.device)

    def evaluate(self, step: int) -> None:
        if self.test_elements:
            self.folder.metrics(step, "test", self.measure(self.test_elements)[0])
        if self.unseen_elements:
            self.folder.metrics(step, "labelers", self.measure(self.unseen_elements)[0])

    def measure(self, elements: Sequence[Element]) -> tuple[dict[str, float], dict[str, float]]:
        """(the figures of a step, the finer ones of the end)."""
        flat = iter(self.raw([row for element in elements for row in element.rows]))
        scores = [[next(flat) for _ in element.rows] for element in elements]
        lengths = [[len(row.completion) for row in element.rows] for element in elements]
        judged = [element.judged for element in elements]
        return (
            ranking_figures(judged, scores, lengths),
            agreement_figures(judged, scores, self.labelers),
        )

    def final_figures(self, step: int) -> dict[str, float | bool | None]:
        """Write the `final` row and return what the summary says of it: of rankings that taught
        nothing, and of no others."""
        plain: dict[str, float] = {}
        if self.test_elements:
            plain, finer = self.measure(self.test_elements)
            self.folder.metrics(step, "final", plain | finer)
        names = ("accuracy", "accuracy_low", "accuracy_high", "longer_wins")
        held_out_labelers = self.measure(self.unseen_elements)[0] if self.unseen_elements else {}
        return {
            "held_out": bool(self.test_elements),
            **{name: plain.get(f"reward/{name}") for name in names},
            "held_out_labelers_accuracy": held_out_labelers.get("reward/accuracy"),
        }


def element_loss(scores_K: Tensor, judged: Judged, margin: float) -> Tensor:
    """Pairwise loss of one ranked prompt, over all its comparisons; their weights sum to 1."""
    pairs = judged.comparisons
    index = torch.tensor([[pair.better, pair.worse] for pair in pairs], device=scores_K.device)
    numbers = torch.tensor(
        [[pair.weight, margin * pair.strength] for pair in pairs], device=scores_K.device
    )
    return pairwise_loss(scores_K, index[:, 0], index[:, 1], numbers[:, 0], numbers[:, 1])


def hold_out(judged: Sequence[Judged], share: float) -> tuple[list[Judged], list[Judged]]:
    """Whole prompts, chosen by the hash of their content: the same ones every time."""

    def is_held(each: Judged) -> bool:
        return int(each.prompt.key[:8], 16) / 0xFFFFFFFF < share

    held = [each for each in judged if is_held(each)]
    kept = [each for each in judged if not is_held(each)]
    return (kept, held) if kept else (list(judged), [])
