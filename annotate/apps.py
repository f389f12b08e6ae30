from collections.abc import Iterator
from importlib import import_module
from typing import Any

from django.apps import AppConfig


class AnnotateConfig(AppConfig):
    name = "annotate"

    def metrics(self) -> Iterator[Any]:
        yield from import_module("annotate.metrics").families()
