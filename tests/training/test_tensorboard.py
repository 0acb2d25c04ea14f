"""--tensorboard: TensorBoard's own loader finds the figures of metrics.csv, each step once."""

import io
import sys
from pathlib import Path

import pytest
from drawing import data_set
from PIL import Image
from running import rows, run_train

from utils.evaluation.metrics import RATIOS
from utils.training.tracking.tracker import Tracker

pytest.importorskip('tensorboard')
SHEET = Image.new('RGB', (8, 6), 'red')


def loaded(folder='checkpoints/tensorboard'):
    """The events of a folder, read by TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = {'scalars': 0, 'images': 0, 'tensors': 0}
    return EventAccumulator(str(folder), everything).Reload()


def curve(events, tag):
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


@pytest.fixture
def tracker(tmp_path):
    """Make trackers of one folder, which are not closed, as those of killed runs."""

    def make(step=0):
        return Tracker(tmp_path, {}, 'disabled', step, tensorboard=True)

    return make


@pytest.mark.slow
def test_the_event_file_has_the_figures_of_metrics_csv_and_the_sample_sheets(folder):
    data_set(folder, 6)
    assert run_train('-e', '2', '-v', '34', '--tensorboard') == 0
    events, table = loaded(), rows()
    names = set(table[0]) - {'step'}
    tags = {tag.partition('/')[2]: tag for tag in events.Tags()['scalars']}
    assert set(tags) == {*names, 'skipped_steps'}
    for name in names:
        written = {int(row['step']): float(row[name]) for row in table if row[name] != ''}
        # On a slow machine, figures of training have steps between.
        found = {step: value for step, value in curve(events, tags[name]) if step in written}
        assert found == written, name
    scores = {name for name in names if name.startswith(RATIOS)}
    assert {tags[name].partition('/')[0] for name in scores} == {'validation'}
    assert {tags[name].partition('/')[0] for name in names - scores} == {'training'}
    assert {'learning_rate', 'images_per_second', 'peak_memory_mib'} <= names
    sheets = events.Images('samples')
    assert [sheet.step for sheet in sheets] == [int(row['step']) for row in table]
    shown = Image.open(io.BytesIO(sheets[-1].encoded_image_string))
    assert shown.tobytes() == Image.open('checkpoints/samples.png').tobytes()


def test_figures_of_steps_lie_between_those_of_validations_and_a_step_has_one_value(tracker):
    log = tracker()
    log.log_step(1, {'loss': 0.9, 'skipped_steps': 0})
    log.log_step(2, {'loss': 0.8, 'skipped_steps': 1})
    log.log_validation({'epoch': 1, 'step': 2, 'loss': 0.7, 'dice_dataset': None}, SHEET)
    log.log_step(3, {'loss': 0.6})
    log.close()
    events = loaded(log.csv_path.parent / 'tensorboard')
    assert curve(events, 'training/loss') == [(1, 0.9), (2, 0.7), (3, 0.6)]
    assert curve(events, 'training/skipped_steps') == [(1, 0), (2, 1)]
    assert 'validation/dice_dataset' not in events.Tags()['scalars']


@pytest.mark.parametrize('torn', [0, 1, 30])
def test_a_killed_run_is_readable_and_its_resumption_replaces_the_steps_that_it_repeats(
    tracker, torn
):
    killed = tracker()
    for step in (1, 2, 3):
        killed.log_validation({'step': step, 'loss': step / 10}, SHEET)
    folder = killed.csv_path.parent / 'tensorboard'
    assert curve(loaded(folder), 'training/loss') == [(1, 0.1), (2, 0.2), (3, 0.3)]
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) - torn])
    resumed = tracker(step=2)
    for step in (3, 4):
        resumed.log_validation({'step': step, 'loss': step}, SHEET)
    events = loaded(folder)
    assert curve(events, 'training/loss') == [(1, 0.1), (2, 0.2), (3, 3.0), (4, 4.0)]
    assert [sheet.step for sheet in events.Images('samples')] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_resumed_run_goes_on_in_the_same_folder_and_a_new_one_begins_anew(folder):
    data_set(folder, 4)
    assert run_train('-e', '1', '--tensorboard') == 0
    assert run_train('--resume', '-e', '3') == 0
    steps = [event.step for event in loaded().Scalars('training/loss')]
    assert steps == sorted(set(steps))
    assert {int(row['step']) for row in rows()} <= set(steps)
    assert len(list(Path('checkpoints/tensorboard').iterdir())) == 2
    assert run_train('--resume', '-e', '4', '--no-tensorboard') == 0
    assert len(list(Path('checkpoints/tensorboard').iterdir())) == 2
    assert run_train('-e', '1') == 0
    assert not Path('checkpoints/tensorboard').exists()
    (earlier,) = Path('checkpoints').glob('earlier-*')
    assert len(list((earlier / 'tensorboard').iterdir())) == 2


def test_without_the_package_a_run_ends_at_once_and_says_what_to_install(
    folder, monkeypatch, capsys
):
    data_set(folder, 4)
    monkeypatch.setitem(sys.modules, 'tensorboard', None)
    with pytest.raises(SystemExit) as ended:
        run_train('-e', '1', '--tensorboard')
    assert ended.value.code == 2
    assert 'pip install tensorboard' in capsys.readouterr().err
    assert not Path('checkpoints').exists()


def test_event_files_that_cannot_be_written_cost_a_warning_only(tracker, tmp_path, capsys):
    (tmp_path / 'tensorboard').write_text('a file')
    log = tracker()
    for step in (1, 2):
        log.log_step(step, {'loss': 1})
        log.log_validation({'step': step}, SHEET)
    log.close()
    assert capsys.readouterr().out.count('TensorBoard failed and is off from here') == 1
    assert len(rows(tmp_path / 'metrics.csv')) == 2
