"""Face measures on drawn landmarks, and the reader on frames of real footage (fetched by svgan.assets.cache)."""

import itertools

import numpy as np
import pytest
from video_files import talking_face

from svgan.assets import cache
from svgan.io.video_reader import read_frames
from svgan.metrics import identity
from svgan.metrics.identity import (
    content_distance,
    eye_opening,
    head_yaw,
    identity_distance,
    mouth_opening,
    subject_distance,
)


def drawn(mouth: float = 0.0, eyes: float = 4.0, nose: float = 0.0) -> np.ndarray:
    """Landmarks [1, 68, 2] of a face 100 wide whose eyes are 40 apart; gaps in pixels."""
    points = np.zeros((68, 2), np.float32)
    points[0], points[16], points[30] = (0, 50), (100, 50), (50 + nose, 60)
    for eye, centre in ((identity.LEFT_EYE, 30), (identity.RIGHT_EYE, 70)):
        offsets = [(-8, 0), (-3, -eyes / 2), (3, -eyes / 2), (8, 0), (3, eyes / 2), (-3, eyes / 2)]
        points[eye] = np.array(offsets) + (centre, 40)
    points[61:64] = [(44, 80), (50, 80), (56, 80)]
    points[65:68] = [(56, 80 + mouth), (50, 80 + mouth), (44, 80 + mouth)]
    return points[None]


def turned(landmarks: np.ndarray, degrees: float, scale: float) -> np.ndarray:
    a = np.deg2rad(degrees)
    return scale * landmarks @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) + 7


@pytest.mark.parametrize("place", [lambda x: x, lambda x: turned(x, 20, 3)])
def test_measures_know_their_pixels_wherever_the_face_is(place):
    assert mouth_opening(place(drawn(mouth=10)))[0] == pytest.approx(10 / 40, rel=1e-4)
    assert eye_opening(place(drawn(eyes=4)))[0] == pytest.approx(4 / 16, rel=1e-4)


def test_yaw_is_signed_and_centred():
    assert head_yaw(drawn())[0] == pytest.approx(0, abs=1e-6)
    assert head_yaw(drawn(nose=25))[0] == pytest.approx(0.5)
    assert head_yaw(drawn(nose=-25))[0] == pytest.approx(-0.5)


@pytest.fixture(scope="module")
def reader() -> identity.FaceReader:
    return identity.FaceReader()


def test_reader_tells_the_two_men_apart_and_knows_each_again(reader):
    one = reader.read(np.stack(talking_face(0, 101)[::50]))
    two = reader.read(np.stack(list(itertools.islice(read_frames(cache.paths("second-subject")[0]), 0, 101, 50))))
    assert one.found.all()
    assert two.found.all()
    within = identity_distance(one.descriptors[:1], one.descriptors[1:])
    across = identity_distance(one.descriptors, two.descriptors)
    assert within.max() < 0.45 < identity.SAME_PERSON < across.min()


def test_small_frames_are_enlarged_and_points_come_back_in_their_pixels(reader):
    (frame,) = talking_face(0, 1)
    face = frame[40:280, 60:300]
    small = face.reshape(60, 4, 60, 4, 3).mean((1, 3)).astype(np.uint8)
    whole, tiny = reader.read(face[None], descriptors=False), reader.read(small[None], descriptors=False)
    assert tiny.found.all()
    assert np.abs(tiny.landmarks[0] * 4 + 1.5 - whole.landmarks[0]).mean() < 6
    assert np.isnan(tiny.descriptors).all()


def test_a_frame_without_a_face_gives_nan(reader):
    faces = reader.read(np.full((2, 64, 64, 3), 90, np.uint8))
    assert not faces.found.any()
    assert np.isnan(faces.descriptors).all()
    assert np.isnan(mouth_opening(faces.landmarks)).all()


def test_content_distance_is_the_mean_over_pairs_of_frames():
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(5, 128))
    pairs = [np.linalg.norm(clip[i] - clip[j]) for i in range(5) for j in range(i)]
    assert content_distance(clip) == pytest.approx(np.mean(pairs))
    assert content_distance(np.repeat(clip[:1], 4, axis=0)) == 0
    holed = np.concatenate([clip, np.full((2, 128), np.nan)])
    assert content_distance(holed) == pytest.approx(np.mean(pairs)), "frames without a face are left out"
    assert np.isnan(content_distance(holed[4:]))


def test_distance_from_the_subject():
    rng = np.random.default_rng(1)
    subject, clip = rng.normal(size=128), rng.normal(size=(4, 128))
    assert subject_distance(clip, subject) == pytest.approx(np.linalg.norm(clip - subject, axis=1).mean())
    assert subject_distance(np.stack([subject, np.full(128, np.nan)]), subject) == 0
    assert np.isnan(subject_distance(np.full((2, 128), np.nan), subject))
