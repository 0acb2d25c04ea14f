"""What last.pth holds of a run beside the weights, and how a run goes on from it."""

from pathlib import Path
from typing import TYPE_CHECKING

from .distributed import size

if TYPE_CHECKING:
    from .training_run import Run

POSITION = ('epoch', 'batch', 'step', 'best', 'since_best')


def run_state(run: 'Run') -> dict:
    """Plain values and tensors from which `restore` lets a new Run go on exactly."""
    settings = {k: v for k, v in vars(run.args).items() if k not in ('resume', 'debug')}
    state = {
        'args': {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()},
        'data': run.data.fingerprint(),
        'optimizer': run.optimizer.state_dict(),
        'schedule': run.schedule.state_dict(),
        'scaler': run.precision.scaler.state_dict(),
        'precision': run.precision.name,
        'wandb': run.tracker.run_id,
        'processes': size(),
        'checkpointing': run.model.checkpointing,
        'meter': run.meter.state(),
    }
    return state | {name: getattr(run, name) for name in POSITION}


def restore(run: 'Run', state: dict) -> None:
    """Bring a run that was made from the same settings and weights to where run_state was taken."""
    run.optimizer.load_state_dict(state['optimizer'])
    run.schedule.load_state_dict(state['schedule'])
    run.precision.scaler.load_state_dict(state['scaler'])
    if state['checkpointing']:
        run.use_checkpointing()
    run.meter.load_state(state['meter'])
    run.last_saved = run.args.output / 'last.pth'
    for name in POSITION:
        setattr(run, name, state[name])
    run.first_step = run.step
