"""Projects, the people in them, and the guidelines they work by."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from annotate.people.project_settings import ProjectSettings
from feedback_site.prepared import prepared


class User(AbstractUser):
    # A simulated labeler says so on every page and in every export.
    is_simulated = models.BooleanField(default=False)
    links_used = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    sessions_ended = models.PositiveIntegerField(
        default=0,
        db_default=0,
        editable=False,
        help_text="How often all their other browsers were signed out.",
    )
    notices_by_mail = models.BooleanField(
        "Send me notices by e-mail",
        default=False,
        db_default=False,
        help_text="When a run ends, fails or pauses, or a batch is done, in projects you operate.",
    )

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        known: str = super()._get_session_auth_hash(secret)  # type: ignore[misc]
        return f"{known}{self.sessions_ended}" if self.sessions_ended else known

    @property
    def display_name(self) -> str:
        """The name people see, with “(simulated)” where no person stands behind it."""
        name = self.get_full_name() or self.username
        return f"{name} (simulated)" if self.is_simulated else name

    @property
    def labeler_name(self) -> str:
        """The name under which this person's labels travel: see `Project.labeler_named`."""
        return self.username.partition(":")[2] or self.username


class ProjectQuerySet(models.QuerySet["Project"]):
    def of(self, user: User) -> ProjectQuerySet:
        return self.filter(
            memberships__user=user, memberships__state=Membership.State.ACTIVE
        ).distinct()

    def to_tidy(self, every: timedelta) -> ProjectQuerySet:
        """Keeps those that have a period after which something is deleted, and whose periods were
        not applied for so long."""
        names = ("keep_chats_days", "keep_api_days", "keep_uploads_days", "keep_drafts_days")
        has_one = Q(*((name + "__isnull", False) for name in names), _connector=Q.OR)
        waits = Q(tidied_at=None) | Q(tidied_at__lt=Now() - every)
        return self.filter(has_one, waits).order_by("pk")

    def to_look_over(self, every: timedelta) -> ProjectQuerySet:
        """Keeps those whose labelers were not looked at for so long, the longest first."""
        waits = Q(labelers_seen_at=None) | Q(labelers_seen_at__lt=Now() - every)
        return self.filter(waits).order_by(F("labelers_seen_at").asc(nulls_first=True), "pk")


