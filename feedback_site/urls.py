from django.urls import include, path

from feedback_site.web.health import healthz, livez, readyz

handler400 = "feedback_site.web.refusals.refused"

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("livez", livez, name="livez"),
    path("readyz", readyz, name="readyz"),
    path("", include("annotate.urls")),
    path("", include("rlhf.urls")),
]
