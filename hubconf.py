"""torch.hub entry points.

model = torch.hub.load('FOLDER OR OWNER/REPO', 'unet_carvana', source='local', pretrained=False)
"""

from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import torch

from unet import UNet

dependencies = ['torch', 'PIL', 'numpy']

# The released Carvana weights of the best-known PyTorch U-Net, by the scale they were trained at.
RELEASED = 'https://github.com/milesial/Pytorch-UNet/releases/download/v3.0/'
WEIGHTS = {
    0.5: f'{RELEASED}unet_carvana_scale0.5_epoch2.pth',
    1.0: f'{RELEASED}unet_carvana_scale1.0_epoch2.pth',
}


def unet_carvana(
    pretrained: bool = False,
    scale: float = 0.5,
    weights: str | Path | None = None,
    map_location: str | torch.device = 'cpu',
) -> UNet:
    """U-Net for Carvana: RGB in, two classes out, logits (B, 2, H, W).

    pretrained: load trained weights. scale: 0.5 or 1.0, of the images the released weights were
    trained at. weights: a file or URL of other ones, in any form that utils.checkpoint reads;
    they are loaded whatever `pretrained` says. map_location: the device of the result.

    Raises ValueError for another scale, UserError for a file that is missing or no checkpoint. A
    program with a package called `utils` of its own can load no weights this way.
    """
    if not pretrained and weights is None:
        return UNet(n_channels=3, n_classes=2).to(map_location)
    # Here, so that a network without weights loads even beside another package called utils.
    from utils.inference.checkpoint import load_checkpoint

    if weights is None and scale not in WEIGHTS:
        raise ValueError(f'weights exist for scale 0.5 and 1.0, not {scale}; or give `weights`')
    source = str(weights or WEIGHTS[scale])
    if '://' in source:
        folder = Path(torch.hub.get_dir()) / 'checkpoints'
        folder.mkdir(parents=True, exist_ok=True)
        name = Path(urlsplit(source).path).name
        # Other people's files may have one name: each address gets a file of its own.
        known = source in WEIGHTS.values()
        path = folder / (name if known else f'{sha256(source.encode()).hexdigest()[:8]}-{name}')
        if not path.exists():
            torch.hub.download_url_to_file(source, str(path))
        source = path
    return load_checkpoint(source).build_model().to(map_location)
