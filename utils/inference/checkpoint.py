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

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from unet import UNet, default_widths
from utils.images.arrays import ImageRange
from utils.images.decoding import DECODE_PATH, PILLOW_DECODE
from utils.masks.encoding import MaskEncoding
from utils.runtime.errors import UserError, first_few
from utils.runtime.files import whole_file

from .checkpoint_format.files import (
    DESCRIPTION,
    SAFETENSORS,
    describe_missing,
    read_content,
    unwrap,
    write_safetensors,
)
from .checkpoint_format.schema import (
    MODEL,
    VERSION,
    check_description,
    check_mask_values,
    check_training,
)
from .checkpoint_format.weights import check_weights, infer_model, not_finite

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

    def description(self) -> dict:
        """Return the entries that describe the weights, of plain values, see the module."""
        preprocessing: dict = {'scale': self.scale, 'decode': self.decode}
        if self.image_range:
            preprocessing['range'] = [[low, high] for low, high in self.image_range]
        return {
            'format': 'unet',
            'version': VERSION,
            'model': self.model,
            'mask_values': self.mask_values,
            'mask_encoding': self.mask_encoding,
            'preprocessing': preprocessing,
            'metrics': self.metrics,
        }

    def build_model(self) -> UNet:
        """Return the network with these weights, on the CPU, in evaluation mode."""
        with torch.device('meta'):  # no memory, and no time for random weights
            model = UNet(**self.model)
        model.to_empty(device='cpu').load_state_dict(self.weights)
        return model.eval()


class NotFiniteError(ValueError):
    """Weights or running statistics contain NaN or infinity."""


def _listed(values: dict) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items())


def model_config(model: UNet) -> dict:
    """Return the arguments of UNet that make a network like this one.

    Those of the paper's network, and widths, are left out at their defaults: older versions do not
    know them.
    """
    always = ('n_channels', 'n_classes', 'bilinear', 'base_channels')
    paper = {'padding': 'same', 'norm': 'batch', 'dropout': 0.0}
    others: dict = paper | {'widths': default_widths(model.base_channels, model.bilinear)}
    names = [*always, *(k for k, default in others.items() if getattr(model, k) != default)]
    return {name: getattr(model, name) for name in names}


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically, as a state_dict unless it has `training`, see the module.

    Raises NotFiniteError, and writes nothing, if weights contain NaN or infinity.
    """
    if bad := not_finite(checkpoint.weights):
        raise NotFiniteError(f'weights with NaN or infinity are not saved: {first_few(bad)}')
    description = checkpoint.description()
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
    """Read a file of train.py or a state_dict of a U-Net, in any form, see docs/checkpoints.md.

    Raises UserError for any other file, and for one that is damaged, does not fit together, holds
    NaN or infinity, or would take far more memory than it has bytes.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(describe_missing(path))
    content = read_content(path)
    if isinstance(content, dict):
        form = content.get('format')
        described = isinstance(form, str) and form == 'unet'
        return _from_dict(content, path) if described else _from_state_dict(content, path)
    raise UserError(f'{path} holds a {type(content).__name__}; expected a state_dict of a U-Net')


def _from_dict(content: dict, path: Path) -> Checkpoint:
    """Return the checkpoint of a dict of all entries, such as last.pth."""
    description = check_description(path, content)
    weights, training = content.get('weights'), content.get('training')
    if not isinstance(weights, dict):
        raise UserError(f'{path} has no weights; expected a dict of them. Use another checkpoint.')
    model = infer_model(path, weights)
    described = {name: description['model'][name] for name in model.keys() & MODEL.keys()}
    if wrong := [name for name in described if described[name] != model[name]]:
        raise UserError(
            f'{path}: {first_few(wrong)} of its description and of its weights differ. It is '
            'damaged or was changed; use another checkpoint.'
        )
    if training is not None:
        check_training(path, training)
    weights = check_weights(path, weights, description['model'])
    return _described(description, weights, training)


def _from_state_dict(content: dict, path: Path) -> Checkpoint:
    """Return the checkpoint of a state_dict.

    Scripts may have changed entries of a described one: what the entries tell is taken from them.
    """
    weights, metadata = unwrap(content)
    values = weights.pop('mask_values', None)
    model = infer_model(path, weights)
    values = check_mask_values(path, values, model['n_classes'])
    description = metadata.get(DESCRIPTION)
    if description is None:
        weights = check_weights(path, weights, model)
        return Checkpoint(model, weights, values, decode=PILLOW_DECODE)
    found = _described(check_description(path, description), weights)
    model = infer_model(path, weights, found.model)
    if values not in (None, found.mask_values):  # names and palette are those of other values
        found = replace(found, mask_values=values, mask_encoding={})
    return replace(found, model=model, weights=check_weights(path, weights, model))


def _described(description: dict, weights: dict, training: dict | None = None) -> Checkpoint:
    """Return a checkpoint with the settings of a description that check_description has passed."""
    values, preprocessing = description['mask_values'], description['preprocessing']
    known = preprocessing.get('range')
    return Checkpoint(
        description['model'], weights, values and list(values), preprocessing['scale'],
        description['metrics'], training, description.get('mask_encoding', {}),
        preprocessing['decode'], known and [(low, high) for low, high in known],
    )  # fmt: skip


def to_flat(source: Path, target: Path) -> list[str]:
    """Write a checkpoint as a described state_dict, always with `mask_values` among the keys.

    Return what the original's programs cannot know about the network, empty if they can load it.
    Raises UserError for a file that cannot be used.
    """
    checkpoint = load_checkpoint(source)
    values = checkpoint.mask_values or plain_values(checkpoint.model['n_classes'])
    save_checkpoint(replace(checkpoint, mask_values=values, training=None), target)
    has = ORIGINAL | checkpoint.model
    unknown = [f'{k} {has[k]}, not {usual}' for k, usual in ORIGINAL.items() if has[k] != usual]
    return unknown + ([f'widths {has["widths"]}'] if 'widths' in has else [])


def to_safetensors(source: Path, target: Path) -> None:
    """Write a checkpoint's weights and description as a .safetensors file.

    Raises UserError for a file that cannot be used, another suffix, or without the package.
    """
    if target.suffix.lower() != SAFETENSORS:
        raise UserError(f'cannot write {target}; expected a name that ends in {SAFETENSORS}')
    checkpoint = load_checkpoint(source)
    write_safetensors(checkpoint.weights, checkpoint.description(), target)


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
