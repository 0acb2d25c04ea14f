"""Figures of the page of train.py --check --report: an image, and the same with its mask."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from utils.images.decoding import DEEP_MODES, Picture, open_picture
from utils.masks.encoding import CLASS_COLOURS
from utils.masks.joined import open_mask
from utils.masks.visualize import displayable, overlay
from utils.runtime.errors import UserError, shown

from .oddities import percent
from .page import embedded, figure

if TYPE_CHECKING:
    from ..pairing.matching import Pair
    from ..scan import PairMetadata
    from .thumbnails import Reader

SHOWN_SIDE = 420  # longest side of a picture on the page, in pixels
PICTURE_BYTES, ALL_BYTES = 30_000, 3_200_000  # of JPEG files; base64 takes a third more
SMALLEST_SHOWN = 200  # smaller ones are enlarged
MOST_NAMED = 4  # classes under a figure


class Figures:
    """Draws the figures of a data set's pairs as HTML.

    shares: of oddities.class_shares. training: positions of the pairs to train on; the others are
    for validation, none if there is no split. `most_bytes` is that of a picture.
    """

    def __init__(self, reader: 'Reader', shares: np.ndarray, training: Sequence[int]):
        self.reader, self.shares, self.training = reader, shares, set(training)
        self.most_bytes = PICTURE_BYTES

    def share_bytes(self, count: int) -> None:
        """Make `count` figures of two pictures fit into ALL_BYTES together."""
        self.most_bytes = min(PICTURE_BYTES, ALL_BYTES // max(1, 2 * count))

    def pair(self, position: int, remark: str, kind: str = 'doubt') -> str:
        """Return a pair as its image, the image with the mask, and what is known of both.

        kind: of the remark: doubt, or plain.
        """
        entry = self.reader.scan.metadata[position]
        caption = f'{self._title(position)}<br>{self._facts(position)}{_remark(remark, kind)}'
        try:
            image, indices = enlarged(*self.reader.read(entry, SHOWN_SIDE))
        except (UserError, OSError):  # such as a mask whose values are no classes
            return figure(self._raw(entry.pair), caption)
        drawn = overlay(image, indices, self.reader.masks.background)
        name = shown(entry.pair.id)
        pictures = [self._embedded(image, f'{name}: image'),
                    self._embedded(drawn, f'{name}: image with mask')]  # fmt: skip
        return figure(pictures, caption)

    def twin(self, theirs: int, ours: int) -> str:
        """Return the images of two pairs, of validation and of training, beside each other."""
        pictures = []
        for position in (theirs, ours):
            entry = self.reader.scan.metadata[position]
            try:
                image, _ = enlarged(*self.reader.read(entry, SHOWN_SIDE))
            except (UserError, OSError):
                continue
            pictures.append(self._embedded(image, f'{shown(entry.pair.id)}: image'))
        return figure(pictures, f'{self._title(theirs)}<br>nearly equals<br>{self._title(ours)}')

    def unread(self, pair: 'Pair', remark: str) -> str:
        """Return a pair as its files have it, as far as they can be read."""
        return figure(self._raw(pair), f'<b>{escape(shown(pair.id))}</b>{_remark(remark)}')

    def _raw(self, pair: 'Pair') -> list[str]:
        pictures = read_raw(pair, SHOWN_SIDE, self.reader.scan.decode)
        return [self._embedded(image, f'{shown(pair.id)}: file as it is') for image in pictures]

    def _embedded(self, image: Image.Image, text: str) -> str:
        return embedded(image, text, self.most_bytes)

    def _title(self, position: int) -> str:
        name = escape(shown(self.reader.scan.metadata[position].pair.id))
        side = 'training' if position in self.training else 'validation'
        return f'<b>{name}</b>' + f' · {side}' * bool(self.training)

    def _facts(self, position: int) -> str:
        """Return sizes, and the shares of the commonest classes with their colours."""
        entry, shares = self.reader.scan.metadata[position], self.shares[position]
        masks, facts = self.reader.masks, [_sizes(entry)]
        order = [int(k) for k in np.argsort(-shares, kind='stable') if shares[k] > 0]
        facts += [
            f'{swatch(k, masks.background)} {escape(masks.titles[k])} {percent(shares[k])}'
            for k in order[:MOST_NAMED]
        ]
        if len(order) > MOST_NAMED:
            facts.append(f'{len(order) - MOST_NAMED} more')
        ignored = float(1 - shares.sum())
        return ' · '.join(facts + [f'ignored {percent(ignored)}'] * (ignored > 1e-9))


def colour_style(label: int, background: int | None) -> str:
    """Return the colour of a class in overlays as CSS; the background has none."""
    if label == background:
        return ''
    return 'background: rgb({}, {}, {}); '.format(*CLASS_COLOURS[min(label, 255)])


def swatch(label: int, background: int | None) -> str:
    """Return a small box in the colour of a class as HTML."""
    return f'<span class="key" style="{colour_style(label, background)}"></span>'


def _sizes(entry: 'PairMetadata') -> str:
    text = '{} x {}'.format(*entry.image.size)
    if entry.image.size == entry.mask.size:
        return text
    return 'image {}, mask {} x {}, stretched'.format(text, *entry.mask.size)


def _remark(text: str, kind: str = 'doubt') -> str:
    return f'<br><span class="{kind}">{escape(text)}</span>' if text else ''


def read_raw(pair: 'Pair', side: int, decode: str) -> list[Image.Image]:
    """Return the image and the mask of a pair as the files have them, if they can be read."""
    shown = []
    for open_file in (
        lambda: open_picture(pair.image, decode),
        lambda: open_mask(pair.mask, decode),
    ):
        try:
            picture = _as_rgb(open_file())
        except (UserError, OSError):
            continue
        picture.thumbnail((side, side))
        shown.append(picture)
    return shown


def _as_rgb(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image) and picture.mode not in DEEP_MODES:
        return displayable(picture, np.empty(0))
    values = np.nan_to_num(np.asarray(picture).astype(np.float32))
    values = values[..., None] if values.ndim == 2 else values[..., :3]
    values = (values - values.min()) / max(1e-6, float(values.max() - values.min()))
    values = values if values.shape[2] == 3 else values[..., :1]
    return displayable(values, values)


def enlarged(image: Image.Image, indices: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """Return image and class indices (H, W), small ones a whole number of times larger."""
    times = -(-SMALLEST_SHOWN // max(image.size))
    size = (image.width * times, image.height * times)
    indices = indices.repeat(times, axis=0).repeat(times, axis=1)
    return image.resize(size, Image.Resampling.NEAREST), indices
