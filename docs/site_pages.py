"""Hooks of MkDocs: the Markdown files at the root of the repository are pages beside those of
docs/, so that one text serves the repository and the site."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
AT_THE_ROOT = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the files at the root to those of docs/."""
    for name in AT_THE_ROOT:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Points links from the root into docs/, and back, at the pages as the site lays them out."""
    return re.sub(r"\]\((?:docs|\.\.)/", "](", markdown)
