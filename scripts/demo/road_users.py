"""Cars, pedestrians and cyclists of the streets of streets.py."""

import numpy as np

from .streets import CAR, CLOTHES, CYCLIST, GREYS, OTHER, PAINTS, PERSON, Draw, Street

SKIN = np.float32([150, 118, 98])
DARK = np.float32([26, 27, 30])


def box(low: tuple, high: tuple) -> list[tuple]:
    """Return the corners of a rectangle (across, up) between two opposite ones."""
    return [low, (high[0], low[1]), high, (low[0], high[1])]


def car(street: Street, x: float, z: float) -> Draw:
    """Return what draws a car or van whose near end is at z, seen along the street."""
    rng, paint = street.rng, street.pick(PAINTS)
    van = rng.random() < 0.2
    long, half = rng.uniform(3.7, 4.8), rng.uniform(0.8, 0.92)
    belt, top = rng.uniform(0.85, 1.0), rng.uniform(1.35, 1.6) + 0.6 * van
    inset = 0.05 if van else rng.uniform(0.4, 1.0)  # of the cabin at both ends
    lamps = np.float32(rng.choice([[150, 20, 24], [220, 220, 210]]))
    glass = DARK + rng.uniform(0, 60)
    side = x - np.sign(x - street.lane) * half

    def draw() -> None:
        """Paint the car, from its shadow to its plate."""
        far = z + long
        street.ground((x - half - 0.15, x + half + 0.15), (z - 0.2, far), DARK, None, alpha=0.75)
        street.quad((x - half, 0.3, far), (x + half, top, far), paint * 0.8, CAR)
        hull = [(0.3, z), (0.3, far), (belt, far), (top, far - inset), (top, z + inset), (belt, z)]
        light = street.side_light(int(np.sign(x - street.lane)))
        street.paint(street.at((side, y, d) for y, d in hull), paint * light * 0.9, CAR, z)
        panes = [(belt, far - 0.3), (top - 0.1, far - inset), (top - 0.1, z + inset), (belt, z)]
        street.paint(street.at((side, y, d) for y, d in panes), glass, CAR, z)
        for axle in (z + 0.75, far - 0.8):
            wheel = [(side, 0.0, axle - 0.32), (side, 0.64, axle + 0.32)]
            street.paint(street.at(wheel), DARK, CAR, z, round_=True)
        for across in (-half + 0.1, half - 0.3):  # wheels seen from behind
            street.board(x, z, box((across, 0), (across + 0.2, 0.4)), DARK, CAR)
        street.board(x, z, box((-half, 0.25), (half, belt)), paint, CAR)
        cabin = [(-half, belt), (half, belt), (half - 0.14, top), (-half + 0.14, top)]
        tilted = [(x + u, v, z + inset * (v - belt) / (top - belt)) for u, v in cabin]
        street.paint(street.at(tilted), paint * 1.05, CAR, z)
        low, high = (half - 0.12, belt + 0.05), (half - 0.25, top - 0.1)
        pane = [(-low[0], low[1]), low, high, (-high[0], high[1])]
        street.board(x, z, pane, glass, CAR)
        for across in (-half + 0.05, half - 0.3):
            lamp = box((across, belt - 0.3), (across + 0.25, belt - 0.12))
            street.board(x, z, lamp, lamps, CAR)
        street.board(x, z, box((-0.25, 0.45), (0.25, 0.57)), paint + 60, CAR)

    return draw


def pedestrian(street: Street, x: float, z: float) -> Draw:
    """Return what draws a person on foot."""
    rng = street.rng
    tall, stride = rng.uniform(1.5, 1.9), rng.uniform(-0.3, 0.3)
    coat, trousers = street.pick(CLOTHES), street.pick(CLOTHES)
    broad, hair = rng.uniform(0.17, 0.26), rng.uniform(0.2, 1.0)
    bag = rng.random() < 0.3

    def draw() -> None:
        """Paint the person, from the feet up."""
        hip, neck = 0.5 * tall, 0.84 * tall
        for foot in (-stride, stride):
            street.bar(x, z, (foot, 0), (0.4 * foot, hip), 0.15, trousers, PERSON)
        low, high = (0.8 * broad, hip - 0.1), (broad, neck - 0.04)
        trunk = [(-low[0], low[1]), low, high, (-high[0], high[1])]
        street.board(x, z, trunk, coat, PERSON)
        for across in (-broad, broad):
            hand = across * 1.3 + stride / 2, hip
            street.bar(x, z, (across, neck - 0.1), hand, 0.1, coat * 0.9, PERSON)
        head = [(-0.1, neck), (0.1, tall)]
        street.board(x, z, head, SKIN * hair, PERSON, round_=True)
        if bag:
            case = [(broad, hip - 0.2), (broad + 0.25, hip + 0.15)]
            street.board(x, z, case, coat * 0.6, PERSON, round_=True)

    return draw


def cyclist(street: Street, x: float, z: float) -> Draw:
    """Return what draws a person on a bicycle, from behind or from the side."""
    rng = street.rng
    turned = rng.choice([0.08, 0.2, 0.6, 1.0], p=[0.4, 0.2, 0.2, 0.2]) * rng.choice([-1, 1])
    coat, trousers, frame = street.pick(CLOTHES), street.pick(CLOTHES), street.pick(GREYS)
    helmet, lean = street.pick(CLOTHES + ' d8d8d4'), rng.uniform(0.1, 0.4)
    knee = rng.uniform(-0.15, 0.15)

    def draw() -> None:
        """Paint bicycle and rider."""
        for axle in (-0.52 * turned, 0.52 * turned):
            r = max(0.03, 0.34 * abs(turned))
            outer = [(axle - r, 0), (axle + r, 0.68)]
            street.board(x, z, outer, DARK, CYCLIST, alpha=0.55, round_=True)
            street.bar(x, z, (axle - r, 0.34), (axle - r, 0.3), 0.05, DARK, CYCLIST)
        street.bar(x, z, (-0.5 * turned, 0.34), (-0.1 * turned, 0.9), 0.05, frame, CYCLIST)
        street.bar(x, z, (-0.1 * turned, 0.85), (0.5 * turned, 0.95), 0.05, frame, CYCLIST)
        street.bar(x, z, (0.5 * turned, 0.34), (0.42 * turned, 1.05), 0.05, frame, CYCLIST)
        hip, shoulder = (-0.15 * turned, 1.0), ((lean - 0.15) * turned, 1.5)
        for side in (-1, 1):
            foot = (side * 0.1, 0.28 + side * knee)
            joint = (0.25 * turned + side * 0.12, 0.68 + side * knee)
            street.bar(x, z, foot, joint, 0.12, trousers, CYCLIST)
            street.bar(x, z, joint, hip, 0.15, trousers, CYCLIST)
        street.bar(x, z, hip, shoulder, 0.34, coat, CYCLIST)
        street.bar(x, z, shoulder, (0.42 * turned, 1.08), 0.1, coat * 0.9, CYCLIST)
        top = shoulder[0] + 0.1 * turned
        street.board(x, z, [(top - 0.11, 1.5), (top + 0.11, 1.78)], helmet, CYCLIST, round_=True)

    return draw


def bin_or_box(street: Street, x: float, z: float) -> Draw:
    """Return what draws something on the pavement that has no class."""
    rng, colour = street.rng, street.pick(GREYS + ' 3c5040 6c5844')
    wide, tall = rng.uniform(0.2, 0.8), rng.uniform(0.5, 1.5)
    return lambda: street.board(x, z, box((-wide, 0), (wide, tall)), colour, OTHER)
