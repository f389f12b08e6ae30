"""The registry of checks: every `Check` with a name in the modules of this folder.

A check says of an answer how well it passes, 0 to 1, by a rule and nobody's code: a verifiable
reward, and what grids, suites and the gate ask for. Site and trainers share them, so nothing here
knows Django or torch."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from .check import Check

# In the frame, since `annotate` must not know `rlhf`, `rlhf/learning` must run alone, and all three
# ask with the same checks.
_MODULES = [
    import_module(f"{__name__}.{name}")
    for name in sorted(each.name for each in pkgutil.iter_modules(__path__))
    if name != "written"  # which reads their names
]
CHECKS: dict[str, type[Check]] = {
    each.name: each
    for module in _MODULES
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Check) and hasattr(each, "name")
}
