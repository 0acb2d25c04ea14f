"""app.py as a process of its own, and a real browser to use it with."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
SECONDS = 120  # that anything may take on a busy machine


def find_chromium():
    """The browser to test with; the test is skipped where there is none."""
    pytest.importorskip('gradio', reason='NO PAGE TESTED: pip install -r requirements-app.txt')
    pytest.importorskip('playwright', reason='NO PAGE TESTED: pip install playwright')
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip(f'NO PAGE TESTED: no browser, none of {", ".join(NAMES)}: apt install chromium')
    return found


class Server:
    """A running app.py. address: of its page; uploads: its folder of them."""

    def __init__(self, folder, *options):
        self.temporary = Path(tempfile.mkdtemp(dir=folder))
        environment = {name: value for name, value in os.environ.items() if 'GRADIO' not in name}
        self.output = self.temporary.with_suffix('.txt').open('w+')
        self.process = subprocess.Popen(
            [sys.executable, ROOT / 'app.py', '--port', '0', '--device', 'cpu', *options],
            env=environment | {'TMPDIR': str(self.temporary)}, cwd=folder,
            stdout=self.output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            self.address = self._wait_for_address()
        except BaseException:
            self.end(signal.SIGKILL)
            raise
        (self.uploads,) = self.temporary.glob('unet-app-*')

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.end()

    def text(self):
        """What the program has printed."""
        self.output.flush()
        return Path(self.output.name).read_text()

    def _wait_for_address(self):
        for _ in range(2 * SECONDS * 10):
            if found := re.search(r'The page is at (http\S+)', self.text()):
                return found[1]
            assert self.process.poll() is None, self.text()
            time.sleep(0.1)
        raise AssertionError(f'no page: {self.text()}')

    def memory(self):
        """Its resident memory in MiB."""
        status = Path(f'/proc/{self.process.pid}/status').read_text()
        return int(re.search(r'VmRSS:\s*(\d+)', status)[1]) / 1024

    def end(self, number=signal.SIGTERM):
        """End it by a signal; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        self.output.close()
        return code


@contextmanager
def started_browser():
    """Yield a function that opens the page at an address for a new visitor, see Visitor."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that containers lack; only our page is opened.
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=['--no-sandbox', '--disable-dev-shm-usage']
        )
        yield lambda address, **options: Visitor(browser.new_context(**options), address)
        browser.close()


class Visitor:
    """A visitor with the page open. requests: all addresses that the page has asked for."""

    def __init__(self, context, address):
        context.set_default_timeout(SECONDS * 1000)
        self.context, self.page = context, context.new_page()
        self.requests, self.faults = [], []
        self.page.on('request', lambda request: self.requests.append(request.url))
        self.page.on('pageerror', lambda error: self.faults.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector('text=Try a U-Net')

    def drop(self, *paths):
        """Give pictures to the page."""
        self.remove('Pictures')
        self._files('Pictures').set_input_files(paths)

    def drop_mask(self, path):
        """Give the true mask to the page."""
        self._files('True mask').set_input_files(path)

    def remove(self, label):
        """Take away the files of a component, where there are any."""
        clear = self._block(label).get_by_label('Clear')
        if clear.count():
            clear.first.click()
            self._files(label).first.wait_for(state='attached')

    def _block(self, label):
        return self.page.locator('.block').filter(has_text=label).filter(
            has=self.page.locator('input[type=file], a[download]')
        ).first  # fmt: skip

    def _files(self, label):
        return self._block(label).locator('input[type=file]').first

    def wait_for(self, text):
        """Wait until the page shows a text, or what a pattern matches."""
        self.page.get_by_text(text).first.wait_for()

    def set(self, slider, value):
        """Set a slider by the number beside it, and wait for the page to follow."""
        number = self.page.get_by_label(f'number input for {slider}')
        number.fill(str(value))
        number.press('Enter')

    def shares(self):
        """The shares of the classes, in percent, as the page shows them."""
        return [float(text) for text in re.findall(r'([\d.]+) %', self.page.inner_text('body'))]

    def picture(self, label):
        """The address of a picture, when it has been loaded."""
        image = self.page.locator('.block').filter(has_text=label).locator('img').first
        image.wait_for()
        self.page.wait_for_function(
            'i => i.complete && i.naturalWidth > 0', arg=image.element_handle()
        )
        return image.get_attribute('src')

    def download(self, title, after='results'):
        """The bytes and the name of a file, by the title of its link."""
        link = self.page.locator(f'a.file[href*="{after}"]', has_text=title).first
        with self.page.expect_download() as started:
            link.click()
        file = started.value
        return Path(file.path()).read_bytes(), file.suggested_filename
