"""Dice and the training loss, for both kinds of network.

Axis letters: B batch, C channels, H and W pixels, K classes. A network is

- binary, K = 1: logits (B, 1, H, W), the foreground's logit; classes 0 (background) and 1;
- multiclass, K >= 2: logits (B, K, H, W), one a class.

Masks are (B, H, W) class indices of any integer type; pixels of value IGNORE count for nothing.
The Dice functions give the numbers of the best-known PyTorch U-Net, because published scores and
checkpoints depend on them; scores from exact counts are in metrics.py.

Masks as files <-> class indices.

One table says it all: a value's position in `MaskEncoding.values` is its class. Values are ints
(grey values, palette indices, ids of any width, 0 and 1 for one-bit files) or [R, G, B] lists of
ints in [0, 255]. Axis letters: H and W pixels.

Images and masks from files to batches.

    pair_files -> scan_pairs -> BasicDataset item -> pad_batch -> to_unit_range on the device

Axis letters: B batch, C channels, H and W pixels. Items stay uint8, a quarter of float32's bytes,
until they are on the device; those of images over 8 bits are float32 in [0, 1].
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.images.decoding import Picture, open_picture, picture_size, scaled_size
from utils.runtime.errors import UserError

IGNORE = 255  # label of padding and of pixels nobody has labelled

Value = int | list[int]

MAX_CLASSES = 254  # class indices are uint8; 255 is IGNORE, and this one says 'no class'

UNKNOWN = 254

# Distinct colours for masks whose class numbers would look black, the first ones of
# matplotlib's tab10; class 0 is black.
PALETTE = [
    (0, 0, 0), (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
]  # fmt: skip


@dataclass
class MaskEncoding:
    """How classes stand in mask files, to read them and to write them alike.

    values: the value of each class. names: of each class, None where nobody gave any.
    mode: Pillow's, of the files; None, where it is not known, writes what one can see.
    palette: flat R, G, B, … of palette files. ignore: values whose pixels count for nothing.
    threshold: grey values over it are class 1, others class 0. snap: a pixel of any other value
    is taken as the nearest of `values`.
    """

    values: list[Value]
    names: list[str] | None = None
    mode: str | None = None
    palette: list[int] | None = None
    ignore: list[Value] = field(default_factory=list)
    threshold: int | None = None
    snap: bool = False

    @property
    def titles(self) -> list[str]:
        """What tables call the classes: their names, or else their values."""
        return self.names or [str(value) for value in self.values]


def encoding_of(masks: MaskEncoding | list[Value]) -> MaskEncoding:
    """The encoding itself; a list of values is one of which nothing else is known."""
    return masks if isinstance(masks, MaskEncoding) else MaskEncoding(masks)


def mask_array(mask: Image.Image | np.ndarray, path: Path) -> np.ndarray:
    """A mask's values: (H, W) integers, or (H, W, 3) uint8 where it has colours.

    Palette files give their indices, alpha is dropped, and colours with R = G = B throughout are
    grey values. Raises UserError, naming `path`, for what cannot hold class labels.
    """
    if isinstance(mask, np.ndarray):
        return _grey_or_colours(_label_array(mask, path))
    if mask.mode == '1':
        return np.asarray(mask).astype(np.uint8)
    if mask.mode in ('L', 'P', 'I') or mask.mode.startswith('I;16'):
        return np.asarray(mask)
    if mask.mode in ('LA', 'PA'):
        return np.asarray(mask.getchannel(0))
    if mask.mode not in ('RGB', 'RGBA', 'RGBX'):
        raise UserError(
            f'{path}: mask of mode {mask.mode}; expected grey, palette, RGB or one-bit. '
            'Save it as a PNG in one of these.'
        )
    return _grey_or_colours(np.asarray(mask)[..., :3])


def _label_array(array: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) integers or (H, W, 3) uint8 of an array file."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    colours = array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8
    if array.dtype.kind not in 'bui' or not (array.ndim == 2 or colours):
        raise UserError(
            f'{path}: mask array of shape {array.shape} and type {array.dtype}; expected (H, W) '
            'integers, or (H, W, 3) uint8 colours. Save class numbers as integers; of scores '
            '(H, W, K) take argmax(axis=2) first.'
        )
    if colours:
        return array[..., :3]
    return array.astype(np.uint8) if array.dtype == bool else array


def _grey_or_colours(colours: np.ndarray) -> np.ndarray:
    if colours.ndim == 2:
        return colours
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    return red if np.array_equal(red, green) and np.array_equal(green, blue) else colours


def to_indices(mask: np.ndarray, masks: MaskEncoding | list[Value], path: Path) -> np.ndarray:
    """Class indices (H, W) uint8 of a mask_array; IGNORE for values that are ignored.

    masks: the data set's encoding, or its values alone. Raises UserError, naming `path`, for a
    pixel of any other value that `masks` does not say how to take.
    """
    masks = encoding_of(masks)
    colours = isinstance(masks.values[0], list)
    if mask.ndim == 3 and not colours:
        raise UserError(
            f'{path}: a colour mask where grey values {masks.values} were expected. Save it in '
            'the kind of the other masks.'
        )
    found = pack_colours(mask) if mask.ndim == 3 else mask
    if mask.ndim == 2 and colours:  # grey is the colour with R = G = B
        found = mask.astype(np.int64) * 0x010101
    if masks.threshold is not None:
        indices = (found > masks.threshold).astype(np.uint8)
        for value in masks.ignore:
            indices[found == value] = IGNORE
        return indices
    known = np.array([_code(value) for value in [*masks.values, *masks.ignore]])
    labels = np.arange(len(known)).astype(np.uint8)
    labels[len(masks.values) :] = IGNORE
    indices = _look_up(found, known, labels)
    unknown = indices == UNKNOWN
    if not unknown.any():
        return indices
    if not masks.snap:
        value = found[unknown][0]
        value = list(unpack_colour(value)) if colours else int(value)
        raise UserError(
            f'{path}: mask value {value} is none of {masks.values}, the values of the other '
            'masks. Mend the mask, or train on masks that hold it.'
        )
    indices[unknown] = _nearest(found[unknown], masks.values)
    return indices


def _look_up(found: np.ndarray, known: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label of each value; UNKNOWN for those that are not among `known`.

    A table of 256 or 65,536 entries takes 0.6 ms for 959 x 640 pixels, a search 3.
    """
    if found.dtype in (np.uint8, np.uint16):
        table = np.full(1 + np.iinfo(found.dtype).max, UNKNOWN, dtype=np.uint8)
        fits = (known >= 0) & (known < len(table))
        table[known[fits]] = labels[fits]
        return table.take(found)
    order = np.argsort(known)
    known, labels = known[order], labels[order]
    if found.dtype == np.int32 and known[0] >= 0 and known[-1] < 2**31:
        known = known.astype(np.int32)  # of two types numpy would copy the mask to the wider
    places = np.searchsorted(known, found)
    indices = labels.take(places, mode='clip')
    indices[known.take(places, mode='clip') != found] = UNKNOWN
    return indices


