"""The server of the page, and of the files that it offers to download."""

import logging
import socket
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import uvicorn
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response

from utils.runtime.errors import UserError

from .hosting import can_open_browser, page_address
from .pictures import MOST_BYTES
from .results import Results, View
from .views import STYLE

if TYPE_CHECKING:  # keeps the chain of imports short
    from .page import Page

# The browser loads nothing from elsewhere, whatever a version of Gradio asks for. Its own scripts
# and styles are in the page, and it compiles some.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'"
)


def serve_page(page: 'Page', folder: Path, server: socket.socket) -> None:
    """Serve the page at a bound socket until Ctrl-C or SIGTERM.

    folder: of uploads_folder, which has to be there before this module is imported.
    """
    app = make_app(page, page.results, folder)
    address = page_address(server)
    print(f'The page is at {address} (Ctrl-C ends it)', flush=True)
    if can_open_browser():
        webbrowser.open(address)
    # Connections of open pages never end by themselves.
    config = uvicorn.Config(app, log_level='warning', timeout_graceful_shutdown=1)
    QuietEnd(config).run([server])


class QuietEnd(uvicorn.Server):
    """A server that does not report, at its end, the connections that it closes."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections."""
        logging.getLogger('uvicorn.error').setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def make_app(page: 'Page', results: Results, folder: Path) -> FastAPI:
    """Return the application: the page at /, and the files of its results below /results.

    folder: for files while they are sent.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get('/results/{link}/{kind}')
    def download(link: str, kind: str, threshold: float = 0.5) -> Response:
        """Send a file of a result, written as predict.py writes it."""
        temporary, tasks = tempfile.TemporaryDirectory(dir=folder), BackgroundTasks()
        tasks.add_task(temporary.cleanup)
        try:
            path = results.write(link, kind, View(threshold), Path(temporary.name))
        except UserError as error:
            text = f'error: {error}\n'
            return PlainTextResponse(text, status_code=404, background=tasks)
        return FileResponse(path, filename=path.name, background=tasks)

    app.add_middleware(WithPolicy)
    return gr.mount_gradio_app(
        app, page.build(), '/', theme=page.theme, css=STYLE, max_file_size=MOST_BYTES,
        footer_links=[], run_history=False, ssr_mode=False, enable_monitoring=False, pwa=False,
    )  # fmt: skip


class WithPolicy:
    """ASGI middleware that adds POLICY to every answer."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""

        async def send_with_policy(message: dict) -> None:
            """Send a part of the answer, the policy in its head."""
            if message['type'] == 'http.response.start':
                policy = (b'content-security-policy', POLICY.encode())
                message = message | {'headers': [*message.get('headers', []), policy]}
            await send(message)

        await self.app(scope, receive, send_with_policy)
