"""torch.hub entry point.

model = torch.hub.load('FOLDER', 'unet_carvana', source='local')  # or 'OWNER/REPO', no source
"""

import sys
import warnings
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch

from unet import UNet

dependencies = ['torch', 'PIL', 'numpy']

# Released Carvana weights of milesial/Pytorch-UNet, by training scale.
RELEASED = 'https://github.com/milesial/Pytorch-UNet/releases/download/v3.0'
WEIGHTS = {scale: f'{RELEASED}/unet_carvana_scale{scale}_epoch2.pth' for scale in (0.5, 1.0)}


class NoWeightsError(ValueError, RuntimeError):
    """A scale for which no weights were released; the original raises RuntimeError."""


def unet_carvana(
    pretrained: bool = False,
    scale: float = 0.5,
    weights: str | Path | None = None,
    map_location: str | torch.device = 'cpu',
) -> UNet:
    """Return a U-Net for Carvana: RGB images, two classes, logits (B, 2, H, W).

    pretrained: load the released weights. scale: their training scale, 0.5 or 1.0. weights: a file
    or https address of other weights, in any format that utils.checkpoint reads; loaded even if
    `pretrained` is False. map_location: device of the result.

    Raises NoWeightsError for another scale, UserError for a file that is missing or no checkpoint,
    for an address of another kind, and without a network. Warns where a file is downloaded: no
    checksum of it is known.
    """
    if not pretrained and weights is None:
        return UNet(n_channels=3, n_classes=2).to(map_location)
    # Late: a program that has its own package named utils can only build networks without weights.
    from utils.inference.checkpoint import load_checkpoint

    if weights is None and scale not in WEIGHTS:
        raise NoWeightsError(f'weights exist for scale 0.5 and 1.0, not {scale}; or give `weights`')
    source = str(weights or WEIGHTS[scale])
    path = Path(source)
    if '://' in source:
        _check_address(source)
        name = Path(urlsplit(source).path).name
        if source not in WEIGHTS.values():  # files of other URLs may have the same name
            name = f'{sha256(source.encode()).hexdigest()[:8]}-{name}'
        path = Path(torch.hub.get_dir()) / 'checkpoints' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _download(source, path)
    return load_checkpoint(path).build_model().to(map_location)


def _check_address(url: str) -> None:
    """Raise UserError unless the address is one of https, whose servers prove who they are."""
    from utils.runtime.errors import UserError

    if urlsplit(url).scheme.lower() != 'https':
        raise UserError(
            f'{url}: weights are downloaded from https addresses only. Give a https address, or '
            'the name of a file.'
        )


def _download(url: str, path: Path) -> None:
    """Download a file, completely or not at all; raise UserError where there is no network.

    Warns that nothing tells whether it is the right file: no checksums of the original's releases
    are known here. Whatever it holds, load_checkpoint runs no code of it.
    """
    from utils.runtime.errors import UserError

    warnings.warn(
        f'{url} is downloaded to {path} without a check of its content: no checksum of it is '
        'known. Use it if you trust the address.',
        stacklevel=3,
    )
    try:
        # Its progress bar is not for log files.
        torch.hub.download_url_to_file(url, str(path), progress=sys.stderr.isatty())
    except (OSError, HTTPException) as error:  # URLError and time-outs are OSErrors
        raise UserError(
            f'{url} cannot be downloaded ({error}). Check the network and the proxy, or download '
            f'the file elsewhere and save it as {path}, or give its name as `weights`.'
        ) from None
