"""How a record of the log is written, as a line or as JSON: never with what would let its reader
in."""

import json
import logging
import re
from datetime import UTC, datetime

# Whoever knows such an address is let in by it; a log is read by more people than that.
SECRET_ADDRESS = re.compile(
    r"(/(?:sign-in|invitations|security/address)/)"
    r"[^/\s\"'?]+(?:/[^/\s\"'?]+){0,2}(?:/\?[^\s\"']*)?"
)


def without_secrets(text: str) -> str:
    """The text with the secret part of each address that signs in, or into a project, left out."""
    return SECRET_ADDRESS.sub(r"\1…", text)


class Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class Json(logging.Formatter):
    """One object a line, for programs that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        written = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "request_id": getattr(record, "request_id", "-"),
            "process": record.process,
            "message": without_secrets(record.getMessage()),
        }
        if record.exc_info:
            written["exception"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(written, ensure_ascii=False)
