"""`svgan domain`: what it refuses, what it keeps, and the whole command on a second of real footage."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import no_room
from video_files import talking_face, write_video

from svgan import cli
from svgan.errors import UserError
from svgan.faces.aligned_video import AlignedVideo
from svgan.images.domain import Domain
from svgan.images.domain_trainer import DomainConfig, DomainState
from svgan.images.stylegan2 import StyleGAN2Config
from svgan.latents.manifest import VideoCodes
from svgan.latents.shards import open_latents, write_latents
from svgan.metrics import domain_report
from svgan.metrics.identity import Faces
from svgan.pipelines import domain_card, make_domain

MODEL = StyleGAN2Config(resolution=16, w_dim=8, mapping_layers=2, channels={4: 16, 8: 16, 16: 16})


def trained(folder: Path, random_domain: Path, *, finished: int | None, kept: tuple[int, int] | None) -> Path:
    """A domain's folder: weights of `finished` steps, and a state of (steps done, steps planned)."""
    folder.mkdir()
    if finished is not None:
        shutil.copytree(random_domain, folder, dirs_exist_ok=True)
        facts = json.loads((folder / "domain.json").read_text())
        (folder / "domain.json").write_text(json.dumps(facts | {"training": {"steps": finished}}))
    if kept is not None:
        state = DomainState(MODEL, DomainConfig(steps=kept[1]), torch.device("cpu"))
        state.step = kept[0]
        state.save(folder / "training")
    return folder


@pytest.mark.parametrize(
    ("finished", "kept", "asked", "wanted"),
    [
        (None, None, None, make_domain.STEPS),
        (None, None, 7, 7),
        (None, (3, 20), None, 20),
        (None, (3, 20), 40, 40),
        (None, (3, 20), 2, 3),
        (20, (20, 20), None, None),
        (20, (20, 20), 20, None),
        (20, (20, 20), 5000, 5000),
        (20, (60, 5000), None, 5000),
        (20, None, None, None),
    ],
)
def test_steps_go_on_from_what_is_there(tmp_path, random_domain, finished, kept, asked, wanted):
    said: list[str] = []
    folder = trained(tmp_path / "d", random_domain, finished=finished, kept=kept)
    assert make_domain.steps_to_train(folder, asked, said.append) == wanted
    assert bool(said) == (wanted is None), "training left out must be said, with what to do"


def test_steps_that_cannot_be_gone_on_with(tmp_path, random_domain):
    gone = trained(tmp_path / "gone", random_domain, finished=20, kept=None)
    with pytest.raises(UserError, match="its training/ is gone"):
        make_domain.steps_to_train(gone, 30, print)
    with pytest.raises(UserError, match="--steps -1: must be 1 or more"):
        make_domain.steps_to_train(tmp_path / "new", -1, print)
    broken = trained(tmp_path / "broken", random_domain, finished=None, kept=(1, 2))
    (broken / "training" / "state.safetensors").write_bytes(b"12345678garbage")
    with pytest.raises(UserError, match=r"state\.safetensors: not a state"):
        make_domain.steps_to_train(broken, None, print)


