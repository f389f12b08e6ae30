from django.conf import settings
from django.urls import include, path

from feedback_site.web.design import design
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

if settings.DEBUG:  # for whoever works on the pages; people have no use for it
    urlpatterns.append(path("design/", design, name="design"))
