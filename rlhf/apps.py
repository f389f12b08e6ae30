from importlib import import_module

from django.apps import AppConfig


class RlhfConfig(AppConfig):
    name = "rlhf"

    def warm_up(self) -> None:
        import_module("choix")  # the board's; it loads scipy.stats
