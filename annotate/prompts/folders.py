"""Model folders that policies may be made of."""

from __future__ import annotations

from django.conf import settings


def model_folders() -> list[str]:
    """Lists the folders in `DATA_DIR/models` that hold a model, relative to DATA_DIR."""
    configs = (settings.DATA_DIR / "models").glob("*/config.json")
    return sorted(str(each.parent.relative_to(settings.DATA_DIR)) for each in configs)
