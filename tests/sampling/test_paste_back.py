"""Generated faces in recorded frames: where they lie, what stays untouched, and which video is refused."""

from pathlib import Path

import numpy as np
import pytest
from made_faces import made_landmarks
from video_files import write_video

from svgan.errors import UserError
from svgan.faces.aligned_video import video_digest
from svgan.faces.alignment import ffhq_frame, quads_from, warp
from svgan.faces.masks import soft_face
from svgan.io.video_reader import survey
from svgan.latents.manifest import Latents, VideoCodes
from svgan.latents.origins import Origins, transforms
from svgan.latents.shards import open_latents, write_latents
from svgan.sampling.paste_back import MASK, find_place, paste_face, paste_faces

GAP = 3  # the frame that a made video's codes lack


def turned_quad() -> np.ndarray:
    return quads_from(np.array([60.3, 50.6]), np.array([27.0, 6.0])).astype(np.float32)


def test_a_face_lands_where_it_was_cut_from():
    ramp = np.linspace(40, 200, 120)
    picture = np.stack([np.add.outer(ramp[:100], ramp) / 2] * 3, -1).astype(np.uint8)
    quad = turned_quad()
    transform = transforms(quad[None])[0]
    back = paste_face(picture, warp(picture, quad, 64), transform, np.ones((64, 64), np.float32))
    assert np.abs(back.astype(int) - picture).max() <= 3  # also at the crop's corners: no shift, no turn
    white = paste_face(picture, np.full((64, 64, 3), 255, np.uint8), transform, soft_face(made_landmarks(MASK), MASK))
    seen = warp(white, quad, 64)
    assert seen[28:40, 28:36].min() > 250
    untouched = np.ones((100, 120), bool)
    low, high = np.floor(quad.min(0)).astype(int), np.ceil(quad.max(0)).astype(int)
    untouched[low[1] : high[1], low[0] : high[0]] = False
    assert np.array_equal(white[untouched], picture[untouched])
    assert np.abs(np.diff(white.astype(int), axis=1)).max() < 90  # no hard edge


def test_a_crop_beyond_the_border_is_cut_off():
    picture = np.full((40, 40, 3), 100, np.uint8)
    for x, y in ((-10, 20), (38, 39), (200, 200)):
        quad = quads_from(np.array([x, y], float), np.array([12.0, 0.0])).astype(np.float32)
        changed = paste_face(picture, np.full((8, 8, 3), 255, np.uint8), transforms(quad[None])[0], np.ones((8, 8)))
        assert changed.shape == picture.shape
        assert (changed > 200).any() == (x < 100)


@pytest.fixture
def embedded(tmp_path: Path) -> tuple[Path, Latents, list[np.ndarray]]:
    """A made video of nine frames; codes of all but the fourth."""
    frames = [np.random.default_rng(k).integers(0, 255, (90, 121, 3), np.uint8) for k in range(9)]
    path = write_video(tmp_path / "me.mkv", frames)
    index = np.delete(np.arange(9), GAP)
    pts = survey(path).pts[index]
    landmarks = np.repeat(made_landmarks(60)[None] + 20, 8, 0)
    centre, axis = ffhq_frame(landmarks.astype(np.float64))
    origins = Origins(
        source=video_digest(path),
        pts=pts,
        time=pts / 1000,
        landmarks=landmarks,
        transform=transforms(quads_from(centre, axis).astype(np.float32)),
    )
    codes = np.random.default_rng(0).normal(size=(8, 6, 8)).astype(np.float32)
    write_latents(tmp_path / "set", [VideoCodes("me.mkv", index, codes, origins)], domain="d", fps=25)
    return path, open_latents(tmp_path / "set"), frames


def test_the_longest_clip_gets_the_faces_one_on_each_frame(embedded: tuple[Path, Latents, list[np.ndarray]]):
    path, latents, frames = embedded
    place = find_place(path, [latents])
    assert place.frames == 5
    faces = [np.full((16, 16, 3), 250, np.uint8)] * 9
    shown = list(paste_faces(place, faces))
    assert len(shown) == 5
    for one, frame in zip(shown, frames[GAP + 1 :], strict=True):
        changed = (one != frame).any(-1)
        assert 0.02 < changed.mean() < 0.3
        assert np.array_equal(one[:15], frame[:15])
        assert one[50, 50].min() > 245
    assert len(list(paste_faces(place, faces[:2]))) == 2


def test_videos_without_a_place_are_refused(embedded: tuple[Path, Latents, list[np.ndarray]], tmp_path: Path):
    path, latents, frames = embedded
    stranger = write_video(tmp_path / "other.mkv", frames[:3])
    with pytest.raises(UserError, match=r"other.mkv: not a video that was embedded into .*; embed it \(svgan embed"):
        find_place(stranger, [latents])
    codes = latents.codes
    write_latents(tmp_path / "old", [VideoCodes("me.mkv", latents.index, codes)], domain="d", fps=25)
    with pytest.raises(UserError, match="old was made without the frames' landmarks; embed it"):
        find_place(path, [open_latents(tmp_path / "old")])
    assert find_place(path, [open_latents(tmp_path / "old"), latents]).frames == 5
