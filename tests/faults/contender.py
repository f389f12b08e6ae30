"""Writes metric rows of one run under whatever lease it can get: python contender.py RUN

It takes no notice of a lost lease until the database refuses a write, as a worker that was frozen
in the middle of one cannot either. Ends at SIGTERM, with its counts on standard output."""

import json
import os
import signal
import sys
from itertools import count

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "feedback_site.settings"
django.setup()

from django.db import DatabaseError, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from rlhf.models import Metric  # noqa: E402
from rlhf.models.leases import Lease, beating, claim  # noqa: E402

ended: list[int] = []
counts = {"tried": 0, "refused": 0}


def write_until_refused(lease: Lease) -> None:
    for number in count():
        if ended:
            return
        counts["tried"] += 1
        try:
            with transaction.atomic():
                Metric.objects.create(
                    run=lease.run,
                    lease_token=lease.token,
                    step=lease.token * 100_000 + number,
                    split="train",
                    values={},
                    time=timezone.now(),
                )
        except DatabaseError:
            counts["refused"] += 1
            return


def main(run: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    while not ended:
        lease = claim(run)
        if lease:
            with beating(lease):
                write_until_refused(lease)
    print(json.dumps(counts))


if __name__ == "__main__":
    main(int(sys.argv[1]))
