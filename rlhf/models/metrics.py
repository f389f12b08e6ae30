"""What a run says of itself while it works: its figures, and what its policy answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from django.db import connection, models
from django.db.models import Func
from django.db.models.fields.json import KeyTransform

from rlhf.models.runs import LeasedRow, Run

MOST_POINTS = 300  # of a line: a chart has about as many pixels
LOOKED_AT = 10  # rows that are asked which figures a run has
PACE = 20  # steps by which the time left is reckoned
THINNED = """
SELECT picked.id
FROM unnest(%(splits)s::text[]) AS splits (split),
     generate_series(%(after)s, %(last)s, %(stretch)s) AS stretches (before),
     LATERAL (
       (SELECT id FROM rlhf_metric
        WHERE run_id = %(run)s AND split = splits.split AND step > before
          AND step <= before + %(stretch)s AND before = %(after)s
        ORDER BY step LIMIT 1)
       UNION
       (SELECT id FROM rlhf_metric
        WHERE run_id = %(run)s AND split = splits.split AND step > before
          AND step <= before + %(stretch)s
        ORDER BY step DESC LIMIT 1)
     ) AS picked
"""


class MetricQuerySet(models.QuerySet["Metric"]):
    def of(self, run: Run, *, after: int = -1) -> MetricQuerySet:
        return self.filter(run=run, step__gt=after)

    def in_split(self, split: str) -> MetricQuerySet:
        return self.filter(split=split)

    def taken_at(self, run: Run, places: Collection[tuple[str, int]]) -> MetricQuerySet:
        """The rows of these splits and steps."""
        steps = [step for _, step in places]
        near = self.filter(
            run=run, step__gte=min(steps, default=0), step__lte=max(steps, default=0)
        )
        found = near.values_list("pk", "split", "step")
        return self.filter(pk__in=[pk for pk, split, step in found if (split, step) in places])

    def past(self, step: int) -> MetricQuerySet:
        """What was written after a step, and what was written at the end."""
        return self.filter(models.Q(step__gt=step) | models.Q(split="final"))

    def take_back(self, run: Run, *, token: int) -> None:
        """Deletes these rows of a run under the lease `token`. The site itself may not change a
        metric: PostgreSQL does, for who holds the lease, and the audit log says so."""
        ids = list(self.values_list("pk", flat=True))
        if ids:
            with connection.cursor() as cursor:
                cursor.execute("SELECT rlhf_take_back_metrics(%s, %s, %s)", [run.pk, token, ids])

    def thinned(
        self,
        run: Run,
        *,
        splits: Sequence[str],
        after: int = -1,
        last: int | None = None,
        most: int = MOST_POINTS,
    ) -> MetricQuerySet:
        """Returns all rows of a short run, or of the few steps after `after` up to `last`. Of many
        steps, in each split the first row and the last of each of `most` equal stretches, found by
        as many looks into the index: millions of rows cost no more to draw than thousands."""
        end = run.step if last is None else min(last, run.step)
        if end - after <= most:
            few = self.of(run, after=after)
            return few if last is None else few.filter(step__lte=last)
        bounds = {"after": after, "last": end, "stretch": -(-(end - after) // most)}
        with connection.cursor() as cursor:
            cursor.execute(THINNED, {"run": run.pk, "splits": list(splits), **bounds})
            return self.filter(pk__in=[key for (key,) in cursor.fetchall()])

    def seconds_a_step(self, run: Run) -> float | None:
        """Measures the pace of the last steps of the present attempt: what came before may have
        been on another machine. None: too few steps."""
        steps = ("train", "final")  # of a training; of sampling
        mine = self.of(run).filter(split__in=steps, time__gte=run.taken_at).order_by("-step")
        rows = list(mine.values_list("step", "time")[:PACE])
        if not rows or rows[0] == rows[-1]:
            return None
        (last_step, last), (first_step, first) = rows[0], rows[-1]
        return (last - first).total_seconds() / max(last_step - first_step, 1)

    def comparisons_of(self, runs: Collection[int]) -> dict[int, int]:
        """Maps each of these runs to the held-out comparisons that its final figures are of."""
        final = self.filter(run__in=runs, split="final", **{"values__data/comparisons__gt": 0})
        rows = final.annotate(n=KeyTransform("data/comparisons", "values"))
        return {run: int(n) for run, n in rows.values_list("run", "n")}

    def splits_of(self, run: Run) -> list[str]:
        """Lists a run's splits by one look into the index for each: it may have millions of
        rows."""
        found: list[str] = []
        rows = self.filter(run=run).order_by("split").values_list("split", flat=True)
        while (split := (rows.filter(split__gt=found[-1]) if found else rows).first()) is not None:
            found.append(split)
        return found

    def names_of(self, run: Run) -> dict[str, list[str]]:
        """Maps each split to the figures that a few of its rows, spread evenly, have."""
        splits = self.splits_of(run)
        found: dict[str, set[str]] = {split: set() for split in splits}
        rows = self.thinned(run, splits=splits, most=LOOKED_AT)
        for split, values in rows.values_list("split", "values"):
            found[split].update(values)
        return {split: sorted(names) for split, names in found.items()}

    def steps_by_name(self) -> models.QuerySet[Metric, tuple[str, int, int]]:
        """Lists (name, first step, last step) of every figure. Reads all rows."""
        name = Func("values", function="jsonb_object_keys", output_field=models.TextField())
        rows = self.order_by().annotate(name=name).values_list("name")
        return rows.annotate(models.Min("step"), models.Max("step"))

    def with_kl_and_score(self) -> models.QuerySet[Metric, tuple[float, float]]:
        """Lists (KL, score) of each step against a reward model."""
        rows = self.filter(split="train", **{"values__objective/kl__isnull": False})
        names = ("objective/kl", "objective/scores")
        both = {f"n{i}": KeyTransform(name, "values") for i, name in enumerate(names)}
        return rows.annotate(**both).values_list("n0", "n1")


class Metric(LeasedRow):
    """One line of a run's metrics.jsonl."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="metrics")
    step = models.PositiveIntegerField()
    split = models.CharField(max_length=10)
    values = models.JSONField()
    time = models.DateTimeField()

    objects = MetricQuerySet.as_manager()

    class Meta:
        ordering = ["step", "id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "split", "step"], name="one_metric_row_a_step")
        ]

    def __str__(self) -> str:
        return f"{self.run} step {self.step} {self.split}"


class Sample(LeasedRow):
    """What a policy in training says to one of the run's fixed prompts."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="samples")
    step = models.PositiveIntegerField()
    prompt = models.ForeignKey("annotate.Prompt", models.CASCADE, related_name="+")
    text = models.TextField()
    score = models.FloatField(null=True)
    kl = models.FloatField(null=True)

    class Meta:
        ordering = ["step", "prompt_id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "step", "prompt"], name="one_sample_a_step")
        ]

    def __str__(self) -> str:
        return self.text[:60]
