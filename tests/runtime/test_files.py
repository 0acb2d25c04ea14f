"""Files are written atomically, and output paths are checked before the work begins."""

import importlib
import os
import pickle
import stat
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch

from utils.runtime import files, torch_files
from utils.runtime.errors import UserError
from utils.runtime.files import (
    append_csv,
    check_output_file,
    check_output_folder,
    whole_file,
)
from utils.runtime.torch_files import read_torch_file


def test_a_file_is_replaced_whole_or_not_at_all(folder):
    path = folder / 'a.txt'
    path.write_text('old')
    with pytest.raises(RuntimeError), whole_file(path) as part:
        part.write_text('half')
        raise RuntimeError
    assert {p.name: p.read_text() for p in folder.iterdir()} == {'a.txt': 'old'}
    with whole_file(path) as part:
        assert part.suffix == '.txt'
        part.write_text('new')
        assert path.read_text() == 'old'
    assert {p.name: p.read_text() for p in folder.iterdir()} == {'a.txt': 'new'}


def run_python(code, **options):
    """Run code that imports the module under test, in another process."""
    code = f'from utils.runtime.files import *\n{code}'
    root = Path(files.__file__).parents[2]
    return subprocess.run([sys.executable, '-c', code], cwd=root, timeout=60, check=True, **options)


def aged(path, days):
    path.write_bytes(b'half')
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


def test_what_killed_processes_left_half_written_is_removed_after_a_day(folder):
    mine = {'.unet-0123abcd.part.txt', '.unet-0123abcd.part', '.best.4711.part.pth'}
    others = {'a.txt', '.hidden', '.movie.part', '.unet-0123abcd.part.d'}
    for name in (mine | others) - {'.unet-0123abcd.part.d'}:
        aged(folder / name, 2)
    (folder / '.unet-0123abcd.part.d').mkdir()
    aged(folder / '.unet-76543210.part.txt', 0.5)
    with whole_file(folder / 'new.txt') as part:
        part.write_text('x')
    assert {p.name for p in folder.iterdir()} == {'new.txt', '.unet-76543210.part.txt', *others}


def test_they_are_removed_from_each_folder_of_one_name(folder, monkeypatch):
    for place in ('one', 'two'):
        (folder / place / 'out').mkdir(parents=True)
        part = aged(folder / place / 'out/.unet-0123abcd.part', 2)
        monkeypatch.chdir(folder / place)
        with whole_file(Path('out/new.txt')) as new:
            new.write_text('x')
        assert not part.exists(), place


def test_a_temporary_file_in_use_is_kept_whatever_its_age(folder):
    with whole_file(folder / 'a.txt') as part:
        aged(part, 2)
        run_python(f'remove_parts(Path({str(folder)!r}))')
        assert part.exists()
    assert (folder / 'a.txt').read_bytes() == b'half'


def test_a_link_stays_and_its_target_is_replaced(folder):
    (folder / 'real').mkdir()
    target = folder / 'real/a.txt'
    target.write_text('old')
    (folder / 'a.txt').symlink_to(target)
    (folder / 'new.txt').symlink_to(folder / 'real/new.txt')  # a link to nothing, yet
    for name in ('a.txt', 'new.txt'):
        with whole_file(folder / name) as part:
            part.write_text('new')
        assert (folder / name).is_symlink()
        assert (folder / 'real' / name).read_text() == 'new'


def test_a_pipe_is_written_to_and_stays(folder):
    pipe = folder / 'pipe'
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    read = []
    reader.start()
    with whole_file(pipe) as part:
        part.write_text('content')
    reader.join(10)
    assert read == ['content']
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with whole_file(Path('/dev/null')) as part:
        part.write_text('content')
    assert stat.S_ISCHR(Path('/dev/null').stat().st_mode)


def test_a_redirected_standard_output_is_written_to(folder):
    code = 'with whole_file(Path("/dev/stdout")) as p: p.write_text("content")'
    with (folder / 'out.txt').open('w') as out:
        run_python(code, stdout=out)
    assert (folder / 'out.txt').read_text() == 'content'


