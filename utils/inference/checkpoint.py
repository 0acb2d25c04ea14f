"""Checkpoints: written whole or not at all, describing themselves, read from either format.

Ours is one dict of plain values and tensors, read with weights_only=True:

    format, version    'unet', 1
    model              UNet's arguments
    mask_values        the value of each class in the masks
    mask_encoding      what else is known of them: names, mode, palette and how they were read
    preprocessing      scale, decode path
    metrics            validation scores, None before the first
    weights            state_dict
    training           in last.pth only: all that --resume needs

The flat form of the best-known PyTorch U-Net, a state_dict with or without a `mask_values` entry
or a `module.` prefix, is read too, and written by

    python -m utils.checkpoint to-flat checkpoints/best.pth flat.pth
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from unet import UNet
from utils.images.decoding import DECODE_PATH
from utils.masks.encoding import MaskEncoding
from utils.runtime.errors import UserError, first_few
from utils.runtime.files import read_torch_file, whole_file

VERSION = 1


@dataclass
class Checkpoint:
    """A network's weights and what is known of it; None where a flat file cannot say."""

    model: dict  # UNet's arguments
    weights: dict[str, Tensor]
    mask_values: list | None = None  # ints or [R, G, B]
    scale: float | None = None
    metrics: dict | None = None
    training: dict | None = field(default=None, repr=False)
    mask_encoding: dict = field(default_factory=dict)  # MaskEncoding's fields but the values

    @property
    def masks(self) -> MaskEncoding | None:
        """The encoding of the masks it was trained on, None where a flat file cannot say."""
        known = self.mask_values
        return MaskEncoding(known, **self.mask_encoding) if known else None

    def settings(self) -> dict[str, str]:
        """What describes the network beside its weights, by name, as text."""
        names = self.mask_encoding.get('names')
        described = {
            'network': _listed(self.model),
            'mask values': ', '.join(map(str, self.mask_values or ['unknown'])),
            'class names': ', '.join(names or []),
            'trained at scale': f'{self.scale:g}' if self.scale else 'unknown',
        }
        dice = (self.metrics or {}).get('dice_dataset')
        described['validation Dice when saved'] = '' if dice is None else f'{dice:.4f}'
        described['training'] = _listed((self.training or {}).get('args', {}))
        return {name: text for name, text in described.items() if text}

    def build_model(self) -> UNet:
        """The network with these weights, on the CPU, in evaluation mode."""
        model = UNet(**self.model)
        model.load_state_dict(self.weights)
        return model.eval()


class NotFiniteError(ValueError):
    """Weights or running statistics with a NaN or infinity among them."""


def _listed(values: dict) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items())


