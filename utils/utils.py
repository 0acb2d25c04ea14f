"""The original's module of plots, for users' imports; nothing here imports it."""

import numpy as np
from PIL import Image


def plot_img_and_mask(img: Image.Image | np.ndarray, mask: np.ndarray) -> None:
    """Show an image, and beside it a panel for each class from 0 to the highest of the mask.

    img: as matplotlib's imshow takes it. mask: (H, W) class indices.
    """
    import matplotlib.pyplot as plt  # late: the import takes 1.3 s

    mask = np.asarray(mask)
    classes = range(int(mask.max()) + 1)
    _, (first, *others) = plt.subplots(1, 1 + len(classes))
    first.set_title('Image')
    first.imshow(img)
    for k, axis in zip(classes, others, strict=True):
        axis.set_title(f'Class {k}')
        axis.imshow(mask == k)
    for axis in (first, *others):
        axis.set_axis_off()
    plt.show()
