"""A copy of the scripts to download into, with a stand-in for the kaggle command."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'
STEMS = [f'{number:012x}_0{number}' for number in range(1, 4)]
IMGS = {f'{stem}.jpg': f'picture {stem}'.encode() * 400 for stem in STEMS}
MASKS = {f'{stem}_mask.gif': f'mask {stem}'.encode() * 50 for stem in STEMS}
ZIPS = ['train_hq.zip', 'train_masks.zip']
TOKEN = 'KGAT_0123456789abcdef'
PAGE = 'https://www.kaggle.com/c/carvana-image-masking-challenge'

# Called as: competitions download NAME -f ZIP -p FOLDER. It prints what kaggle 2.2 prints.
STAND_IN = r"""#!/bin/sh
echo "$*" >>'{calls}'
source='{remote}'/$5 target=$7/$5 marker='{calls}'.$5
case ${{STAND_IN:-}} in
  401) echo 'Authentication required to call the Kaggle API.' && exit 1 ;;
  403) echo '403 Client Error: Forbidden for url: https://api.kaggle.com/v1' >&2 && exit 1 ;;
  json) echo 'requests.exceptions.HTTPError: Unauthenticated' >&2 && exit 1 ;;
  body) echo '{{"code":401,"message":"Unauthenticated"}}' && exit 1 ;;
  name) echo "Max retries exceeded with url: /v1/x (Caused by NameResolutionError(''))" && exit 1 ;;
  closed) echo 'ConnectionError: [Errno 111] Connection refused' >&2 && exit 1 ;;
  full) echo '[Errno 28] No space left on device' >&2 && exit 1 ;;
  dies) head -c 300 "$source" >"$target" && touch "$marker" && kill -9 $$ ;;
esac
if [ -e "$marker" ]; then
  echo 'Resuming from 300 bytes' && tail -c +301 "$source" >>"$target"
elif [ "$(wc -c <"$target")" = "$(wc -c <"$source")" ] && [ "${{8:-}}" != --force ]; then
  echo "$5: Skipping, found more recently modified local copy"
else
  cp "$source" "$target" && printf '\r  0%%|\r 30%%|\r 60%%|\r100%%|\n' >&2
fi
"""


def make_zips(folder):
    folder.mkdir(exist_ok=True)
    for name, files in zip(ZIPS, (IMGS, MASKS), strict=True):
        with zipfile.ZipFile(folder / name, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f'{name[:-4]}/', '')
            archive.writestr(f'__MACOSX/{name[:-4]}/._{next(iter(files))}', b'junk')
            for file, content in files.items():
                archive.writestr(f'{name[:-4]}/{file}', content)
    return folder


class Checkout:
    """A copy of the scripts with a home folder and a kaggle command of its own."""

    def __init__(self, tmp_path):
        self.data, self.home = tmp_path / 'repo with space' / 'data', tmp_path / 'home'
        self.calls_file, self.bin = tmp_path / 'calls', tmp_path / 'bin'
        self.remote = make_zips(tmp_path / 'remote')
        self.script = self.data.parent / 'scripts' / 'download_data.sh'
        shutil.copytree(SCRIPTS, self.script.parent)
        runtime = self.data.parent / 'utils/runtime'
        shutil.copytree(SCRIPTS.parent / 'utils/runtime', runtime)
        for folder in (self.data / 'imgs', self.data / 'masks', self.home, self.bin):
            folder.mkdir(parents=True)
        stand_in = STAND_IN.format(calls=self.calls_file, remote=self.remote)
        python = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
        for name, text in {'python3': python, 'kaggle': stand_in}.items():
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def environment(self, **extra):
        plain = {'PATH': f'{self.bin}:/usr/bin:/bin', 'HOME': str(self.home)}
        return {**plain, 'CARVANA_EXPECTED': '3', 'KAGGLE_API_TOKEN': TOKEN, **extra}

    def run(self, *args, **extra):
        command = ['bash', str(self.script), *map(str, args)]
        how = {'stdin': subprocess.DEVNULL, 'capture_output': True, 'text': True, 'timeout': 60}
        return subprocess.run(command, env=self.environment(**extra), cwd=self.home, **how)

    def run_whole(self, *args, **extra):
        result = self.run(*args, **extra)
        assert result.returncode == 0, result.stderr
        assert self.files('imgs') == IMGS
        assert self.files('masks') == MASKS
        return result

    def run_failing(self, code, *words, args=(), **extra):
        result = self.run(*args, **extra)
        assert result.returncode == code, result.stderr
        assert all(word in result.stderr for word in words), result.stderr
        return result

    def calls(self):
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def files(self, name):
        return {path.name: path.read_bytes() for path in (self.data / name).iterdir()}

    def zips(self):
        return sorted(path.name for path in self.data.iterdir() if path.is_file())
