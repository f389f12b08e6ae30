"""The registry of kinds of runs: every module of this folder is one, and its name is the kind.

A new algorithm is a module here (settings, recipes, the name of its learner) and the learner.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from rlhf.learning.contract.hyperparameters import Kind

KINDS: dict[str, Kind] = {
    name: import_module(f"{__name__}.{name}").KIND
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__))
}
