"""Following one subject: what breaks a clip leaves a gap, and two clips never touch."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from made_faces import made_landmarks

from svgan.errors import UserError
from svgan.faces.tracking import THUMB, Scan, Track, follow
from svgan.io.video_reader import Survey

FACE = made_landmarks(100)


def face(x: float = 0, scale: float = 1) -> np.ndarray:
    return (FACE * scale + np.array([x, 0])).astype(np.float32)


def followed(
    faces: list[list[np.ndarray]], *, ticks: list[int] | None = None, grey: list[int] | None = None, parts: int = 1
) -> Track:
    """The track through frames with these faces, at these ticks, of these shades, scanned in so many stretches."""
    times = np.array(ticks if ticks is not None else range(len(faces)), np.int64) * 40
    pts = times + np.concatenate([[0], np.diff(times) == 0])
    found = Survey(pts=pts, keys=np.ones(len(pts), bool), unit=Fraction(1, 1000), fps=Fraction(25), missing=0)
    edges = np.linspace(0, len(faces), parts + 1).astype(int)
    scans = []
    for a, b in itertools.pairwise(edges.tolist()):
        shades = np.array((grey or [100] * len(faces))[a:b], np.uint8)
        several = [one for frame in faces[a:b] for one in frame]
        scan: Scan = {
            "pts": pts[a:b],
            "thumbs": np.broadcast_to(shades[:, None, None], (b - a, THUMB, THUMB)),
            "owner": np.repeat(np.arange(b - a), [len(frame) for frame in faces[a:b]]),
            "faces": np.array(several, np.float32).reshape(-1, 68, 2),
        }
        scans.append(scan)
    return follow("a.mp4", found, scans)


def test_frames_without_a_face_are_a_gap():
    track = followed([[face()]] * 5 + [[]] * 3 + [[face()]] * 4)
    assert track.index.tolist() == [0, 1, 2, 3, 4, 8, 9, 10, 11]
    assert track.lost == {"no face": 3}
    assert [clip.stop - clip.start for clip in track.clips] == [5, 4]
    assert track.time[-1] == pytest.approx(11 / 25)


def test_a_cut_leaves_the_first_frame_behind_it_out():
    track = followed([[face()]] * 12, grey=[100] * 6 + [160] * 6)
    assert track.index.tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert track.lost == {"cut": 1}
    waving = [100 + 10 * (k % 2) for k in range(12)]
    assert not followed([[face()]] * 12, grey=waving).lost  # what changes all the time is no cut


def test_a_face_that_jumps_is_a_cut_too():
    assert followed([[face()]] * 4 + [[face(90)]] * 4).index.tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert followed([[face()]] * 4 + [[face(scale=1.5)]] * 4).lost == {"cut": 1}
    assert not followed([[face(4 * k)] for k in range(8)]).lost


def test_the_face_that_was_followed_is_followed_on():
    with_other = [face(), face(200)]
    track = followed([[face()]] * 3 + [with_other, with_other[::-1]] * 2)
    assert len(track.index) == 7
    assert np.abs(track.landmarks[:, 0, 0] - face()[0, 0]).max() == 0
    bystander = followed([[face(), face(200, 0.6)]] * 4)
    assert len(bystander.index) == 4
    unclear = followed([with_other] * 4 + [[face()]] * 4)
    assert unclear.index.tolist() == [4, 5, 6, 7]
    assert unclear.lost == {"several faces": 4}


def test_ticks_decide_what_is_consecutive():
    track = followed([[face()]] * 7, ticks=[0, 1, 2, 5, 6, 6, 7])
    assert track.index.tolist() == [0, 1, 2, 5, 6, 7]
    assert track.lost == {"second of a tick": 1}


def test_stretches_in_any_cut_give_the_same_track():
    faces = [[face(k)] if k % 7 else [] for k in range(40)]
    one, many = followed(faces), followed(faces, parts=6)
    for name in ("index", "pts", "landmarks", "quads"):
        assert np.array_equal(getattr(one, name), getattr(many, name))
    assert one.lost == many.lost


def test_a_video_without_one_clear_face_is_refused():
    with pytest.raises(UserError, match="no face in any of 5 frames"):
        followed([[]] * 5)
    with pytest.raises(UserError, match="two or more faces in 5 of 5 frames; crop"):
        followed([[face(), face(200)]] * 5)
