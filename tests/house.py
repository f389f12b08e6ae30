"""Measures the tree: `make house` prints the figures, tests/test_architecture.py holds them.

An import counts wherever it stands: also below `if TYPE_CHECKING` and inside functions."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("feedback_site", "annotate", "rlhf")
FRONT_DOORS = ("annotate.models", "rlhf.models")  # they re-export the models for Django


def modules() -> dict[str, Path]:
    """Every module of the three packages, migrations left out: dotted name → file."""
    found = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if "migrations" not in parts:
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


@cache
def parsed(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


@cache
def imports_of(name: str) -> frozenset[str]:
    """The dotted names a module imports; `from a import b` is a.b where that is a module."""
    names = set()
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = _source(node, name)
            dotted = {f"{source}.{alias.name}" for alias in node.names}
            names |= {each if each in MODULES else source for each in dotted}
    return frozenset(names)


def _source(node: ast.ImportFrom, name: str) -> str:
    if not node.level:
        return node.module or ""
    is_package = MODULES[name].name == "__init__.py"
    parents = node.level - is_package
    base = name.split(".")[:-parents] if parents else name.split(".")
    return ".".join([*base, node.module] if node.module else base)


def internal_imports(name: str) -> set[str]:
    return {each for each in imports_of(name) if each in MODULES} - {name}


def room_of(name: str) -> str:
    """annotate.labels.kinds.edit → annotate.labels; learning's rooms lie one floor below."""
    depth = 3 if name.startswith("rlhf.learning.") else 2
    return ".".join(name.split(".")[:depth])


def file_graph() -> dict[str, set[str]]:
    return {name: internal_imports(name) - {*FRONT_DOORS} for name in MODULES}


def room_graph() -> dict[str, set[str]]:
    """Which rooms know which. The front doors are no room: only other apps go through them."""
    graph: dict[str, set[str]] = {}
    for name, imported in file_graph().items():
        if name not in FRONT_DOORS and MODULES[name].parent.name not in PACKAGES:
            room = room_of(name)
            inside = {each for each in imported if MODULES[each].parent.name not in PACKAGES}
            graph.setdefault(room, set()).update({room_of(each) for each in inside} - {room})
    return graph


def cycles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups that reach each other (Tarjan's strongly connected components), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def functions() -> Iterator[tuple[str, int]]:
    """Every function with its lines, the docstring among them."""
    for name in MODULES:
        for node in ast.walk(parsed(name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}.{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def folders() -> Counter[str]:
    """Modules in each folder, its own `__init__` left out."""
    files = (file for file in MODULES.values() if file.name != "__init__.py")
    return Counter(str(file.parent.relative_to(ROOT)) for file in files)


def comment_share() -> float:
    """Of all lines that are not blank, those that hold a comment."""
    comments = lines = 0
    for file in MODULES.values():
        text = file.read_text()
        lines += sum(bool(line.strip()) for line in text.splitlines())
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        comments += len({t.start[0] for t in tokens if t.type == tokenize.COMMENT})
    return comments / lines


def lines_below(*folders: str) -> int:
    files = (file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    return sum(len(f.read_text().splitlines()) for f in files if "migrations" not in f.parts)


def named_in(*words: str) -> list[str]:
    """The modules and templates, outside tests and migrations, that name one of these words."""
    files = [*MODULES.values(), *(ROOT / "templates").rglob("*.html")]
    return [str(f.relative_to(ROOT)) for f in files if any(word in f.read_text() for word in words)]


def report() -> Iterator[tuple[str, str]]:
    lengths = sorted(length for _, length in functions())
    most = max(functions(), key=lambda each: each[1])
    counts = [len(internal_imports(name)) for name in MODULES if name not in FRONT_DOORS]
    folder, modules = folders().most_common(1)[0]
    knotted = max(MODULES, key=lambda name: len(internal_imports(name)))
    graph = room_graph()
    yield (
        "function median / p90 / max lines",
        (f"{median(lengths):.0f} / {lengths[len(lengths) * 9 // 10]} / {most[1]} ({most[0]})"),
    )
    yield "import cycles of files / of rooms", f"{len(cycles(file_graph()))} / {len(cycles(graph))}"
    yield "rooms / arrows", f"{len(graph)} / {sum(map(len, graph.values()))}"
    yield "most modules in one folder", f"{modules} ({folder})"
    yield (
        "internal imports a module",
        (f"{mean(counts):.1f} (most: {knotted}, {len(internal_imports(knotted))})"),
    )
    yield "comment lines", f"{comment_share():.1%}"
    yield "tests / source", f"{lines_below('tests') / lines_below(*PACKAGES):.2f}"
    yield "files that name the label kind `edit`", str(len(named_in("Edit(", "EDIT", "kinds.edit")))
    yield "files that name the algorithm `rloo`", str(len(named_in("RLOO", "rloo")))


if __name__ == "__main__":
    for what, figure in report():
        print(f"{what:40} {figure}")
    for group in [*cycles(file_graph()), *cycles(room_graph())]:
        print("cycle:", " ↔ ".join(group))
