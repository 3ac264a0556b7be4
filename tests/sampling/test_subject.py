"""A photograph as the person who is to move."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_files import talking_face

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.manifest import VideoCodes
from svgan.latents.shards import write_latents
from svgan.sampling.subject import load_subject, read_photo

UPSIDE = 3  # EXIF's orientation of a picture that is to be turned by half


@pytest.fixture(scope="module")
def face() -> Image.Image:
    return Image.fromarray(talking_face(3, 4)[0])


def test_a_photo_is_aligned_and_embedded(face: Image.Image, tmp_path: Path):
    domain = Domain.load()
    face.save(tmp_path / "me.png")
    code = load_subject(str(tmp_path / "me.png"), domain).code
    own = load_subject(domain.latents_uri, domain)
    assert own.latents is not None
    frame = own.latents.codes[3]
    spread = np.linalg.norm(own.latents.codes - own.code, axis=(1, 2)).mean()
    assert np.linalg.norm(code - frame) < 0.7 * spread  # the very frame, but for smoothing and the detector's size

    exif = Image.Exif()
    exif[0x0112] = UPSIDE
    face.rotate(180).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(load_subject(str(tmp_path / "turned.png"), domain).code, code)


def test_what_is_no_photo_of_one_face_is_refused(face: Image.Image, random_domain: Path, tmp_path: Path):
    domain = Domain.load(random_domain)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)).save(tmp_path / "noise.png")
    Image.fromarray(np.concatenate([np.asarray(face)] * 2, 1)).save(tmp_path / "two.png")
    (tmp_path / "text.jpg").write_text("no picture")
    data = (tmp_path / "noise.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    codes = np.zeros((3, 6, 8), np.float32)
    write_latents(tmp_path / "alien", [VideoCodes("v", np.arange(3), codes)], domain="0" * 16, fps=25)
    for name, words in {
        "noise.png": "no face found; give a photo",
        "two.png": "2 faces of similar size; crop the photo",
        "text.jpg": "neither a picture nor a set of latents",
        "cut.png": "cannot be read",
        "alien": "these codes belong to domain 000000000000",
        "absent": "no manifest.json here",
    }.items():
        with pytest.raises(UserError, match=words) as told:
            load_subject(str(tmp_path / name), domain)
        assert "\n" not in str(told.value)


def test_pictures_of_any_kind_become_rgb(tmp_path: Path):
    for mode in ("L", "RGBA", "P", "CMYK"):
        Image.new("RGB", (8, 6), (200, 10, 10)).convert(mode).save(tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}")
        assert read_photo(tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}", "--subject").shape == (6, 8, 3)
