"""The ASGI application that uvicorn serves."""

import os
from threading import Thread
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponseBase

from feedback_site.web.refusals import too_large

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "feedback_site.settings")


class Application(ASGIHandler):
    """Runs a request's middleware and view in one thread from beginning to end.

    Django's own goes to the thread and back for every middleware, which costs a page more than its
    queries do. An async view runs in the event loop all the same, and so does what it streams."""

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuses a body that is larger than any form takes, before it fills the disk."""
        headers = dict(scope["headers"])
        is_form = headers.get(b"content-type", b"").startswith(b"multipart/form-data")
        most = settings.LARGEST_UPLOAD if is_form else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        said, come, is_too_large = headers.get(b"content-length", b"0"), 0, False

        async def counted() -> Any:
            nonlocal come, is_too_large
            message = await receive()
            come += len(message.get("body", b""))
            # What was announced is refused before it is sent; who announces too little, or
            # nothing, as it comes.
            if come > most or (said.isdigit() and int(said[:15]) > most):
                is_too_large = True
                return {"type": "http.disconnect"}  # Django lets go of what it has
            return message

        await super().handle(scope, counted, send)
        if is_too_large:
            await self.send_response(too_large(), send)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response, thread_sensitive=True)(request)


def warm_up() -> None:
    """Loads what takes seconds to load while nobody waits for it: an app's `warm_up`, if it has
    one."""
    for app in apps.get_app_configs():
        if load := getattr(app, "warm_up", None):
            load()


django.setup(set_prefix=False)
application = Application()
warming = Thread(target=warm_up, daemon=True)
warming.start()
