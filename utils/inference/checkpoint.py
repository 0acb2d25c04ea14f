"""Checkpoint files: written atomically, self-describing, read in our format or the flat one.

Our format is one dict of plain values and tensors, read with weights_only=True:

    format, version    'unet', 1
    model              UNet's arguments
    mask_values        the value of each class in the masks
    mask_encoding      the other fields of MaskEncoding
    preprocessing      scale, decode path
    metrics            validation scores, None before the first validation
    weights            state_dict
    training           in last.pth only: the state that --resume needs

The flat format is that of milesial/Pytorch-UNet: a state_dict, with or without a `mask_values`
entry or a `module.` prefix. `python -m utils.checkpoint to-flat best.pth flat.pth` writes it.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from unet import UNet
from utils.images.decoding import DECODE_PATH, PILLOW_DECODE
from utils.masks.encoding import MaskEncoding
from utils.runtime.errors import UserError, first_few
from utils.runtime.files import read_torch_file, whole_file

VERSION = 1


@dataclass
class Checkpoint:
    """A network's weights and metadata. Fields are None if a flat file does not have them."""

    model: dict  # UNet's arguments
    weights: dict[str, Tensor]
    mask_values: list | None = None  # ints or [R, G, B]
    scale: float | None = None
    metrics: dict | None = None
    training: dict | None = None
    mask_encoding: dict = field(default_factory=dict)  # MaskEncoding's other fields
    decode: str = DECODE_PATH  # PILLOW_DECODE for a flat file without a record

    @property
    def masks(self) -> MaskEncoding | None:
        """The encoding of the training masks, None if unknown."""
        # Until masks' modes followed from their values, files had the training masks' mode.
        others = {name: value for name, value in self.mask_encoding.items() if name != 'mode'}
        return MaskEncoding(self.mask_values, **others) if self.mask_values else None

    def settings(self) -> dict[str, str]:
        """Return the known metadata as text, by name, for a report."""
        dice = (self.metrics or {}).get('dice_dataset')
        described = {
            'network': _listed(self.model),
            'mask values': ', '.join(map(str, self.mask_values or [])) or 'unknown',
            'class names': ', '.join(self.mask_encoding.get('names') or []),
            'trained at scale': f'{self.scale:g}' if self.scale else 'unknown',
            'validation Dice when saved': '' if dice is None else f'{dice:.4f}',
            'training': _listed((self.training or {}).get('args', {})),
        }
        return {name: text for name, text in described.items() if text}

    def build_model(self) -> UNet:
        """Return the network with these weights, on the CPU, in evaluation mode."""
        model = UNet(**self.model)
        model.load_state_dict(self.weights)
        return model.eval()


class NotFiniteError(ValueError):
    """Weights or running statistics contain NaN or infinity."""


def _listed(values: dict) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items())


def model_config(model: UNet) -> dict:
    """Return the arguments of UNet that make a network like this one.

    Those of the paper's network are left out at their defaults: older versions do not know them.
    """
    always = ('n_channels', 'n_classes', 'bilinear', 'base_channels')
    paper = {'padding': 'same', 'norm': 'batch', 'dropout': 0.0}
    names = [*always, *(k for k, default in paper.items() if getattr(model, k) != default)]
    return {name: getattr(model, name) for name in names}


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically; raise NotFiniteError if weights contain NaN or infinity."""
    bad = [k for k, v in checkpoint.weights.items() if not torch.isfinite(v).all()]
    if bad:
        raise NotFiniteError(f'weights with NaN or infinity are not saved: {first_few(bad)}')
    content = {
        'format': 'unet',
        'version': VERSION,
        'model': checkpoint.model,
        'mask_values': checkpoint.mask_values,
        'mask_encoding': checkpoint.mask_encoding,
        'preprocessing': {'scale': checkpoint.scale, 'decode': checkpoint.decode},
        'metrics': checkpoint.metrics,
        'weights': checkpoint.weights,
    }
    if checkpoint.training is not None:
        content['training'] = checkpoint.training
    _write(content, path)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file in our format or the flat one; raise UserError for any other."""
    path = Path(path)
    if not path.is_file():
        raise UserError(_describe_missing(path))
    try:
        content = read_torch_file(path)
    except ValueError as error:
        with path.open('rb') as file:
            start = file.read(12)
        raise UserError(
            f'{path} is not a readable checkpoint: it has {path.stat().st_size} bytes and starts '
            f'with {start!r}. Expected a .pth file written by train.py, or a state_dict.'
        ) from error
    if isinstance(content, dict) and content.get('format') == 'unet':
        if content['version'] > VERSION:
            raise UserError(
                f'{path} has format version {content["version"]}; this program reads versions up '
                f'to {VERSION}. Update the program.'
            )
        return Checkpoint(
            content['model'], content['weights'], content['mask_values'],
            content['preprocessing']['scale'], content['metrics'],
            content.get('training'), content.get('mask_encoding', {}),
            content['preprocessing']['decode'],
        )  # fmt: skip
    if isinstance(content, dict) and all(isinstance(key, str) for key in content):
        return _from_flat(content, path)
    raise UserError(f'{path} holds a {type(content).__name__}; expected a state_dict of a U-Net')


