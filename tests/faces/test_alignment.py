"""FFHQ alignment: the crop follows a face's turn and size, and smoothing takes out jitter."""

import numpy as np
from made_faces import made_landmarks

from svgan.faces.alignment import ffhq_frame, quads_from, runs, smooth, smooth_quads, to_crop, warp


def turned(points: np.ndarray, degrees: float, scale: float, shift: np.ndarray) -> np.ndarray:
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return points @ turn.T * scale + shift


def test_crop_moves_turns_and_scales_with_the_face():
    face = made_landmarks(100).astype(np.float64)
    centre, axis = ffhq_frame(face)
    shift = np.array([30.0, -5.0])
    moved_centre, moved_axis = ffhq_frame(turned(face, 20, 1.5, shift))
    assert np.allclose(moved_centre, turned(centre, 20, 1.5, shift))
    assert np.allclose(moved_axis, turned(axis, 20, 1.5, np.zeros(2)))
    assert axis[0] > 0
    assert abs(axis[1]) < 0.15 * axis[0]  # an upright face gives an upright crop (its hexagonal lips lean a little)


def test_crop_size_is_ffhqs_rule():
    face = made_landmarks(100).astype(np.float64)
    _, axis = ffhq_frame(face)
    eyes = np.stack([face[36:42].mean(0), face[42:48].mean(0)])
    mouth = face[[48, 54]].mean(0)
    expected = max(2.0 * np.linalg.norm(eyes[1] - eyes[0]), 1.8 * np.linalg.norm(mouth - eyes.mean(0)))
    assert np.isclose(np.linalg.norm(axis), expected)


def test_smoothing_keeps_constants_and_lowers_jitter_within_runs():
    assert np.allclose(smooth(np.full((9, 2), 3.0), 3.0), 3.0)
    rng = np.random.default_rng(0)
    index = np.r_[0:50, 60:100]
    face = np.repeat(made_landmarks(100)[None], 90, 0) + rng.normal(0, 1, (90, 68, 2)).astype(np.float32)
    rough, calm = quads_from(*ffhq_frame(face)), smooth_quads(face, index)
    assert np.abs(np.diff(calm, axis=0)).mean() < 0.5 * np.abs(np.diff(rough, axis=0)).mean()
    alone = smooth_quads(face[:50], index[:50])
    assert np.allclose(calm[:50], alone, atol=1e-4)  # nothing crosses the gap


def test_runs_split_at_gaps():
    assert runs(np.array([3, 4, 5, 9, 10])) == [slice(0, 3), slice(3, 5)]


def test_warp_cuts_the_quad_and_mirrors_beyond_the_border():
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[10:20, 10:20] = 200
    square = np.array([[10, 10], [10, 20], [20, 20], [20, 10]], np.float32) - 0.5
    assert (warp(picture, square, 8)[2:6, 2:6] == 200).all()
    outside = warp(np.full((20, 20, 3), 77, np.uint8), square + 10, 8)
    assert (outside == 77).all()


def test_points_follow_the_crop():
    quad = np.array([[[10, 20], [10, 40], [30, 40], [30, 20]]], np.float32)
    corners = to_crop(quad, quad, 64)[0]
    assert np.allclose(corners, [[0, 0], [0, 64], [64, 64], [64, 0]])
