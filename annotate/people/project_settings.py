"""What operators choose for a project: how work is handed out, reviewed, priced and kept."""

from __future__ import annotations

import re
from datetime import timedelta

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

MOST_TO_QUALIFY = 20


class ProjectSettings(models.Model):
    """The settings of a project, columns of its row."""

    class OwnPrompts(models.TextChoices):
        """What happens to prompts that labelers write."""

        NONE = "none", "not allowed"
        REVIEWED = "reviewed", "used once an operator accepts them"
        DIRECT = "direct", "used at once"

    class ThumbsDownWork(models.TextChoices):
        """What a bad answer in the chat asks of people."""

        WRITE = "write", "write a better answer"
        RANK = "rank", "rank it beside new drafts"
        NONE = "none", "nothing, it only waits in Feedback"

    ranking_size = models.PositiveSmallIntegerField(
        default=4,
        validators=[MinValueValidator(2), MaxValueValidator(9)],
        help_text="Completions shown in one ranking, 2 to 9.",
    )
    overlap = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(16)],
        help_text="How many people answer each task.",
    )
    shows_raw = models.BooleanField(
        default=False,
        help_text="Show texts letter by letter until somebody chooses the formatted view.",
    )
    rate_before_ranking = models.BooleanField(
        default=True, help_text="Also ask for a rating from 1 to 7."
    )
    write_lease_minutes = models.PositiveSmallIntegerField(
        default=30,
        validators=[MinValueValidator(1)],
        help_text="How long a writing task is reserved for one person. Saving a draft extends it.",
    )
    rank_lease_minutes = models.PositiveSmallIntegerField(
        default=15,
        validators=[MinValueValidator(1)],
        help_text="How long a ranking or review task is reserved for one person.",
    )
    edit_minutes = models.PositiveSmallIntegerField(
        default=120,
        db_default=120,
        validators=[MaxValueValidator(7 * 24 * 60)],
        help_text="How long an answer can be edited after it is submitted. 0: not at all.",
    )
    random_review_percent = models.PositiveSmallIntegerField(
        default=5,
        validators=[MaxValueValidator(100)],
        help_text="Share of answered tasks that is reviewed at random.",
    )
    low_agreement_percent = models.PositiveSmallIntegerField(
        default=60,
        validators=[MaxValueValidator(100)],
        help_text="Tasks whose labelers agree less than this are reviewed.",
    )
    too_fast_percent = models.PositiveSmallIntegerField(
        default=25,
        validators=[MaxValueValidator(100)],
        help_text="Answers that took less than this share of the median time are reviewed.",
    )
    review_flags = models.BooleanField(
        default=True, help_text="Review what a labeler flagged or called all bad."
    )
    new_writer_reviews = models.PositiveSmallIntegerField(
        default=3,
        validators=[MaxValueValidator(20)],
        help_text="A writer's answers are reviewed until this many score 6 or more on average.",
    )
    qualification_tasks = models.PositiveSmallIntegerField(
        default=10,
        validators=[MaxValueValidator(MOST_TO_QUALIFY)],
        help_text="Gold tasks a new labeler's work starts with, once there are that many. 0: none.",
    )
    qualification_percent = models.PositiveSmallIntegerField(
        default=75,
        validators=[MaxValueValidator(100)],
        help_text="Agreement with gold that a labeler needs to qualify.",
    )
    gold_every = models.PositiveSmallIntegerField(
        default=20, help_text="One ranking task in this many is hidden gold. 0: none."
    )
    own_prompts = models.CharField(
        max_length=10,
        choices=OwnPrompts,
        default=OwnPrompts.NONE,
        db_default=OwnPrompts.NONE,
        help_text="What happens to prompts that labelers write.",
    )
    labelers_try = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Labelers can ask the models in the playground, and read templates and documents."
        " They then see which model says what.",
    )
    use_cases = models.TextField(
        blank=True,
        default="",
        db_default="",
        max_length=5000,
        help_text="What labelers write prompts for, one per line. A prompt gets its line as a tag.",
    )
    snippets = models.TextField(blank=True, default="", db_default="", max_length=20_000)
    challenger_percent = models.PositiveSmallIntegerField(
        default=10,
        validators=[MaxValueValidator(100)],
        help_text="Share of chats that the challenger answers, if there is one.",
    )
    two_drafts_percent = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        validators=[MaxValueValidator(100)],
        help_text="Share of chat questions answered by two drafts, of which the guest picks the"
        " better one without knowing who wrote which. 0: none.",
    )
    thumbs_down_work = models.CharField(
        max_length=10,
        choices=ThumbsDownWork,
        default=ThumbsDownWork.WRITE,
        db_default=ThumbsDownWork.WRITE,
        help_text="What a thumbs down asks labelers to do.",
    )
    thumbs_down_priority = models.SmallIntegerField(
        default=10,
        db_default=10,
        validators=[MinValueValidator(-100), MaxValueValidator(100)],
        help_text="Priority of that task. Higher comes first; other tasks have 0.",
    )
    new_guest_days = models.PositiveSmallIntegerField(
        default=7,
        help_text="Thumbs from guests with newer accounts are used for training only once a"
        " reviewer approves them. 0: all are used.",
    )
    currency = models.CharField(
        max_length=3,
        blank=True,
        default="",
        db_default="",
        validators=[RegexValidator(r"^[A-Z]{3}$", "Enter three capital letters, like EUR.")],
        help_text="Three letters, like EUR: what all prices here are in.",
    )
    machine_price = models.DecimalField(
        max_digits=10,
        decimal_places=4,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="What an hour of the machine costs that trains models and answers with them.",
    )
    wage = models.DecimalField(
        max_digits=10,
        decimal_places=4,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="What an hour of labeling costs.",
    )
    keep_chats_days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Chats in which nobody has written for this many days are deleted, as if their"
        " guests did it. Empty: never.",
    )
    keep_api_days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Exchanges that products sent through the API are deleted after this many days."
        " Empty: never.",
    )
    keep_uploads_days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Uploaded files left without import for this many days are deleted. Empty: at the"
        " next upload after two days.",
    )
    keep_drafts_days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Drafts that labelers have left for this many days are deleted. Empty: never.",
    )

    class Meta:
        abstract = True

    @property
    def edit_window(self) -> timedelta:
        """How long after its submit an answer may be edited."""
        return timedelta(minutes=self.edit_minutes)

    @property
    def named_snippets(self) -> list[tuple[str, str]]:
        """(name, text) of what writers can insert. A line "## Name" begins each."""
        parts = re.split(r"^## +(.+)$", self.snippets, flags=re.MULTILINE)
        return [
            (name.strip(), text.strip("\n"))
            for name, text in zip(parts[1::2], parts[2::2], strict=True)
        ]

    @property
    def takes_own_prompts(self) -> bool:
        """Whether labelers may write prompts here."""
        return self.own_prompts != self.OwnPrompts.NONE

    @property
    def use_case_names(self) -> list[str]:
        """The use cases prompts may be written for, one a line of the setting."""
        return [line.strip() for line in self.use_cases.splitlines() if line.strip()]
