"""Seeded mutations: of nested structures, and of the bytes of files."""

import copy
import random
from collections import OrderedDict

import torch

ODD_VALUES = [
    None, True, False, 0, -1, 3, 2**16, 2**31, 2**70, 0.5, -0.5, 1e308, float('nan'), float('inf'),
    '', 'unet', 'a\ud800', 'batch', [], [1], [[1, 2, 3]], [0, 255, 7, 8], ['a', 'b'], (), {},
    {'a': 1}, {'weights': {}}, b'bytes', {1, 2}, complex(1, 2),
]  # fmt: skip


def odd_tensors():
    """Return tensors that are no weights, or of other shapes and types than most."""
    return [
        torch.zeros(()), torch.zeros(0), torch.zeros(3), torch.zeros(2, 3, 3, 3),
        torch.zeros(1).expand(700, 3, 3, 3), torch.zeros(1).expand(2**40), torch.eye(4).to_sparse(),
        torch.full((2,), float('nan')), torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, dtype=torch.int8), torch.zeros(2, dtype=torch.float16),
        torch.empty(2, device='meta'), torch.zeros(2, 2, dtype=torch.float8_e4m3fn),
    ]  # fmt: skip


def reshaped(tensor, chance):
    """Return the tensor in another shape, type or with one other value."""
    shape = list(tensor.shape)
    kind = chance.randrange(6)
    if kind == 0 and shape:
        k = chance.randrange(len(shape))
        shape[k] = chance.choice([0, 1, shape[k] + 1, 2 * shape[k], 1000])
        return torch.zeros(1, dtype=tensor.dtype).expand(shape)
    if kind == 1:
        return tensor.flatten()
    if kind == 2:
        return tensor.unsqueeze(0)
    if kind == 3:
        types = [torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64]
        return tensor.to(chance.choice(types))
    changed = tensor.clone(memory_format=torch.contiguous_format)
    if changed.is_floating_point() and changed.numel():
        changed.view(-1)[0] = chance.choice([float('nan'), float('inf'), -float('inf'), 1e38])
    return changed


def containers(content, found=None):
    """Return all dicts and lists in `content`, a state_dict's description included."""
    found = [] if found is None else found
    if isinstance(content, dict | list):
        found.append(content)
        for item in content.values() if isinstance(content, dict) else content:
            containers(item, found)
        containers(getattr(content, '_metadata', {}).get('.unet'), found)
    return found


def mutated(content, seed):
    """Return a copy of nested dicts and lists with one to three changes."""
    chance = random.Random(seed)
    content = copy.deepcopy(content)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        holder = chance.choice([c for c in containers(content) if c])
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        kind = chance.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            name = chance.choice(['extra', 'outc.conv.weight', 'model', 'state_dict', 3, None])
            holder[name] = copy.deepcopy(chance.choice(ODD_VALUES))
        elif kind == 2 and isinstance(holder, dict):
            holder[key] = chance.choice(odd_tensors())
        elif kind == 3 and isinstance(holder[key], torch.Tensor):
            holder[key] = reshaped(holder[key], chance)
        elif kind == 4 and isinstance(holder, OrderedDict | dict):
            holder[f'x.{key}'] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(chance.choice(ODD_VALUES))
    return content


def mutated_bytes(content, seed):
    """Return bytes with flipped bits, or a part that is missing, repeated, zeroed or noise."""
    chance = random.Random(seed)
    changed = bytearray(content)
    kind = chance.randrange(6)
    for _ in range(chance.choice([1, 1, 2, 8])):
        if not changed:
            break
        start = chance.randrange(len(changed))
        size = chance.choice([1, 4, 64, 4096])
        part = slice(start, min(start + size, len(changed)))
        if kind <= 1:
            changed[start] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del changed[part]
        elif kind == 3:
            changed[start:start] = changed[part]
        elif kind == 4:
            changed[part] = bytes(part.stop - part.start)
        else:
            changed[part] = chance.randbytes(part.stop - part.start)
    return bytes(changed)
