"""What a server says of the models it has: `GET /models`."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx

from annotate.connections.addresses import NotPublic
from annotate.connections.client import asking, body_of
from annotate.connections.models import Connection
from annotate.connections.sealing import Unreadable
from feedback_site.pool import release_connections

logger = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(connect=3.0, read=10.0, write=5.0, pool=3.0)
MOST_MODELS, LONGEST_NAME = 2000, 200

NOT_PUBLIC = (
    "This address leads into a network that the site may not call. Whoever runs this site can "
    "allow it by the setting INFERENCE_ENDPOINTS."
)
UNREADABLE = "The key cannot be read since SECRET_KEY was changed. Enter it again."
NO_LIST = "The server answers, but lists no models. Write the name of one when you add a policy."


def test(connection: Connection) -> None:
    """Asks a server for its models, and keeps what came of it."""
    release_connections()
    try:
        found = _models(connection)
    except Unreadable:
        connection.note_test(trouble=UNREADABLE)
    except NotPublic:
        connection.note_test(trouble=NOT_PUBLIC)
    except httpx.TimeoutException:
        connection.note_test(trouble="The server took too long to answer.")
    except httpx.ConnectError as error:
        logger.warning("connection %r: %s", connection.name, error)
        connection.note_test(trouble="Nothing answers at this address.")
    except httpx.HTTPStatusError as error:
        connection.note_test(trouble=_refused(error.response.status_code))
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        connection.note_test(trouble="What answers there is no model server.")
    else:
        connection.note_test(found=found, trouble="" if found else NO_LIST)


def _models(connection: Connection) -> list[str]:
    with asking(connection.server, "GET", "models", timeout=TIMEOUT) as response:
        if not response.is_success:
            raise httpx.HTTPStatusError("", request=response.request, response=response)
        said: dict[str, Any] = json.loads(body_of(response))
    names = [row["id"] for row in said["data"]]
    fitting = [each for each in names if isinstance(each, str) and 0 < len(each) <= LONGEST_NAME]
    return [each for each in fitting if each.isprintable()][:MOST_MODELS]


def _refused(status: int) -> str:
    if 300 <= status < 400:
        return "The server sends us elsewhere; we do not follow. Enter the address it leads to."
    if status in (401, 403):
        return "The server does not accept the key."
    if status in (404, 405):
        return NO_LIST
    if status == 429:
        return "The server is busy. Try again in a minute."
    return f"The server refused, with status {status}."
