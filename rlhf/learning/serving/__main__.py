"""The embedded inference server: the model folders of DATA_DIR for those who know its key.

    INFERENCE_API_KEY=… python -m rlhf.learning.serving --port 9000 [--models DATA_DIR]

It answers several people at once, from several policies at once. `GET /health` is open."""

import argparse
import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Before torch: where web and trainer want the same cores, threads that spin while they wait for
# each other make a token eight times slower than one thread alone.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

MOST_ROWS, MOST_WAITING, MEMORY_MB = 16, 64, 1400
WEIGHTS_SHARE = 0.75  # of the memory; what running answers remember has the rest
STOPPING_SECONDS = 3
ROOT = Path(__file__).resolve().parents[3]


def main(arguments: list[str]) -> None:
    """Serves until it is stopped; exits with a sentence where there is no key."""
    options = read_options(arguments)
    key = os.environ.pop("INFERENCE_API_KEY", "")
    if not key:
        sys.exit("INFERENCE_API_KEY is empty. Set it to a long secret, here and for the web.")
    import uvicorn
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    from .app import application
    from .engine import Engine
    from .shelf import shelf

    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger(__package__).setLevel(logging.INFO)
    memory = options.memory_mb << 20
    weights = int(memory * WEIGHTS_SHARE)
    app = application(
        shelf([options.models], limit=weights, rows=options.streams),
        Engine(rows=options.streams, queue=options.queue, limit=memory - weights),
        key,
    )
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        workers=1,  # whatever WEB_CONCURRENCY says of the web: each would hold its own models
        log_level="warning",
        timeout_graceful_shutdown=STOPPING_SECONDS,
        lifespan="on",
    )


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line; what it does not name comes from the environment."""
    env = os.environ.get
    parser = argparse.ArgumentParser(
        prog="python -m rlhf.learning.serving",
        description="Serves model folders to those who know the key.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--models",
        type=Path,
        default=env("DATA_DIR") or ROOT / ".data",
        help="model folders below this one alone (DATA_DIR)",
    )
    parser.add_argument(
        "--memory-mb",
        type=int,
        default=env("INFERENCE_MEMORY_MB") or MEMORY_MB,
        help="for weights and running answers (INFERENCE_MEMORY_MB)",
    )
    parser.add_argument(
        "--streams",
        type=int,
        default=env("INFERENCE_STREAMS") or MOST_ROWS,
        help="answers at once (INFERENCE_STREAMS)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=env("INFERENCE_QUEUE") or MOST_WAITING,
        help="answers that may wait for their turn (INFERENCE_QUEUE)",
    )
    options = parser.parse_args(arguments)
    if min(options.memory_mb, options.streams) < 1 or options.queue < 0:
        parser.error("memory and streams are at least 1, and the queue 0")
    return options


if __name__ == "__main__":
    main(sys.argv[1:])