BAD = {
    "a file as the folder": (["{dir}/text", "--footage", "{dir}/text"], "text: this is a file, not a folder"),
    "a file above the folder": (["{dir}/text/d", "--footage", "{dir}/text"], "text is a file, not a folder"),
    "a folder of other things": (["{dir}", "--footage", "{dir}/text"], "other files than a domain's"),
    "a file for the pictures": (["{dir}/d", "--footage", "{dir}/text", "--pictures", "{dir}/text"], "--pictures"),
    "no footage": (["{dir}/d", "--footage", "{dir}/absent"], "absent: no such file"),
    "footage that is none": (["{dir}/d", "--footage", "{dir}/text"], "is it a video, and whole?"),
    "sources that are no text": (["{dir}/d", "--footage", "{dir}/text", "--sources", "{dir}/bytes"], "not UTF-8"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_before_anything_starts(case, tmp_path, capsys):
    (tmp_path / "text").write_text("no video\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    arguments, words = BAD[case]
    assert cli.run(["domain", *(a.format(dir=tmp_path) for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes", "text"]


def test_the_same_codes_stay_where_they_are(tmp_path, random_domain):
    digest = Domain.load(random_domain).digest
    codes = np.random.default_rng(0).normal(size=(40, 6, 8)).astype(np.float32)
    made = write_latents(tmp_path / "kept", [VideoCodes("v", np.arange(40), codes)], domain=digest, fps=25)
    assert domain_card.same_codes(tmp_path / "kept", replace(made, stats={"name": "stats", "sha256": "other bits"}))
    other = write_latents(tmp_path / "other", [VideoCodes("v", np.arange(40), codes + 1)], domain=digest, fps=25)
    assert not domain_card.same_codes(tmp_path / "kept", other)
    assert not domain_card.same_codes(tmp_path / "absent", made)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("seen", "word"), [(False, "faceless"), (True, "still")])
def test_figures_that_cannot_be_had_are_dashes_with_a_reason(seen, word, random_domain):
    """Reconstructions without a face, and ones that never move."""

    class Reader:
        def read(self, frames, **_):
            value = 1.0 if seen else np.nan
            points = np.arange(136, dtype=np.float32).reshape(68, 2) * value
            return Faces(np.repeat(points[None], len(frames), 0), np.full((len(frames), 128), value))

    domain, reader = Domain.load(random_domain), Reader()
    video = AlignedVideo(
        name="made",
        fps=25.0,
        index=np.arange(8),
        crops=np.zeros((8, 32, 32, 3), np.uint8),
        landmarks=np.random.default_rng(0).uniform(4, 28, (8, 68, 2)).astype(np.float32),
        quads=np.zeros((8, 4, 2), np.float32),
    )
    rebuilt, _, _ = domain_report.reconstruction(domain, video, reader)
    people = np.full((1, 128), np.nan)
    subjects, _ = domain_report.random_subjects(domain, np.zeros((1, 16, 16, 3), np.uint8), people, reader, samples=4)
    facts = domain_report.as_facts(rebuilt, subjects)
    json.dumps(facts, allow_nan=False)
    facts["Reconstruction"]["fid"] = 1.0
    text = domain_card.card({"name": "d", "figures": facts}, domain, "0")
    assert f"| correlation of mouth opening | - ({word}) | at least 0.80 | - |" in text
    assert ("median | - (faceless)" in text) == (not seen)
    assert "nan" not in text


@pytest.mark.parametrize(("picture", "place"), [("noise", "reconstructions.png"), ("black", "d")])
def test_a_disk_that_is_full_at_the_end_leaves_the_folder_as_it_was(picture, place, random_domain, tmp_path):
    """At the first sheet of pictures, at the card; with room again, the same call makes the rest."""
    folder = tmp_path / "d"
    shutil.copytree(random_domain, folder, ignore=shutil.ignore_patterns("latents", "moments"))
    codes = [VideoCodes("v", np.arange(30), np.zeros((30, 6, 8), np.float32))]
    write_latents(folder / "latents", codes, domain=Domain.load(folder).digest, fps=25)
    facts = domain_report.as_facts(
        domain_report.Reconstruction(
            frames=30, psnr_face=20.0, psnr_frame=20, ssim=1, identity=0.3, mouth=0.9, eyes=0.9, yaw=0.9, faces=1
        ),
        domain_report.RandomSubjects(samples=40, truncation=0.7, faces=1, known=1, crowding=0.1),
    )
    facts["Reconstruction"]["fid"] = 9.0
    most = 255 if picture == "noise" else 1
    pictures = np.random.default_rng(0).integers(0, most, (40, 16, 16, 3)).astype(np.uint8)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with no_room(1000), pytest.raises(UserError, match=rf"{place}: cannot write \(.*too large"):
        domain_card.write_card(folder, facts, "", pictures, pictures)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".png"}
    assert after == before
    domain_card.write_card(folder, facts, "", pictures, pictures)
    assert "| PSNR inside the face | 20.0 dB |" in (folder / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_whole_command_and_what_a_second_call_keeps(tmp_path, capsys):
    clip = write_video(tmp_path / "me.mkv", talking_face(0, 30))
    folder = tmp_path / "mine"
    call = ["domain", str(folder), "--footage", str(clip), "--device", "cpu", "--pictures", str(tmp_path / "look")]
    assert cli.run([*call, "--steps", "2"]) == 0
    moments = {path.name: path.stat().st_mtime_ns for path in (folder / "moments").iterdir()}
    assert sorted(name.partition("-")[0] for name in moments) == ["original", "wplus"]
    codes = open_latents(folder / "latents", domain=Domain.load(folder).digest)
    assert len(codes.codes) == 30
    assert "nan" not in (folder / "README.md").read_text()
    assert (tmp_path / "look" / "reconstructions_beside_footage.png").exists()

    assert cli.run([*call, "--steps", "1"]) == 0
    assert "give --steps a larger number" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "moments").iterdir()} == moments

    assert cli.run([*call, "--steps", "3"]) == 0
    assert json.loads((folder / "domain.json").read_text())["training"]["steps"] == 3
    assert Domain.load(folder).digest != codes.manifest.domain
    fresh = {path.name for path in (folder / "moments").iterdir()}
    assert len(fresh) == 2
    assert not fresh & set(moments)
