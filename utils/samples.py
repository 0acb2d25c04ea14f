"""samples.png: what the network makes of a few images, for a person to look at."""

from pathlib import Path

from PIL import Image

from unet import UNet

from .device import Precision
from .files import whole_file
from .inference import Predictor
from .training_data import TrainingData
from .visualize import sample_sheet


def write_samples(path: Path, model: UNet, data: TrainingData, precision: Precision) -> Image.Image:
    """Predict the data's samples and write a sheet of them; the model is left in training mode."""
    predictor = Predictor(model, 1.0, data.dataset.masks, precision)
    rows = []
    for item in data.samples():
        pixels = item['image'].permute(1, 2, 0).numpy()
        predicted = predictor.predict_image(pixels)
        rows.append((item['image'].numpy(), item['mask'].numpy(), predicted))
    model.train()
    sheet = sample_sheet(rows)
    with whole_file(path) as part:
        sheet.save(part)
    return sheet
