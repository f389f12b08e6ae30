"""The registry of checks: every module of this folder that has a `CHECK` is one.

A check says of an answer how well it passes, 0 to 1, by a rule and nobody's code: a verifiable
reward, and what a suite asks for."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from .check import Check

_MODULES = [
    import_module(f"{__name__}.{each.name}")
    for each in sorted(pkgutil.iter_modules(__path__), key=lambda each: each.name)
]
CHECKS: dict[str, type[Check]] = {
    module.CHECK.name: module.CHECK for module in _MODULES if hasattr(module, "CHECK")
}
