"""Builds a training run from the command line: data, network, loss, optimizer, state, recorder."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from unet import UNet
from utils.data.report.check import add_data_problems
from utils.inference.backends.selection import compiled
from utils.inference.checkpoint import Checkpoint, load_checkpoint, model_config
from utils.masks.encoding import MaskEncoding
from utils.runtime.devices import choose_device
from utils.runtime.distributed import world_size
from utils.runtime.errors import UserError
from utils.runtime.precision import MixedPrecision

from .data import TrainingData, decode_path
from .duration.steps import note_of_few_steps
from .optimization.deep_supervision import DeepSupervision
from .optimization.guard import StepGuard
from .optimization.loss import loss_weights, segmentation_loss, sum_totals
from .optimization.parallel import Replica
from .optimization.recipes import RECIPES, Recipe
from .recorder import Recorder
from .resume import check_resumed, is_to_resume, plan_steps, read_last
from .run_folder import check_output, open_output
from .state import TrainState
from .step import StepRunner, TrainStep
from .validation import Validator


@dataclass
class TrainingRun:
    """The parts of a training run."""

    args: argparse.Namespace
    recipe: Recipe  # of the options, or the one that build_run was given
    data: TrainingData
    state: TrainState
    step_runner: StepRunner
    validator: Validator
    recorder: Recorder

    def describe(self) -> str:
        """Return what is about to be trained, in a few lines."""
        state, args = self.state, self.args
        config = ', '.join(f'{name}={value}' for name, value in model_config(state.model).items())
        rate = args.learning_rate or self.recipe.learning_rate
        per_epoch = state.steps_per_epoch
        length = f'{per_epoch} steps each' if state.epochs is None else f'{state.total_steps} steps'
        lines = [
            self.data.describe(),
            f'Using device {state.precision.device}, {state.precision.name}: UNet({config})',
            f'Starting training: recipe {args.recipe}, epochs {args.epochs} ({length}), batch size '
            f'{self.data.sampler.describe()}, learning rate {rate:g}',
        ]
        lines += note_of_classic_defaults(args)
        if args.epochs != 'auto' and not (args.load or state.step):
            lines += note_of_few_steps(args.recipe, args.epochs, per_epoch)
        if args.amp and state.precision.name == 'fp32':
            lines.append('note: this device is no faster in half precision: --amp changes nothing')
        if not self.data.validation:
            lines.append('note: no validation set: no Dice and no best.pth')
        if state.step:
            left = 'nothing left to do' if state.finished() else f'in epoch {state.epoch + 1}'
            lines.append(f'resuming after step {state.step}, {left}')
        if state.step == state.schedule.plan.start > 0 and not state.finished():
            change = state.schedule.describe_change(rate)
            now = 'trains until a plateau' if state.epochs is None else f'has {state.epochs} epochs'
            lines.append(f'note: the run now {now}: {change}')
        return '\n'.join(lines)

    def close(self) -> None:
        """End worker processes and loggers."""
        self.data.close()
        self.recorder.close()


def note_of_classic_defaults(args: argparse.Namespace) -> list[str]:
    """Return a line where another recipe runs with the original's learning rate spelled out.

    Its batch size of 1 alone is no sign of the original: it is also the way to save memory.
    """
    classic, recipe = RECIPES['classic'], RECIPES[args.recipe]
    if args.recipe == 'classic' or args.learning_rate != classic.learning_rate:
        return []
    given, own = f'-l {args.learning_rate:g}', f'-l {recipe.learning_rate:g}'
    if args.batch_size == classic.batch_size != recipe.batch_size:
        given, own = f'{given} -b {args.batch_size}', f'{own} -b {recipe.batch_size}'
    return [
        f'note: {given} belongs to the training of the original: add --recipe classic for that, '
        f'or leave it out for the defaults of recipe {args.recipe}, {own}'
    ]


def build_run(
    args: argparse.Namespace,
    parse: Callable[[dict], argparse.Namespace],
    model: UNet | None = None,
    recipe: Recipe | None = None,
    masks: MaskEncoding | None = None,
) -> TrainingRun:
    """Build a new run, or the one that --resume names.

    parse: parses the command line with the given defaults, those of the resumed run.
    model: to train, unless the options name one; they have to describe it.
    recipe: by default, that of the options. masks: see TrainingData.
    Raises UserError for everything that could not work, before a file is written.
    """
    source = None
    if is_to_resume(args):
        args, source = read_last(args, parse)
    elif args.load:
        source = replace(load_checkpoint(args.load), training=None)
    saved = source.training if source else None
    check_output(args.output, saved)
    recipe = recipe or RECIPES[args.recipe]
    device, config = choose_device(args.device), network_config(args, recipe, source)
    try:
        data = TrainingData(args, config['padding'], device, source, masks)
    except UserError as error:
        raise add_data_problems(error, args, decode_path(args, source)) from error
    if saved:
        check_resumed(saved, data, args.images)
    model = model or build_model(args, config, data, source)
    model.to(device).to(memory_format=torch.channels_last).train()
    optimizer = recipe.optimizer(model, args.learning_rate or recipe.learning_rate)
    schedule = recipe.schedule(optimizer, plan_steps(args.epochs, len(data.sampler), saved))
    weights = class_weights(args, data, device)
    criterion = build_loss(args, recipe, weights)
    levels = build_supervision(args, recipe, model, criterion)
    # A resumed run keeps its precision, whatever a new measurement of the CPU would say.
    precision = MixedPrecision(device, args.amp, saved['precision'] if saved else None)
    state = TrainState(
        model, optimizer, schedule, precision, len(data.sampler), recipe.validations_per_epoch,
        args.early_stop,
    )  # fmt: skip
    if saved:  # which may be refused, before a file is written
        state.load_state_dict(saved)
    # torch.compile takes DDP into account: it cuts the graph where a bucket is full.
    network: nn.Module = model if world_size() == 1 else Replica(model)
    if args.compile and not model.checkpointing:
        network, criterion = compiled(network, device), torch.compile(criterion, dynamic=False)
    tracker = open_output(args, saved, data.dataset.scan.left_out, state.schedule.plan.steps)
    guard = StepGuard(model)
    recorder = Recorder(args, state, data, tracker, guard)
    totals = partial(sum_totals, class_weights=None if weights is None else weights.cpu())
    step = TrainStep(
        network, optimizer, precision, guard, criterion, recipe.max_gradient_norm, totals, levels
    )
    if saved and source:
        recorder.load_state_dict(saved, source.metrics)
    runner = StepRunner(state, step, data.sampler, args.seed, args.scale, recipe.coarse)
    validator = Validator(state, data, recorder, recipe.precise_statistics)
    return TrainingRun(args, recipe, data, state, runner, validator, recorder)


def network_config(args: argparse.Namespace, recipe: Recipe, source: Checkpoint | None) -> dict:
    """Return UNet's width, padding, norm and dropout: as asked, else --load's, else the recipe's.

    Raises UserError for a width, padding or norm that differs from that of the weights.
    """
    given = source.model if source else recipe.network
    config = {'base_channels': 64, 'padding': 'same', 'norm': 'batch', 'dropout': 0.0}
    for name, usual in config.items():
        has, asked = given.get(name, usual), getattr(args, name)
        if source and name != 'dropout' and asked not in (None, has):
            option = name.replace('_', '-')
            raise UserError(f'--{option} is {asked}, but {args.load} has {has}. Leave it out.')
        config[name] = has if asked is None else asked
    return config


def build_model(
    args: argparse.Namespace, config: dict, data: TrainingData, source: Checkpoint | None
) -> UNet:
    """Return a new network, or the source's with a new last layer where the classes differ.

    config: see network_config. Raises UserError for options that contradict the source.
    """
    torch.manual_seed(args.seed)
    values = len(data.dataset.masks.values)
    if source is None:
        n_classes = 1 if args.classes == 1 else values
        return UNet(data.dataset.channels, n_classes, args.bilinear, **config)
    has = source.model
    if args.bilinear and not has['bilinear']:
        raise UserError(f'--bilinear, but {args.load} has transposed convolutions. Leave it out.')
    had = has['n_classes']
    binary = args.classes == 1 or (args.classes is None and had == 1 and values == 2)
    n_classes = 1 if binary else values
    model = UNet(**(has | config | {'n_classes': n_classes}))
    weights = source.weights
    if had != n_classes:
        weights = weights | {k: v for k, v in model.state_dict().items() if k.startswith('outc.')}
        print(
            f'note: the weights are for {had} classes and the masks have {n_classes}: '
            'the last layer starts anew'
        )
    model.load_state_dict(weights)
    return model


def class_weights(
    args: argparse.Namespace, data: TrainingData, device: torch.device
) -> Tensor | None:
    """Return the weights (K,) of --loss-weights, None without."""
    counts = data.dataset.scan.counts  # of ignored values too, which are in no class
    pixels = [counts.get(value, 0) for value in data.dataset.masks.values]
    weights = loss_weights(args.loss_weights, [count / sum(pixels) for count in pixels])
    return None if weights is None else torch.tensor(weights, device=device)


def build_supervision(
    args: argparse.Namespace, recipe: Recipe, model: UNet, criterion: Callable[..., Tensor]
) -> DeepSupervision | None:
    """Return the recipe's deep supervision; None for networks that --load names.

    Their features are there already, and do not fit new projections.
    """
    asked = recipe.deep_supervision and model.padding == 'same' and not args.load
    return DeepSupervision(model, criterion) if asked else None


def build_loss(
    args: argparse.Namespace, recipe: Recipe, weights: Tensor | None
) -> Callable[..., Tensor]:
    """Return the loss of logits, masks and, with a weight map, border weights."""
    kind = args.dice_loss or recipe.dice_loss
    return partial(
        segmentation_loss,
        class_weights=weights,
        per_class=kind == 'per-class',
        dice=kind != 'none',
    )
