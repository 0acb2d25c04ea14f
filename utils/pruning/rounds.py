"""The rounds of prune.py: data, importance, the pruned file of a round, and their folder."""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from unet import input_side
from utils.data.dataloader import pad_batch, to_device
from utils.inference.checkpoint import Checkpoint, load_checkpoint, model_config, save_checkpoint
from utils.runtime.devices import choose_device
from utils.runtime.errors import UserError, first_few
from utils.runtime.files import whole_file
from utils.runtime.precision import MixedPrecision
from utils.training.data import TrainingData
from utils.training.optimization.loss import segmentation_loss

from .figures import network_figures
from .importance import MEASURES
from .plan import choose_channels, least_cost, portion_of
from .search import Trial
from .surgery import prune

MEASURED_IMAGES = 32  # for importance

# Settings of the run that trained a network by which its data are found and read again: those of
# its files, and those that hold for other files, too.
FILES = 'images masks list mask_suffix resize_masks val_images val_masks val_list skip_bad'.split()
READING = (
    'scale validation split group_regex fold channels image_range augment seed classes mask_values '
    'snap_masks binarize mask_divisor ignore_value background'
).split()


def trained_with(model: Path, checkpoint: Checkpoint) -> dict:
    """Return the data settings of the run that wrote a checkpoint, as far as they are known.

    They are in last.pth, and in args.json beside the other files. Raises UserError if that is
    damaged.
    """
    path = model.parent / 'args.json'
    if checkpoint.training:
        found = checkpoint.training.get('args', {})
    elif path.is_file():
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f'{path} is damaged ({error}). Name the data with --images and --masks.'
            ) from None
    else:
        found = {}
    found = found if isinstance(found, dict) else {}
    # A JSON file has [] for an option that was not given; None says so, too.
    return {name: found[name] for name in FILES + READING if found.get(name, []) != []}


@dataclass
class Pruning:
    """A dense network, its data, and the cost to reach.

    args: of prune.py. settings: train.py's, of the data.
    """

    args: argparse.Namespace
    settings: argparse.Namespace
    checkpoint: Checkpoint

    def __post_init__(self) -> None:
        self.device = choose_device(self.args.device)
        self.precision = MixedPrecision(self.device, self.args.amp)
        self.dense = self.checkpoint.build_model()
        source = replace(self.checkpoint, training=None)
        self.data = TrainingData(
            self.settings, self.dense.padding, self.device, source, self.checkpoint.masks
        )
        classes, values = max(2, self.dense.n_classes), self.data.dataset.masks.values
        if len(values) != classes:
            raise UserError(
                f'{self.args.model} has {classes} classes, and the masks have the values '
                f'{first_few(values)}. Use the masks that it was trained on (--masks).'
            )
        if self.args.importance == 'batchnorm' and self.dense.norm != 'batch':
            raise UserError(
                f'--importance batchnorm, but {self.args.model} has no BatchNorm. Leave it out.'
            )
        width, height = self.data.dataset.sizes[0]
        if self.dense.padding == 'valid':  # which sees context around the image
            height, width = input_side(height), input_side(width)
        self.size = height, width
        self.cost = self.dense.multiply_adds(self.size)
        self.least = least_cost(self.dense, self.size)
        if self.args.cost == 'auto':
            if self.data.validation_loader is None:
                raise UserError(
                    '--cost auto searches by the Dice of a validation set, and there is none. Name '
                    'a cost, for instance --cost 0.25.'
                )
        elif self.args.cost * self.cost < self.least:
            raise UserError(
                f'--cost {self.args.cost:g} of {self.cost:,} multiply-adds is too low: what is '
                f'left of every layer takes {self.least:,}. Ask for more, or start from a wider '
                'network.'
            )

    def labelled_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, C, H, W) in [0, 1] and masks (B, H, W) of a part of the training set."""
        training, count = self.data.training, self.data.sampler.batch_size
        chosen = training[:: max(1, len(training) // MEASURED_IMAGES)][:MEASURED_IMAGES]
        for first in range(0, len(chosen), count):
            items = [self.data.plain[0, position] for position in chosen[first : first + count]]
            yield to_device(pad_batch(items), self.device)

    def write_pruned(self, source: Path, cost: float, path: Path) -> None:
        """Write the network of `source`, pruned to this part of the dense one's multiply-adds.

        The seconds that this takes are the file's metrics, see rival.seconds_of_pruning.
        """
        started = time.perf_counter()
        found = load_checkpoint(source)
        model = found.build_model().to(self.device)
        # Without a scale for the loss, gradients in float16 would vanish.
        exact = self.precision.name == 'fp16'
        with nullcontext() if exact else self.precision.autocast():
            importance = MEASURES[self.args.importance](
                model, self.labelled_batches(), segmentation_loss
            )
        multiple = portion_of(self.dense.widths)
        kept = choose_channels(model, importance, cost * self.cost, self.size, multiple)
        smaller = prune(model, kept)
        share = smaller.multiply_adds(self.size) / self.cost
        print(f'{path.stem}: {share:.3f} of the multiply-adds, widths {smaller.widths}')
        pruned = replace(
            found, model=model_config(smaller), weights=smaller.state_dict(), training=None,
            metrics={'seconds': time.perf_counter() - started},
        )  # fmt: skip
        save_checkpoint(pruned, path)

    def figures(self, checkpoint: Checkpoint) -> dict:
        """Return what figures.network_figures tells of a checkpoint's network."""
        model = checkpoint.build_model().to(self.device)
        return network_figures(model, self.size, self.data, self.precision)

    def trial(self, file: Path, checkpoint: Checkpoint, asked: float = 1.0) -> Trial:
        """Return a network as a trial of --cost auto, see there; raise UserError without a Dice."""
        found = self.figures(checkpoint)
        if found['dice'] is None:
            raise UserError(
                '--cost auto searches by the Dice of a validation set, and no class is in its '
                'masks. Name a cost, for instance --cost 0.25.'
            )
        cost = found['multiply_adds'] / self.cost
        return Trial(file, asked, cost, found['parameters'], found['dice'], found['milliseconds'])


def result_of(folder: Path, epochs: int) -> Path:
    """Return the best checkpoint of a finished round, the last one without a validation set."""
    best = folder / 'best.pth'
    return best if best.is_file() else folder / f'checkpoint_epoch{epochs}.pth'


def open_folder(folder: Path, args: argparse.Namespace) -> None:
    """Make the folder of the rounds, or continue in it; raise UserError if it is of another run."""
    stat = args.model.stat()
    asked = {
        'model': str(args.model.resolve()), 'changed': stat.st_mtime_ns, 'cost': args.cost,
        'max_drop': args.max_drop, 'epochs': args.epochs, 'importance': args.importance,
        'batch_size': args.batch_size, 'images': str(args.images), 'masks': str(args.masks),
        'amp': args.amp, 'distill': args.distill,
    }  # fmt: skip
    path = folder / 'prune.json'
    if folder.exists() and not folder.is_dir():
        raise UserError(f'{folder} is a file; a folder for the rounds belongs there. Move it.')
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
        except (ValueError, RecursionError):
            found = None
        found = found if isinstance(found, dict) else {}
        wrong = [f'{k} was {found.get(k)}, is {v}' for k, v in asked.items() if found.get(k) != v]
        if wrong:
            raise UserError(
                f'{folder} is of another pruning: {"; ".join(wrong)}. Repeat that command to '
                'continue it, remove the folder, or name another --output (-o).'
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_text(json.dumps(asked, indent=1) + '\n', encoding='utf-8')
