"""What `/metrics` says of runs: the workers and trainers seen through what they have written."""

from collections.abc import Iterator

from django.db.models import Count
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from rlhf.models.runs import Run


def families() -> Iterator[Metric]:
    """The figures of all projects together, as they are now."""
    runs = GaugeMetricFamily("feedback_site_runs", "Runs, by state.", labels=["state"])
    found = dict(Run.objects.order_by().values_list("state").annotate(n=Count("pk")))
    for state in Run.State.values:
        runs.add_metric([state], found.get(state, 0))
    yield runs
    yield GaugeMetricFamily(
        "feedback_site_runs_waiting",
        "Runs that a free worker could start now.",
        value=Run.objects.waiting().count(),
    )
