"""What is asked."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Exists, Func, Q, Value
from django.db.models.functions import Cast, Lower, Now, Replace
from django.db.models.functions.text import MD5

from annotate.ids import id_in
from annotate.people.models import Project, User
from annotate.prompts.search import condition, folded_texts, grams

Messages = list[dict[str, str]]

SAMPLE = 2000  # prompts from which tags and sources are suggested
ROLES = ("system", "user", "assistant")
LONGEST_PROMPT = 32_000  # characters of all its messages, wherever they are written


def validate_messages(messages: Any) -> None:
    """A conversation that waits for an answer: role/content pairs, the last one the user's."""
    if not isinstance(messages, list) or not messages:
        raise ValidationError("There is no prompt: give a text, or a list of messages.")
    validate_turns(messages)
    if any(message["role"] == "system" for message in messages[1:]):
        raise ValidationError("A system message may only come first.")
    if messages[-1]["role"] != "user":
        raise ValidationError("The last message of a prompt must come from the user.")


def validate_turns(messages: Any) -> None:
    if not isinstance(messages, list):
        raise ValidationError("Messages are a list of {role, content}.")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise ValidationError(f"Message {number} must have a role and a content, nothing else.")
        if message["role"] not in ROLES:
            raise ValidationError(
                f"Message {number}: the role must be one of {', '.join(ROLES)}, "
                f"not {message['role']!r}."
            )
        if not isinstance(message["content"], str) or not message["content"].strip():
            raise ValidationError(f"Message {number} has no text.")
        if "\x00" in message["content"]:
            raise ValidationError(f"Message {number} contains a NUL character.")


PLACE_OF_PROMPT = "{prompt}"


def validate_prompt_format(text: str) -> None:
    if text and text.count(PLACE_OF_PROMPT) != 1:
        raise ValidationError("Write {prompt} once, where the prompt goes.")


CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def content_hash(value: Any) -> str:
    """The sha256, in hex, of the canonical JSON of `value`."""
    return hashlib.sha256(CANONICAL.encode(value).encode()).hexdigest()


def prompt_key(messages: Messages) -> str:
    """The same for the same conversation, whatever ends its lines and however its accents are
    composed (Unicode NFC): it is one prompt, in one split."""
    return content_hash([each | {"content": _spelled(each["content"])} for each in messages])


def _spelled(text: str) -> str:
    if text.isascii() and "\r" not in text:
        return text
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def split_of(digest: str) -> str:
    """The split a content hash falls into: 80 % train, 10 % validation, 10 % test, for ever."""
    bucket = int(digest[:8], 16) % 100
    if bucket < 80:
        return Prompt.Split.TRAIN
    return Prompt.Split.VALIDATION if bucket < 90 else Prompt.Split.TEST


FROM_CHAT = "chat"  # the source of prompts that guests asked
GOAL = "goal of a talk"  # the source of what talks are about: no prompts that models answer
TAKEN_BACK = "taken back"  # the source of prompts whose guest has deleted the chat


