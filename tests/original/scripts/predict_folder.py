"""Predict masks for the images of a folder, in the original's call forms.

python predict_folder.py MODEL.pth
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from predict import get_output_filenames, mask_to_image, predict_img
from unet import UNet
from utils.data_loading import BasicDataset
from utils.utils import plot_img_and_mask

device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
net = UNet(n_channels=3, n_classes=2, bilinear=True)
net.to(device=device)
state_dict = torch.load(sys.argv[1], map_location=device)
mask_values = state_dict.pop('mask_values', [0, 1])
net.load_state_dict(state_dict)

inputs = sorted(str(path) for path in Path('data/imgs').iterdir())
outputs = get_output_filenames(SimpleNamespace(input=inputs, output=None))
for name, output in zip(inputs, outputs, strict=True):
    img = Image.open(name)
    mask = predict_img(net=net, full_img=img, scale_factor=0.5, out_threshold=0.5, device=device)
    assert mask.dtype == np.int64
    mask_to_image(mask, mask_values).save(output)
plot_img_and_mask(img, mask)

pixels = BasicDataset.preprocess(None, img, 0.5, is_mask=False)
with torch.no_grad():
    logits = net(torch.from_numpy(pixels).unsqueeze(0).to(device, dtype=torch.float32))
print(tuple(logits.shape), mask_values)
