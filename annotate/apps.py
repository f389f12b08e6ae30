from collections.abc import Iterator
from importlib import import_module
from typing import Any, ClassVar

from django.apps import AppConfig


class AnnotateConfig(AppConfig):
    name = "annotate"
    # A trigger of PostgreSQL says which of the rows may be deleted: what guests take back.
    append_only: ClassVar = {
        **dict.fromkeys(["annotate_auditentry", "annotate_talk", "annotate_call"], ""),
        "annotate_prompttemplate": "",
        **dict.fromkeys(["annotate_demonstration", "annotate_edit"], "DELETE"),
        **dict.fromkeys(["annotate_ranking", "annotate_placement", "annotate_review"], "DELETE"),
    }

    def metrics(self) -> Iterator[Any]:
        yield from import_module("annotate.metrics").families()
