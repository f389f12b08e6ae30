from collections.abc import Iterator
from importlib import import_module
from typing import Any

from django.apps import AppConfig


class RlhfConfig(AppConfig):
    name = "rlhf"

    def ready(self) -> None:
        home = import_module("annotate.views.home")
        home.of_operators.append(import_module("rlhf.home").next_round)
        erase = import_module("rlhf.registry.erasure").erase_from_runs
        import_module("annotate.erasure").also.append(erase)

    def warm_up(self) -> None:
        import_module("choix")  # the board's; it loads scipy.stats

    def metrics(self) -> Iterator[Any]:
        yield from import_module("rlhf.metrics").families()
