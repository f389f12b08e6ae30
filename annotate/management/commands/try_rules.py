"""`manage.py try_rules --project SLUG --policy NAME`"""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from annotate.audit.commands import AuditedCommand
from annotate.audit.recording import about, recorded
from annotate.command_line import operator_of, project_named
from annotate.playground.asking import ask_for_a_while
from annotate.playground.grids import MOST_COLUMNS, MOST_SAMPLES, Grid
from annotate.playground.rules import Rate, Tried, tried, try_rules

LOOK_AGAIN = 0.2  # seconds


class Command(AuditedCommand):
    help = "Tries the rules of prompting on models, and prints what came of each as Markdown."
    by_hand = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument(
            "--policy", required=True, action="append", metavar="NAME", help="May be repeated."
        )
        parser.add_argument("--samples", type=int, default=1, help="Answers to each prompt.")

    def handle(self, **options: Any) -> None:
        project, names = project_named(options["project"]), options["policy"]
        policies = list(project.policies.sampleable().called(names))
        if missing := sorted(set(names) - {each.name for each in policies}):
            raise CommandError(f"No model that could be asked is called “{missing[0]}”.")
        if len(policies) > MOST_COLUMNS // 2:
            raise CommandError(f"Choose at most {MOST_COLUMNS // 2} models at once.")
        if not 0 < options["samples"] <= MOST_SAMPLES:
            raise CommandError(f"Ask for 1 to {MOST_SAMPLES} answers to each prompt.")
        author = operator_of(project)
        with recorded():
            about(project)
            grids = try_rules(project, author=author, policies=policies, samples=options["samples"])
        for grid in grids:
            self._ask(grid)
        known, lines = tried(project)
        columns = [known.index(each) for each in policies]
        self.stdout.write(_line("rule", *(each.name for each in policies)))
        self.stdout.write("|" + "---|" * (len(policies) + 1))
        for rule, tries in lines:
            self.stdout.write(_line(rule.name, *(_cell(tries[number]) for number in columns)))

    def _ask(self, grid: Grid) -> None:
        """Beside the workers, if there are any."""
        while grid.cells.unfinished().exists():
            if not ask_for_a_while(grid):
                grid.cells.all().give_up_lapsed()
                time.sleep(LOOK_AGAIN)  # a worker asks the last ones
        self.stderr.write(f"{grid.rule}: {grid.cells.answered().count()} answers")


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(found: Tried | None) -> str:
    if found is None or found.without is None or found.given is None:
        return "no answer"
    return f"{_rate(found.without)} → {_rate(found.given)}"


def _rate(rate: Rate) -> str:
    tokens = "" if rate.tokens is None else f", {rate.tokens:.0f} tokens"
    return f"{rate.share:.0%} [{rate.low:.0%}, {rate.high:.0%}]{tokens}"