class Project(ProjectSettings):
    name = models.CharField(max_length=100)
    slug = models.SlugField(unique=True)
    tidied_at = models.DateTimeField(null=True, help_text="When the periods above were applied.")
    labelers_seen_at = models.DateTimeField(
        null=True, help_text="When it was last looked whether a labeler drifts."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ProjectQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def guideline(self) -> Guideline | None:
        """The guideline in force: the newest version."""
        return _guidelines.first(project=self.pk)

    def hold(self) -> None:
        """Holds its row till the transaction ends: two people who open the same work at once do
        not open it twice."""
        Project.objects.select_for_update(no_key=True).get(pk=self.pk)

    @transaction.atomic
    def admit(self, *, name: str, role: str) -> User:
        """Makes `name` a member, without asking: for whoever runs the site. Operators invite. A new
        person has no password, and comes in by a sign-in link."""
        person, _ = User.objects.get_or_create(
            username=name, defaults={"password": make_password(None)}
        )
        membership, is_new = self.memberships.update_or_create(user=person, defaults={"role": role})
        if not is_new and membership.state == Membership.State.LEFT:
            membership.come_back(role=role)
        return person

    @transaction.atomic
    def publish_guideline(self, *, text: str, author: User | None) -> Guideline:
        """Stores a new version, which all members must read before they go on; returns it."""
        Project.objects.select_for_update().get(pk=self.pk)
        current = self.guideline
        version = current.version + 1 if current else 1
        return self.guidelines.create(version=version, text=text, author=author)

    @transaction.atomic
    def labeler_named(self, name: str, *, simulated: bool = False) -> User:
        """The member of this name, or else somebody known only from imported labels.

        Such a person cannot sign in. The username begins with the project's slug and a colon, which
        no real one can have: a stranger's name never leads to a member of another project."""
        member = User.objects.filter(username=name, memberships__project=self).first()
        if member:
            return member
        labeler, is_new = User.objects.get_or_create(
            username=f"{self.slug}:{name}",
            defaults={
                "is_active": False,
                "is_simulated": simulated,
                "first_name": name,
                "password": make_password(None),
            },
        )
        if is_new:
            paused, role = Membership.State.PAUSED, Membership.Role.LABELER
            self.memberships.create(user=labeler, role=role, state=paused)
        return labeler


class MembershipQuerySet(models.QuerySet["Membership"]):
    def operating(self) -> MembershipQuerySet:
        return self.active().in_role(Membership.Role.OPERATOR)

    def in_role(self, role: str) -> MembershipQuerySet:
        return self.filter(role=role)

    def here(self) -> MembershipQuerySet:
        """Without those who have left."""
        return self.exclude(state=Membership.State.LEFT)

    def matching(self, words: str) -> MembershipQuerySet:
        """Keeps those of people whose names contain all of these words, by name."""
        found = self.select_related("user").order_by("user__username")
        for word in words.split():
            named = Q(user__username__icontains=word) | Q(user__first_name__icontains=word)
            found = found.filter(named | Q(user__last_name__icontains=word))
        return found

    def untold_of_drift(self, since: datetime) -> MembershipQuerySet:
        """Keeps those of whose drift nobody was told since then."""
        untold = Q(drift_told_at=None) | Q(drift_told_at__lt=since)
        return self.filter(untold).select_related("user", "project")

    def of_real_people(self) -> MembershipQuerySet:
        """Without those who are known only from imported labels."""
        return self.filter(user__is_active=True)

    def active(self) -> MembershipQuerySet:
        return self.filter(state=Membership.State.ACTIVE).select_related("project")

    def not_vouched_for(self, at: datetime | None = None) -> MembershipQuerySet:
        """Guests whom no reviewer has vouched for; now, or at that moment."""
        unknown = Q(vouched_at=None) | Q(vouched_at__gt=at) if at else Q(vouched_at=None)
        return self.filter(unknown, role=Membership.Role.GUEST)

    def newcomers(self, at: datetime | None = None) -> MembershipQuerySet:
        """Guests with a young account whom no reviewer has vouched for; now, or at that moment."""
        days = models.F("project__new_guest_days") * models.Value(timedelta(days=1))
        young = models.ExpressionWrapper(
            models.F("user__date_joined") + days, output_field=models.DateTimeField()
        )
        return self.not_vouched_for(at).alias(known_from=young).filter(known_from__gt=at or Now())

    def with_guideline(self) -> MembershipQuerySet:
        """Adds `guideline_version`: the version in force, None where there is none."""
        versions = Guideline.objects.filter(project=models.OuterRef("project")).order_by("-version")
        return self.annotate(guideline_version=models.Subquery(versions.values("version")[:1]))


class Membership(models.Model):
    class Role(models.TextChoices):
        LABELER = "labeler"
        REVIEWER = "reviewer"
        OPERATOR = "operator"
        GUEST = "guest"

    class State(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"
        LEFT = "left"

    project = models.ForeignKey(Project, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    state = models.CharField(max_length=10, choices=State, default=State.ACTIVE)
    qualified_at = models.DateTimeField(null=True)
    requalify_since = models.DateTimeField(null=True)
    guideline_read = models.PositiveIntegerField(
        default=0, db_default=0, help_text="The guideline version this member has acknowledged."
    )
    excluded_at = models.DateTimeField(
        null=True, help_text="Since when no new snapshot takes this labeler's labels."
    )
    vouched_at = models.DateTimeField(
        null=True, help_text="Since when a new guest's thumbs may train: a reviewer has looked."
    )
    drift_told_at = models.DateTimeField(
        null=True, help_text="When the operators were last told that this labeler drifts."
    )
    languages = ArrayField(
        models.CharField(max_length=3), default=list, db_default=[], help_text="de, en: ISO 639."
    )
    skills = ArrayField(models.CharField(max_length=50), default=list, db_default=[])

    objects = MembershipQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "user"], name="one_membership_a_person")
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.project}"

    @property
    def has_read_guideline(self) -> bool:
        """Whether the version in force is acknowledged; of a member from `with_guideline`."""
        return self.guideline_read >= (getattr(self, "guideline_version", None) or 0)

    def acknowledge(self, guideline: Guideline) -> None:
        """Notes that this member has read that version."""
        self._set(guideline_read=guideline.version)

    @transaction.atomic
    def pause(self) -> None:
        """Keeps this member out till `resume`; what they did stays. Raises ValidationError for who
        has left, and for the last operator."""
        self._be_here()
        self._leave_an_operator()
        self._set(state=self.State.PAUSED)

    @transaction.atomic
    def act_as(self, role: str) -> None:
        """Changes what this member may do here. What they have done stays theirs."""
        self._be_here()
        if role != self.Role.OPERATOR:
            self._leave_an_operator()
        self._set(role=self.Role(role))

    @transaction.atomic
    def leave(self) -> None:
        """Ends the membership, by its owner's wish or an operator's. Labels stay, and so does what
        was said of them; only an invitation leads back."""
        self._leave_an_operator()
        self._set(state=self.State.LEFT)

    def come_back(self, *, role: str) -> None:
        """Makes a member of somebody who had left, in this role."""
        self._set(state=self.State.ACTIVE, role=self.Role(role))

    def _be_here(self) -> None:
        if self.state == self.State.LEFT:
            raise ValidationError(f"{self.user.display_name} has left: invite them again.")

    def _leave_an_operator(self) -> None:
        """Somebody else must be able to let people in again."""
        Project.objects.select_for_update(no_key=True).get(pk=self.project_id)
        operators = Membership.objects.active().filter(
            project=self.project_id, role=self.Role.OPERATOR
        )
        if self.role == self.Role.OPERATOR and not operators.exclude(pk=self.pk).exists():
            raise ValidationError(
                "Nobody else operates this project. Make somebody else an operator first."
            )

    def resume(self) -> None:
        """Lets a paused member in again. Raises ValidationError for who has left."""
        self._be_here()
        self._set(state=self.State.ACTIVE)

    def exclude(self) -> None:
        """Leaves this labeler's labels out of the snapshots frozen from now on."""
        self._set(excluded_at=timezone.now())

    def include(self) -> None:
        """Takes `exclude` back: snapshots frozen from now on hold this labeler's labels again."""
        self._set(excluded_at=None)

    def vouch(self) -> None:
        """Lets a new guest's thumbs train."""
        self._set(vouched_at=timezone.now())

    def know(self, *, languages: Sequence[str], skills: Sequence[str]) -> None:
        """Says what this member is given work in, besides what anybody can do."""
        self._set(languages=sorted({*languages}), skills=sorted({*skills}))

    def requalify(self) -> None:
        """Gold tasks come before further work again, those not answered yet."""
        self._set(qualified_at=None, requalify_since=timezone.now())

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, value)
        self.save(update_fields=list(fields))


class Guideline(models.Model):
    """One version of what labelers are asked to do. Every label names the version it followed."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="guidelines")
    version = models.PositiveIntegerField()
    text = models.TextField(help_text="Markdown.")
    author = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "version"], name="one_guideline_a_version")
        ]

    def __str__(self) -> str:
        return f"{self.project} guideline {self.version}"


@prepared
def _guidelines(project: int) -> models.QuerySet[Guideline]:
    return Guideline.objects.filter(project=project).order_by("-version")[:1]
