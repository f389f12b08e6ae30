"""Break the formulas on purpose, one small change at a time, and count what the tests notice.

    make mutants [ARGS="ppo.advantages.gae"]        a few minutes

A mutant is one function with one operator, comparison, number or name changed. It takes the
original's place in the running process, so that the tests need no new start.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import inspect
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {
    "models.losses": (
        *("pairwise_loss", "kto_losses", "kl_k1", "kl_k3"),
        *(
            "policy_loss",
            "policy_losses",
            "value_loss",
            "adapted_kl_coef",
            "token_logprobs",
            "_logprobs",
        ),
        *("greedy_hits", "_TargetLogprobs.forward", "_TargetLogprobs.backward"),
    ),
    "algorithms.preference": ("element_loss",),
    "models.networks": ("positions", "last_valid", "collate"),
    "ppo.advantages": ("token_rewards", "gae", "whiten"),
    "ppo.rloo": ("leave_one_out", "answer_policy_loss"),
    "ppo.grpo": ("group_advantages", "token_weights", "group_policy_loss"),
    "ppo.raft": ("best_of", "best_answer_loss"),
    "models.rewards": tuple(f"ComposedReward.{name}" for name in ("parts", "total", "_model")),
    "algorithms.dpo": ("DPOLearner.scores", "DPOLearner.raw"),
    "algorithms.kto": ("balanced", "mismatched"),
    "contract.figures": (
        *("clustered_mean", "correct", "correlation", "calibration_error"),
        *("reliability_diagram", "_sigmoid", "_softplus"),
    ),
}
TESTS = {
    "contract.figures": ("test_figures.py",),
    "models.networks": (
        "test_trl_agreement.py",
        "test_networks.py::test_positions_count_real_tokens_whatever_the_padding",
    ),
    "algorithms.preference": ("test_losses.py",),
    "ppo.rloo": ("test_rloo.py",),
    "ppo.grpo": ("test_grpo.py",),
    "ppo.raft": ("test_raft.py",),
    "models.rewards": ("test_rewards.py",),
    "algorithms.dpo": ("test_preferences.py",),
    "algorithms.kto": ("test_preferences.py",),
}
TOO_LONG = ("and_ours_do", "and_we_clip", "never_saw", "becomes_more")  # in names of tests
SWAPPED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.FloorDiv: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
RENAMED = {
    "maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max", "sum": "mean",
    "expm1": "exp", "clamp": "add", "zeros_like": "ones_like", "argmax": "argmin",
}  # fmt: skip


def changes(node: ast.AST) -> Iterator[tuple[ast.AST, str, object]]:
    """(where, which field, what it becomes) for every mutant of a function's body."""
    for part in ast.walk(node):
        operator = getattr(part, "op", None)
        if type(operator) in SWAPPED:
            yield part, "op", SWAPPED[type(operator)]()
        if isinstance(part, ast.UnaryOp) and isinstance(operator, ast.USub | ast.Invert | ast.Not):
            yield part, "op", ast.UAdd() if isinstance(operator, ast.USub) else None
        if isinstance(part, ast.Compare) and type(part.ops[0]) in SWAPPED:
            yield part, "ops", [SWAPPED[type(part.ops[0])](), *part.ops[1:]]
        if isinstance(part, ast.Constant) and isinstance(part.value, bool):
            yield part, "value", not part.value
        elif isinstance(part, ast.Constant) and isinstance(part.value, int | float):
            yield part, "value", part.value + 1
        if isinstance(part, ast.Attribute) and part.attr in RENAMED:
            yield part, "attr", RENAMED[part.attr]
        if isinstance(part, ast.Name) and part.id in ("max", "min"):
            yield part, "id", RENAMED[part.id]


def found(module: str, name: str) -> tuple[FunctionType, ast.FunctionDef]:
    place = importlib.import_module(f"rlhf.learning.{module}")
    thing: object = place
    tree: ast.AST = ast.parse(inspect.getsource(place))
    for part in name.split("."):
        thing = getattr(thing, part)
        tree = next(each for each in tree.body if getattr(each, "name", "") == part)  # type: ignore[attr-defined]
    function = inspect.unwrap(thing)  # type: ignore[arg-type]
    assert isinstance(function, FunctionType) and isinstance(tree, ast.FunctionDef)
    tree.decorator_list, tree.returns = [], None
    for argument in tree.args.args + ([tree.args.vararg] if tree.args.vararg else []):
        argument.annotation = None
    if ast.get_docstring(tree):
        tree.body = tree.body[1:]
    return function, tree


def mutants(tree: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef]]:
    for number, (part, _, _) in enumerate(changes(tree)):
        mutant = copy.deepcopy(tree)
        where, field, value = list(changes(mutant))[number]
        before = ast.unparse(where)
        if value is None:  # `not x` and `~x` become x
            where.op = ast.UAdd() if isinstance(where.op, ast.Not) else ast.USub()  # type: ignore[attr-defined]
        else:
            setattr(where, field, value)
        yield f"line {part.lineno}: {before}  ->  {ast.unparse(where)}", mutant  # type: ignore[attr-defined]


def notices(module: str) -> bool:
    """Do the module's tests fail?"""
    place = ROOT / "tests" / "learning"
    files = TESTS.get(module, ("test_losses.py", "test_trl_agreement.py"))
    arguments = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:django",
                 "-k", " and ".join(f"not {name}" for name in TOO_LONG)]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return pytest.main([*arguments, *(str(place / name) for name in files)]) != 0


def main(chosen: list[str]) -> None:
    killed, survivors = 0, []
    for module, every in TARGETS.items():
        names = [name for name in every if not chosen or f"{module}.{name}" in chosen]
        if names and notices(module):
            sys.exit(f"the tests of {module} fail before anything is broken")
        for name in names:
            function, tree = found(module, name)
            original = function.__code__, function.__defaults__
            for said, mutant in mutants(tree):
                room = dict(function.__globals__)
                source = ast.fix_missing_locations(ast.Module([mutant], []))
                exec(compile(source, f"<mutant of {name}>", "exec"), room)
                made = room[mutant.name]
                function.__code__, function.__defaults__ = made.__code__, made.__defaults__
                try:
                    if notices(module):
                        killed += 1
                    else:
                        survivors.append(f"{module}.{name} {said}")
                        print("survived:", survivors[-1], flush=True)
                finally:
                    function.__code__, function.__defaults__ = original
    total = killed + len(survivors)
    print(f"{killed} of {total} mutants killed ({killed / total:.0%})")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1:])
