"""predict.py on many images: names of -i and -o, existing masks, broken images, ranks."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from launching import run_together
from networks import brightness_network, half_white, save
from PIL import Image

import predict
from utils.inference.outputs.names import place_masks
from utils.inference.predictor import Predictor
from utils.inference.work_list import find_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model, and a folder `in` of three pictures, half black, half white, one in a folder."""
    monkeypatch.chdir(tmp_path)
    save('MODEL.pth', brightness_network(), mask_values=[0, 1])
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:, 32:] = 255
    Path('in/deep').mkdir(parents=True)
    for name in ('in/a.png', 'in/b.png', 'in/deep/c.png'):
        Image.fromarray(pixels).save(name)
    return tmp_path


def masks(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.png'))


@pytest.mark.parametrize('output', ['out/', 'out', 'there', './there/'])
def test_a_folder_of_images_becomes_a_folder_of_masks(folder, output):
    (folder / 'there').mkdir()
    assert predict.main(['-i', 'in', '-o', output]) == 0
    assert masks(folder / output) == ['a.png', 'b.png']
    assert all(half_white(path) for path in (folder / output).iterdir())


def test_recursive_keeps_the_paths_below_the_folder(folder):
    assert predict.main(['-i', 'in', '-o', 'out/', '--recursive']) == 0
    assert masks(folder / 'out') == ['a.png', 'b.png', 'deep/c.png']


@pytest.mark.parametrize(
    ('pattern', 'found'),
    [
        ('in/*.png', ['a.png', 'b.png']),
        ('in/**/*.png', ['a.png', 'b.png', 'deep/c.png']),
        ('i?/deep/*', ['in/deep/c.png']),
        ('in/[b].png', ['b.png']),
    ],
)
def test_patterns_are_expanded_where_the_shell_has_not(folder, pattern, found):
    assert predict.main(['-i', pattern, '-o', 'out/']) == 0
    assert masks(folder / 'out') == found


def test_a_file_whose_name_looks_like_a_pattern_is_itself(folder):
    (folder / 'in/a.png').rename('in/[ab].png')
    assert predict.main(['-i', 'in/[ab].png', '-n']) == 0
    assert [s.path.name for s in find_images(['in/[ab].png'], [], False, None)[0]] == ['[ab].png']


def test_standard_input_lists_the_images(folder, monkeypatch):
    monkeypatch.setattr(sys, 'stdin', io.StringIO('in/b.png\n\nin/deep/c.png\r\n'))
    assert predict.main(['-i', '-']) == 0
    assert masks(folder) == ['in/a.png', 'in/b.png', 'in/b_OUT.png', 'in/deep/c.png',
                             'in/deep/c_OUT.png']  # fmt: skip


def test_a_folders_masks_are_ignored_when_it_is_predicted_again(folder, capsys):
    assert predict.main(['-i', 'in']) == 0
    before = masks(folder)
    capsys.readouterr()
    assert predict.main(['-i', 'in', '--overwrite']) == 0
    assert 'ignored: a_OUT.png, b_OUT.png' in capsys.readouterr().out
    assert masks(folder) == before


def test_other_files_in_a_folder_are_one_note(folder, capsys):
    for name in ('notes.txt', 'Thumbs.db', '.hidden.png'):
        (folder / 'in' / name).write_text('x')
    assert predict.main(['-i', 'in', '-n']) == 0
    assert capsys.readouterr().out.count('ignored: Thumbs.db, notes.txt') == 1


def test_an_output_folder_inside_the_input_folder_is_not_looked_into(folder):
    for _ in range(2):
        command = ['-i', 'in', '-o', 'in/masks/', '--recursive', '--overwrite']
        assert predict.main(command) == 0
    assert masks(folder / 'in/masks') == ['a.png', 'b.png', 'deep/c.png']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['-i', 'empty'], 'no images in empty; other files: notes.txt'),
        (['-i', 'above'], 'no images in above; it has the folders in/. Use --recursive'),
        (['-i', 'empty/*'], '-i names no images; other files: notes.txt'),
        (['-i', 'in', '-o', 'o.png'], '-o has 1 names for 2 inputs'),
        (['-i', 'in', '-o', 'notes'], '-o notes is a file; expected a folder'),
        (['-i', 'in/a.png', 'twin/a.png', '-o', 'o/'], 'two inputs would be written to o/a.png'),
        (['-i', 'in', '-o', 'in'], 'the output in/a.png is an input and would be lost'),
        (['-i', 'in', '-o', 'x.png', 'twin.png'], 'twin.png is a folder'),
        (['-i', 'in', '-o', 'old'], '1 of 2 masks exist already: old/b.png. Use --skip-existing'),
        (['-i', 'in', '--skip-existing', '--overwrite'], 'contradict each other'),
        (['-i', 'in', '--overlap', '32'], '--overlap needs --tile'),
        (['-i', 'in', '--tile', '100'], '--tile 100 --overlap 48: expected multiples of 16'),
        (['-i', 'in', '--rle', 'no/s.csv'], 'no folder no to write into'),
        (['-i', 'in', '--rle', 'in/a.png'], 'the output in/a.png is an input'),
        (['-i', 'in/a.png', 'twin/a.png', '--rle', 's'], 'several are named a.png'),
        (['-i', 'in', '--rle', 's', '--skip-existing'], '--rle needs all images'),
    ],
)
def test_names_that_do_not_fit_are_refused_before_the_model_is_loaded(
    folder, capsys, monkeypatch, arguments, message
):
    for name in ('empty', 'above', 'twin', 'old', 'twin.png'):
        (folder / name).mkdir()
    for name in ('empty/notes.txt', 'notes', 'old/b.png'):
        (folder / name).write_text('x')
    Image.open('in/a.png').save('twin/a.png')
    (folder / 'above/in').symlink_to(folder / 'in')
    monkeypatch.setattr(Predictor, 'load', None)  # calling it would be a TypeError
    assert predict.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert (folder / 'old/b.png').read_text() == 'x'


