"""What users of the original type and grep for: its defaults spelled out, its log lines."""

import pytest
from drawing import data_set
from running import rows, run_train

import train
from utils.training.builder import note_of_classic_defaults


@pytest.mark.parametrize(
    ('options', 'given', 'own'),
    [
        ('-l 1e-5 -b 1', '-l 1e-05 -b 1', '-l 0.002 -b 2'),
        ('-l 0.00001', '-l 1e-05', '-l 0.002'),
        ('-l 1e-5 -b 3', '-l 1e-05', '-l 0.002'),
        ('-l 1e-5 -b 1 --recipe paper', '-l 1e-05', '-l 0.001'),
        ('-l 1e-5 -b 1 --recipe classic', None, None),
        ('-l 1e-4 -b 1', None, None),
        ('-b 1', None, None),
    ],
)
def test_the_originals_defaults_spelled_out_name_the_classic_recipe(options, given, own):
    notes = note_of_classic_defaults(train.get_args(options.split()))
    assert len(notes) == (given is not None)
    for note in notes:
        assert note.startswith(f'note: {given} belongs to the training of the original: add ')
        assert '--recipe classic' in note
        assert note.endswith(own)


@pytest.mark.slow
def test_the_originals_log_lines_are_found(folder, capsys):
    data_set(folder, 6)
    assert run_train('-e', '2', '-l', '1e-5', '-b', '1') == 0
    out = capsys.readouterr().out
    assert out.count('add --recipe classic for that') == 1
    for line in ('Using device cpu', 'Starting training:', 'Checkpoint 1 saved!'):
        assert out.count(line) == 1, line
    assert out.index('Starting training:') < out.index('Checkpoint 1 saved!')
    assert out.index('Checkpoint 1 saved!') < out.index('Checkpoint 2 saved!')
    dice = [float(row['dice_dataset']) for row in rows()]
    found = [line.partition('Validation Dice score: ')[2] for line in out.splitlines()]
    assert [text.split(',')[0] for text in found if text] == [f'{value:.4f}' for value in dice]
