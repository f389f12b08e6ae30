"""What a policy must show: the gate's limits, behaviour suites, and how each policy did in them."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q

from annotate.labels.agreement import wilson
from annotate.models import Policy, Project
from annotate.prompts.models import content_hash
from rlhf.models.built_in_suites import BUILT_IN
from rlhf.models.probes import Probe, parse
from rlhf.models.runs import LeasedRow, Run

MOST_SAMPLES = 16  # answers to each probe


class GateLimits(models.Model):
    """A project without a row has the defaults."""

    project = models.OneToOneField(Project, models.CASCADE, related_name="gate_limits")
    kl = models.FloatField(
        "KL",
        default=25.0,
        validators=[MinValueValidator(0.0)],
        help_text="Nats per answer that PPO may move away from its start.",
    )
    length = models.FloatField(
        "Length",
        default=1.5,
        validators=[MinValueValidator(0.1)],
        help_text="How many times longer, or shorter, than the live policy its answers may be.",
    )
    prompts = models.PositiveSmallIntegerField(
        "Minimum prompts",
        default=5,
        validators=[MinValueValidator(5)],
        help_text="How many prompts people have to compare it with the live policy on.",
    )

    harm = models.FloatField(
        "Harmful answers (percent)",
        null=True,
        blank=True,
        validators=[MinValueValidator(0.0), MaxValueValidator(100.0)],
        help_text="The most answers people may flag as harmful, by the upper end of the 95 % "
        "interval."
        " Leave empty for no limit. A limit of 1 % takes about 400 judged answers to meet.",
    )

    def __str__(self) -> str:
        return f"gate of {self.project}"

    @classmethod
    def of(cls, project: Project) -> GateLimits:
        return cls.objects.filter(project=project).first() or cls(project=project)


def check_lines(text: str) -> None:
    parse(text)


class Suite(models.Model):
    """A suite of the project's own, or a built-in one rewritten here; without lines it is off."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="suites")
    name = models.CharField(max_length=60)
    lines = models.TextField(
        blank=True, help_text="See rlhf.models.probes.", validators=[check_lines]
    )

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="one_suite_a_name")]

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def all_of(project: Project) -> dict[str, str]:
        """Returns name → lines of all suites there are, those that are off too."""
        own = dict(project.suites.values_list("name", "lines"))
        return {**BUILT_IN, **own}

    @classmethod
    def named(cls, project: Project, name: str) -> Suite:
        """Returns the project's own suite; else a copy of the built-in one, not saved; else a new
        one."""
        own = project.suites.filter(name=name).first()
        is_built_in = name in BUILT_IN
        return own or cls(
            project=project, name=name if is_built_in else "", lines=BUILT_IN.get(name, "")
        )

    @classmethod
    @transaction.atomic
    def add(cls, project: Project, *, name: str, lines: Iterable[str]) -> tuple[Suite, int]:
        """Adds lines behind those of the suite of that name, which is made if there is none; what
        it has already is not added twice. Returns it and how many were new. Raises ValidationError.
        """
        locked = project.suites.select_for_update().filter(name=name).first()
        suite = locked or cls.named(project, name)
        suite.name = name
        known = suite.lines.splitlines()
        new = [each for each in dict.fromkeys(lines) if each not in known]
        if new:
            suite.lines = "\n".join([*known, *new])
            suite.full_clean(exclude=["lines"])  # an old line may no longer be read
            suite.save()
        return suite, len(new)

    @classmethod
    def active_in(cls, project: Project) -> dict[str, str]:
        return {
            name: lines
            for name, lines in cls.all_of(project).items()
            if parse(lines, is_stored=True)
        }


class SuiteResultQuerySet(models.QuerySet["SuiteResult"]):
    def of_project(self, project: Project) -> SuiteResultQuerySet:
        return self.filter(policy__project=project)

    def of_policy(self, policy: Policy) -> SuiteResultQuerySet:
        return self.filter(policy=policy)

    def newest_of(self, policy: Policy) -> dict[str, SuiteResult]:
        """Returns the newest result of a policy by the name of the suite."""
        return {each.suite: each for each in self.of_policy(policy).order_by("pk")}

    def newest_in(self, project: Project) -> dict[tuple[str, int], SuiteResult]:
        """Returns the newest results of a project by suite and policy."""
        rows = self.of_project(project).order_by("pk")
        return {(each.suite, each.policy_id): each for each in rows}


class SuiteResult(LeasedRow):
    """How one policy did in one suite, as the suite was then."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="suite_results")
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="suite_results")
    suite = models.CharField(max_length=60)
    suite_hash = models.CharField(max_length=64)
    passed = models.PositiveSmallIntegerField()
    probes = models.PositiveSmallIntegerField(help_text="Answers judged: one a probe and sample.")
    samples = models.PositiveSmallIntegerField(default=1, help_text="Answers to each probe.")
    failures = models.JSONField(default=list, help_text="[{prompts, answers, check}]")

    objects = SuiteResultQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "policy", "suite"], name="one_result_a_suite_and_policy"
            ),
            models.CheckConstraint(
                condition=Q(passed__lte=models.F("probes")), name="no_more_passed_than_asked"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.policy} passes {self.passed} of {self.probes} of “{self.suite}”"

    @property
    def is_whole(self) -> bool:
        return self.passed == self.probes

    @property
    def share(self) -> float:
        return self.passed / self.probes if self.probes else 0.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval with the probes as trials: samples of one probe are no new ones."""
        probes = self.probes // self.samples
        return wilson(self.share, probes) if probes else None

    def is_comparable_to(self, other: SuiteResult) -> bool:
        """Tells whether both were asked the same, or the suite was rewritten in between."""
        return self.suite_hash == other.suite_hash and self.samples == other.samples

    def is_worse_than(self, other: SuiteResult) -> bool:
        return self.is_comparable_to(other) and self.passed < other.passed


def suite_hash(probes: list[Probe]) -> str:
    return content_hash([[*each.prompts, each.check, each.argument] for each in probes])
