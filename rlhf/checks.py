"""What Django checks of the trackers before it runs a command, the workers' among them."""

from typing import Any

from django.core.checks import CheckMessage, Warning, register

from rlhf.trackers.telling import TITLES, missing


@register()
def clients_of_trackers_are_installed(**kwargs: Any) -> list[CheckMessage]:
    return [
        Warning(
            f"TRACKERS names {name}, and the client of {TITLES[name]} is not installed.",
            hint=f"Install it where the workers run: pip install 'feedback-site[{name}]'",
            id="rlhf.W001",
        )
        for name in missing()
    ]
