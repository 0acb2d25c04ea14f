"""Logging of a run: metrics.csv and args.json always, Weights & Biases if the user is logged in.

A failing logger never stops a training.
"""

import contextlib
import csv
import http.client
import json
import os
import queue
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import nn

from utils.runtime.errors import UserError
from utils.runtime.files import append_csv, whole_file
from utils.runtime.locks import FolderLock

if TYPE_CHECKING:
    import wandb

# Together the longest that a run waits for W&B before it starts offline; wandb itself waits 90 s.
PROBE_SECONDS = 4.0  # for the server's first answer
INIT_SECONDS = 6.0  # for wandb.init after that; WANDB_INIT_TIMEOUT overrides it


class Tracker:
    """Writes a run's figures to metrics.csv and W&B, and its settings to args.json.

    output: the run's folder. mode: --wandb. step: the step from which to continue metrics.csv.
    run_id: of the W&B run to continue.
    """

    run: 'wandb.Run | None' = None
    uid: str | None = None  # of the training run, in args.json and last.pth
    lock: FolderLock | None = None  # on `output`

    def __init__(
        self, output: Path, args: dict, mode: str = 'auto', step: int = 0, run_id: str | None = None
    ) -> None:
        self.csv_path = output / 'metrics.csv'
        _keep_rows_until(self.csv_path, step)
        with whole_file(output / 'args.json') as part:
            part.write_text(json.dumps(args, indent=1, default=str) + '\n', encoding='utf-8')
        mode = wandb_mode(mode)
        if mode == 'disabled':
            return
        with self._guarded():
            self.run = _start_run(mode, output, args, run_id)

    @property
    def run_id(self) -> str | None:
        """The id by which a resumed run continues the same W&B run."""
        return self.run.id if self.run else None

    def log_step(self, step: int, figures: dict) -> None:
        """Log the figures of one training step, to W&B only."""
        with self._guarded():
            if self.run:
                self.run.log(figures, step=step)

    def log_validation(
        self, row: dict, sheet: Image.Image | None = None, model: nn.Module | None = None
    ) -> None:
        """Append a row to metrics.csv; log it to W&B, with the sheet and a model's histograms."""
        append_csv(self.csv_path, [row])
        if not self.run:
            return
        with self._guarded():
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
        """End the W&B run, and let others use the folder."""
        with self._guarded():
            if self.run:
                self.run.finish()
        if self.lock:
            self.lock.release()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn W&B off, with a warning, at the first error of a call."""
        try:
            yield
        # A logger, a network or a full disk may raise anything; none of it is worth a run.
        except Exception as error:  # noqa: BLE001
            self.run = None
            print(f'warning: W&B failed and is off from here ({type(error).__name__}: {error})')


class SilentTracker(Tracker):
    """Writes nothing: for all ranks but the first."""

    def __init__(self) -> None:
        pass

    def log_validation(self, *_: object) -> None:
        """Log nothing."""


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
        # The server is there; wandb may know its certificate.
        return None if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)
    return None


def _keep_rows_until(path: Path, step: int) -> None:
    """Remove the rows after `step`: a resumed run will log them again.

    Raises UserError for a file that is no table of metrics.
    """
    if not path.exists():
        return
    try:
        with path.open(newline='', encoding='utf-8') as file:
            # A row that a kill has torn lacks its last cells.
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
        kept = [row for row in rows if int(row['step']) <= step]
    except (ValueError, LookupError, csv.Error) as error:
        raise UserError(
            f'{path} is not the table that train.py wrote: {type(error).__name__}: {error}. Move '
            'it away; the resumed run begins a new one.'
        ) from error
    with whole_file(path) as part:
        part.touch()
        append_csv(part, kept)
