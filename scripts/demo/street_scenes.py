"""Pictures and masks of streets: who stands and drives where, camera, weather."""

import numpy as np
from PIL import Image, ImageFilter

from . import road_users, streets


def photograph_street(
    seed: int, index: int, size: tuple[int, int]
) -> tuple[Image.Image, Image.Image]:
    """Return a picture of a street (RGB) and its palette mask of the values of streets.CLASSES."""
    rng = np.random.default_rng((seed, index, 11))
    street = streets.Street(rng, size)
    streets.paint_sky_and_ground(street)
    for side in (-1, 1):
        streets.add_blocks(street, side)
        add_things(street, side)
    add_traffic(street)
    for _, draw in sorted(street.things, key=lambda thing: -thing[0]):
        draw()
    mask = Image.fromarray(np.ascontiguousarray(street.classes[::2, ::2]))
    mask.putpalette(b''.join(map(bytes.fromhex, streets.CLASSES.values())))
    return exposed(street), mask


def add_things(street: streets.Street, side: int) -> None:
    """Add trees, poles, pedestrians, parked cars and boxes along a side of the street."""
    rng, kerb = street.rng, side * street.half
    path = lambda low, high: side * (street.half + street.path * rng.uniform(low, high))  # noqa: E731
    for z in np.arange(rng.uniform(4, 16), 80, rng.uniform(9, 22)):
        place = side * (street.half + 0.35), z + rng.normal(0, 1.5)
        street.add(place[1], streets.pole(street, *place))
    if rng.random() < 0.4:
        for z in np.arange(rng.uniform(8, 20), 90, rng.uniform(9, 20)):
            street.add(z, streets.tree(street, path(0.1, 0.4), z))
    for _ in range(rng.poisson(2.2)):
        z = rng.uniform(6, 45)
        street.add(z, road_users.pedestrian(street, path(0.1, 0.95), z))
    for _ in range(rng.poisson(0.5)):
        z = rng.uniform(5, 30)
        street.add(z, road_users.bin_or_box(street, path(0.2, 0.95), z))
    if rng.random() < 0.5:
        z = rng.uniform(5, 25)
        while z < 70:
            if rng.random() < 0.6:
                street.add(z + 2, road_users.car(street, kerb - side * 1.1, z))
            z += rng.uniform(5.2, 8)


def add_traffic(street: streets.Street) -> None:
    """Add driving cars, cyclists, and people who cross."""
    rng, half = street.rng, street.half
    for lane in (-0.3, 0.35):
        z = rng.uniform(7, 40)
        while z < 90:
            if rng.random() < 0.55:
                street.add(z + 2, road_users.car(street, lane * half, z))
            z += rng.uniform(9, 35)
    for _ in range(rng.poisson(1.7)):
        z = rng.uniform(5, 28)
        place = rng.choice([-1, 1]) * half * rng.uniform(0.4, 0.95)
        street.add(z, road_users.cyclist(street, place, z))
    if rng.random() < 0.2:
        z = rng.uniform(9, 30)
        street.add(z, road_users.pedestrian(street, rng.uniform(-half, half), z))


def exposed(street: streets.Street) -> Image.Image:
    """Return the street's picture at half the canvas: light, colour cast, blur, sensor noise."""
    rng = street.rng
    pixels = street.picture.clip(0, 255)
    pixels = 255 * (pixels / 255) ** rng.uniform(0.8, 1.3)
    pixels *= np.float32(rng.uniform(0.65, 1.15) * (1 + rng.normal(0, 0.04, 3)))
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1))).reduce(2)
    noisy = np.asarray(picture, np.float32)
    noisy = noisy + rng.normal(0, rng.uniform(2, 6), noisy.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