class PromptQuerySet(models.QuerySet["Prompt"]):
    def in_split(self, *splits: str) -> PromptQuerySet:
        return self.filter(split__in=splits)

    def matching(self, words: str) -> PromptQuerySet:
        """Search as on the web: all words, "a phrase", OR, -without; see `search`."""
        return self.filter(condition(words)) if words else self

    def from_source(self, source: str) -> PromptQuerySet:
        return self.filter(source=source)

    def tagged(self, tag: str) -> PromptQuerySet:
        return self.filter(tags__contains=[tag])

    def active(self, at: datetime | None = None) -> PromptQuerySet:
        """Without the archived ones; now, or as it was at that moment."""
        in_use = Q(archived_at=None)
        return self.filter(in_use | Q(archived_at__gt=at) if at else in_use)

    def archived(self) -> PromptQuerySet:
        """Without those that were taken back: nobody may restore these."""
        kept = self.accepted().exclude(archived_at=None)
        return kept.exclude(source__in=(TAKEN_BACK, GOAL))

    def waiting(self) -> PromptQuerySet:
        """Those by labelers about which no operator has decided yet; out of use till then."""
        return self.filter(awaits_review=True)

    def accepted(self) -> PromptQuerySet:
        return self.filter(awaits_review=False)

    def of_kind(self, kind: str) -> PromptQuerySet:
        return self.filter(kind=kind)

    def by(self, author: User) -> PromptQuerySet:
        """Those this labeler has thought of here, without what they said in talks."""
        return self.exclude(kind__in=("", Prompt.Kind.TALK)).filter(author=author)

    def without_reference(self) -> PromptQuerySet:
        return self.filter(reference="")

    def chosen(self, ids: Iterable[str]) -> PromptQuerySet:
        """Those of these ids."""
        return self.filter(pk__in={id_in(each) for each in ids} - {None})

    def tag(self, name: str) -> int:
        """Gives each this tag; returns how many did not have it."""
        tag = Cast(models.Value(name), models.CharField(max_length=50))
        more = models.Func("tags", tag, function="array_append")
        return self.exclude(tags__contains=[name]).update(tags=more)

    @transaction.atomic
    def archive(self) -> int:
        """Puts them out of use: nobody is asked about them any more, their labels stay."""
        self._close_tasks()
        return self.active().update(archived_at=Now())

    def accept(self) -> int:
        """Takes what labelers wrote into use, with the demonstrations they wrote for it."""
        return self.waiting().update(awaits_review=False, archived_at=None)

    @transaction.atomic
    def decline(self) -> int:
        """Leaves what labelers wrote out of use, archived like any other prompt."""
        waiting = self.waiting()
        waiting._close_tasks()
        return waiting.update(awaits_review=False)

    def _close_tasks(self) -> None:
        tasks = Prompt._meta.apps.get_model("annotate", "Task").objects
        tasks.filter(prompt__in=self, closed_at=None).update(closed_at=Now())

    def restore(self) -> int:
        return self.archived().update(archived_at=None)

    def take_back(self) -> None:
        """Whoever asked them wants them out of use: as if they had been archived from the first, so
        that no round learns of them, whatever moment it looks at."""
        self._close_tasks()
        self.update(source=TAKEN_BACK, archived_at=models.F("created_at"))

    def refer_to(self, answers: Mapping[int, str]) -> int:
        """Gives prompts, by their ids, a reference answer, and leaves those that have one. Returns
        how many had none."""
        found: list[Prompt] = list(self.filter(pk__in=answers, reference="").only("pk"))
        for prompt in found:
            prompt.reference = answers[prompt.pk]
        return Prompt.objects.bulk_update(found, ["reference"])

    def give_again(self, *, source: str) -> None:
        """Those that were taken back are asked anew."""
        self.filter(source=TAKEN_BACK).update(source=source, archived_at=None)

    def with_work(self, what: str) -> PromptQuerySet:
        """Those for which there is a current label, or anything a policy said; see `Work`."""
        if what == Prompt.Work.UNLABELLED:
            return self.filter(
                ~Exists(_rows_of(Prompt.Work.RANKED)), ~Exists(_rows_of(Prompt.Work.DEMONSTRATED))
            )
        # Looked up row by row, in the order of the list: EXISTS would be joined as a whole.
        first = models.Subquery(_rows_of(what).order_by().values("pk")[:1])
        return self.alias(first=first).exclude(first=None)

    def flagged(self, reason: str = "") -> PromptQuerySet:
        """Those labelers hold something against, for any reason or this one."""
        flags = _open_flags()
        return self.filter(Exists(flags.filter(reason=reason) if reason else flags))

    def ids_by_hash(self, project: Project, hashes: Iterable[str]) -> dict[str, int]:
        rows = self.filter(project=project, content_hash__in=list(hashes))
        return dict(rows.values_list("content_hash", "pk"))

    def sources(self) -> list[str]:
        """Where the newest prompts came from, each place once."""
        newest = self.order_by("-pk").values_list("source", flat=True)[:SAMPLE]
        return sorted(set(newest) - {""})

    def tags(self) -> list[str]:
        """The tags of the newest prompts, each once."""
        newest = self.order_by("-pk").values_list("tags", flat=True)[:SAMPLE]
        return sorted({tag for tags in newest for tag in tags})

    def with_counts(self) -> PromptQuerySet:
        """Adds how many completions, demonstrations and rankings each prompt has now."""

        def count_of(work: str) -> models.expressions.Combinable:
            rows = _rows_of(work).order_by().values("prompt")
            counts = rows.annotate(n=models.Count("pk")).values("n")
            return models.functions.Coalesce(models.Subquery(counts), 0)

        return self.annotate(
            completion_count=count_of(Prompt.Work.COMPLETED),
            demonstration_count=count_of(Prompt.Work.DEMONSTRATED),
            ranking_count=count_of(Prompt.Work.RANKED),
        )

    def with_flags(self) -> PromptQuerySet:
        """Adds `flag_reasons`: what for labelers have flagged each, and no lead has settled it."""
        return self.annotate(flag_reasons=ArraySubquery(_open_flags().values("reason")))

    def ranked_least(self, count: int) -> list[Prompt]:
        now = Q(rankings__superseded_by=None, rankings__retracted=False)
        ranked = self.annotate(ranked=models.Count("rankings", filter=now))
        return list(ranked.order_by("ranked", "pk")[:count])

    def with_completions(self, k: int) -> PromptQuerySet:
        """Prompts with at least `k` different completions."""
        return self.annotate(
            different=models.Count("completions__text_hash", distinct=True)
        ).filter(different__gte=k)


