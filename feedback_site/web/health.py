"""How the site is, for those who watch over it. Open to everybody, so it says little.

`/livez`: this process answers; if not, start it again. `/readyz`: pages can be shown and answers
saved; if not, send people elsewhere. `/healthz`: is everything there that a person needs?"""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime

import httpx
import psycopg
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from feedback_site import bell, disk

PROBE_SECONDS = 0.5
QUEUES = ("label", "train")
HEARTBEAT_SECONDS = 30.0


@require_GET
@login_not_required
@never_cache
async def livez(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"web": "ok"})


@require_GET
@login_not_required
@never_cache
async def readyz(request: HttpRequest) -> JsonResponse:
    states = {"database": await _state(_database()), "disk": disk.trouble() or "ok"}
    return JsonResponse(states, status=200 if set(states.values()) == {"ok"} else 503)


@require_GET
@login_not_required
@never_cache
async def healthz(request: HttpRequest) -> JsonResponse:
    database, redis, worker, inference = await asyncio.gather(
        _state(_database()),
        _state(asyncio.to_thread(_redis)),
        _state(asyncio.to_thread(_worker)),
        _state(_inference()),
    )
    return JsonResponse(
        {
            "web": "ok",
            "database": database,
            "redis": redis,
            "worker": worker,
            "inference": inference,
            "disk": disk.trouble() or "ok",
        },
        status=200 if database == "ok" else 503,
    )


class Missing(Exception):
    """What is missing, in words."""


async def _state(probe: Awaitable[object]) -> str:
    try:
        await asyncio.wait_for(probe, PROBE_SECONDS)
    except Missing as reason:
        return str(reason)
    except TimeoutError:
        return f"no answer in {PROBE_SECONDS} s"
    except Exception as error:  # whatever it is, it is the answer; the message may hold a password
        return type(error).__name__
    return "ok"


async def _database() -> None:
    """By a connection of its own: one from the pool may take ten seconds to fail."""
    if not settings.DATABASE_URL:
        raise Missing("no DATABASE_URL")
    database = settings.DATABASES["default"]
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST"}
    parameters = {name: database[key] for name, key in names.items() if database[key]}
    port = database["PORT"] or None
    async with await psycopg.AsyncConnection.connect(**parameters, port=port) as connection:
        await connection.execute("SELECT 1")


def _redis() -> None:
    if not settings.REDIS_URL:
        raise Missing("no REDIS_URL")
    bell.connection().ping()


def _worker() -> None:
    """RQ notes under these keys which workers listen to a queue, and when each last said so."""
    if not settings.REDIS_URL:
        raise Missing("no REDIS_URL")
    connection = bell.connection()
    for queue in QUEUES:
        beats = [
            connection.hget(worker, "last_heartbeat")
            for worker in connection.smembers(f"rq:workers:{queue}")
        ]
        if not any(_is_fresh(beat) for beat in beats if beat):
            raise Missing(f"none for the {queue} queue")


def _is_fresh(beat: bytes | str) -> bool:
    text = beat.decode() if isinstance(beat, bytes) else beat
    age = datetime.now(UTC) - datetime.fromisoformat(text)
    return age.total_seconds() < HEARTBEAT_SECONDS


async def _inference() -> None:
    """Any answer will do: servers differ in what they answer here."""
    if not settings.INFERENCE_URL:
        raise Missing("no INFERENCE_URL")
    url = f"{settings.INFERENCE_URL.removesuffix('/v1')}/health"
    certificates = url.startswith("https:")  # reading them takes 30 ms
    async with httpx.AsyncClient(verify=certificates, trust_env=False) as client:
        answer = await client.get(url)
    if answer.status_code >= 500:
        raise Missing(f"answers {answer.status_code}")