def _from_flat(content: dict, path: Path) -> Checkpoint:
    weights = {k.removeprefix('module.'): v for k, v in content.items() if k != 'mask_values'}
    try:
        first, last = weights['inc.double_conv.0.weight'], weights['outc.conv.weight']
    except KeyError as error:
        raise UserError(
            f'{path} holds no U-Net of this kind: no {error} among {first_few(weights)}. Expected '
            'a file written by train.py or by the original.'
        ) from error
    model = {
        'n_channels': first.shape[1],
        'n_classes': last.shape[0],
        'bilinear': 'up1.up.weight' not in weights,
        'base_channels': first.shape[0],
    }
    if 'inc.double_conv.0.bias' in weights:
        model['norm'] = 'none'
    with torch.device('meta'):  # only names and shapes are needed
        expected = UNet(**model).state_dict()
    wrong = [k for k, v in expected.items() if k not in weights or weights[k].shape != v.shape]
    wrong += [k for k in weights if k not in expected]
    if wrong:
        raise UserError(
            f'{path} looks like UNet({model}) but {len(wrong)} entries do not fit: '
            f'{first_few(wrong)}. Expected the names and shapes of that network.'
        )
    values = content.get('mask_values')
    return Checkpoint(model, weights, mask_values=values, decode=PILLOW_DECODE)


def _describe_missing(path: Path) -> str:
    if path.is_dir():
        there = first_few(sorted(path.glob('*.pth')))
        return f'{path} is a folder; expected a .pth file. In it: {there or "none"}.'
    files = sorted(Path('checkpoints').rglob('[!.]*.pth'), key=lambda p: -p.stat().st_mtime)
    if not files:
        return (
            f'{path} does not exist, and checkpoints/ has no .pth files. Train a network first '
            '(python train.py --amp), or name a file.'
        )
    newest = next((f for f in files if f.name == 'best.pth'), files[0])
    return (
        f'{path} does not exist. There are {first_few(files, 5)}. Name one of them, for '
        f'instance {newest}, or rename it to {path}.'
    )


def to_flat(source: Path, target: Path) -> None:
    """Write a checkpoint in the flat format: its weights, and `mask_values` among the keys.

    Raises UserError for a network without padding, because that format does not record padding.
    """
    checkpoint = load_checkpoint(source)
    if checkpoint.model.get('padding') == 'valid':
        raise UserError(
            f'{source} is of a network without padding (--padding valid); the flat format is for '
            'padded networks only. Use the file as it is.'
        )
    values = checkpoint.mask_values
    _write(checkpoint.weights | ({'mask_values': values} if values else {}), target)


def _write(content: dict, path: Path) -> None:
    with whole_file(path) as part:
        try:
            with part.open('wb') as file:
                torch.save(content, file)
        except RuntimeError as error:
            cause = error.__context__  # the OSError of a full disk, which torch's error hides
            if isinstance(cause, OSError):
                raise OSError(cause.errno, cause.strerror, str(path)) from error
            raise
