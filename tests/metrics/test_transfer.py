"""Figures of a clip moved to another subject, on a domain whose pictures are read as made-up faces."""

import math

import numpy as np
import pytest
import torch

from svgan.metrics import transfer as module
from svgan.metrics.identity import Faces
from svgan.metrics.transfer import evenly, transfer


class Plain:
    """A domain whose pictures are the codes themselves: row 0 who it is, row 1 what the face does."""

    def render(self, codes) -> np.ndarray:
        return np.asarray(codes, np.float32)


class Reader:
    def read(self, frames: np.ndarray) -> Faces:
        turn = np.linspace(0, 2 * np.pi, 69)[:68]
        face = 50 + 40 * np.stack([np.cos(turn), np.sin(turn)], -1)
        points = np.repeat(face[None], len(frames), 0)
        points[:, [61, 62, 63], 1] += frames[:, 1, :1]  # the upper inner lip
        points[:, [37, 38, 43, 44], 1] -= frames[:, 1, 1:2]
        points[:, 30, 0] += frames[:, 1, 2]
        hidden = frames[:, 1, 3] > 0
        points[hidden] = np.nan
        return Faces(points.astype(np.float32), np.repeat(frames[:, 0, :1], 128, 1) + np.eye(128)[0] * 3)


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    monkeypatch.setattr(module, "FaceReader", Reader)
    generator = torch.Generator().manual_seed(0)
    codes = torch.rand(30, 2, 4, generator=generator)
    codes[:, 0], codes[:, 1, 3] = 0.1, 0
    return codes


def target(value: float) -> np.ndarray:
    return np.array([[value] * 4, [0] * 4], np.float32)


def test_who_it_is_and_what_it_does(codes: torch.Tensor):
    def move(codes: torch.Tensor) -> torch.Tensor:
        moved = codes.clone()
        moved[:, 0] = 0.2
        moved[:, 1, 2] *= -1
        return moved

    found = transfer(codes, move, target(0.2), Plain())
    assert found.frames == 30
    assert found.faces == 1
    assert found.identity_distance == pytest.approx(0, abs=1e-5)
    assert found.identity_similarity == pytest.approx(1)
    assert found.source_distance == pytest.approx(0.1 * math.sqrt(128), rel=1e-4)
    assert found.mouth == pytest.approx(1, abs=1e-4)
    assert found.eyes == pytest.approx(1, abs=1e-4)
    assert found.yaw == pytest.approx(-1, abs=1e-3)


def test_frames_without_a_face_are_left_out_and_none_is_not_known(codes: torch.Tensor):
    def hide(codes: torch.Tensor) -> torch.Tensor:
        hidden = codes.clone()
        hidden[::2, 1, 3] = 1
        return hidden

    found = transfer(codes, hide, target(0.1), Plain())
    assert found.faces == 0.5
    assert found.mouth == pytest.approx(1, abs=1e-4)
    codes[:, 1, 3] = 1
    assert transfer(codes, hide, target(0.1), Plain()).to_json()["mouth"] is None


def test_even_frames_of_a_stream():
    clip = torch.arange(100.0)[None, :, None, None].expand(2, 100, 1, 1)
    picked = evenly(clip.split(17, 1), 100, count=12)
    assert torch.equal(picked, evenly([clip], 100, count=12))
    assert picked[[0, -1], 0, 0].tolist() == [0, 99]
    assert evenly([clip[:, :5]], 5, count=12).shape == (5, 1, 1)
