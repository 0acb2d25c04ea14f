"""scripts/watch.py draws a run of any length from its two files, while they are written."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from conftest import ROOT
from drawing import data_set
from running import run_train

from scripts import watch

SCRIPT = ROOT / 'scripts' / 'watch.py'
HEADER = 'epoch,step,learning_rate,loss,images_per_second,dice_dataset,dice_per_image\r\n'
START = datetime(2026, 11, 26, 12).timestamp()


def row(k):
    return f'{k},{10 * k},0.001,{1 / k},12.5,{1 - 0.5 / k},{1 - 0.75 / k}\r\n'


def write_run(folder, rows, text=None, **settings):
    """A run of 10 steps and one row an epoch."""
    folder.mkdir(exist_ok=True)
    text = HEADER + ''.join(row(k + 1) for k in range(rows)) if text is None else text
    (folder / 'metrics.csv').write_bytes(text.encode())
    started = datetime.fromtimestamp(START).astimezone().isoformat(timespec='seconds')
    known = {'epochs': 1000, 'total_steps': 10000, 'first_step': 0, 'started': started}
    (folder / 'args.json').write_text(json.dumps(known | {'recipe': 'fast'} | settings))
    return folder


def drawn(folder, minutes=0.0, **how):
    """The display of a run whose last row was a minute an epoch after START, so much later."""
    run = watch.read_run(folder)
    run.written = run.touched = START + 6 * (run.step - run.whole('first_step'))
    return watch.draw(run, run.written + 60 * minutes, **how)


def curve(lines, name):
    (line,) = [line for line in lines if line.startswith(name)]
    return line[27:69].rstrip(' 0123456789.')


@pytest.mark.parametrize('rows', [1, 2, 5, 43, 500])
@pytest.mark.parametrize('width', [80, 60, 38, 20, 1])
def test_a_run_of_any_length_is_drawn_within_the_width(tmp_path, rows, width):
    lines = drawn(write_run(tmp_path / 'run', rows), width=width)
    assert max(map(len, lines)) <= width
    assert f'epoch {rows} of 1000, step {10 * rows} of 10000, recipe fast'.startswith(lines[0][:40])
    if width < 60:
        return
    dice = curve(lines, 'Dice ')
    assert len(dice) == min(rows, width - 38)
    if rows > 1:
        assert (dice[0], dice[-1]) == ('▁', '█')
        loss = curve(lines, 'loss ')
        assert (loss[0], loss[-1]) == ('█', '▁')
        assert list(dice) == sorted(dice)
        assert list(loss) == sorted(loss, reverse=True)
    assert f'{1 - 0.5 / rows:.4f}' in lines[-1]


def test_a_curve_of_many_values_has_the_mean_of_each_part_and_gaps_for_what_is_unknown():
    assert watch.sparkline([0, 0, 1, 1, 0, 1, 3, 3], 4, 'abcdefg') == 'acbg'
    assert watch.sparkline([1, None, float('nan'), 2], 9, 'ab') == 'a  b'
    assert watch.sparkline([5, 5], 9, 'abc') == 'bb'
    assert watch.sparkline([], 9, 'abc') == ''


def test_the_expected_end_follows_from_the_time_of_the_rows(tmp_path):
    folder = write_run(tmp_path / 'run', 100, total_steps=1600, epochs=160)
    assert 'in 1 h' in drawn(folder)[2]
    assert 'in 59 min' in drawn(folder, minutes=1)[2]
    assert drawn(folder, minutes=5)[2] == 'no row for 5 min: the run has probably stopped'
    assert '62%' in drawn(folder)[1]


def test_a_resumed_run_is_timed_from_its_resumption(tmp_path):
    folder = write_run(tmp_path / 'run', 100, total_steps=1100, first_step=900)
    assert 'in 10 min' in drawn(folder)[2]
    write_run(tmp_path / 'run', 100, total_steps=1100, first_step=1000)
    told = 'the expected end is known after the next validation, started 0 s ago'
    assert drawn(folder)[2] == told


def test_a_run_that_has_ended_says_so(tmp_path):
    assert drawn(write_run(tmp_path / 'run', 20, total_steps=200))[2].startswith('finished at ')
    text = HEADER + row(5) + row(3) + row(2)
    early = write_run(tmp_path / 'early', 0, text=text, early_stop=2)
    assert drawn(early)[2] == 'stopped early: Dice has not risen in 2 validations'
    unscored = write_run(
        tmp_path / 'unscored', 0, text=HEADER + '1,10,1,1,1,,\r\n' * 3, early_stop=1
    )
    assert 'stopped' not in drawn(unscored)[2]
    patient = write_run(tmp_path / 'patient', 0, text=text, early_stop=3)
    assert 'stopped' not in drawn(patient)[2]


def test_a_row_that_is_being_written_is_not_drawn_yet(tmp_path):
    before = drawn(write_run(tmp_path / 'run', 3))
    whole = HEADER + ''.join(map(row, (1, 2, 3, 4)))
    for cut in range(1, len(row(4)) + 1):
        assert drawn(write_run(tmp_path / 'run', 0, text=whole[:-cut])) == before
    assert drawn(write_run(tmp_path / 'run', 0, text=whole)) != before


@pytest.mark.parametrize('text', ['', HEADER[:10], HEADER])
def test_a_run_before_its_first_row_is_no_error(tmp_path, text):
    folder = write_run(tmp_path / 'run', 0, text=text)
    told = [
        'no validation so far',
        'the expected end is known after the next validation, started 0 s ago',
    ]
    assert drawn(folder)[-2:] == told
    (folder / 'metrics.csv').unlink()
    assert drawn(folder)[-2:] == told


def test_a_run_that_died_before_its_first_row_is_told_by_the_files_that_it_no_longer_writes(
    tmp_path,
):
    folder = write_run(tmp_path / 'run', 0, save_minutes=2)
    assert drawn(folder, minutes=6)[-1].endswith('started 6 min ago')
    assert drawn(folder, minutes=7)[-1] == 'no file written for 7 min: the run has probably stopped'
    resumed = write_run(tmp_path / 'resumed', 5, first_step=50)
    assert drawn(resumed, minutes=29)[2].endswith('started 29 min ago')
    assert drawn(resumed, minutes=31)[2].startswith('no file written for 31 min')


def test_without_a_validation_set_or_settings_the_rest_is_drawn(tmp_path):
    folder = write_run(
        tmp_path / 'run', 0, text=HEADER + '1,10,0.001,nan,12,,\r\n2,20,0,0.5,9,,\r\n'
    )
    (folder / 'args.json').write_text('{')
    lines = drawn(folder)
    assert lines[0].startswith('epoch 2, step 20, in ')
    assert not [line for line in lines if 'Dice' in line]
    assert curve(lines, 'loss') == ' ▅'


def test_strange_cells_and_settings_are_no_error(tmp_path):
    text = HEADER + 'x,nan,,,,inf,\r\n' + row(2) + '3,inf,1e400,-inf,nan,nan,\r\n'
    drawn(write_run(tmp_path / 'run', 0, text=text, early_stop=1))
    for name, value in [('started', 5), ('started', 'noon'), ('total_steps', '9'), ('epochs', [])]:
        drawn(write_run(tmp_path / 'run', 3, **{name: value}))
    drawn(write_run(tmp_path / 'run', 3, total_steps=10**30))


def test_a_terminal_is_drawn_anew_until_the_run_ends(tmp_path, monkeypatch, capsys):
    folder, rows = write_run(tmp_path / 'run', 1, total_steps=40), iter((2, 3, 4))
    begun = datetime.now().astimezone().isoformat()

    def sleep(_):
        write_run(folder, next(rows), total_steps=40, started=begun)

    monkeypatch.setattr(watch.time, 'sleep', sleep)
    watch.watch(folder, once=False)
    out = capsys.readouterr().out
    assert [f'step {10 * k} of 40' in out for k in (1, 2, 3, 4)] == [True] * 4
    assert out.count('finished at') == 1
    assert out.count(f'\x1b[{len(drawn(folder))}A') == 3  # up, over the picture before


def test_a_folder_without_a_run_is_refused_with_the_runs_that_are_there(folder, capsys):
    write_run(Path('checkpoints'), 0).rename('elsewhere')
    Path('checkpoints').mkdir()
    write_run(Path('checkpoints/other'), 3)
    assert watch.main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: checkpoints has no run: expected metrics.csv and args.json')
    assert 'Runs in checkpoints: checkpoints/other.' in error
    Path('elsewhere/metrics.csv').write_bytes(b'\xff\xfe\x00')
    assert watch.main(['elsewhere']) == 2
    assert 'is not the table that train.py wrote' in capsys.readouterr().err


def test_it_starts_without_torch_prints_once_into_a_pipe_and_needs_no_utf8(tmp_path):
    folder = write_run(tmp_path / 'run', 30)
    code = 'import sys, runpy; sys.modules["torch"] = sys.modules["numpy"] = None; '
    code += f'sys.argv = ["watch.py", {str(folder)!r}]; '
    code += f'runpy.run_path({str(SCRIPT)!r}, run_name="__main__")'
    for encoding, top in (('utf-8', '█'), ('ascii', '#'), ('cp1252', '#')):
        result = subprocess.run(
            [sys.executable, '-c', code], capture_output=True, env={'PYTHONIOENCODING': encoding}
        )
        assert result.returncode == 0, result.stderr
        text = result.stdout.decode(encoding)
        assert text.count('loss') == 1
        assert '\x1b' not in text
        assert curve(text.splitlines(), 'loss')[0] == top


@pytest.mark.slow
def test_the_files_of_a_real_run_are_understood(folder, capsys):
    data_set(folder, 6)
    assert run_train('-e', '2') == 0
    capsys.readouterr()
    assert watch.main(['checkpoints']) == 0
    out = capsys.readouterr().out
    assert out.startswith('epoch 2 of 2, step 6 of 6, recipe fast, in checkpoints\n')
    assert 'finished at' in out
    assert 'best Dice 0.' in out
    settings = json.loads(Path('checkpoints/args.json').read_text())
    assert run_train('--resume', '-e', '3') == 0
    resumed = json.loads(Path('checkpoints/args.json').read_text())
    assert (settings['first_step'], resumed['first_step'], resumed['total_steps']) == (0, 6, 9)


@pytest.mark.parametrize(
    ('settings', 'line'),
    [
        ({'epochs': 'auto', 'total_steps': None}, 'ends when validation Dice has stalled'),
        ({'epochs': 'auto', 'total_steps': 60}, '12:06, in 5 min'),
        ({'epochs': 'auto', 'total_steps': 10}, '12:01'),
    ],
)
def test_the_end_of_a_run_that_trains_until_a_plateau_is_told_when_it_is_known(
    tmp_path, settings, line
):
    folder = write_run(tmp_path / 'run', 1, **settings)
    run = watch.read_run(folder)
    run.written = START + 60
    lines = watch.draw(run, run.written)
    assert lines[0].startswith('epoch 1, step 10')
    assert any(drawn.endswith(line) for drawn in lines)
