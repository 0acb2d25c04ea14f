"""python -m utils.export: a file that computes what the network does, or none."""

import json

import pytest
import torch
from launching import in_own_process
from networks import save
from test_backends import ONNX, SLOW, trained_like, without

from unet import UNet
from utils import export as program
from utils.inference.backends import export as exporting


@SLOW
@ONNX
@in_own_process
def test_an_exported_network_computes_what_torch_does_and_knows_its_masks(folder, capsys):
    import onnx
    import onnxruntime

    model = trained_like()
    save('m.pth', model, mask_values=[0, 255], scale=0.25)
    assert program.main(['m.pth', 'm.onnx']) == 0
    assert 'm.onnx written' in capsys.readouterr().out
    session = onnxruntime.InferenceSession('m.onnx')
    images = torch.rand(3, 3, 41, 77)
    found = session.run(['logits'], {'images': images.numpy()})[0]
    torch.testing.assert_close(
        torch.from_numpy(found), model(images).detach(), rtol=1e-4, atol=1e-4
    )
    facts = {p.key: json.loads(p.value) for p in onnx.load('m.onnx').metadata_props}
    assert facts == {'scale': 0.25, 'mask_values': [0, 255]}


@pytest.mark.slow
def test_export_refuses_what_it_cannot_write(folder, monkeypatch, capsys):
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(package)
    save('m.pth', trained_like(), mask_values=[0, 255])
    save('valid.pth', UNet(3, 2, base_channels=2, padding='valid'), mask_values=[0, 255])
    wrong = {
        'm.pt; expected a name that ends in .onnx': ['m.pth', 'm.pt'],
        'no folder none': ['m.pth', 'none/m.onnx'],
        'm2.pth does not exist': ['m2.pth', 'm.onnx'],
        '--padding valid': ['valid.pth', 'm.onnx'],
    }
    for message, arguments in wrong.items():
        assert program.main(arguments) == 2
        assert message in capsys.readouterr().err
    without(monkeypatch, 'onnx')
    assert program.main(['m.pth', 'm.onnx']) == 2
    assert 'needs onnx: pip install onnx onnxscript onnxruntime' in capsys.readouterr().err


@ONNX
@pytest.mark.parametrize('difference', [0.1, float('nan')])
@in_own_process
def test_export_that_computes_something_else_writes_nothing(
    folder, monkeypatch, capsys, difference
):
    from utils.inference.backends import onnx as onnx_backend

    save('m.pth', trained_like(), mask_values=[0, 255])
    monkeypatch.setattr(onnx_backend, 'write_onnx', lambda model, path, metadata: path.touch())
    monkeypatch.setattr(exporting, 'largest_difference', lambda *_: difference)
    assert program.main(['m.pth', 'm.onnx']) == 2
    assert f'differ by {difference:g}' in capsys.readouterr().err
    assert not (folder / 'm.onnx').exists()
