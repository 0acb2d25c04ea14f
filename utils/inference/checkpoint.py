"""Checkpoint files: written atomically, self-describing, read in every format.

Files with weights only, such as best.pth, are what milesial/Pytorch-UNet writes: a state_dict with
`mask_values` among its keys. A description travels in the state_dict's `_metadata`, under a key
that load_state_dict does not look up:

    format, version    'unet', 1
    model              UNet's arguments
    mask_values        the value of each class in the masks
    mask_encoding      the other fields of MaskEncoding
    preprocessing      scale, decode path, and the range of images of more than 8 bits, if any
    metrics            validation scores, None before the first validation

last.pth is one dict of these entries, `weights` (a state_dict) and `training`, the state that
--resume needs. Until the state_dicts had descriptions, all files were such dicts, those of weights
only without `training`; they are read too. All files are read with weights_only=True.

A state_dict without a description, with or without `mask_values` or a prefix such as `module.`, is
the original's or a script's: network and width are inferred from shapes, and images are
preprocessed as the original does.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from unet import UNet
from utils.images.arrays import ImageRange
from utils.images.decoding import DECODE_PATH, PILLOW_DECODE
from utils.masks.encoding import MaskEncoding
from utils.runtime.errors import UserError, first_few
from utils.runtime.files import read_torch_file, whole_file

VERSION = 1

# Key of the description in `_metadata`, whose other keys are paths of modules. No path begins with
# a dot, because names of modules are not empty.
DESCRIPTION = '.unet'

# Of the names in a state_dict of DistributedDataParallel, DataParallel or torch.compile.
WRAPPERS = re.compile(r'^(module\.|_orig_mod\.)+')

# What the programs of milesial/Pytorch-UNet build; they ask for classes and upsampling only.
ORIGINAL = {'n_channels': 3, 'base_channels': 64, 'norm': 'batch', 'padding': 'same'}


@dataclass
class Checkpoint:
    """A network's weights and metadata. Fields are None where a file does not record them."""

    model: dict  # UNet's arguments
    weights: dict[str, Tensor]
    mask_values: list | None = None  # ints or [R, G, B]
    scale: float | None = None
    metrics: dict | None = None
    training: dict | None = None
    mask_encoding: dict = field(default_factory=dict)  # MaskEncoding's other fields
    decode: str = DECODE_PATH  # how its images were decoded, see utils.images.decoding
    image_range: ImageRange | None = None  # of images of more than 8 bits

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
            'pixel values that become 0 to 1': str(self.image_range or ''),
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
    """Write a checkpoint atomically, as a state_dict unless it has `training`, see the module.

    Raises NotFiniteError, and writes nothing, if weights contain NaN or infinity.
    """
    bad = [k for k, v in checkpoint.weights.items() if not torch.isfinite(v).all()]
    if bad:
        raise NotFiniteError(f'weights with NaN or infinity are not saved: {first_few(bad)}')
    preprocessing: dict = {'scale': checkpoint.scale, 'decode': checkpoint.decode}
    if checkpoint.image_range:
        preprocessing['range'] = [[low, high] for low, high in checkpoint.image_range]
    description = {
        'format': 'unet',
        'version': VERSION,
        'model': checkpoint.model,
        'mask_values': checkpoint.mask_values,
        'mask_encoding': checkpoint.mask_encoding,
        'preprocessing': preprocessing,
        'metrics': checkpoint.metrics,
    }
    if checkpoint.training is None:
        _write(_described_weights(checkpoint.weights, description), path)
    else:
        state = {'weights': checkpoint.weights, 'training': checkpoint.training}
        _write(description | state, path)


def _described_weights(weights: dict[str, Tensor], description: dict) -> OrderedDict:
    """Return a state_dict with `mask_values` and the description, on the CPU, for any machine."""
    flat = OrderedDict((name, tensor.cpu()) for name, tensor in weights.items())
    if description['mask_values']:
        flat['mask_values'] = description['mask_values']
    metadata = getattr(weights, '_metadata', {}) | {DESCRIPTION: description}
    flat._metadata = metadata  # type: ignore[attr-defined]  # as Module.state_dict does
    return flat


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file of train.py or a state_dict of a U-Net; raise UserError for any other."""
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
        return _from_description(content, content, path)
    if isinstance(content, dict) and all(isinstance(key, str) for key in content):
        return _from_flat(content, path)
    raise UserError(f'{path} holds a {type(content).__name__}; expected a state_dict of a U-Net')


def _from_description(description: dict, content: dict, path: Path) -> Checkpoint:
    """Return the described checkpoint with the `weights` and `training` of `content`."""
    if description['version'] > VERSION:
        raise UserError(
            f'{path} has format version {description["version"]}; this program reads versions up '
            f'to {VERSION}. Update the program.'
        )
    preprocessing = description['preprocessing']
    known = preprocessing.get('range')
    return Checkpoint(
        description['model'], content['weights'], description['mask_values'],
        preprocessing['scale'], description['metrics'], content.get('training'),
        description.get('mask_encoding', {}), preprocessing['decode'],
        known and [(low, high) for low, high in known],
    )  # fmt: skip


def _from_flat(content: dict, path: Path) -> Checkpoint:
    """Return the checkpoint of a state_dict.

    Scripts may have changed entries of a described one: what the entries tell is taken from them.
    """
    weights = {WRAPPERS.sub('', name): value for name, value in content.items()}
    values = weights.pop('mask_values', None)
    description = getattr(content, '_metadata', {}).get(DESCRIPTION)
    if description is None:
        model = _infer_model(weights, path)
        return Checkpoint(model, weights, values, decode=PILLOW_DECODE)
    found = _from_description(description, {'weights': weights}, path)
    if values not in (None, found.mask_values):  # names and palette are those of other values
        found = replace(found, mask_values=values, mask_encoding={})
    return replace(found, model=found.model | _infer_model(weights, path))


def _infer_model(weights: dict, path: Path) -> dict:
    """Return the arguments of UNet that shapes tell, all but padding and dropout."""
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
    return model


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


def to_flat(source: Path, target: Path) -> list[str]:
    """Write a checkpoint as a described state_dict, always with `mask_values` among the keys.

    Return what the original's programs cannot know about the network, empty if they can load it.
    Raises UserError for a file that cannot be read or whose weights contain NaN or infinity.
    """
    checkpoint = load_checkpoint(source)
    values = checkpoint.mask_values or plain_values(checkpoint.model['n_classes'])
    try:
        save_checkpoint(replace(checkpoint, mask_values=values, training=None), target)
    except NotFiniteError as error:
        raise UserError(f'{source}: {error}. Convert a file of an earlier epoch.') from error
    has = ORIGINAL | checkpoint.model
    return [f'{name} {has[name]}, not {usual}' for name, usual in ORIGINAL.items()
            if has[name] != usual]  # fmt: skip


def plain_values(n_classes: int) -> list[int]:
    """Return the mask values of a network of which none are known: 0, 1, ..."""
    return list(range(max(2, n_classes)))


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
