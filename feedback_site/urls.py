from django.urls import include, path

from feedback_site.web.health import healthz

handler400 = "feedback_site.web.refusals.refused"

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("", include("annotate.urls")),
    path("", include("rlhf.urls")),
]