def _nearest(found: np.ndarray, values: list[Value]) -> np.ndarray:
    """The position of the value nearest to each of `found`, the first of equally near ones.

    found: (N,) values, packed where they are colours, whose distance is that of R, G and B.
    """
    codes, inverse = np.unique(found, return_inverse=True)
    if isinstance(values[0], list):
        codes = np.array([unpack_colour(code) for code in codes])
    points = codes.reshape(len(codes), -1).astype(np.float64)
    wanted = np.array(values, dtype=np.float64).reshape(len(values), -1)
    distances = [((points - value) ** 2).sum(axis=1) for value in wanted]
    return np.argmin(distances, axis=0).astype(np.uint8)[inverse]


def to_image(indices: np.ndarray, masks: MaskEncoding | list[Value]) -> Image.Image:
    """A picture of class indices (H, W) in the encoding of the masks they were learned from.

    Grey values 0 and 1 give a one-bit picture, white on black; other small ones, which would look
    black, a palette picture whose indices are the values. All other files come as they were, with
    their palette where they had one. Raises UserError for values that no picture can hold.
    """
    masks = encoding_of(masks)
    values = masks.values
    if isinstance(values[0], list):
        return Image.fromarray(np.array(values, dtype=np.uint8)[indices])
    if min(values) < 0 or max(values) > 65535:
        raise UserError(
            f'mask values from {min(values)} to {max(values)} fit no picture, which holds 0 to '
            '65535. Name outputs that end in .npy (-o NAME.npy), or say --format index.'
        )
    if masks.mode == 'I;16' or max(values) > 255:
        return Image.fromarray(np.array(values, dtype=np.uint16)[indices])
    table = values + [0] * (256 - len(values))
    picture = Image.fromarray(indices.astype(np.uint8)).point(table)  # a sixth of numpy's time
    if masks.mode == 'RGB':
        return picture.convert('RGB')
    if masks.mode == 'P' and _tells_apart(masks.palette, values):
        picture.putpalette(masks.palette)
        return picture
    if masks.mode != 'P' and set(values) <= {0, 1}:
        return Image.fromarray(np.array(values, dtype=bool)[indices])
    return indexed_image(np.asarray(picture)) if max(values) <= 32 else picture


