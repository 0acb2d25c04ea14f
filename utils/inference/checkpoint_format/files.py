"""Files of weights in all forms: torch.save's and .safetensors, wrapped or not, with any prefix.

`read_entries` gives the entries of a file by UNet's own names. A file of .safetensors has this
project's description, as JSON, in its metadata.
"""

import json
import re
import zlib
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from utils.runtime.errors import UserError, first_few
from utils.runtime.files import whole_file
from utils.runtime.torch_files import (
    CodeError,
    DamagedError,
    TooLargeError,
    check_size,
    read_torch_file,
)

# Key of the description in `_metadata`, whose other keys are paths of modules. No path begins with
# a dot, because names of modules are not empty.
DESCRIPTION = '.unet'

# Keys under which training scripts save a state_dict. Lightning's is the first.
WRAPPERS = ('state_dict', 'model_state_dict', 'model', 'net', 'weights')

# Of the names in a state_dict of DistributedDataParallel, DataParallel or torch.compile, which may
# wrap a part of the network, too.
WRAPPED = re.compile(r'(?<![^.])(module|_orig_mod)\.')

FIRST = 'inc.double_conv.0.weight'  # an entry of every U-Net
COUNTER = 'num_batches_tracked'  # of BatchNorm, only counted; torch up to 0.4 had none

SAFETENSORS = '.safetensors'
HEADER = 'unet'  # key of the description in the metadata of a .safetensors file
CHECKSUM = 'crc32'  # and of the checksum of all its tensors


def read_content(path: Path) -> object:
    """Return what a file holds, of .safetensors a dict; raise UserError if it cannot be read."""
    try:
        if path.suffix.lower() == SAFETENSORS:
            return _read_safetensors(path)
        return read_torch_file(path)
    except CodeError as error:
        raise UserError(
            f'{path} is not a readable checkpoint: {error}. It may be a whole network, as '
            f'torch.save(net, FILE) writes it; loading it would run code. Save its weights alone, '
            f"where it was made, and if you trust it: torch.save(torch.load('{path.name}', "
            "map_location='cpu', weights_only=False).state_dict(), 'weights.pth')"
        ) from error
    except DamagedError as error:
        raise UserError(
            f'{path} is not a readable checkpoint: {error}. Copy or download it again, or use '
            'another file of the run.'
        ) from error
    except TooLargeError as error:
        raise UserError(
            f'{path} is not a readable checkpoint: {error}. Use a file as train.py or torch.save '
            'wrote it.'
        ) from error
    except ValueError as error:
        with path.open('rb') as file:
            start = file.read(12)
        raise UserError(
            f'{path} is not a readable checkpoint: it has {path.stat().st_size} bytes and starts '
            f'with {start!r} ({error}). Expected a .pth file written by train.py, or a state_dict.'
        ) from error
    except MemoryError as error:
        raise UserError(
            f'{path}: the memory does not hold its {path.stat().st_size:,} bytes ({error}). Close '
            'other programs, or give the container more.'
        ) from error


def unwrap(content: dict) -> tuple[dict, dict]:
    """Return a state_dict by UNet's own names, and its `_metadata`, of what a script saved.

    content: the state_dict, or a dict that has it under one of WRAPPERS, and perhaps `mask_values`
    beside it. Entries of other parts of a program, such as a loss, are left out where the network
    is one part (`model.` in Lightning). Missing counters of BatchNorm become 0.
    """
    values = content.get('mask_values')
    for _ in range(2):  # of a wrapper in a wrapper
        inner = next((content[name] for name in WRAPPERS if _is_wrapper(content, name)), None)
        content = content if inner is None else inner
        values = content.get('mask_values', values)
    names = {name: WRAPPED.sub('', name) for name in content if isinstance(name, str)}
    starts = {new.removesuffix(FIRST) for new in names.values() if f'.{new}'.endswith(f'.{FIRST}')}
    prefix = starts.pop() if len(starts) == 1 else ''
    weights = {
        new.removeprefix(prefix): content[old]
        for old, new in names.items()
        if new.startswith(prefix) and new != 'mask_values'
    }
    for name in [name for name in weights if name.endswith('.running_var')]:
        counter = f'{name.rpartition(".")[0]}.{COUNTER}'
        weights.setdefault(counter, torch.tensor(0))
    if values is not None:
        weights['mask_values'] = values
    metadata = getattr(content, '_metadata', None)
    return weights, metadata if isinstance(metadata, dict) else {}


def _is_wrapper(content: dict, name: str) -> bool:
    inner = content.get(name)
    return isinstance(inner, dict) and any(
        isinstance(value, Tensor | dict) for value in inner.values()
    )


def _safetensors(purpose: str) -> None:
    """Raise UserError if the package of .safetensors files is missing."""
    try:
        import safetensors.torch  # noqa: F401  # an extra
    except ModuleNotFoundError:
        raise UserError(
            f'{purpose} needs the package safetensors: pip install safetensors'
        ) from None


def _checksum(weights: dict[str, Tensor]) -> str:
    """Return the checksum of all bytes of the weights, in the order of their names."""
    found = 0
    for name in sorted(weights):
        raw = weights[name].detach().contiguous().reshape(-1).view(torch.uint8)
        found = zlib.crc32(raw.numpy().data, found)
    return f'{found:08x}'


def _read_safetensors(path: Path) -> dict:
    """Return the weights of a file; its description is in `_metadata`, as in other files."""
    _safetensors(str(path))
    from safetensors import SafetensorError, safe_open

    check_size(path.stat().st_size, path)
    content: OrderedDict = OrderedDict()
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            content.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        right = CHECKSUM not in metadata or metadata[CHECKSUM] == _checksum(content)
    except (SafetensorError, RuntimeError) as error:
        raise DamagedError(f'it is damaged, or no .safetensors file ({error})') from error
    if not right:
        raise DamagedError('it is damaged (the checksum of its tensors is wrong)')
    if HEADER in metadata:
        try:
            description = json.loads(metadata[HEADER])
        except (ValueError, RecursionError) as error:
            raise DamagedError(f'it is damaged (its description is no JSON: {error})') from error
        content._metadata = {DESCRIPTION: description}  # type: ignore[attr-defined]
    return content


def write_safetensors(weights: dict[str, Tensor], description: dict, path: Path) -> None:
    """Write weights as .safetensors, atomically, with description and checksum in its metadata."""
    _safetensors(str(path))
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    metadata = {HEADER: json.dumps(description), CHECKSUM: _checksum(plain)}
    with whole_file(path) as part:
        save_file(plain, part, metadata)


def describe_missing(path: Path) -> str:
    """Return the message for a checkpoint that does not exist, with those that do."""
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
