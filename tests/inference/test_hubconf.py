"""torch.hub finds the network, with and without weights."""

import subprocess
import sys
from http.client import IncompleteRead
from pathlib import Path

import pytest
import torch
from conftest import ROOT

import hubconf
from unet import UNet
from utils.runtime.errors import UserError


def load(**options):
    return torch.hub.load(str(ROOT), 'unet_carvana', source='local', **options)


def test_without_weights_it_is_the_carvana_network():
    model = load(pretrained=False)
    assert (model.n_channels, model.n_classes, model.bilinear) == (3, 2, False)


@pytest.mark.slow  # a process that imports torch; the tests below load within this one
def test_it_loads_from_any_folder_in_a_program_of_its_own(tmp_path):
    torch.save(UNet(3, 2, base_channels=4).state_dict(), tmp_path / 'w.pth')
    program = (
        f'import torch; m = torch.hub.load({str(ROOT)!r}, "unet_carvana", source="local", '
        'pretrained=True, weights="w.pth"); print(m.base_channels)'
    )
    command = [sys.executable, '-c', program]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == '4'


def test_weights_come_from_a_file_of_either_form(tmp_path):
    model = UNet(3, 2, base_channels=4).eval()
    torch.save(model.state_dict() | {'mask_values': [0, 1]}, tmp_path / 'w.pth')
    found = load(pretrained=True, weights=str(tmp_path / 'w.pth'))
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(found(x), model(x), rtol=0, atol=0)
    assert not found.training


def test_weights_given_are_loaded_without_saying_pretrained(tmp_path):
    torch.save(UNet(3, 2, base_channels=4).state_dict(), tmp_path / 'w.pth')
    assert hubconf.unet_carvana(weights=tmp_path / 'w.pth').base_channels == 4
    with pytest.raises(Exception, match=r'none\.pth does not exist'):
        hubconf.unet_carvana(weights='none.pth')


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve the files of a folder at https://example.org/; return it and the addresses asked."""
    (tmp_path / 'served').mkdir()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    asked = []

    def download(url, target, progress):
        asked.append(url)
        assert not progress  # no terminal
        source = tmp_path / 'served' / url.removeprefix('https://example.org/')
        Path(target).write_bytes(source.read_bytes())

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    return tmp_path / 'served', asked


def test_weights_are_downloaded_once_to_the_hub_folder_with_a_warning(server):
    served, asked = server
    torch.save(UNet(3, 2, base_channels=4).state_dict(), served / 'w.pth')
    url = 'https://example.org/w.pth'
    with pytest.warns(UserWarning, match=rf'{url} .* without a check of its content: no checksum'):
        load(pretrained=True, weights=url)
    assert load(pretrained=True, weights=url).base_channels == 4
    assert asked == [url]


@pytest.mark.filterwarnings('ignore:.*without a check of its content')
def test_weights_of_one_name_from_two_addresses_are_kept_apart(server):
    served, _ = server
    for width in (2, 4):
        (served / str(width)).mkdir()
        path = served / str(width) / 'best.pth'
        torch.save(UNet(3, 2, base_channels=width).state_dict(), path)
        assert load(weights=f'https://example.org/{width}/best.pth').base_channels == width


@pytest.mark.parametrize(
    'url', ['http://example.org/w.pth', 'file:///etc/w.pth', 'FTP://a/w.pth', 'file://w.pth']
)
def test_only_https_addresses_are_asked(server, url):
    _, asked = server
    with pytest.raises(
        Exception, match=rf'{url}: weights are downloaded from https addresses only'
    ):
        load(weights=url)
    assert asked == []


def test_the_released_files_are_those_of_the_original():
    release = 'https://github.com/milesial/Pytorch-UNet/releases/download/v3.0/unet_carvana_scale'
    assert {s: f'{release}{s}_epoch2.pth' for s in (0.5, 1.0)} == hubconf.WEIGHTS


@pytest.mark.filterwarnings('ignore:.*without a check of its content')
def test_each_scale_has_released_weights_and_others_are_refused(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda url, to, **_: asked.append(url))
    for scale in (0.5, 1.0):
        with pytest.raises(Exception, match='does not exist'):  # nothing was downloaded
            hubconf.unet_carvana(pretrained=True, scale=scale)
    assert [url.rsplit('_', 2)[1] for url in asked] == ['scale0.5', 'scale1.0']
    with pytest.raises(ValueError, match=r'weights exist for scale 0\.5 and 1\.0, not 0\.3'):
        hubconf.unet_carvana(pretrained=True, scale=0.3)


@pytest.mark.filterwarnings('ignore:.*without a check of its content')
@pytest.mark.parametrize(
    'error', [OSError('[Errno 101] Network is unreachable'), IncompleteRead(b'')]
)
def test_without_a_network_one_message_names_the_address_and_the_way_by_hand(
    tmp_path, monkeypatch, error
):
    def fail(*_, **__):
        raise error

    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', fail)
    with pytest.raises(UserError) as caught:
        hubconf.unet_carvana(pretrained=True)
    text = str(caught.value)
    assert text.startswith(f'{hubconf.WEIGHTS[0.5]} cannot be downloaded ({error})')
    by_hand = tmp_path / 'hub/hub/checkpoints/unet_carvana_scale0.5_epoch2.pth'
    assert f'save it as {by_hand}' in text
    assert caught.value.__suppress_context__
    torch.save(UNet(3, 2, base_channels=4).state_dict(), by_hand)
    assert hubconf.unet_carvana(pretrained=True).base_channels == 4


def test_the_model_goes_where_map_location_says():
    assert hubconf.unet_carvana(map_location='meta').outc.conv.weight.device.type == 'meta'
