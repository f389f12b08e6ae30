"""The embedded inference server: `transformers serve` for those who know INFERENCE_API_KEY.

    INFERENCE_API_KEY=… python -m rlhf.learning.generation.serve --host 127.0.0.1 --port 9000

By itself it would load any folder and answer anybody who reaches its port, which on one machine is
everybody there. `GET /health` is open."""

import argparse
import hmac
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

App = Callable[..., Awaitable[None]]
MODEL_SECONDS = 1800  # after which an unused model leaves memory


class Guarded:
    """An ASGI application behind a bearer token."""

    def __init__(self, app: App, key: str) -> None:
        self.app = app
        self.expected = f"Bearer {key}".encode()

    async def __call__(self, scope: dict[str, Any], receive: App, send: App) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self.expected):
                headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
                await send({"type": "http.response.start", "status": 401, "headers": headers})
                await send({"type": "http.response.body", "body": b'{"error": "wrong key"}'})
                return
        await self.app(scope, receive, send)


def main(arguments: list[str]) -> None:
    """Serves until it is stopped; exits with a sentence where there is no key."""
    parser = argparse.ArgumentParser(description="Serves model folders to who knows the key.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    key = os.environ.pop("INFERENCE_API_KEY", "")
    if not key:
        sys.exit("INFERENCE_API_KEY is empty. Set it to a long secret, here and for the web.")
    from transformers.cli.serve import Serve
    from transformers.cli.serving import server

    build = server.build_server

    def guarded(*args: Any, **kwargs: Any) -> Any:
        return Guarded(build(*args, **kwargs), key)

    server.build_server = guarded
    Serve(host=options.host, port=options.port, model_timeout=MODEL_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
