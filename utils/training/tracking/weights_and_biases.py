"""Weights & Biases: whether to log there, and a start that no server or network can delay."""

import http.client
import json
import os
import queue
import ssl
import threading
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import nn

if TYPE_CHECKING:
    import wandb

# Together the longest that a run waits for W&B before it starts offline; wandb itself waits 90 s.
PROBE_SECONDS = 4.0  # for the server's first answer
INIT_SECONDS = 6.0  # for wandb.init after that; WANDB_INIT_TIMEOUT overrides it


class WandbLogger:
    """Logs figures, sample sheets and histograms to a W&B run.

    mode: 'online' or 'offline'. output: the folder of its files. config: the settings of the run.
    run_id: of the W&B run to continue.
    """

    name = 'W&B'

    def __init__(self, mode: str, output: Path, config: dict, run_id: str | None) -> None:
        self.run = _start_run(mode, output, config, run_id)

    def log_step(self, step: int, figures: dict) -> None:
        """Log the figures of one training step."""
        self.run.log(figures, step=step)

    def log_validation(self, row: dict, sheet: Image.Image | None, model: nn.Module | None) -> None:
        """Log a row of metrics.csv, the sample sheet, and the histograms of a model."""
        import wandb

        figures = {key: value for key, value in row.items() if value is not None}
        if sheet:
            figures['samples'] = wandb.Image(sheet, caption='image, truth, prediction')
        for name, parameter in model.named_parameters() if model else ():
            for kind, tensor in (('weights', parameter), ('gradients', parameter.grad)):
                if tensor is not None:
                    values = tensor.detach().float().cpu()
                    figures[f'{kind}/{name}'] = wandb.Histogram(values)  # type: ignore[arg-type]
        self.run.log(figures, step=row['step'])

    def close(self) -> None:
        """End the W&B run."""
        self.run.finish()


def wandb_mode(mode: str) -> str:
    """Return the mode of --wandb; print what 'auto' stands for and why.

    'auto' is what WANDB_MODE or wandb's settings files say, else online where wandb has credentials
    for the server that it is set to, else disabled.
    """
    if mode != 'auto':
        return mode
    chosen, reason = _resolve_auto()
    print(f'W&B: {chosen}, {reason}')
    return chosen


def _resolve_auto() -> tuple[str, str]:
    """Return the mode that 'auto' stands for, and why. wandb is asked: its default host changed."""
    if not _may_be_set_up():
        return 'disabled', 'as there are no credentials; `wandb login` turns it on'
    try:
        import wandb

        settings = wandb.setup().settings
        asked, server = settings.mode, settings.base_url
        credentials = asked in ('online', 'run', 'shared') and _has_credentials(settings)
        if wandb.run is None:
            wandb.teardown()  # or its process would stay, though nothing is logged
    # As in _guarded: whatever wandb raises, about a damaged file say, is no reason to stop.
    except Exception as error:  # noqa: BLE001
        reason = ' '.join(str(error).split())
        return 'disabled', f'as wandb cannot be used ({type(error).__name__}: {reason})'
    if asked in ('offline', 'dryrun', 'disabled'):
        told = 'WANDB_MODE' if os.environ.get('WANDB_MODE') else "wandb's settings file"
        return 'disabled' if asked == 'disabled' else 'offline', f'by {told}'
    if not credentials:
        return 'disabled', f'as there are no credentials for {server}; `wandb login` turns it on'
    return 'online', f'as you are logged in to {server}; --wandb disabled turns it off'


def _may_be_set_up() -> bool:
    """Return whether something is there that wandb reads, so that importing it (0.9 s) pays."""
    variables = ('WANDB_API_KEY', 'WANDB_IDENTITY_TOKEN_FILE', 'WANDB_MODE')
    if any(os.environ.get(name) for name in variables):
        return True
    named = os.environ.get('NETRC')
    config = os.environ.get('WANDB_CONFIG_DIR') or '~/.config/wandb'
    local = os.environ.get('WANDB_DIR') or '.'
    files = [f'{config}/settings', f'{local}/wandb/settings', f'{local}/.wandb/settings']
    files += [named] if named else ['~/.netrc', '~/_netrc']
    return any(Path(file).expanduser().exists() for file in files)


def _has_credentials(settings: 'wandb.Settings') -> bool:
    """Return whether wandb would find a key or token for its server, without asking for one."""
    if settings.api_key or settings.identity_token_file:
        return True
    try:
        from wandb.sdk.lib.wbauth import read_netrc_auth  # 0.25 has it, 0.23 not
    except ImportError:
        import wandb

        return bool(wandb.api.api_key)  # deprecated in 0.31
    return bool(read_netrc_auth(host=settings.base_url))


def _start_run(mode: str, output: Path, config: dict, run_id: str | None) -> 'wandb.Run':
    """Start a W&B run; offline, with a note, where the server cannot be reached."""
    import wandb  # late: 0.9 s that only its users should pay

    start = partial(
        wandb.init, project='U-Net', dir=str(output), config=config, id=run_id, resume='allow'
    )
    if mode != 'online':
        return start(mode=mode)  # type: ignore[arg-type]  # one of --wandb's choices
    settings = wandb.setup().settings
    if not (reason := why_no_answer(settings)):
        patience = float(os.environ.get('WANDB_INIT_TIMEOUT') or INIT_SECONDS)
        try:
            return start(mode='online', settings=wandb.Settings(init_timeout=patience))
        except wandb.errors.Error as error:
            reason = str(error).partition('\n')[0]
    run = start(mode='offline')
    print(
        f'note: W&B: no run could be started on {settings.base_url} ({reason}). It is logged '
        f'offline; upload it later by: wandb sync {Path(run.dir).parent}'
    )
    return run


def why_no_answer(settings: 'wandb.Settings') -> str | None:
    """Return why wandb's server does not answer within PROBE_SECONDS, None if it does."""
    own = {'http': settings.http_proxy, 'https': settings.https_proxy}
    proxies = urllib.request.getproxies() | {name: url for name, url in own.items() if url}
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    work = threading.Thread(
        target=lambda: answers.put(_ask_server(settings.base_url, proxies)), daemon=True
    )
    work.start()  # a thread, because the look-up of a name has no timeout
    try:
        return answers.get(timeout=PROBE_SECONDS)
    except queue.Empty:
        return _no_answer()


def _no_answer() -> str:
    return f'no answer in {PROBE_SECONDS:g} s'


def _ask_server(url: str, proxies: dict[str, str]) -> str | None:
    """Send a W&B server a query that needs no login; return what went wrong, if anything."""
    query = json.dumps({'query': '{ viewer { id } }'}).encode()
    headers = {'Content-Type': 'application/json'}
    request = urllib.request.Request(f'{url}/graphql', query, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        opener.open(request, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        return f'HTTP {error.code}' if error.code >= 500 else None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, 'reason', error)
        if isinstance(reason, TimeoutError):  # on a busy machine before why_no_answer gives up
            return _no_answer()
        # The server is there; wandb may know its certificate.
        return None if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)
    return None
