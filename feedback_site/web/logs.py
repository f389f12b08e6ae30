"""How a record of the log is written: as a line, without what would let its reader in."""

import logging
import re

# Whoever knows such an address is let in by it; a log is read by more people than that.
SECRET_ADDRESS = re.compile(r"(/(?:sign-in|invitations)/)[^/\s\"'?]+(?:/[^/\s\"'?]+)?")


def without_secrets(text: str) -> str:
    """The text with the secret part of each address that signs in, or into a project, left out."""
    return SECRET_ADDRESS.sub(r"\1…", text)


class Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))
