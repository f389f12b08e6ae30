"""`manage.py free_room`, as crontabs call what is `prune_models` now."""

from rlhf.management.commands.prune_models import Command

__all__ = ["Command"]
