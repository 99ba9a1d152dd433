"""``serve``: a page in the browser on which photos are coloured."""

import argparse
import secrets
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec

from pretext.checks import check_at_least
from pretext.colorize.header import find_colorizer, read_colorizer_header
from pretext.errors import InputError

PORT = 8313


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--model", help="a colorizer file, or the folder of a run (default: the last one trained)"
    )
    parser.add_argument(
        "--size", type=int, help="shorter side of what the network sees (default: as in training)"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"port (default: {PORT}; 0 takes a free one)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this computer alone, 127.0.0.1)"
    )


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Serve the page until the process is ended."""
    if any(find_spec(module) is None for module in ("starlette", "uvicorn")):
        raise InputError(
            "the page needs packages that are not installed",
            received="starlette, uvicorn",
            allowed="pip install 'pretext-transfer[web]'",
        )
    if options.size is not None:
        check_at_least("size", options.size, 16)
    path = find_colorizer(options.model)
    title = str(read_colorizer_header(path)["provenance"].get("method", "")) or path.stem
    listening = _listen(options.host, options.port)
    # Imported here: it takes seconds, and everything above is told before.
    import torch
    import uvicorn

    from pretext.colorize.colorizer import load_colorizer
    from pretext.colorize.page.server import make_app
    from pretext.guard import LOOPBACK

    colorizer = load_colorizer(path).to("cuda" if torch.cuda.is_available() else "cpu")
    port = listening.getsockname()[1]
    token = "" if options.host in LOOPBACK else secrets.token_urlsafe(16)
    app = make_app(colorizer, title, size=options.size, host=options.host, token=token)
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"http://{host}:{port}/{f'{token}/' if token else ''}", flush=True)
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=5,
        limit_concurrency=64,
        h11_max_incomplete_event_size=65536,
    )
    # A server that is told to end has nothing to go on from.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:
        raise InputError("port is out of range", received=port, allowed="allowed are 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        raise InputError(
            f"cannot listen on port {port} of {host}: {error.strerror or error}",
            allowed="choose another --port or --host; --port 0 takes a free one",
        ) from error
    return listening
