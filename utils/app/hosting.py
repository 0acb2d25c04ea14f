"""Where the page is served: its address, its folder of uploads, and the browser to open.

Imports no Gradio, whose variables uploads_folder sets.
"""

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from utils.runtime.errors import UserError

FIRST_PORT, PORTS = 7860, 100  # of Gradio; a Hugging Face Space expects the first one


@contextmanager
def uploads_folder() -> Iterator[Path]:
    """Yield a new folder for uploads and drawn pictures, which only the user may enter.

    It is deleted at the end, also by SIGTERM and when the terminal is closed.
    """
    for name in ('SIGTERM', 'SIGHUP'):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), _end)
    with tempfile.TemporaryDirectory(prefix='unet-app-', ignore_cleanup_errors=True) as folder:
        os.environ |= {
            'GRADIO_TEMP_DIR': folder,
            'GRADIO_ANALYTICS_ENABLED': 'False',
            'HF_HUB_DISABLE_TELEMETRY': '1',
        }
        yield Path(folder)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # as shells report it


def bound_socket(host: str, port: int | None) -> socket.socket:
    """Return a socket at an address; port: None is the first free one from FIRST_PORT.

    Raises UserError if the port is taken, or there is no such address.
    """
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    error = None
    for number in range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]:
        server = socket.socket(family, socket.SOCK_STREAM)
        if os.name == 'posix':  # a port that was used a minute ago is free
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host, number))
            server.listen()  # from now on no other program can
        except OSError as found:
            server.close()
            error = found
        else:
            return server
    reason = getattr(error, 'strerror', None) or error
    where = f'{host}, port {port}' if port else f'{host}, ports from {FIRST_PORT}'
    raise UserError(
        f'cannot serve at {where}: {reason}. Name another address with --host, or --port 0 for any '
        'free port.'
    )


def page_address(server: socket.socket) -> str:
    """Return the address of the page for a browser on this machine."""
    host, port = server.getsockname()[:2]
    host = {'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host)
    return f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'


def can_open_browser() -> bool:
    """Return whether there is a desktop, and somebody at the terminal, to open a browser for."""
    desktop = sys.platform in ('win32', 'darwin') or any(
        os.environ.get(name) for name in ('DISPLAY', 'WAYLAND_DISPLAY')
    )
    return desktop and sys.stdout.isatty() and not os.environ.get('SSH_CONNECTION')
