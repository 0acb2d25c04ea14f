"""What the page shows and offers of a picture: computed once, kept, and drawn again when asked.

A result follows from its request alone, so that visitors of the page cannot get each other's.
Axis letters: H and W pixels, K classes.
"""

import hashlib
import secrets
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.evaluation.metrics import count_pixels, image_dice, ratios
from utils.images.pages import Page, Source, file_of, split_name
from utils.inference.outputs.formats import format_mask, format_probabilities, save_result
from utils.masks.encoding import indexed_image, load_mask, resize_mask
from utils.masks.visualize import error_map, overlay
from utils.runtime.errors import UserError
from utils.runtime.memory import return_freed_memory

from .downloads import FILES, PROBABILITIES
from .pictures import SHOWN_SIDE, enlarge, fit, shown_picture

if TYPE_CHECKING:
    from .models import LoadedModel, Models, Prediction

KEPT_BYTES = 2**27  # of results, two of 12 million pixels; the last one is kept whatever its size
MOST_LINKS = 1000  # requests whose results can be downloaded; each has some 300 bytes


class Request(NamedTuple):
    """What determines a result. version: of the model's file, see Models.version."""

    model: str
    version: int
    source: Source
    tile: int = 0  # see LoadedModel.predict
    mirrored: bool = False


class View(NamedTuple):
    """How a result is drawn. shown: the class of the probability map, of more than two."""

    threshold: float = 0.5
    opacity: float = 0.5
    shown: int = 1


class Kept(NamedTuple):
    """A result in memory: the prediction, and the picture as it is shown."""

    prediction: 'Prediction'
    picture: Image.Image

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        width, height = self.picture.size
        return self.prediction.outputs.nbytes + 3 * width * height


class Score(NamedTuple):
    """The score of a picture with a true mask, as evaluate.py gives it."""

    dice: float  # mean over the classes but the background, NaN if there is nothing to score
    of_classes: list[float]
    errors: Image.Image


class Drawing(NamedTuple):
    """What is shown of a result: pictures (see fit, enlarge), and figures of the whole one."""

    size: tuple[int, int]  # of the picture's file: width, height
    prediction: 'Prediction'
    overlay: Image.Image
    mask: Image.Image  # in CLASS_COLOURS
    probability: Image.Image  # grey
    shares: list[float]  # of pixels, by class
    score: Score | None


