"""What keeps scripts/download_data.sh from its work: no network, other pictures, sh, Windows."""

import shutil
import subprocess
import sys

import pytest
from checkout import SCRIPTS, ZIPS, Checkout

sys.path.insert(0, str(SCRIPTS))
from make_demo_data import car_id

pytest.importorskip('pty')  # not on Windows


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.mark.parametrize('mode', ['name', 'closed'])
def test_no_network_is_said_with_the_way_by_hand(checkout, mode):
    by_hand = 'bash scripts/download_data.sh --zips FOLDER_OF_THE_TWO'
    result = checkout.run_failing(1, 'error: Kaggle cannot be reached', by_hand, STAND_IN=mode)
    assert 'credentials in' not in result.stderr
    assert len(checkout.calls()) == 1


@pytest.mark.parametrize('mode', ['json', 'body'])
def test_kaggles_answers_in_json_are_told_from_other_failures(checkout, mode):
    checkout.run_failing(2, 'did not accept the credentials in KAGGLE_API_TOKEN', STAND_IN=mode)


@pytest.mark.slow
def test_a_folder_that_holds_the_demo_set_is_refused_with_the_command_that_moves_it(checkout):
    names = [f'{car_id(*car)}_{view:02}' for car in ((0, 0), (7, 1)) for view in (1, 16)]
    for name in names:
        (checkout.data / 'imgs' / f'{name}.jpg').write_bytes(b'demo')
        (checkout.data / 'masks' / f'{name}_mask.gif').write_bytes(b'demo')
    result = checkout.run_failing(2, 'data/imgs holds the demo set, and training would use both')
    assert checkout.calls() == []
    commands = result.stderr.partition('then run again:\n')[2]
    subprocess.run(['bash', '-ec', commands], check=True)
    checkout.run_whole()
    for kind, end in (('imgs', '.jpg'), ('masks', '_mask.gif')):
        moved = {path.name for path in (checkout.data / 'demo' / kind).iterdir()}
        assert moved == {name + end for name in names}


@pytest.mark.slow
def test_other_pictures_in_the_folder_are_told_of(checkout):
    (checkout.data / 'imgs' / 'mine.jpg').write_bytes(b'mine')
    result = checkout.run()
    assert result.returncode == 0, result.stderr
    assert '1 others are there, such as mine.jpg: training uses all' in result.stderr


@pytest.mark.skipif(not shutil.which('dash'), reason='dash, the sh of Debian, is not installed')
@pytest.mark.parametrize('name', ['download_data', 'quickstart', 'test'])
def test_sh_instead_of_bash_is_told_so(name):
    command = ['dash', SCRIPTS / f'{name}.sh']
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == f'error: not for sh; run  bash scripts/{name}.sh\n'


def test_the_batch_file_downloads_checks_and_unpacks_the_same_files():
    text = (SCRIPTS / 'download_data.bat').read_text()
    assert text.count('\n') < 15
    assert 'not run' in text  # on Windows, when it was written
    for words in ('competitions download', 'check data', 'unpack data'):
        assert words in text
    for name in ZIPS:
        assert name.removesuffix('.zip') in text
