"""Landmarks of a face that nobody has."""

import numpy as np


def made_landmarks(size: int) -> np.ndarray:
    """68 points on an upright face that fills most of a crop."""
    turn = np.linspace(0, np.pi, 17)
    jaw = np.stack([0.5 - 0.35 * np.cos(turn), 0.4 + 0.5 * np.sin(turn)], 1)
    brows = np.stack([np.linspace(0.25, 0.75, 10), np.full(10, 0.28)], 1)
    nose = np.stack([np.full(9, 0.5), np.linspace(0.35, 0.6, 9)], 1)
    ring = np.linspace(0, 2 * np.pi, 7)[:6]
    eye = 0.05 * np.stack([np.cos(ring), 0.5 * np.sin(ring)], 1)
    lips = np.linspace(0, 2 * np.pi, 21)[:20]
    mouth = np.array([0.5, 0.72]) + 0.1 * np.stack([np.cos(lips), 0.5 * np.sin(lips)], 1)
    points = [jaw, brows, nose, eye + [0.37, 0.4], eye + [0.63, 0.4], mouth]
    return (np.concatenate(points) * size).astype(np.float32)
