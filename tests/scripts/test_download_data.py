"""scripts/download_data.sh from end to end, against a stand-in for the kaggle command."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import zipfile

import pytest
from checkout import IMGS, MASKS, PAGE, STEMS, TOKEN, ZIPS, Checkout, make_zips

pty = pytest.importorskip('pty')  # not on Windows
termios = pytest.importorskip('termios')

# A sitecustomize, which Python imports at its start: kills the run inside the second picture.
KILLS = """
import itertools, os, shutil
count, whole = itertools.count(), shutil.copyfileobj
def half(source, sink):
    if next(count) == 0:
        return whole(source, sink)
    sink.write(source.read(10)), sink.flush(), os.kill(os.getpid(), 9)
shutil.copyfileobj = half
"""


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.mark.parametrize(
    ('options', 'kept'),
    [([], []), pytest.param(['--keep-zips'], ZIPS, marks=pytest.mark.slow)],
)
def test_a_fresh_download_fills_both_folders_and_removes_the_zips(checkout, options, kept):
    assert '3 images and 3 masks' in checkout.run_whole(*options).stdout
    assert checkout.zips() == kept
    command = 'competitions download carvana-image-masking-challenge -f {} -p {}'
    assert checkout.calls() == [command.format(name, checkout.data) for name in ZIPS]


@pytest.mark.slow
def test_a_log_file_has_whole_lines_of_progress_and_few(checkout):
    error = checkout.run_whole().stderr
    assert '\r' not in error
    states = [line for line in error.splitlines() if line.endswith('%|')]
    assert states == 2 * ['  0%|', '100%|']  # of each zip; one between after 30 seconds


@pytest.mark.slow
def test_a_second_run_downloads_nothing_and_needs_no_credentials(checkout):
    checkout.run_whole()
    assert 'nothing to do' in checkout.run_whole(KAGGLE_API_TOKEN='').stdout
    assert len(checkout.calls()) == 2


@pytest.mark.slow
def test_existing_files_are_never_overwritten(checkout):
    mine = checkout.data / 'imgs' / f'{STEMS[0]}.jpg'
    mine.write_bytes(b'my own')
    (checkout.data / 'masks' / 'unrelated.png').write_bytes(b'mine too')
    result = checkout.run()
    assert result.returncode == 0, result.stderr
    assert checkout.files('imgs') == {**IMGS, mine.name: b'my own'}
    assert checkout.files('masks') == {**MASKS, 'unrelated.png': b'mine too'}
    assert '1 already there and kept (warning: 1 of these differ in size' in result.stderr


@pytest.mark.slow
def test_zips_of_the_user_need_neither_kaggle_nor_credentials_and_are_kept(checkout, tmp_path):
    ready = make_zips(tmp_path / 'ready made')
    (checkout.bin / 'kaggle').unlink()
    checkout.run_whole('--zips', ready, KAGGLE_API_TOKEN='')
    assert sorted(path.name for path in ready.iterdir()) == ZIPS


@pytest.mark.slow
def test_intact_zips_in_data_are_not_downloaded_again(checkout):
    make_zips(checkout.data)
    checkout.run_whole(KAGGLE_API_TOKEN='')
    assert checkout.calls() == []


@pytest.mark.parametrize(
    ('args', 'code', 'words'),
    [
        (['--help'], 0, 'usage: bash scripts/download_data.sh'),
        (['--zips'], 2, 'expected: --zips FOLDER'),
        (['--zips', 'no/folder'], 2, 'no/folder'),
        (['--zips', '.'], 2, 'no train_hq.zip'),
        (['--wrong'], 2, 'unknown argument: --wrong'),
    ],
)
def test_help_exits_0_and_a_wrong_argument_exits_2_and_is_named(checkout, args, code, words):
    result = checkout.run(*args)
    assert (result.returncode, words in result.stderr + result.stdout) == (code, True)
    assert checkout.calls() == []


@pytest.mark.slow
def test_a_damaged_zip_of_the_user_exits_2(checkout, tmp_path):
    ready = make_zips(tmp_path / 'ready')
    (ready / ZIPS[1]).write_bytes((ready / ZIPS[1]).read_bytes()[:-40])
    checkout.run_failing(2, f'{ZIPS[1]} is damaged', args=['--zips', ready])
    assert checkout.files('imgs') == {}


@pytest.mark.parametrize(
    ('mode', 'code', 'words', 'never'),
    [
        ('403', 2, f'accept the rules at {PAGE}/rules', 'credentials in'),
        ('401', 2, 'did not accept the credentials in KAGGLE_API_TOKEN', 'the rules'),
        ('full', 1, 'No space left on device', 'the rules'),
    ],
)
def test_a_refused_download_names_the_remedy(checkout, mode, code, words, never):
    result = checkout.run_failing(code, words, STAND_IN=mode)
    assert never not in result.stderr
    assert TOKEN not in result.stderr + result.stdout
    assert len(checkout.calls()) == 1


@pytest.mark.skipif(bool(shutil.which('kaggle', path='/usr/bin:/bin')), reason='system kaggle')
def test_a_missing_kaggle_command_names_the_remedy(checkout):
    (checkout.bin / 'kaggle').unlink()
    checkout.run_failing(2, 'pip install -r requirements.txt', '--zips')


def test_without_credentials_and_terminal_it_exits_2_before_kaggle_is_called(checkout):
    # Half a key pair does not count, nor a kaggle.json in ~/.config, where kaggle does not look if
    # there is a ~/.kaggle.
    (checkout.home / '.kaggle').mkdir()
    (checkout.home / '.config' / 'kaggle').mkdir(parents=True)
    (checkout.home / '.config' / 'kaggle' / 'kaggle.json').write_text(TOKEN)
    words = ('KAGGLE_API_TOKEN', 'kaggle.json', 'remedy', '--zips')
    checkout.run_failing(2, *words, KAGGLE_API_TOKEN='', KAGGLE_USERNAME='half')
    assert checkout.calls() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ('file', 'extra'),
    [
        (None, {'KAGGLE_API_TOKEN': TOKEN}),
        (None, {'KAGGLE_USERNAME': 'u', 'KAGGLE_KEY': 'k'}),
        ('.kaggle/access_token', {}),
        ('.kaggle/access_token.txt', {}),
        ('.kaggle/kaggle.json', {}),
        ('.kaggle/credentials.json', {}),
        ('other/kaggle.json', {'KAGGLE_CONFIG_DIR': 'other'}),
        *([('.config/kaggle/kaggle.json', {})] if sys.platform == 'linux' else []),
    ],
)
def test_every_place_kaggle_reads_credentials_from_is_accepted(checkout, file, extra):
    if file:
        (checkout.home / file).parent.mkdir(parents=True)
        (checkout.home / file).write_text(TOKEN)
    checkout.run_whole(**{'KAGGLE_API_TOKEN': '', **extra})


@pytest.mark.slow
def test_a_terminal_asks_for_the_token_unseen_and_stores_it_for_the_owner_only(checkout):
    terminal, inner = pty.openpty()
    environment = checkout.environment(KAGGLE_API_TOKEN='')
    streams = {'stdin': inner, 'stdout': inner, 'stderr': inner}
    process = subprocess.Popen(['bash', str(checkout.script)], env=environment, **streams)
    deadline = time.monotonic() + 5
    while termios.tcgetattr(terminal)[3] & termios.ECHO and time.monotonic() < deadline:
        time.sleep(0.005)
    os.write(terminal, f'{TOKEN}\n'.encode())
    os.close(inner)
    seen = b''
    with contextlib.suppress(OSError):  # how Linux reports that the other side is closed
        while chunk := os.read(terminal, 4096):
            seen += chunk
    os.close(terminal)
    assert process.wait(timeout=30) == 0, seen
    assert b'API token (not shown' in seen
    assert TOKEN.encode() not in seen
    stored = checkout.home / '.kaggle' / 'access_token'
    assert stored.read_text().strip() == TOKEN
    assert stored.stat().st_mode & 0o777 == 0o600
    assert list(stored.parent.iterdir()) == [stored]
    checkout.run_whole(KAGGLE_API_TOKEN='')


@pytest.mark.slow
def test_a_wrong_number_of_pictures_is_an_error_with_the_counts(checkout):
    found = 'found: 3 images in train_hq.zip, 3 masks in train_masks.zip'
    checkout.run_failing(1, 'expected: 5 images and 5 masks', found, CARVANA_EXPECTED='5')
    assert checkout.zips() == ZIPS
    checkout.run_failing(1, 'expected: 5088 images and 5088 masks', CARVANA_EXPECTED='')


@pytest.mark.slow
@pytest.mark.parametrize('damaged_inside', [False, True])
def test_a_damaged_zip_in_data_is_downloaded_again(checkout, damaged_inside):
    whole = (checkout.remote / ZIPS[0]).read_bytes()
    bad = whole.replace(whole[200:210], bytes(10)) if damaged_inside else whole[:300]
    (checkout.data / ZIPS[0]).write_bytes(bad)
    checkout.run_whole()
    # kaggle skips a file of the right size unless --force is given.
    assert sum('--force' in call for call in checkout.calls()) == damaged_inside


@pytest.mark.slow
def test_a_download_killed_half_way_is_resumed(checkout):
    checkout.run_failing(1, 'run again', STAND_IN='dies')
    assert 'Resuming from' in checkout.run_whole().stderr


@pytest.mark.slow
def test_a_kill_while_unpacking_leaves_no_partial_picture_and_a_new_run_completes(
    checkout, tmp_path
):
    (tmp_path / 'patch').mkdir()
    (tmp_path / 'patch' / 'sitecustomize.py').write_text(KILLS)
    make_zips(checkout.data)
    assert checkout.run(PYTHONPATH=str(tmp_path / 'patch')).returncode not in (0, 2)
    (part,) = (checkout.data / 'imgs').glob('.unet-*')
    os.utime(part, (0, 0))  # it is removed after a day
    pictures = {name: data for name, data in checkout.files('imgs').items() if name[0] != '.'}
    assert pictures == {f'{STEMS[0]}.jpg': IMGS[f'{STEMS[0]}.jpg']}
    checkout.run_whole()
    assert checkout.calls() == []


@pytest.mark.slow
@pytest.mark.parametrize('name', ['../outside.jpg', '/tmp/outside.jpg', 'a\\..\\..\\outside.jpg'])
def test_a_zip_whose_names_lead_outside_is_refused(checkout, tmp_path, name):
    ready = make_zips(tmp_path / 'ready')
    with zipfile.ZipFile(ready / ZIPS[0], 'a') as archive:
        archive.writestr(name, b'evil')
    checkout.run_failing(1, 'unsafe file name', args=['--zips', ready])
    assert (list(tmp_path.rglob('*outside.jpg*')), checkout.files('imgs')) == ([], {})
