"""All that one training run consists of, begun from the command line or resumed from last.pth."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unet import UNet
from utils.data.dataloader import to_device
from utils.data.report.check import add_data_problems
from utils.evaluation.metrics import RATIOS
from utils.inference.backends.selection import compiled
from utils.inference.checkpoint import (
    Checkpoint,
    NotFiniteError,
    load_checkpoint,
    model_config,
    save_checkpoint,
)
from utils.masks.weight_map import from_bytes
from utils.runtime.devices import choose_device
from utils.runtime.distributed import broadcast_tensors, is_main_process, rank, world_size
from utils.runtime.errors import DivergedError, UserError
from utils.runtime.precision import Precision
from utils.training.optimization.batchnorm import reestimate_statistics
from utils.training.optimization.coarse import halved
from utils.training.optimization.guard import CollapseWatch, StepGuard
from utils.training.optimization.recipes import RECIPES, Recipe, Schedule

from .data import TrainingData
from .model import build_loss, build_model, network_config
from .plots import draw_curves, write_samples
from .progress import Meter
from .resume import check_processes, read_last, restore, run_state
from .run_folder import keep_newest, open_output, write_left_out
from .tracking import Tracker


@dataclass
class Run:
    """The parts of a training run and its position."""

    args: argparse.Namespace
    recipe: Recipe
    precision: Precision
    data: TrainingData
    model: UNet
    optimizer: Optimizer
    schedule: Schedule
    tracker: Tracker
    guard: StepGuard
    network: nn.Module  # the model, compiled where asked for
    criterion: Callable[..., Tensor]  # of logits, masks and border weights
    collapse: CollapseWatch
    meter: Meter = field(default_factory=Meter)
    epoch: int = 0  # whole epochs done
    batch: int = 0  # batches done of the next one
    step: int = 0  # optimizer steps done
    first_step: int = 0  # how many of them before it was resumed
    last_rate: float = 0.0  # the learning rate of the last one
    best: float | None = None  # highest validation Dice
    since_best: int = 0  # validations since it was reached
    scores: dict | None = None  # of the last validation
    last_saved: Path | None = None
    saved_at: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(
        cls,
        args: argparse.Namespace,
        source: Checkpoint | None = None,
        state: dict | None = None,
    ) -> 'Run':
        """A run from its first step, with the weights of --load or of `source`.

        state: what last.pth holds for a resumed run. Raises UserError for anything that could not
        work, before a file is written.
        """
        if args.load and source is None:
            source = load_checkpoint(args.load)
        recipe = RECIPES[args.recipe]
        device = choose_device(args.device)
        config = network_config(args, recipe, source)
        channels = source and source.model['n_channels']
        masks = source.masks if state else None
        try:
            data = TrainingData(args, recipe, config['padding'], device, channels, masks)
        except UserError as error:
            raise add_data_problems(error, args) from error
        if state:
            check_processes(state.get('processes', 1))
        if state and state['data'] != data.fingerprint():
            raise UserError(
                f'the training images are not those of the run to resume; now there are '
                f'{len(data.training)} of them in {args.images}. Put those back, or start a new '
                'run from its weights with --load.'
            )
        model = build_model(args, config, data, source)
        broadcast_tensors(list(model.state_dict().values()))
        model.to(device, memory_format=torch.channels_last).train()
        optimizer = recipe.optimizer(model, args.learning_rate or recipe.learning_rate)
        schedule = recipe.schedule(optimizer, args.epochs * len(data.batches))
        guard = StepGuard(model)
        criterion = build_loss(args, recipe, data, device)
        collapse = CollapseWatch(data.dataset.masks.titles)
        network = compiled(model, device) if args.compile else model
        tracker = open_output(args, state)
        write_left_out(data.dataset.scan.left_out, args.output / 'left_out.txt')
        # A resumed run keeps its precision, whatever a new measurement of the CPU would say.
        precision = Precision(device, args.amp, state and state['precision'])
        parts = (recipe, precision, data, model, optimizer, schedule, tracker, guard, network)
        run = cls(args, *parts, criterion, collapse)
        if state:
            restore(run, state)
            run.scores = source.metrics
        return run

    @classmethod
    def resume(cls, args: argparse.Namespace, parse: Callable[[dict], argparse.Namespace]) -> 'Run':
        """Go on where a run stopped; arguments and errors are read_last's."""
        args, source = read_last(args, parse)
        return cls.begin(args, source, source.training)

    def describe(self) -> str:
        """What is about to be trained, in a few lines."""
        config = ', '.join(f'{name}={value}' for name, value in model_config(self.model).items())
        lines = [
            self.data.describe(),
            f'UNet({config}) on {self.precision.device}, {self.precision.name}',
            f'recipe {self.args.recipe}, epochs {self.args.epochs}, batch size '
            f'{self.data.batches.describe()}, learning rate '
            f'{self.args.learning_rate or self.recipe.learning_rate:g}',
        ]
        if self.args.amp and self.precision.name == 'fp32':
            lines.append('note: this device is no faster in half precision: --amp changes nothing')
        if not self.data.validation:
            lines.append('note: no validation set: no Dice and no best.pth')
        if self.step:
            left = 'nothing left to do' if self.finished() else f'in epoch {self.epoch + 1}'
            lines.append(f'resuming after step {self.step}, {left}')
        return '\n'.join(lines)

    def farewell(self) -> str:
        """Where the results are and what to do with them."""
        model = self.last_saved if self.best is None else self.args.output / 'best.pth'
        score = '' if self.best is None else f'Best validation Dice {self.best:.4f}.\n'
        return f'{score}Predict with: python predict.py -m {model} -i IMAGE'

    def finished(self) -> bool:
        """Whether all epochs are done, or Dice has not risen in --early-stop validations."""
        patience = self.args.early_stop
        stalled = bool(patience) and self.best is not None and self.since_best >= patience
        return self.epoch >= self.args.epochs or stalled

    def how_to_resume(self) -> str:
        """The command that goes on with this run."""
        program = f'torchrun --nproc-per-node={world_size()}' if world_size() > 1 else 'python'
        return f'{program} train.py --resume {self.args.output / "last.pth"}'

    def diverged(self, what: str) -> DivergedError:
        """The error that ends a training of which `what` has become of no use."""
        return DivergedError(
            f'{what} at epoch {self.epoch + 1}, step {self.step} (precision '
            f'{self.precision.name}, learning rate {self.last_rate:.2g}). Last good file: '
            f'{self.last_saved or "none yet"}. Try a lower --learning-rate, or leave --amp out.'
        )

    def begin_epoch(self) -> None:
        """Set the batches to where the run stands in its next epoch."""
        self.data.batches.epoch, self.data.batches.start = self.epoch + 1, self.batch
        if not self.batch:
            self.meter.reset()

    def on_device(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Images, masks and any border weights of a batch as the next step takes them."""
        images, masks = to_device(batch, self.precision.device)
        if 'border' in batch:  # its weights are of full size: no coarse steps with them
            return images, masks, from_bytes(batch['border'].to(self.precision.device))
        coarse = self.step < self.recipe.coarse * self.total_steps
        return halved(images, masks) if coarse else (images, masks)

    def seed_dropout(self) -> None:
        """Let the next step's chance depend on seed, step and process, whatever went before."""
        if self.model.dropout:
            rng = np.random.default_rng((self.args.seed, self.step, rank()))
            torch.manual_seed(int(rng.integers(2**63)))

    def count_step(self, loss: Tensor) -> int:
        """Move on by one optimizer step, of which this was the loss; returns its images."""
        images = self.data.batches.images_in_step(self.batch)
        self.last_rate = self.learning_rate
        self.schedule.after_step()
        self.meter.add(loss, images)
        self.step += 1
        self.batch += 1
        return images

    def saving_due(self) -> bool:
        """Whether last.pth is as old as --save-minutes."""
        return time.monotonic() - self.saved_at >= 60 * self.args.save_minutes

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, those that are done among them."""
        return self.args.epochs * len(self.data.batches)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self.optimizer.param_groups[0]['lr']

    def log_step(self, figures: dict) -> None:
        """Training figures, for W&B."""
        named = {f'train {name}': value for name, value in figures.items()}
        self.tracker.log_step(
            self.step, named | {'learning rate': self.learning_rate, 'epoch': self.epoch + 1}
        )

    def reestimate_statistics(self) -> None:
        """BatchNorm's running statistics from training images, in the run's precision."""
        with self.precision.autocast():
            reestimate_statistics(self.model, self.data.statistics_batches())

    def undo_step(self) -> None:
        """Take back what a step that ran out of memory has done so far, to do it again."""
        self.guard.undo()
        self.precision.renew_scaler()
        self.optimizer.zero_grad(set_to_none=True)
        if self.step == 0:  # the optimizer's first step may have allocated a part of its state
            self.optimizer.state.clear()

    def use_checkpointing(self) -> None:
        """Compute activations twice from here, to save memory; not compiled any more."""
        self.model.use_checkpointing()
        self.network = self.model

    def record_validation(self, training: dict, scores: dict | None) -> None:
        """A row of metrics.csv, samples.png, and best.pth where Dice is the highest so far.

        training: the meter's figures; scores: of utils.metrics, None without a validation set.
        """
        self.scores = scores
        names = [f'{ratio}_{of}' for of in ('dataset', 'per_image') for ratio in RATIOS]
        row = {'epoch': self.epoch + 1, 'step': self.step, 'learning_rate': self.learning_rate}
        row |= training
        row |= {name: scores and scores[name] for name in [*names, 'dice_reference']}
        sheet = None
        if is_main_process():
            samples = self.args.output / 'samples.png'
            sheet = write_samples(samples, self.model, self.data, self.precision)
        self.tracker.log_validation(row, sheet, self.model if self.args.wandb_histograms else None)
        dice = scores and scores['dice_dataset']
        if dice is not None and (self.best is None or dice > self.best):
            self.best, self.since_best = dice, 0
            self._save('best.pth')
        else:
            self.since_best += 1

    def end_epoch(self) -> None:
        """Count the epoch, and write checkpoint_epoch{N}.pth and last.pth."""
        self.epoch, self.batch = self.epoch + 1, 0
        self._save(f'checkpoint_epoch{self.epoch}.pth')
        self.save_last()
        if is_main_process():
            draw_curves(self.tracker.csv_path, self.args.output / 'curves.png')
        if self.args.keep and is_main_process():
            keep_newest(self.args.output, self.epoch, self.args.keep)

    def save_last(self) -> None:
        """Write last.pth, with all that a resumed run needs."""
        self.saved_at = time.monotonic()
        self._save('last.pth', run_state(self))

    def _save(self, name: str, training: dict | None = None) -> None:
        checkpoint = Checkpoint(
            model=model_config(self.model),
            weights=self.model.state_dict(),
            **self.data.dataset.masks.to_checkpoint(),
            scale=self.data.dataset.scale,
            metrics=self.scores,
            training=training,
        )
        try:
            if is_main_process():
                save_checkpoint(checkpoint, self.args.output / name)
        except NotFiniteError as error:
            raise self.diverged(str(error)) from error
        self.last_saved = self.args.output / name
