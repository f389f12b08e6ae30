"""What people read: plain words everywhere, and none of those that once stood there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SCRIPTS = sorted(
    script
    for app in ("annotate", "rlhf")
    for script in (ROOT / app / "static").rglob("*.js")
    if "vendor" not in script.parts
)
MODULES = sorted(
    module
    for app in ("annotate", "rlhf", "feedback_site")
    for module in (ROOT / app).rglob("*.py")
    if "migrations" not in module.parts
)

# Regular expressions, in any case of letters.
BANNED = (
    r"awaits you",
    r"look in again",
    r"\bmend\b",
    r"[\"'>]go on[\"'<]",
    r"until its time runs out",
    r"will stand here",
    r"(?:stands|stand) (?:here|below)\b",
    r"stands in red",
    r"nothing is needed",
    r"\bsay why\b",
    r"thank you, noted",
    r"refused wrongly",
    r"ask something\b(?! shorter)",
    r"check what matters",
    r"without a word",
    r"nothing of it leaves the chat, ",
    r"tier yet",
    r"tier (?:better|worse)",
    r"if that is meant",
    r"(?<!\")taken back",
    r"your draft of",
    r"does not come back to you",
    r"keeps a newer copy",
    r"restore it\b",
    r"you may not do that here",
    r"not yet confirmed",
    r"not for your role",
    r"(?:is|when it is|are) (?:not )?whole[.,;]",
    r"\bin force\b",
    r"cause of the trouble",
    r"need a cause",
    r"nobody waits",
    r"let them train",
    r"leave them out",
    r"answers a task",
    r"agreement that is low",
    r"look at it\b",
    r"show it so",
    r"one a line",
    r"a column a ranking",
    r"shares stand",
    r"\bpractises?\b.*reward model",
    r"which labels it learns from<",
    r"would learn from</",
    r">afterwards<",
    r"looks anew",
    r"begin it\b",
    r">on \{%",
    r"[\"']or not[\"']",
    r"rankings for dpo",
    r"of them held out",
    r"stand still",
    r"made of it\b",
    r"all the same\b",
    r"process\(es\)",
    r"\bis no name\b",
    r"thumbs train from now",
    r"no column",
    r"if you like",
    r"counts for nothing",
    r"\bleased now\b",
    r"(?:any one|let|they|people) shall\b",
    r"\bmeanwhile[;.,]",
    r"(?:nats|tokens) an? (?:answer|token|comparison)",
    r"holds? something against",
    r"by heart\b",
    r"is like that\b",
    r"at most so many",
    r"so many (?:words|tasks|prompts) to",
    r"that shall\b",
    r", besides[<\"']",
    r"if none is, all",
    r"worth telling",
    r"nobody knows (?:what|whose)",
    r"whose price nobody",
    r"the other way round",
    r"what is learnt now",
    r"counts nowhere",
    r"asked nothing more",
    r"(?:no|was no) such (?:document|delivery|cell|column|reviews|prompts|kind)",
    r"past the saved periods",
    r"what is already here",
    r"no more than you may",
    r"before you go on",
    r"go on with (?:it|this)",
    r"the labeler is to\b",
    r"taught by data",
    r"who has withdrawn it on",
    r"can sign in is called",
)


def prose(source: str) -> Iterator[tuple[int, str]]:
    """The string literals of a module, without docstrings, as written in one piece."""
    tree = ast.parse(source)
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if id(node) in bare | parts:
            continue
        if isinstance(node, ast.JoinedStr):
            said = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            yield node.lineno, f'"{"".join(map(str, said))}"'
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, f'"{node.value}"'


def without_comments(source: str) -> str:
    source = re.sub(r"\{#.*?#\}|/\*.*?\*/", "", source, flags=re.DOTALL)
    return re.sub(r"^\s*//.*$", "", source, flags=re.MULTILINE)


def said_in(file: Path) -> Iterator[tuple[int, str]]:
    source = file.read_text()
    if file.suffix == ".py":
        yield from prose(source)
    else:
        yield from enumerate(without_comments(source).splitlines(), start=1)


@pytest.mark.parametrize("files", [TEMPLATES, SCRIPTS, MODULES], ids=["pages", "scripts", "code"])
def test_no_banned_phrase_is_said(files):
    banned = re.compile("|".join(BANNED), re.IGNORECASE)
    found = [
        f"{file.relative_to(ROOT)}:{line}: {match[0]}"
        for file in files
        for line, text in said_in(file)
        for match in banned.finditer(text)
    ]
    assert files and not found, "\n".join(found)


def test_a_phrase_is_found_where_it_is_split_and_not_in_a_docstring():
    source = '"""Mend it."""\nx = f"{1} to " "mend"\n'
    assert [text for _, text in prose(source)] == ['"… to mend"']


def test_names_of_policies_are_never_capitalised():
    """They are what an operator called them: r2-dpo, not R2-dpo."""
    shown = re.compile(r"\{\{[^}]*\b(?:policy|output|base|reasons|opponent)(?:\.name)?\|capfirst")
    shown_join = re.compile(r"reasons\|join:[^}]*capfirst")
    found = [
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in TEMPLATES
        for match in (*shown.finditer(file.read_text()), *shown_join.finditer(file.read_text()))
    ]
    assert not found, "\n".join(found)
