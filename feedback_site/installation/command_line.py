"""The command `feedback-site` of an installed wheel."""

import os
import sys

from feedback_site import up

USAGE = """\
feedback-site up                     everything on this machine, until Ctrl-C
feedback-site manage COMMAND …       a command of the site; `feedback-site manage help` lists them
feedback-site work label|train       a worker; PostgreSQL and Redis are named by the environment
feedback-site demo [--model tiny]    the whole wheel unattended, with real training

Data lie in DATA_DIR, or else in .data of the folder where it is started."""


def main() -> int:
    match sys.argv[1:]:
        case ["up"]:
            return up.main([])
        case ["demo", *options]:
            os.environ.setdefault("BASE_MODEL", "tiny")
            return up.main(["demo", *options])
        case ["manage", *command]:
            return _manage(command)
        case ["work", *options]:
            return _manage(["work", *options])
        case ["--help" | "-h" | "help"]:
            print(USAGE)
            return 0
    print(USAGE, file=sys.stderr)
    return 2


def _manage(command: list[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "feedback_site.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(["feedback-site manage", *command])
    return 0