def test_a_planted_link_is_not_written_through(folder, monkeypatch):
    monkeypatch.setattr(files.secrets, 'token_hex', lambda count: '0' * 2 * count)
    (folder / 'precious.txt').write_text('precious')
    (folder / '.unet-00000000.part.txt').symlink_to(folder / 'precious.txt')
    with pytest.raises(FileExistsError), whole_file(folder / 'a.txt') as part:
        part.write_text('overwritten')
    assert (folder / 'precious.txt').read_text() == 'precious'


def test_names_may_be_as_long_as_the_file_system_allows(folder):
    path = folder / ('n' * 251 + '.txt')
    with whole_file(path) as part:
        part.write_text('x')
    assert path.read_text() == 'x'


def test_errors_name_the_target(folder):
    with pytest.raises(OSError) as caught, whole_file(folder / ('n' * 300 + '.txt')) as part:
        part.write_text('x')
    assert caught.value.filename == str(folder / ('n' * 300 + '.txt'))
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='the system has no /dev/full')
def test_the_error_of_a_full_disk_names_the_file():
    with pytest.raises(OSError) as caught, whole_file(Path('/dev/full')) as part:
        part.write_bytes(b'x' * 2**20)
    assert caught.value.filename == '/dev/full'
    assert caught.value.errno == 28


def test_the_mode_of_a_file_is_kept_and_private_files_are_the_users(folder):
    (folder / 'old.txt').touch()
    (folder / 'old.txt').chmod(0o640)
    for name, private, mode in (('old.txt', False, 0o640), ('new.txt', True, 0o600)):
        with whole_file(folder / name, private) as part:
            part.write_text('x')
        assert stat.S_IMODE((folder / name).stat().st_mode) == mode


@pytest.mark.parametrize(
    ('check', 'path', 'error'),
    [
        (check_output_file, 'new.txt', None),
        (check_output_file, 'a.txt', None),
        (check_output_file, 'no/new.txt', r'no/new\.txt .* no folder no '),
        (check_output_file, 'a.txt/new.txt', r'no folder a\.txt '),
        (check_output_file, 'there', r'there is a folder'),
        (check_output_folder, 'new', None),
        (check_output_folder, 'there', None),
        (check_output_folder, 'no/new', r'no/new .* no folder no '),
        (check_output_folder, 'a.txt', r'a\.txt is a file'),
    ],
)
def test_paths_that_cannot_be_written_are_errors(folder, check, path, error):
    Path('there').mkdir()
    Path('a.txt').touch()
    if error:
        with pytest.raises(UserError, match=error):
            check(Path(path))
    else:
        check(Path(path))


def test_csv_rows_are_appended_below_one_header(folder):
    path = folder / 'a.csv'
    append_csv(path, [])
    assert not path.exists()
    append_csv(path, [{'a': 1, 'b': None}])
    append_csv(path, [{'a': 2, 'b': 'x'}])
    assert path.read_text().splitlines() == ['a,b', '1,', '2,x']


def test_the_metrics_of_an_older_run_keep_their_columns(folder):
    path = folder / 'metrics.csv'
    append_csv(path, [{'step': 1, 'loss': 0.5}])
    append_csv(path, [{'step': 2, 'loss': 0.25, 'iou_all_classes': None}])
    assert path.read_text().splitlines() == ['step,loss', '1,0.5', '2,0.25']


def test_warnings_of_torch_load_do_not_reach_the_user(folder):
    torch.save(torch.eye(3).to_sparse(), 'sparse.pt')
    torch.save(torch.eye(3), 'protocol.pt', pickle_protocol=4)
    Path('plain.pt').write_bytes(pickle.dumps({'a': 1}, protocol=4))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        importlib.reload(torch_files)  # pytest has removed the filter that the first import set
        assert read_torch_file(Path('sparse.pt')).is_sparse
        for name in ('protocol.pt', 'plain.pt'):
            with pytest.raises(ValueError, match=r'not a file of torch\.save'):
                read_torch_file(Path(name))
    assert [str(warning.message) for warning in found] == []
