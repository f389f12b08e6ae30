"""A worker: hears the bell in Redis, and looks in PostgreSQL by itself.

Nothing is inferred from Redis: it may be away, come back empty, or hold leftovers."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import InterfaceError, OperationalError, close_old_connections
from django.utils.module_loading import import_string
from redis import Redis
from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from feedback_site import bell
from rlhf.models.leases import worker_name

logger = logging.getLogger(__name__)

LOOK_EVERY = 15.0
PRESENCE_EVERY = 10.0
BELL_AWAY = (RedisError, OSError)
LOOKS = {"label": "annotate.jobs.look", "train": "rlhf.jobs.look"}
# All that a ring can start, whatever name it carries.
JOBS = {
    "label": {
        "annotate.jobs.ask_cells",
        "annotate.jobs.ask_judge",
        "annotate.jobs.deliver",
        "annotate.jobs.embed_passages",
        "annotate.jobs.send_mail",
        "annotate.jobs.harvest",
        "annotate.jobs.harvest_preference",
        "annotate.jobs.rank_beside_drafts",
    },
    "train": {"rlhf.jobs.train"},
}


class Command(BaseCommand):
    help = "Works: `label` does the short jobs, `train` the runs. Ends at SIGTERM within 30 s."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("queue", choices=list(LOOKS))
        parser.add_argument(
            "--host", default=socket.gethostname(), help="By which runs are pinned to this machine."
        )
        parser.add_argument("--gpu", default="", help="The GPU to train on; one worker for each.")

    def handle(self, *, queue: str, host: str, gpu: str, **options: Any) -> None:
        leaving = import_string("rlhf.jobs.leaving") if queue == "train" else threading.Event()
        import_string("rlhf.jobs.work_on")(f"{host}/{gpu}" if gpu else host)
        if gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # the trainers inherit it
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: leaving.set())
        if queue == "train":
            reporting = import_string("rlhf.jobs.keep_reporting")
            threading.Thread(target=reporting, name="report", daemon=True).start()
        look = import_string(LOOKS[queue])
        logger.info("worker %s listens for %s", worker_name(), queue)
        Ear(queue, leaving).listen(look)


class Ear:
    """Listens to one queue until it is time to leave."""

    def __init__(self, queue: str, leaving: threading.Event) -> None:
        self.queue = queue
        self.leaving = leaving
        self._is_deaf = False
        self._made: SimpleWorker | None = None
        self._making = threading.Lock()

    def listen(self, look: Callable[[], object]) -> None:
        presence = threading.Thread(target=self._be_present, name="presence")
        presence.start()
        while not self.leaving.is_set():
            look_until_idle(look, self.leaving)
            self._hear_for(LOOK_EVERY)
        presence.join()

    def _hear_for(self, seconds: float) -> None:
        """Does one job that is rung for and returns, for there may be more to do."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.leaving.is_set():
            try:
                if self._hear():
                    return
                self._is_deaf = False
            except BELL_AWAY as error:
                self._say_once(error)
                self.leaving.wait(1.0)
            except bell.NotARing as error:
                logger.warning("left alone what is no ring: %s", error)
            except Exception:
                logger.exception("a job rung for on %s ended with an error", self.queue)
                close_old_connections()

    def _hear(self) -> bool:
        if not settings.REDIS_URL:
            self.leaving.wait(1.0)
            return False
        ring = bell.hear(self.queue, self._worker().connection, seconds=1)
        if ring is None:
            return False
        if ring.function not in JOBS[self.queue]:
            raise bell.NotARing(f"{ring.function} is no job of the queue {self.queue}")
        close_old_connections()
        import_string(ring.function)(*ring.ids)
        close_old_connections()
        return True

    def _worker(self) -> SimpleWorker:
        with self._making:
            if self._made is None:
                # It does not fork: a job only supervises a trainer, and a fork between the two
                # would survive its worker, where the trainer ends with its parent.
                self._made = SimpleWorker(
                    [self.queue],
                    name=f"{worker_name()}:{self.queue}",
                    connection=Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1.0),
                    worker_ttl=20,
                    serializer=JSONSerializer,
                )
            return self._made

    def _be_present(self) -> None:
        """Shows the worker in Redis, also during the hours of a training."""
        while True:
            try:
                self._show()
            except BELL_AWAY as error:
                self._say_once(error)
            if self.leaving.wait(PRESENCE_EVERY):
                break
        with suppress(*BELL_AWAY):
            self._worker().register_death()

    def _show(self) -> None:
        if not settings.REDIS_URL:
            return
        worker = self._worker()
        if not worker.connection.sismember(worker.redis_workers_keys, worker.key):
            worker.connection.delete(worker.key)  # leftovers, or Redis was emptied
            worker.register_birth()
        worker.heartbeat()

    def _say_once(self, error: Exception) -> None:
        if not self._is_deaf:
            logger.warning("the bell cannot be heard, looking every %d s: %s", LOOK_EVERY, error)
        self._is_deaf = True


def look_until_idle(look: Callable[[], object], leaving: threading.Event) -> None:
    try:
        while not leaving.is_set() and look():
            pass
    except (OperationalError, InterfaceError) as error:
        logger.warning("cannot look in the database: %s", error)
    except Exception:
        # The run says that it failed; the next one has a right to this worker.
        logger.exception("a run ended with an error")
    close_old_connections()
