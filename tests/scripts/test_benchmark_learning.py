"""benchmark_learning.py: rows as runs end, none twice, scores of pictures never trained on."""

import json
import shlex
import sys
from pathlib import Path

import pytest
from drawing import data_set
from running import rows

from utils.runtime.locks import FolderLock

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'
sys.path.insert(0, str(SCRIPTS))

import benchmark_learning  # noqa: E402
from learning import sets, table  # noqa: E402

# Stand for the programs: quick, and with scores that follow from the seed. Each notes its call.
NOTE = """
import json, sys
from pathlib import Path
words = sys.argv[1:]
with open('calls.txt', 'a') as file:
    file.write(' '.join([Path(__file__).name, *words]) + chr(10))
def option(name):
    return words[words.index(name) + 1]
"""
TRAIN = (
    NOTE
    + """
if '--check' in words:
    print('error: the masks are broken' if Path('broken').exists() else 'all is well')
    sys.exit(2 if Path('broken').exists() else 0)
out, seed = Path(option('--output')), option('--seed')
out.mkdir()
print('10 images to train on, 2 to validate on')
(out / 'args.json').write_text(json.dumps({'torch': '9.9'}))
(out / 'metrics.csv').write_text('epoch,step' + chr(10) + '1,5' + chr(10) + '3,15' + chr(10))
if Path('out of memory').exists() and seed == '1':
    sys.exit('error: out of memory')
for name in ('best.pth', 'last.pth', 'checkpoint_epoch3.pth'):
    (out / name).write_text(seed)
"""
)
EVALUATE = (
    NOTE
    + """
seed, training = int(Path(option('--model')).read_text()), 'train-' in option('--list')
classes = [{'share': 0.7, 'dice_dataset': 0.99}, {'share': 0.3, 'dice_dataset': 0.8 + seed / 100}]
classes.append({'share': 0, 'dice_dataset': 0.0})
sweep = [{'threshold': t, 'rand_thinned_per_image': t / 2 + training} for t in (0.2, 0.4, 0.6)]
scores = {'dice_dataset': 0.8 + seed / 100, 'classes': classes}
if '--instances' in words:
    scores |= {'threshold_sweep': sweep, 'best_threshold_rand': 0.4 if training else 0.6}
Path(option('--json')).write_text(json.dumps(scores))
"""
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Twelve pictures in imgs/, and stand-ins for the programs."""
    (tmp_path / 'programs').mkdir()
    (tmp_path / 'programs/train.py').write_text(TRAIN)
    (tmp_path / 'programs/evaluate.py').write_text(EVALUATE)
    monkeypatch.setattr(sets, 'ROOT', tmp_path / 'programs')
    monkeypatch.setattr(benchmark_learning, 'commit', lambda: 'abc1234')
    monkeypatch.chdir(tmp_path)
    data_set(tmp_path, 12, names=[str(n) for n in range(1, 13)])
    return tmp_path


def run(*options, count=10):
    own = ['--images', 'imgs', '--masks', 'masks', '--count', str(count), '--output', 'out']
    return benchmark_learning.main([*own, *options])


def calls(program):
    """Return the options of each call of a program so far."""
    lines = [shlex.split(line) for line in Path('calls.txt').read_text().splitlines()]
    return [words for words in lines if words[0] == program and '--check' not in words]


def seeds():
    return [row['seed'] for row in rows('out/runs.csv')]


@pytest.mark.slow
def test_every_run_leaves_a_row_and_none_is_run_twice(folder, monkeypatch):
    assert run('--seeds', '0', '2') == 0
    first, second = rows('out/runs.csv')
    assert [first[name] for name in ('seed', 'dice', 'lowest', 'steps', 'images')] == [
        '0', '0.8', '0.8', '15', '30'
    ]  # fmt: skip
    assert second['classes'] == '0.990 0.820'  # the third class is nowhere in the truth
    assert 0 <= float(second['seconds']) < 60  # to a tenth, which the stand-in may not take
    assert [path.name for path in (folder / 'out/runs').glob('*/*.pth')] == ['best.pth'] * 2
    text = (folder / 'out/table.md').read_text(encoding='utf-8')
    assert '## Commit abc1234, ' in text
    assert '| imgs 10 | fast |  | 0 2 | 0.8100 ± 0.0141 (0.8000 to 0.8200) |' in text
    assert '| 0.990 0.810 | 15 | 30 |' in text
    assert run('--seeds', '0', '1', '2') == 0
    assert seeds() == ['0', '2', '1']
    assert len(calls('train.py')) == 3
    (folder / 'out/table.md').unlink()
    assert run('--seeds', '0') == 0
    assert (folder / 'out/table.md').exists()
    for changed in (['--recipe', 'classic'], ['--epochs', '3'], ['--', '--scale', '1']):
        assert run('--seeds', '0', *changed) == 0
    monkeypatch.setattr(benchmark_learning, 'commit', lambda: 'fff0000')
    assert run('--seeds', '0') == 0
    assert len(calls('train.py')) == len(seeds()) == 7
    text = (folder / 'out/table.md').read_text(encoding='utf-8')
    assert text.index('Commit fff0000') < text.index('Commit abc1234')


def test_a_run_that_fails_keeps_the_rows_before_and_is_done_again(folder, capsys):
    Path('out of memory').touch()
    assert run('--seeds', '0', '1', '2') == 2
    error = capsys.readouterr().err
    assert 'train.py ended with exit code 1:\n' in error
    assert 'error: out of memory' in error
    log = Path(error.rpartition('See ')[2].strip().rstrip('.'))
    assert log.read_text().startswith('python train.py --images imgs ')
    assert seeds() == ['0']
    Path('out of memory').unlink()
    assert run('--seeds', '0', '1', '2') == 0
    assert seeds() == ['0', '1', '2']
    assert log.with_suffix('').is_dir()  # the same folder as before


def test_the_pictures_that_are_scored_were_not_trained_on(folder):
    assert run('--seeds', '0') == 0
    (trained,), (scored,) = calls('train.py'), calls('evaluate.py')
    names = [
        [Path(line).name for line in Path(words[words.index('--list') + 1]).read_text().split()]
        for words in (trained, scored)
    ]
    assert names == [[f'{n}.png' for n in range(1, 11)], ['11.png', '12.png']]  # 2 before 10


def test_the_threshold_of_objects_is_chosen_on_training_pictures(folder):
    assert run('--seeds', '0', '--objects') == 0
    (row,) = rows('out/runs.csv')
    assert row['threshold'] == '0.4'
    assert row['rand'] == '0.2'  # of the pictures that are scored, at that threshold
    training, scored = calls('evaluate.py')
    assert training[: training.index('--model')] != scored[: scored.index('--model')]


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--', '--epochz', '3'], 'unrecognized arguments: --epochz 3'),
        (['--recipe', 'fast', 'slow'], "invalid choice: 'slow'"),
        (['--', '--seed', '3'], '--seed is set for each run'),
        (['--', '--outp=x'], '--outp is set for each run'),
        (['--set', 'cars'], '--set and --size are of rendered pictures'),
    ],
)
def test_mistakes_end_it_before_any_work(folder, options, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(*options)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err
    assert not Path('out').exists()


def test_data_that_train_py_refuses_are_not_trained_on(folder, capsys):
    assert run(count=12) == 2
    assert '--count 12: imgs has 12 pictures with masks; expected more' in capsys.readouterr().err
    Path('broken').touch()
    assert run() == 2
    assert 'error: the masks are broken' in capsys.readouterr().err
    assert calls('train.py') == []


def test_two_at_once_are_refused(folder, capsys):
    Path('out').mkdir()
    lock = FolderLock(Path('out'))
    assert run() == 2
    assert 'another run is writing into out' in capsys.readouterr().err
    lock.release()
    assert run('--seeds', '0') == 0


def test_rendered_sets_have_other_pictures_to_score(folder):
    (folder / 'programs/scripts').mkdir()
    (folder / 'programs/scripts/make_demo_data.py').write_text(NOTE)
    args = benchmark_learning.get_args(['--set', 'cells', '--output', 'out', '--epochs', '2'])
    data = sets.render('cells', args)
    train, test = calls('make_demo_data.py')
    assert (train[train.index('--seed') + 1], test[test.index('--seed') + 1]) == ('456', '457')
    assert set(data.train).isdisjoint({*data.test} - {'--images', '--masks'})
    assert data.options == '-e 2 -s 1 --base-channels 16'


def test_the_spread_is_the_standard_deviation():
    assert table.spread([0.5], 2) == '0.50'
    assert table.spread([1, 3], 1) == '2.0 ± 1.4 (1.0 to 3.0)'
    assert table.spread([], 1) == '-'


def test_a_commit_stands_for_the_programs_and_for_changes_of_them(monkeypatch, tmp_path):
    def git(*words):
        command = ['git', '-c', 'user.name=a', '-c', 'user.email=a@b', *words]
        benchmark_learning.subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(benchmark_learning, 'ROOT', tmp_path)
    assert benchmark_learning.commit() == 'no git'
    git('init', '-q')
    (tmp_path / 'train.py').write_text('a = 1\n')
    git('add', '.')
    git('commit', '-qm', 'first')
    first = benchmark_learning.commit()
    assert len(first) == 7
    (tmp_path / 'notes.md').write_text('words')
    git('add', '.')
    git('commit', '-qm', 'words about it')
    assert benchmark_learning.commit() == first
    (tmp_path / 'train.py').write_text('a = 2\n')
    changed = benchmark_learning.commit()
    assert changed.startswith(f'{first}+')
    (tmp_path / 'train.py').write_text('a = 3\n')
    assert benchmark_learning.commit() not in (first, changed)


@pytest.mark.slow
def test_a_quick_run_of_the_programs_themselves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sets.SETS, 'cells', sets.SETS['cells']._replace(test=2))
    options = '--set cells --count 4 --size 96x64 --epochs 2 --seeds 0 --output out'.split()
    assert benchmark_learning.main([*options, '--', '--base-channels', '4']) == 0
    (row,) = rows('out/runs.csv')
    assert 0.05 <= float(row['threshold']) <= 0.95
    assert 0 < float(row['rand']) <= 1
    assert (row['steps'], row['images']) == ('4', '6')  # one of four pictures validates
    (scores,) = (tmp_path / 'out/runs').glob('*/scores.json')
    assert json.loads(scores.read_text())['dice_dataset'] == float(row['dice'])