def _rows_of(work: str) -> models.QuerySet[Any]:
    """The labels, or the completions, of the prompt of the query around."""
    model, which = WORK[work]
    rows = Prompt._meta.apps.get_model("annotate", model).objects
    return rows.filter(prompt=models.OuterRef("pk"), **which)


def _open_flags() -> models.QuerySet[Any]:
    """Those on the prompt of the query around."""
    flags = Prompt._meta.apps.get_model("annotate", "PromptFlag").objects
    return flags.filter(prompt=models.OuterRef("pk"), settled_at=None)


class Prompt(models.Model):
    class Split(models.TextChoices):
        TRAIN = "train"
        VALIDATION = "validation"
        TEST = "test"

    class Kind(models.TextChoices):
        """How a labeler came to write it (InstructGPT, section 3.2)."""

        PLAIN = "plain", "plain"
        FEW_SHOT = "few_shot", "few-shot"
        USE_CASE = "use_case", "for a use case"
        TALK = "talk", "in a talk"

    class Work(models.TextChoices):
        DEMONSTRATED = "demonstrated"
        RANKED = "ranked"
        COMPLETED = "completed", "has completions"
        UNLABELLED = "unlabelled", "no label yet"

    project = models.ForeignKey(Project, models.CASCADE, related_name="prompts")
    messages = models.JSONField(validators=[validate_messages])
    text = models.TextField(editable=False, help_text="The last user message, for lists.")
    content_hash = models.CharField(max_length=64, editable=False)
    split = models.CharField(max_length=10, choices=Split, editable=False)
    split_key = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text="A hash that decides the split instead of the content's: of the guest who asked, "
        "or of the few-shot group.",
    )
    reference = models.TextField(
        blank=True,
        default="",
        db_default="",
        help_text="The right answer, where one is known: checks compare with it. "
        "Labelers do not see it.",
    )
    source = models.CharField(max_length=100, blank=True)
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    author = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    kind = models.CharField(
        max_length=10,
        choices=Kind,
        blank=True,
        default="",
        db_default="",
        help_text="Of a labeler's prompt.",
    )
    awaits_review = models.BooleanField(default=False, db_default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    archived_at = models.DateTimeField(null=True, editable=False, help_text="Put out of use.")
    folded = models.TextField(
        editable=False, db_default="", help_text="The texts of all messages, for search."
    )
    search = SearchVectorField(
        editable=False, db_default=Value("", models.TextField()), help_text="The index of `folded`."
    )
    # A hash of the conversation without blanks, capitals and punctuation. JSON writes the end of a
    # line as \n. Kept, because to compute it for a hundred thousand prompts takes two seconds.
    spelling = models.GeneratedField(
        expression=MD5(
            Func(
                Lower(Replace(Cast("messages", models.TextField()), Value(r"\n"), Value(""))),
                Value(" .,;:!?"),
                Value(""),
                function="translate",
                output_field=models.TextField(),
            )
        ),
        output_field=models.CharField(max_length=32),
        db_persist=True,
    )

    objects = PromptQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "content_hash"], name="one_prompt_a_content"
            ),
            models.CheckConstraint(
                condition=Q(awaits_review=False) | Q(archived_at__isnull=False),
                name="out_of_use_while_it_waits",
            ),
        ]
        indexes = [
            models.Index(fields=["project", "id"]),
            models.Index(fields=["project", "split", "id"]),
            models.Index(fields=["project", "source", "id"]),
            models.Index(
                fields=["project", "author", "id"], condition=~Q(kind=""), name="prompts_written"
            ),
            models.Index(
                fields=["project", "id"], condition=Q(awaits_review=True), name="prompts_to_review"
            ),
            GinIndex(fields=["tags"], name="prompts_by_tag"),
            GinIndex(fields=["search"], name="prompts_by_word"),
        ]

    def __str__(self) -> str:
        return self.text[:60]

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.derive()
        super().save(*args, **kwargs)

    def derive(self) -> Prompt:
        """Sets what follows from the messages. `bulk_create` skips save(): call this before it."""
        self.text = self.messages[-1]["content"]
        key = prompt_key(self.messages)
        if not self._is_twin:
            self.content_hash = key
        self.split = split_of(self.split_key or key)
        self.folded = folded_texts(self.messages)
        self.search = grams(self.folded)
        return self

    @property
    def _is_twin(self) -> bool:
        """Whether it was stored beside a prompt of the same key, which has the hash of the key."""
        return bool(self.pk) and self.content_hash == content_hash(self.messages)


CURRENT = {"superseded_by": None, "retracted": False}
WORK: dict[str, tuple[str, dict[str, Any]]] = {
    Prompt.Work.COMPLETED: ("Completion", {}),
    Prompt.Work.DEMONSTRATED: ("Demonstration", CURRENT),
    Prompt.Work.RANKED: ("Ranking", CURRENT),
}