def model_config(model: UNet) -> dict:
    """The arguments that make a network like this one.

    Those of the paper's network only where they differ from the usual, whose files stay as they
    were, for older programs too.
    """
    names = ('n_channels', 'n_classes', 'bilinear', 'base_channels')
    paper = {'padding': 'same', 'norm': 'batch', 'dropout': 0.0}
    config = {name: getattr(model, name) for name in names}
    return config | {k: getattr(model, k) for k, v in paper.items() if getattr(model, k) != v}


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write the file in full beside `path`, then put it in its place.

    Raises NotFiniteError, and leaves what was there, for weights that are not all finite.
    """
    bad = [k for k, v in checkpoint.weights.items() if not torch.isfinite(v).all()]
    if bad:
        raise NotFiniteError(f'weights with NaN or infinity are not saved: {first_few(bad)}')
    content = {
        'format': 'unet',
        'version': VERSION,
        'model': checkpoint.model,
        'mask_values': checkpoint.mask_values,
        'mask_encoding': checkpoint.mask_encoding,
        'preprocessing': {'scale': checkpoint.scale, 'decode': DECODE_PATH},
        'metrics': checkpoint.metrics,
        'weights': checkpoint.weights,
    }
    if checkpoint.training is not None:
        content['training'] = checkpoint.training
    _write(content, path)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file in our form or the flat form.

    Raises UserError, naming the file, where it is missing, no checkpoint, or of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(_not_there(path))
    try:
        content = read_torch_file(path)
    except ValueError as error:
        with path.open('rb') as file:
            start = file.read(12)
        raise UserError(
            f'{path} is not a checkpoint that can be read: it has {path.stat().st_size} bytes and '
            f'starts with {start!r}. Expected a .pth file written by train.py, or a state_dict.'
        ) from error
    if isinstance(content, dict) and content.get('format') == 'unet':
        return _from_own(content, path)
    if isinstance(content, dict) and all(isinstance(key, str) for key in content):
        return _from_flat(content, path)
    raise UserError(f'{path} holds a {type(content).__name__}; expected a state_dict of a U-Net')


def _from_own(content: dict, path: Path) -> Checkpoint:
    if content['version'] > VERSION:
        raise UserError(
            f'{path} has format version {content["version"]}; this program reads up to {VERSION}. '
            'Update it.'
        )
    scale = content['preprocessing']['scale']
    names = ('model', 'weights', 'mask_values', 'metrics')
    return Checkpoint(
        **{name: content[name] for name in names},
        scale=scale,
        training=content.get('training'),
        mask_encoding=content.get('mask_encoding', {}),
    )


def _from_flat(content: dict, path: Path) -> Checkpoint:
    weights = {k.removeprefix('module.'): v for k, v in content.items() if k != 'mask_values'}
    try:
        first, last = weights['inc.double_conv.0.weight'], weights['outc.conv.weight']
    except KeyError as error:
        raise UserError(
            f'{path} holds no U-Net of this kind: no {error} among {first_few(weights)}'
        ) from error
    model = {
        'n_channels': first.shape[1],
        'n_classes': last.shape[0],
        'bilinear': 'up1.up.weight' not in weights,
        'base_channels': first.shape[0],
    }
    if 'inc.double_conv.0.bias' in weights:
        model['norm'] = 'none'
    with torch.device('meta'):  # its shapes are all that is needed
        expected = UNet(**model).state_dict()
    wrong = [k for k, v in expected.items() if k not in weights or weights[k].shape != v.shape]
    wrong += [k for k in weights if k not in expected]
    if wrong:
        raise UserError(
            f'{path} looks like UNet({model}) but {len(wrong)} entries do not fit: '
            f'{first_few(wrong)}. Expected the names and shapes of that network.'
        )
    return Checkpoint(model, weights, mask_values=content.get('mask_values'))


def _not_there(path: Path) -> str:
    if path.is_dir():
        there = first_few(p for p in sorted(path.glob('*.pth')))
        return f'{path} is a folder; expected a .pth file. In it: {there or "none"}.'
    files = [p for p in Path('checkpoints').rglob('*.pth') if not p.name.startswith('.')]
    files.sort(key=lambda p: p.stat().st_mtime)
    if not files:
        return (
            f'{path} does not exist, and checkpoints/ holds none either. Train a network first '
            '(python train.py --amp), or name a file.'
        )
    newest = next((f for f in reversed(files) if f.name == 'best.pth'), files[-1])
    return (
        f'{path} does not exist. There are {first_few(reversed(files), 5)}. Name the one you '
        f'mean, for instance {newest}, or rename it {path}.'
    )


def to_flat(source: Path, target: Path) -> None:
    """Write the flat form of a checkpoint: its weights, and `mask_values` among the keys.

    Raises UserError for a network without padding, which that form cannot tell from a padded one.
    """
    checkpoint = load_checkpoint(source)
    if checkpoint.model.get('padding') == 'valid':
        raise UserError(
            f'{source} is of a network without padding (--padding valid); the flat form is of '
            'padded ones only. Use the file as it is.'
        )
    known = checkpoint.mask_values
    _write(checkpoint.weights | ({'mask_values': known} if known else {}), target)


def _write(content: dict, path: Path) -> None:
    with whole_file(path) as part:
        try:
            with part.open('wb') as file:
                torch.save(content, file)
        except RuntimeError as error:
            full = error.__context__  # torch's own error does not say what the disk said
            if isinstance(full, OSError):
                raise OSError(full.errno, full.strerror, str(path)) from error
            raise