def indexed_image(indices: np.ndarray) -> Image.Image:
    """A palette picture of (H, W) uint8, whose indices these are, in colours one can see."""
    picture = Image.fromarray(indices)
    colours = [band for k in range(int(indices.max()) + 1) for band in class_colour(k)]
    picture.putpalette(colours)
    return picture


def _tells_apart(palette: list[int] | None, values: list[int]) -> bool:
    """Whether a palette has a colour for each value, and no two alike."""
    if not palette or 3 * max(values) >= len(palette):
        return False
    return len({tuple(palette[3 * v : 3 * v + 3]) for v in values}) == len(values)


def class_colour(index: int) -> tuple[int, int, int]:
    """The colour in which pictures show a class: black for 0, then tab10 over and over."""
    return PALETTE[0] if index == 0 else PALETTE[1 + (index - 1) % (len(PALETTE) - 1)]


def pack_colours(colours: np.ndarray) -> np.ndarray:
    """(…, 3) uint8 -> (…) int32, sorted as the triples are."""
    packed = colours[..., 0].astype(np.int32)
    for band in (1, 2):
        packed <<= 8
        packed |= colours[..., band]
    return packed


def unpack_colour(code: int) -> tuple[int, int, int]:
    """Return (R, G, B) of a packed colour."""
    return int(code) >> 16, (int(code) >> 8) & 255, int(code) & 255


def _code(value: Value) -> int:
    """A value as one number: itself, or a packed colour."""
    return value if isinstance(value, int) else (value[0] << 16) | (value[1] << 8) | value[2]


def load_mask(
    path: Path,
    masks: MaskEncoding | list[Value],
    scale: float,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """A mask file as class indices uint8 (H, W) at `scale`, by nearest neighbour.

    size: (width, height) to have instead, that of its image where sizes may differ.
    """
    mask = open_picture(path)
    mask = resize_mask(mask, size or scaled_size(picture_size(mask), scale))
    return torch.from_numpy(to_indices(mask_array(mask, path), masks, path))


def resize_mask(mask: Picture, size: tuple[int, int]) -> Picture:
    """A mask by its nearest pixels at `size` (width, height); arrays as Pillow does pictures."""
    if picture_size(mask) == size:
        return mask
    if isinstance(mask, Image.Image):
        return mask.resize(size, Image.Resampling.NEAREST)
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size[::-1], mask.shape, strict=False)
    )
    return mask[rows[:, None], columns]
