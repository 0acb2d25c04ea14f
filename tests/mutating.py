"""Seeded mutations: of nested structures, and of the bytes of files."""

import copy
import io
import itertools
import os
import random
import re
import struct
import zipfile
import zlib
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


# Of headers: sizes, counts, offsets and lengths that are too small, too large or negative.
NUMBERS = [
    0, 1, 2, 3, 7, 16, 127, 128, 255, 256, 4096, 20000, 2**15 - 1, 2**15, 2**16 - 1, 2**16,
    2**31 - 1, 2**31, 2**32 - 1,
]  # fmt: skip
TEXTS = [b'-1', b'0', b'1', b'4096', b'100000', b'99999999999', b'1e400', b'NaN', b'null', b'""',
         b'(', b'{', b'[', b'"', b'\\ud800', b'\xff', b'\0', b',', b':']  # fmt: skip


def pieces_of(content, form):
    """Return a file's bytes in pieces: chunks, segments, blocks, tags, header fields or words."""
    if form == 'png':
        cuts = _chunks(content, 8, lambda at: 12 + int.from_bytes(content[at : at + 4], 'big'))
    elif form == 'webp':
        cuts = _chunks(
            content, 12, lambda at: 8 + int.from_bytes(content[at + 4 : at + 8], 'little')
        )
    elif form == 'jpg':
        cuts = _chunks(content, 2, lambda at: 2 + int.from_bytes(content[at + 2 : at + 4], 'big'))
    elif form == 'tif':
        order = 'little' if content[:2] == b'II' else 'big'
        first = int.from_bytes(content[4:8], order)
        count = int.from_bytes(content[first : first + 2], order)
        cuts = [8, first, first + 2, *(first + 2 + 12 * k for k in range(1, count + 1))]
    elif form in ('gif', 'bmp'):
        cuts = [3, *range(6, 64, 2), *range(64, len(content), 256)]
    else:
        cuts = [match.end() for match in re.finditer(rb'[\s,:{}\[\]()]+', content[:4096])]
    cuts = [0, *sorted({cut for cut in cuts if 0 < cut < len(content)}), len(content)]
    return [content[a:b] for a, b in itertools.pairwise(cuts)]


def _chunks(content, at, length):
    cuts = []
    while at < len(content) and len(cuts) < 64:
        cuts.append(at)
        at += length(at)
    return cuts


FUZZED = int(os.environ.get('FUZZED', '300'))  # files of a kind in a slow test; dev/LOG.md: 5000


def mutated_file(content, form, seed, others=()):
    """Return a file with changed structure: pieces lost, doubled, moved or taken from others.

    Or numbers of its header set to NUMBERS, or words of a text to TEXTS. form: of pieces_of.
    Checksums of PNG are made right again for two thirds of the seeds.
    """
    chance = random.Random(seed)
    if seed % 4 == 0:
        return mutated_bytes(content, seed)
    pieces = pieces_of(content, form)
    for _ in range(chance.choice([1, 1, 2, 3])):
        k = chance.randrange(len(pieces))
        kind = chance.randrange(9)
        if kind == 0:
            del pieces[k : k + chance.choice([1, 1, 2])]
        elif kind == 1:
            pieces.insert(k, chance.choice(pieces))
        elif kind == 2:
            pieces[k : k + 2] = reversed(pieces[k : k + 2])
        elif kind == 3 and others:
            pieces[k] = chance.choice(pieces_of(chance.choice(others), form))
        elif kind == 4:
            pieces = [*pieces[:k], pieces[k][: chance.randrange(len(pieces[k]) + 1)]]
        elif form == 'text':
            pieces[k] = chance.choice([*TEXTS, pieces[k] * 2, b'[' * 20000])
        else:
            pieces[k] = _with_number(pieces[k], chance)
        pieces = pieces or [b'']
    if form == 'png' and seed % 3:
        pieces = [_checked(piece) for piece in pieces]
    return b''.join(pieces)


def _with_number(piece, chance):
    """Return a piece with a number of 1, 2 or 4 bytes changed, mostly near its beginning."""
    size = chance.choice([1, 2, 2, 4, 4])
    at = chance.randrange(max(1, min(len(piece), chance.choice([16, 16, 4096]))))
    at -= at % size
    number = chance.choice(NUMBERS) % 256**size
    return piece[:at] + number.to_bytes(size, chance.choice(['big', 'little'])) + piece[at + size :]


def _checked(chunk):
    """Return a chunk of PNG with the right length and checksum."""
    if len(chunk) < 12:
        return chunk
    body = chunk[4:-4]
    return struct.pack('>I', len(body) - 4) + body + struct.pack('>I', zlib.crc32(body))


def rezipped(content, seed):
    """Return a zip of torch.save with one changed record and right checksums."""
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    chosen = random.Random(seed).choice(['data.pkl', 'data.pkl', 'data/0', 'byteorder', 'version'])
    with zipfile.ZipFile(target, 'w') as archive:
        for name in source.namelist():
            data = source.read(name)
            archive.writestr(name, mutated_bytes(data, seed) if name.endswith(chosen) else data)
    return target.getvalue()
