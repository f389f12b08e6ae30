"""Whether there is room to save anything: in DATA_DIR, and where PostgreSQL keeps its data.

Of PostgreSQL's disk, which may be another machine's, nobody knows before it refuses something."""

import errno
import shutil
import time

from django.conf import settings
from django.db import Error

LEAST_FREE = 100 * 2**20  # bytes in DATA_DIR
REMEMBERED_SECONDS = 300.0
DISK_FULL = "53100"  # PostgreSQL, "Appendix A. Error Codes"

_refused_at = float("-inf")


def is_full(error: BaseException) -> bool:
    """Whether it says that a disk is full, the site's or PostgreSQL's. It is remembered."""
    global _refused_at
    state = getattr(error.__cause__, "sqlstate", None) if isinstance(error, Error) else None
    number = error.errno if isinstance(error, OSError) else None
    if state != DISK_FULL and number not in (errno.ENOSPC, errno.EDQUOT):
        return False
    _refused_at = time.monotonic()
    return True


def trouble() -> str:
    """What is wrong, in a few words; empty if nothing is."""
    if time.monotonic() - _refused_at < REMEMBERED_SECONDS:
        return "full"
    free = shutil.disk_usage(settings.DATA_DIR).free
    return f"{free >> 20} MB left" if free < LEAST_FREE else ""
