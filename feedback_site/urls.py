from django.urls import include, path

from feedback_site.health import healthz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("", include("annotate.urls")),
    path("", include("rlhf.urls")),
]