class Results:
    """The results of requests; the last ones are kept, up to KEPT_BYTES."""

    def __init__(self, models: 'Models'):
        self.models = models
        self._kept: OrderedDict[Request, Kept] = OrderedDict()
        self._links: OrderedDict[str, Request] = OrderedDict()
        self._secret = secrets.token_bytes(16)
        self._lock = threading.Lock()
        # One thread: each one that calls torch has threads and buffers of its own.
        self._worker = ThreadPoolExecutor(1, 'network')

    def request(self, model: str, source: Source, tile: int = 0, mirrored: bool = False) -> Request:
        """Return the request for a picture with the present version of a model."""
        return Request(model, self.models.version(model), source, tile, mirrored)

    def _model(self, request: Request) -> 'LoadedModel':
        return self.models.load(request.model, request.version)

    def get(self, request: Request) -> Kept:
        """Return a result, computed if it is not kept; raise UserError as LoadedModel.predict."""
        return self._find(request) or self._worker.submit(self._compute, request).result()

    def _find(self, request: Request) -> Kept | None:
        with self._lock:
            if request in self._kept:
                self._kept.move_to_end(request)
            return self._kept.get(request)

    def _compute(self, request: Request) -> Kept:
        if kept := self._find(request):  # by the call before
            return kept
        model = self._model(request)
        prediction = model.predict(request.source, request.tile, request.mirrored)
        kept = Kept(prediction, shown_picture(request.source, model.predictor))
        with self._lock:
            self._kept[request] = kept
            while len(self._kept) > 1 and self._bytes() > KEPT_BYTES:
                self._kept.popitem(last=False)
        return_freed_memory()
        return kept

    def _bytes(self) -> int:
        return sum(kept.bytes for kept in self._kept.values())

    def forget(self, request: Request) -> None:
        """Compute a request anew when it is asked for, to time it."""
        with self._lock:
            self._kept.pop(request, None)

    def draw(self, request: Request, view: View, truth: Path | None = None) -> Drawing:
        """Return what to show; truth: a mask file. Raises UserError for what cannot be read."""
        kept = self.get(request)
        predictor, outputs = self._model(request).predictor, kept.prediction.outputs
        indices = predictor.classify(outputs, view.threshold)
        background, small = predictor.masks.background, kept.picture.size
        shown = np.asarray(resize_mask(Image.fromarray(indices), small))
        counts = np.array(Image.fromarray(indices).histogram()[: len(predictor.masks.values)])
        return Drawing(
            indices.shape[::-1],
            kept.prediction,
            enlarge(overlay(kept.picture, shown, background, view.opacity)),
            enlarge(indexed_image(shown)),
            self._probability(request, outputs, view.shown, small),
            (counts / indices.size).tolist(),
            self._score(request, indices, truth) if truth else None,
        )

    def _probability(
        self, request: Request, outputs: Tensor, shown: int, size: tuple[int, int]
    ) -> Image.Image:
        """Return the probability of a class as grey picture of (width, height) `size`."""
        probabilities = self._model(request).predictor.to_probabilities(outputs)
        plane = probabilities[min(shown, len(probabilities) - 1)].numpy()
        small = Image.fromarray(plane).resize(size, Image.Resampling.BOX)
        return enlarge(Image.fromarray((np.asarray(small) * 255).round().astype(np.uint8)))

    def _score(self, request: Request, indices: np.ndarray, truth: Path) -> Score:
        predictor = self._model(request).predictor
        masks = predictor.masks
        expected = load_mask(truth, masks, 1.0, decode=predictor.decode)
        if tuple(expected.shape) != indices.shape:
            (height, width), found = indices.shape, expected.shape
            raise UserError(
                f'{truth} has {found[1]} x {found[0]} pixels and the picture {width} x {height}; '
                'expected the same size. Drop the mask of this picture.'
            )
        counts = count_pixels(torch.from_numpy(indices)[None], expected[None], len(masks.values))
        errors = error_map(expected.numpy(), indices, masks.background)
        # Box filter: nearest neighbour would lose thin errors.
        errors = enlarge(errors.resize(fit(errors.size, SHOWN_SIDE), Image.Resampling.BOX))
        dice = float(image_dice(counts, masks.scored)[0])
        return Score(dice, ratios(counts)['dice'][0].tolist(), errors)

    def link(self, request: Request) -> str:
        """Return a name by which `write` finds the request; nobody can guess it."""
        name = hashlib.blake2b(repr(request).encode(), key=self._secret, digest_size=12).hexdigest()
        with self._lock:
            self._links[name] = request
            self._links.move_to_end(name)
            if len(self._links) > MOST_LINKS:
                self._links.popitem(last=False)
        return name

    def write(self, link: str, kind: str, view: View, folder: Path) -> Path:
        """Write a result as predict.py would, into a folder; return the file.

        kind: the end of the file's name, a key of FILES. Raises UserError for an unknown link.
        """
        request = self._links.get(link)
        if request is None or kind not in FILES:
            raise UserError('this result is no longer kept; choose the picture again')
        outputs = self.get(request).prediction.outputs
        predictor = self._model(request).predictor
        stem = split_name(file_of(request.source).name)[0]
        if isinstance(request.source, Page):
            stem = f'{stem}_page{request.source.index + 1}'
        path = folder / f'{stem}{kind}'
        if kind.startswith(PROBABILITIES):
            probabilities = predictor.to_probabilities(outputs).numpy()
            save_result(format_probabilities(probabilities, path.suffix == '.npy'), path)
        else:
            indices = predictor.classify(outputs, view.threshold)
            save_result(format_mask('values', predictor.masks, indices, as_array=False), path)
        return path
