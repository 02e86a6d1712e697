"""The verb `serve`: opens a model, listens, and answers until it is stopped."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import cv2
import numpy as np

from vlfau_jax.errors import UserError
from vlfau_jax.inference.exported_model import SYNTHETIC_MODEL, ExportedModel
from vlfau_jax.inference.faces import Limits
from vlfau_jax.serve.options import ServeOptions, ip_address

try:
    import uvicorn

    from vlfau_jax.serve.app import application
    from vlfau_jax.serve.connection import timed_protocol
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "h11", "anyio"):
        raise
    raise UserError(
        f"serve needs {error.name}, which is not installed; pip install 'vlfau_jax[serve]'"
    ) from None

_MOST_HEADERS = 16 << 10  # bytes of a request's line and headers
_GOODBYE = 5  # seconds for the requests under way when it is stopped


def serve(
    model: str | Path | None,
    options: ServeOptions,
    *,
    crop_file: str = "",
    verify: str = "",
    limits: Limits | None = None,
) -> None:
    """Answers until Ctrl-C or SIGTERM.

    Args:
        model: a folder that `export` wrote; None for the one that ships, and a line says so.
        options: where to listen and what to take.
        crop_file: the file that the model's crop rule reads, if it reads one.
        verify: the SHA-256 that the model folder must have; "" for any.
        limits: beyond which a face is doubtful, and said to be.

    Raises:
        UserError: a folder that is no model, a crop rule that looks pictures up in a table, an
            address or port that cannot be had.
    """
    listening = _listen(options)
    with listening:
        opened = ExportedModel(model, crop_file, options.batch_size, verify)
        if opened.crop_rule.READS_TABLE:
            raise UserError(
                f"{model}: its crop rule {opened.crop_rule.name} looks pictures up in a table, "
                "which knows none that is sent; serve a model whose rule finds faces"
            )
        cv2.setNumThreads(0)  # each thread has a picture of its own
        side = opened.image_size
        opened.explain(np.zeros((1, side, side, 3), np.uint8))  # compiled before anybody asks
        config = uvicorn_config(opened, options, limits)
        print(_greeting(options, listening, opened), file=sys.stderr, flush=True)
        uvicorn.Server(config).run([listening])


def uvicorn_config(
    model: ExportedModel, options: ServeOptions, limits: Limits | None = None
) -> uvicorn.Config:
    """How uvicorn runs the application: quiet, and without trust in what proxies say."""
    return uvicorn.Config(
        application(model, options, limits),
        http=timed_protocol(options.header_timeout),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",  # the application reports its own faults
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=max(1, round(options.header_timeout)),
        timeout_graceful_shutdown=_GOODBYE,
        h11_max_incomplete_event_size=_MOST_HEADERS,
    )


def _listen(options: ServeOptions) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except BaseException:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host={options.host} --port={options.port}: {reason}; give an address of this "
            "machine and a free port, such as --host=127.0.0.1 --port=0"
        ) from None
    return listening


def _greeting(options: ServeOptions, listening: socket.socket, model: ExportedModel) -> str:
    port = listening.getsockname()[1]
    host = options.host
    address = ip_address(host)
    if address is not None and address.version == 6:
        host = f"[{address}]"
    lines = [f"http://{host}:{port}/  (Ctrl-C stops it; /openapi.json describes the endpoint)"]
    if not options.is_local:
        lines.append(
            "everybody who reaches this machine may send pictures, unencrypted and without a "
            "password; --host=127.0.0.1 serves this machine alone"
        )
    if model.synthetic:
        lines.append(SYNTHETIC_MODEL)
    return "\n".join(lines)
