"""`/metrics` for Prometheus: what this web process has answered, and what the database says of all.

For those who bring METRICS_TOKEN as a bearer token, and for addresses in METRICS_FROM. An app adds
figures of its own by a function `metrics` in its configuration, as it does `warm_up`."""

import hmac
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

from django.apps import apps
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseForbidden
from django.views.decorators.http import require_GET
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

registry = CollectorRegistry()
ProcessCollector(registry=registry)
requests = Counter(
    "feedback_site_requests",
    "Requests answered, by the name of their address.",
    ["route", "method", "status"],
    registry=registry,
)
seconds = Histogram(
    "feedback_site_request_seconds",
    "Time to an answer; to its beginning, where it is streamed.",
    ["route"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=registry,
)


class _OfTheApps:
    """What the apps read in the database when they are asked."""

    def collect(self) -> Iterator[Metric]:
        for app in apps.get_app_configs():
            if tell := getattr(app, "metrics", None):
                yield from tell()

    def describe(self) -> list[Metric]:
        return []  # registering it asks the database for nothing


registry.register(_OfTheApps())


class MetricsMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began = time.perf_counter()
        response = self.get_response(request)
        # No address as it was typed: there is no end of those, and some are secret.
        route = (request.resolver_match and request.resolver_match.url_name) or "none"
        method = request.method if request.method in METHODS else "other"
        requests.labels(route, method, response.status_code).inc()
        seconds.labels(route).observe(time.perf_counter() - began)
        return response


@require_GET
@login_not_required
def metrics(request: HttpRequest) -> HttpResponse:
    if not _may_see(request):
        return HttpResponseForbidden(
            "Send METRICS_TOKEN as a bearer token, or ask from an address in METRICS_FROM.",
            content_type="text/plain; charset=utf-8",
        )
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _may_see(request: HttpRequest) -> bool:
    expected = f"Bearer {settings.METRICS_TOKEN}".encode()
    given = request.headers.get("Authorization", "").encode()
    if settings.METRICS_TOKEN and hmac.compare_digest(given, expected):
        return True
    try:
        address = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return any(address in ip_network(each, strict=False) for each in settings.METRICS_FROM)
