from collections.abc import Iterator
from importlib import import_module
from typing import Any, ClassVar

from django.apps import AppConfig


class RlhfConfig(AppConfig):
    name = "rlhf"
    append_only: ClassVar = {"rlhf_metric": ""}

    def ready(self) -> None:
        home: Any = import_module("annotate.views.home")
        own = import_module("rlhf.home")
        home.of_operators += [own.rounds_in_trouble, own.next_round]
        home.glances.append(own.at_a_glance)
        home.effects.append(own.effect_of_work)
        palette: Any = import_module("annotate.palette")
        palette.finders.append(("Rounds", "operator", own.find_rounds))
        erasure: Any = import_module("annotate.erasure")
        deletion: Any = import_module("annotate.deletion")
        in_runs = import_module("rlhf.registry.erasure")
        erasure.also.append(in_runs.erase_from_runs)
        deletion.also.append(in_runs.delete_from_runs)

        import_module("rlhf.checks")  # registers them

    def warm_up(self) -> None:
        import_module("choix")  # the board's; it loads scipy.stats

    def metrics(self) -> Iterator[Any]:
        yield from import_module("rlhf.metrics").families()
