"""The model files that the page offers, loaded when they are chosen.

Axis letters: H and W pixels, K classes.
"""

import functools
import math
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from utils.images.pages import Source
from utils.inference.backends.selection import choose_backend
from utils.inference.checkpoint import load_checkpoint
from utils.inference.logits import LogitsFunction
from utils.inference.predictor import Predictor
from utils.inference.tiling import Tiling
from utils.runtime.errors import UserError

DEFAULTS = (Path('checkpoints/best.pth'), Path('best.pth'), Path('MODEL.pth'))
SUFFIXES = ('.pth', '.pt', '.safetensors')
MOST_LOADED = 3  # networks in memory; one of the default width has 124 MB


def find_models(name: str | None) -> list[Path]:
    """Return the model files of -m, best.pth first, else in the order of their numbers.

    Raises UserError if there is none.
    """
    if name is None:
        found = [path for path in DEFAULTS if path.is_file()]
        if not found:
            raise UserError(
                f'no model: found none of {", ".join(map(str, DEFAULTS))}. Name one with -m FILE, '
                'or train one: python train.py'
            )
        return found[:1]
    path = Path(name)
    if not path.is_dir():
        return [path]  # that it is missing is said when it is loaded
    files = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not files:
        raise UserError(
            f'no model files in {path}; expected names that end in {", ".join(SUFFIXES)}. Name a '
            'file, or a folder of them, with -m.'
        )
    return sorted(files, key=lambda file: (file.name != 'best.pth', _numbers(file.name)))


def _numbers(name: str) -> list[tuple[int, str]]:
    """Return a key by which epoch 2 comes before epoch 10."""
    return [(int(part or 0), text) for text, part in re.findall(r'(\D*)(\d*)', name)]


class Prediction(NamedTuple):
    """The outputs of a predictor for one picture, on the CPU, and what they took."""

    outputs: Tensor  # (K, H, W) float32, see Predictor
    reading: float  # seconds
    computing: float
    backend: str


class LoadedModel:
    """A predictor, and its networks by backend. Only one thread may call `predict` at a time."""

    def __init__(self, predictor: Predictor, facts: dict[str, str]):
        self.predictor, self.facts = predictor, facts
        self._built: dict[str, list[LogitsFunction]] = {}

    def predict(self, source: Source, tile: int, mirrored: bool) -> Prediction:
        """Predict a picture as predict.py would, with --tile unless `tile` is 0, and --tta flip.

        Raises UserError for a picture that cannot be read, or that the network cannot take.
        """
        predictor, started = self.predictor, time.perf_counter()
        predictor.tiling = Tiling.from_options(tile) if tile else None
        predictor.mirrored = mirrored
        image, size = predictor.read_file(source)
        read = time.perf_counter()
        backend = self._use_backend(math.prod(image.shape[1:]) * (1 + mirrored))
        outputs = predictor.resized_outputs(image, size).cpu()
        return Prediction(outputs, read - started, time.perf_counter() - read, backend)

    def _use_backend(self, pixels: int) -> str:
        """Compute with the backend that predict.py would choose for so many pixels; return it."""
        predictor = self.predictor
        backend = choose_backend(
            'auto', predictor.precision.device, pixels, *predictor.models,
            as_original=predictor.as_original,
        )  # fmt: skip
        if backend in self._built:
            predictor.networks = self._built[backend]
        else:
            predictor.use_backend(backend)
            self._built[backend] = predictor.networks
        return backend


class Models:
    """The models of files, by the names that the page shows.

    settings: scale, device and amp, as of Predictor.load. A file that changes is loaded anew, for
    instance best.pth of a training that goes on.
    """

    def __init__(self, paths: Sequence[Path], settings: tuple[float | None, str, bool]):
        self._paths = {path.name if len(paths) > 1 else str(path): path for path in paths}
        self._settings = settings
        self._load = functools.lru_cache(MOST_LOADED)(self._load_file)

    @property
    def names(self) -> list[str]:
        """The names of all files."""
        return list(self._paths)

    def path(self, name: str) -> Path:
        """Return the file of a name; UserError for an unknown name."""
        if name not in self._paths:
            raise UserError(f'no model {name}; expected one of {", ".join(self.names)}')
        return self._paths[name]

    def version(self, name: str) -> int:
        """Return a number that changes when the file does, 0 if it is missing."""
        path = self.path(name)
        return path.stat().st_mtime_ns if path.is_file() else 0

    def first_readable(self) -> str:
        """Return the name of the first file that can be loaded; raise UserError if none can."""
        first, *others = self.names
        try:
            self.load(first)
        except UserError:
            for name in others:
                with suppress(UserError):
                    self.load(name)
                    return name
            raise
        return first

    def load(self, name: str, version: int | None = None) -> LoadedModel:
        """Return the model of a file, by default as it is now, else of that version.

        Raises UserError if it cannot be loaded, or if that version is neither in memory nor there.
        """
        return self._load(name, self.version(name) if version is None else version)

    def _load_file(self, name: str, version: int) -> LoadedModel:
        path = self.path(name)
        if version != self.version(name):
            raise UserError(f'{path} has changed since; choose the picture again')
        return LoadedModel(Predictor.load(path, *self._settings), load_checkpoint(path).settings())
