"""The shapes as polygons and discs, written apart from `course.data.scenes.shapes`; y up."""

import math

import numpy as np

R = 1 / (1 + math.cos(math.radians(36)))


def polar(radius, degrees):
    """Of a radius, at so many degrees from the top, clockwise; y up."""
    return radius * math.sin(math.radians(degrees)), radius * math.cos(math.radians(degrees))


A, H = 0.18, 0.5
POLYGONS = {
    "square": [(-H, -H), (H, -H), (H, H), (-H, H)],
    "triangle": [(0, 2 / 3), (1 / math.sqrt(3), -1 / 3), (-1 / math.sqrt(3), -1 / 3)],
    "star": [polar(R if k % 2 == 0 else R / 2, 36 * k) for k in range(10)],
    "cross": [
        *[(A, H), (A, A), (H, A), (H, -A), (A, -A), (A, -H)],
        *[(-A, -H), (-A, -A), (-H, -A), (-H, A), (-A, A), (-A, H)],
    ],
}


def inside(shape, x, y):
    """By casting a ray to the right, or from the radius."""
    if shape not in POLYGONS:
        radius = np.hypot(x, y)
        return (radius < 0.5) & ((shape == "circle") | (radius > 0.25))
    odd = np.zeros(x.shape, bool)
    corners = POLYGONS[shape]
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if ay != by:
            crosses = (ay > y) != (by > y)
            odd ^= crosses & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return odd


def nearest_side(shape, x, y):
    """How far it is, and where along it the nearest point stands, from 0 to 1 of its length."""
    best, where = np.full(x.shape, np.inf), np.zeros(x.shape)
    corners = np.array(POLYGONS[shape])
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        t = (((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / ((b - a) ** 2).sum()).clip(0, 1)
        away = np.hypot(x - a[0] - t * (b - a)[0], y - a[1] - t * (b - a)[1])
        where = np.where(away < best, t, where)
        best = np.minimum(best, away)
    return best, where


def covered(thing, size, fine):
    """How much of each pixel a thing covers, counted at fine x fine points of it."""
    at = (np.arange(size * fine) + 0.5) / (size * fine)
    from_centre = (at - thing.x) + 1j * (thing.y - at[:, None])
    upright = from_centre / thing.extent * np.exp(-1j * math.radians(thing.angle))
    within = inside(thing.shape, upright.real, upright.imag)
    return within.reshape(size, fine, size, fine).mean((1, 3))
