from django.urls import include, path

from feedback_site.web.health import healthz, livez, readyz
from feedback_site.web.metrics import metrics

handler400 = "feedback_site.web.refusals.refused"

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("livez", livez, name="livez"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("", include("annotate.urls")),
    path("", include("rlhf.urls")),
]