def test_existing_masks_are_kept_or_replaced_as_asked(folder, capsys):
    (folder / 'out').mkdir()
    (folder / 'out/b.png').write_text('old')
    assert predict.main(['-i', 'in', '-o', 'out', '--skip-existing']) == 0
    assert (folder / 'out/b.png').read_text() == 'old'
    assert half_white('out/a.png')
    assert '1 masks exist already' in capsys.readouterr().out
    assert predict.main(['-i', 'in', '-o', 'out', '--overwrite']) == 0
    assert half_white('out/b.png')
    assert predict.main(['-i', 'in', '-o', 'out', '--skip-existing']) == 0
    assert 'nothing to do' in capsys.readouterr().out


def test_a_broken_picture_does_not_stop_the_others(folder, capsys):
    whole = (folder / 'in/a.png').read_bytes()
    (folder / 'in/a1.png').write_bytes(whole[:-40])  # a sound header
    (folder / 'in/a2.png').write_text('nothing')
    for size in ('1', '3'):
        assert predict.main(['-i', 'in', '-o', 'out', '--batch-size', size, '--overwrite']) == 1
        out, err = capsys.readouterr()
        assert masks(folder / 'out') == ['a.png', 'b.png']
        assert 'error: 2 of 4 images could not be read or written:\nin/a1.png cannot be read' in err
        assert 'in/a2.png cannot be read' in err
        assert '2 images in ' in out


@pytest.mark.parametrize('size', ['1', '2', '5'])
def test_batches_of_any_size_give_the_same_masks_in_order(folder, capsys, monkeypatch, size):
    rng = np.random.default_rng(0)
    for k, shape in enumerate([(40, 64), (40, 64), (32, 32), (40, 64), (40, 64)]):
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f'in/n{k}.png')
    calls, forward = [], Predictor.predict_batch

    def counted(predictor, images):
        calls.append(len(images))
        return forward(predictor, images)

    monkeypatch.setattr(Predictor, 'predict_batch', counted)
    assert predict.main(['-i', 'in', '-o', 'out/', '--batch-size', size]) == 0
    assert max(calls) == {'1': 1, '2': 2, '5': 4}[size]
    lines = [line for line in capsys.readouterr().out.splitlines() if '->' in line]
    assert [line.split()[0] for line in lines] == sorted(line.split()[0] for line in lines)
    predictor = Predictor.load('MODEL.pth')
    for path in Path('out').iterdir():
        expected = predictor.predict_file(Path('in', path.name))
        assert np.array_equal(np.asarray(Image.open(path)), expected)


@pytest.mark.slow
def test_ranks_share_the_images_and_report_together(folder, capsys):
    for k in range(5):
        (folder / f'in/n{k}.png').write_bytes((folder / 'in/a.png').read_bytes())
    (folder / 'in/x.png').write_text('broken')
    command = ['-i', 'in', '-o', 'out/', '--rle', 's.csv', '--device', 'cpu']
    assert run_together(lambda rank: predict.main(command), folder) == [1, 1]
    assert masks(folder / 'out') == sorted([f'n{k}.png' for k in range(5)] + ['a.png', 'b.png'])
    assert 'in/x.png cannot be read' in (folder / 'err0').read_text()
    rows = (folder / 's.csv').read_text().splitlines()
    assert rows[0] == 'img,rle_mask'
    assert sorted(row.split(',')[0] for row in rows[1:]) == masks(folder / 'out')
    assert not list(folder.glob('s.*.csv'))


def test_a_wrong_name_ends_all_ranks(folder):
    command = ['-i', 'in', 'nowhere.png', '--device', 'cpu']
    assert run_together(lambda rank: predict.main(command), folder) == [2, 2]
    # By rank 0; by both if rank 0, which keeps the store, has ended before.
    said = ''.join((folder / f'err{rank}').read_text() for rank in range(2))
    assert 'error: no such input file: nowhere.png\n' in said


def test_many_pictures_have_a_bar_with_their_speed(folder, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, 'stderr', Terminal())
    assert predict.main(['-i', 'in', 'in/deep', '-n']) == 0
    assert sys.stderr.getvalue() == ''
    Image.open('in/a.png').save('in/d.png')
    assert predict.main(['-i', 'in', 'in/deep', '-n']) == 0
    assert 'Predicting' in sys.stderr.getvalue()
    assert '0/4' in sys.stderr.getvalue()


@pytest.mark.slow
def test_named_outputs_of_named_inputs_are_replaced(folder):
    for _ in range(2):
        assert predict.main(['-i', 'in/a.png', 'in/b.png', '-o', 'x.png', 'y.png']) == 0
    assert half_white('y.png')


def test_pictures_named_twice_by_folder_and_name_are_taken_once(folder):
    sources, _ = find_images(['in', 'in/b.png', 'in/*.png'], [], False, None)
    assert [s.path.as_posix() for s in sources] == ['in/b.png', 'in/a.png']
    assert place_masks(sources, None, 'probabilities') == [
        Path('in/b_OUT.npy'),
        Path('in/a_OUT.npy'),
    ]


def test_out_of_memory_among_many_stops_them(folder, capsys, monkeypatch):
    def predict_batch(self, images):
        raise torch.OutOfMemoryError('CUDA out of memory.')

    monkeypatch.setattr(Predictor, 'predict_batch', predict_batch)
    assert predict.main(['-i', 'in', '-n']) == 2
    assert 'error: out of memory' in capsys.readouterr().err
