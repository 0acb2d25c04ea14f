"""Networks with known predictions, and their checkpoints."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unet import UNet
from utils.inference.checkpoint import Checkpoint, model_config, save_checkpoint

# Widths that no base_channels gives, all different where layers allow it.
SLIM = [2, 3, 1, 4, 5, 2, 3, 6, 4, 7, 5, 3, 2, 4, 1, 3, 2, 5, 6, 4, 3, 2]


def brightness_network(n_classes=2, n_channels=3, widths=None):
    """Return a network whose foreground logit is 20 x brightness - 10.

    Only the first level is used: its first channel holds the mean of the image's channels.
    """
    model = UNet(n_channels, n_classes, base_channels=2, widths=widths)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_(1)
        model.inc.double_conv[0].weight[0, :, 1, 1] = 1 / n_channels
        model.inc.double_conv[3].weight[0, 0, 1, 1] = 1
        model.up4.conv.double_conv[0].weight[0, 0, 1, 1] = 1
        model.up4.conv.double_conv[3].weight[0, 0, 1, 1] = 1
        model.outc.conv.weight[-1, 0] = 20
        model.outc.conv.bias[-1] = -10
    return model


def save(name, model, scale=1.0, **others):
    checkpoint = Checkpoint(model_config(model), model.state_dict(), scale=scale, **others)
    save_checkpoint(checkpoint, Path(name))


def half_white(path):
    mask = np.asarray(Image.open(path).convert('L'))
    return mask.shape == (40, 64) and (mask[:, :30] < 64).all() and (mask[:, 34:] > 192).all()
