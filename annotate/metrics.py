"""What `/metrics` says of labelling and of the chat."""

from collections.abc import Iterator

from django.db.models import Count, Sum
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from annotate.chat.feedback import Feedback
from annotate.chat.messages import Message
from annotate.labels.kinds import KINDS
from annotate.work.tasks import Task


def families() -> Iterator[Metric]:
    """The figures of all projects together, as they are now."""
    labels = GaugeMetricFamily("feedback_site_labels", "Labels stored, by kind.", labels=["kind"])
    for kind, of_kind in KINDS.items():
        labels.add_metric([kind], of_kind.model.objects.count())
    labels.add_metric(["thumb"], Feedback.objects.count())
    yield labels
    waiting = GaugeMetricFamily(
        "feedback_site_tasks_waiting", "Tasks that want more answers, by kind.", labels=["kind"]
    )
    counts = Task.objects.open().order_by().values_list("kind").annotate(n=Count("pk"))
    found = dict(counts)
    for kind in Task.Kind.values:
        waiting.add_metric([kind], found.get(kind, 0))
    yield waiting
    yield from _chat()


def _chat() -> Iterator[Metric]:
    answers = CounterMetricFamily(
        "feedback_site_chat_answers", "Answers of policies, by state.", labels=["state", "source"]
    )
    tokens = CounterMetricFamily(
        "feedback_site_chat_tokens", "Tokens, as the model servers count.", labels=["kind"]
    )
    rows = Message.objects.filter(role=Message.Role.ASSISTANT).order_by()
    by = rows.values_list("state", "conversation__via_api").annotate(
        n=Count("pk"), read=Sum("prompt_tokens"), written=Sum("completion_tokens")
    )
    read = written = 0
    for state, via_api, n, read_here, written_here in by:
        answers.add_metric([state, "api" if via_api else "chat"], n)
        read, written = read + (read_here or 0), written + (written_here or 0)
    tokens.add_metric(["prompt"], read)
    tokens.add_metric(["completion"], written)
    yield answers
    yield tokens
