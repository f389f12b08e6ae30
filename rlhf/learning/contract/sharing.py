"""Model folders that another user's server may read.

What a trainer writes is for its owner alone. `PUBLISHED_GROUP` names a group that may read the
models, for instance the one of a vLLM that runs as another user: their files get mode 0640 and
their folders 0750, and the folders around them let the group pass (0710) without listing them.
"""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

from .hyperparameters import ConfigError

GROUP = "PUBLISHED_GROUP"
READS = stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP
ENTERS = READS | stat.S_IXUSR | stat.S_IXGRP
CLOSED = stat.S_IXGRP | stat.S_IXOTH


def group_id() -> int | None:
    """The number of the group that may read, None without one; raises ConfigError where the name
    is no group's, or this process is no member and so cannot give it anything."""
    name = os.environ.get(GROUP, "")
    if not name:
        return None
    try:
        number = grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(
            f"{GROUP} is {name}, and this system has no such group: create it (groupadd {name}), or"
            " unset it"
        ) from None
    if os.geteuid() and number not in {os.getegid(), *os.getgroups()}:
        raise ConfigError(
            f"{GROUP} is {name}, and the user of this process is no member of it: usermod --append"
            f" --groups {name} USER, and start again"
        )
    return number


def share(folder: Path) -> None:
    """Lets the group read all in the folder, and pass the closed folders around it."""
    number = group_id()
    if number is None:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, -1, number)
        path.chmod(ENTERS if path.is_dir() else READS)
    for around in folder.absolute().parents:
        found = around.stat()
        if found.st_uid != os.geteuid() or found.st_mode & CLOSED and found.st_gid != number:
            break  # not ours, or open already
        os.chown(around, -1, number)
        around.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXGRP)
