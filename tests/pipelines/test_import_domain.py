"""`svgan import`: checkpoints to domains that the other commands take; what does not fit ends in one line."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import nvidia, psp, rosinality, save_nvidia, small_psp
from full_disk import no_room
from video_files import talking_face, write_video

from svgan import cli
from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.images.foreign_generators import find_generator
from svgan.io.torch_file import read
from svgan.latents.manifest import VideoCodes
from svgan.latents.shards import write_latents
from svgan.pipelines.embed import embed
from svgan.pipelines.import_domain import import_domain
from svgan.pipelines.make_domain import make_domain
from svgan.runs import training

WIDTHS = {4: 16, 8: 16, 16: 12, 32: 8}
LAYERS = 8
VECTORS = Path(__file__).parents[1] / "vectors"
small = pytest.fixture(small_psp)


@pytest.fixture
def files(small, tmp_path) -> dict[str, Path]:
    """Checkpoints by layout, of 32 px, 8 W+ layers of width 32."""
    state = rosinality(32, WIDTHS, 2)
    made = {"rosinality": {"g_ema": state, "g": {}, "d": {}, "latent_avg": torch.randn(32), "args": None}}
    made |= {"psp": psp(LAYERS), "e4e": psp(LAYERS, "Encoder4Editing"), "whole": psp(LAYERS, decoder=state)}
    for name, tree in made.items():
        torch.save(tree, tmp_path / f"{name}.pt")
    paths = {name: tmp_path / f"{name}.pt" for name in made}
    return paths | {"nvidia": save_nvidia(tmp_path / "nvidia.pkl", nvidia(32, WIDTHS, 2)), "out": tmp_path / "made"}


def run(*arguments: object) -> int:
    return cli.run(["import", *map(str, arguments), "--device", "cpu"])


@pytest.mark.parametrize(
    ("name", "layout"), [("rosinality_stylegan2_32.pt", "rosinality's"), ("nvidia_stylegan2_ada_32.pkl", "NVIDIA's")]
)
def test_a_domain_renders_what_the_checkpoint_does(name, layout, tmp_path, capsys):
    """The vectors' own files, through the folder that is written."""
    assert run(VECTORS / name, "--out", tmp_path / "d") == 0
    said = capsys.readouterr().out
    assert f"generator: {layout} StyleGAN2, 32 px, 8 W+ layers of width 32" in said
    assert "average code: from the file" in said
    assert "encoder: none" in said
    domain = Domain.load(tmp_path / "d")
    expected = np.load(VECTORS / f"{Path(name).stem}_expected.npz")
    pictures = domain.generator(torch.from_numpy(expected["wplus"])).numpy()
    assert np.abs(pictures - expected["image_const"]).max() < 1e-4
    assert (tmp_path / "d" / "subjects.png").stat().st_size > 1000
    assert f"Digest of the weights `{domain.digest}`" in (tmp_path / "d" / "README.md").read_text()
    assert "none: this domain renders" in (tmp_path / "d" / "README.md").read_text()


def test_generator_and_encoder_of_two_files(files, capsys):
    assert run(files["rosinality"], "--encoder", files["e4e"], "--out", files["out"]) == 0
    said = capsys.readouterr().out
    assert "ignored in rosinality.pt: g, d, args" in said
    assert "encoder: e4e, 8 codes from 256 px crops, alignment ffhq" in said
    assert "doubtful: the average codes of encoder and generator are far apart" in said
    domain = Domain.load(files["out"])
    pictures = np.random.default_rng(0).integers(0, 255, (2, 256, 256, 3), np.uint8)
    codes = domain.encode(pictures)
    assert codes.shape == (2, 8, 32)
    assert domain.render(codes).shape == (2, 32, 32, 3)
    assert "e4e, from `e4e.pt`" in (files["out"] / "README.md").read_text()
    assert "256 px, alignment ffhq" in (files["out"] / "README.md").read_text()


def test_a_psp_checkpoint_with_its_decoder_is_all_that_is_needed(files, capsys):
    assert run(files["whole"], "--out", files["out"]) == 0
    said = capsys.readouterr().out
    assert "generator: the decoder of a pSp checkpoint, 32 px" in said
    assert "encoder: pSp, 8 codes" in said
    assert "doubtful" not in said
    assert Domain.load(files["out"]).encode(np.zeros((1, 256, 256, 3), np.uint8)).shape == (1, 8, 32)


def test_an_encoder_of_another_generator_is_said_to_be_doubtful(files, capsys):
    assert run(files["nvidia"], "--encoder", files["whole"], "--out", files["out"]) == 0
    assert "doubtful: the encoder's file holds a generator of its own" in capsys.readouterr().out


def test_an_encoder_without_average_code_takes_the_generators(files, tmp_path, capsys):
    tree = psp(LAYERS)
    del tree["latent_avg"]
    torch.save(tree, tmp_path / "bare.pt")
    assert run(files["rosinality"], "--encoder", tmp_path / "bare.pt", "--out", files["out"]) == 0
    assert "its average code: not in the file: the generator's" in capsys.readouterr().out
    domain = Domain.load(files["out"])
    assert torch.equal(domain.encoder.latent_avg, domain.generator.w_avg.expand(8, 32))


def test_encoders_for_other_things_than_faces_are_doubtful_and_embed_refuses(files, tmp_path, capsys):
    torch.save(psp(LAYERS, dataset_type="cars_encode"), tmp_path / "cars.pt")
    assert run(files["rosinality"], "--encoder", tmp_path / "cars.pt", "--out", files["out"]) == 0
    assert "doubtful: trained on cars_encode" in capsys.readouterr().out
    with pytest.raises(UserError, match="made for the alignment of cars_encode"):
        embed(["no.mp4"], Domain.load(files["out"]), tmp_path / "codes")


def last_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_training_sampling_and_evaluating_in_an_imported_domain(files, tmp_path, monkeypatch, capsys):
    """All commands to their end, FVD by I3D itself; nobody finds a face in random pictures, and that is said."""
    monkeypatch.setattr(training, "CLIP_FRAMES", 30)
    assert run(files["whole"], "--out", files["out"]) == 0
    domain, rng = Domain.load(files["out"]), np.random.default_rng(0)
    walk = np.cumsum(0.1 * rng.normal(size=(60, 8, 32)), 0).astype(np.float32)
    write_latents(tmp_path / "codes", [VideoCodes("v", np.arange(60), walk)], domain=domain.digest, fps=25)
    where = ["--domain", str(files["out"]), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert cli.run(["train", "--latents", str(tmp_path / "codes"), "--steps", "2", *where]) == 0
    sample = ["sample", str(tmp_path / "run"), "--frames", "3", "--out", str(tmp_path / "f"), "--device", "cpu"]
    assert cli.run(sample) == 0
    assert len(list((tmp_path / "f").glob("*.png"))) == 3
    capsys.readouterr()
    few = ["--clips", "2", "--real-clips", "2", "--device", "cpu"]
    assert cli.run(["evaluate", str(tmp_path / "run"), *few]) == 0
    figures = last_json(capsys)
    assert figures["domain"] == domain.digest
    assert min(figures["fvd_short"], figures["fvd_long"]) > 0
    assert "fvd_short_original" not in figures, "no frames belong to made codes"
    video = write_video(tmp_path / "me.mkv", talking_face(0, 60), fps=1)
    assert cli.run(["evaluate", "--domain", str(files["out"]), "--footage", str(video), "--device", "cpu"]) == 0
    figures = last_json(capsys)["figures"]
    assert figures["psnr_frame"]["low"] <= figures["psnr_frame"]["value"] < 20
    assert figures["faces"]["value"] == 0
    assert figures["identity"]["value"] is figures["identity"]["low"] is None
    assert cli.run(["train", *where[:2], "--out", str(tmp_path / "other")]) == 2
    assert "an imported domain has no codes of its own; make some of footage" in capsys.readouterr().err


def test_codes_of_a_domain_that_was_imported_again_are_refused(files, tmp_path, capsys):
    """Another checkpoint under the old name: the digest in the codes is the old one's."""
    assert run(files["whole"], "--out", files["out"]) == 0
    codes = np.zeros((60, 8, 32), np.float32)
    digest = Domain.load(files["out"]).digest
    write_latents(tmp_path / "codes", [VideoCodes("v", np.arange(60), codes)], domain=digest, fps=25)
    shutil.rmtree(files["out"])
    assert run(files["nvidia"], "--out", files["out"]) == 0
    where = ["--domain", str(files["out"]), "--latents", str(tmp_path / "codes"), "--out", str(tmp_path / "run")]
    assert cli.run(["train", *where, "--device", "cpu"]) == 2
    assert digest[:12] in capsys.readouterr().err


def test_what_decides_codes_and_pictures_is_in_the_digest(files):
    """The same weights as pSp and as e4e make other codes, so they are another domain."""
    for kind in ("psp", "e4e"):
        import_domain(files["rosinality"], files[kind], files["out"] / kind)
    first, second = (Domain.load(files["out"] / kind) for kind in ("psp", "e4e"))
    assert first.facts["weights"] == second.facts["weights"]
    assert first.digest != second.digest


def test_embedding_without_an_encoder_is_refused_in_one_line(files, tmp_path, capsys):
    assert run(files["nvidia"], "--out", files["out"]) == 0
    assert cli.run(["embed", "me.mp4", "--domain", str(files["out"]), "--out", str(tmp_path / "codes")]) == 2
    assert "has no encoder, so nothing can be embedded in it; import the generator again" in capsys.readouterr().err
    assert not (tmp_path / "codes").exists()


def test_an_imported_domain_is_not_trained_over(files, tmp_path):
    assert run(files["nvidia"], "--out", files["out"]) == 0
    with pytest.raises(UserError, match="an imported domain, which svgan domain does not train"):
        make_domain(
            files["out"], tmp_path / "me.mp4", name="x", device=torch.device("cpu"), say=print, progress=lambda *_: None
        )


def other_size(files: dict[str, Path]) -> list:
    torch.save({"g_ema": rosinality(32, {4: 8, 8: 8, 16: 8}, 2)}, files["out"].parent / "small.pt")
    return [files["out"].parent / "small.pt", "--encoder", files["psp"]]


def other_width(files: dict[str, Path]) -> list:
    torch.save({"g_ema": rosinality(16, WIDTHS, 2)}, files["out"].parent / "narrow.pt")
    return [files["out"].parent / "narrow.pt", "--encoder", files["psp"]]


def forged(files: dict[str, Path]) -> list:
    network = nvidia(32, WIDTHS, 2)
    for layer in network.state["_modules"]["mapping"].state["_modules"].values():
        layer.state["bias_gain"] = "fast"
    return [save_nvidia(files["out"].parent / "forged.pkl", network)]


def scalar_constant(files: dict[str, Path]) -> list:
    tree = torch.load(files["whole"])
    tree["state_dict"]["decoder.input.input"] = torch.tensor(1.0)
    torch.save(tree, files["out"].parent / "scalar.pt")
    return [files["nvidia"], "--encoder", files["out"].parent / "scalar.pt"]


def endless_name(files: dict[str, Path]) -> list:
    tree = rosinality(32, WIDTHS, 2)
    torch.save({"g_ema": tree, "state_dict": {10**5000: torch.zeros(1)}}, files["out"].parent / "endless.pt")
    return [files["out"].parent / "endless.pt"]


def text(files: dict[str, Path]) -> list:
    (files["out"].parent / "notes.pt").write_text("these are notes, not weights")
    return [files["out"].parent / "notes.pt"]


def taken(files: dict[str, Path]) -> list:
    files["out"].mkdir()
    return [files["nvidia"]]


BAD = {
    "another resolution": (other_size, r"8 codes of .* for a generator of 32 px; .*small\.pt is of 16 px and takes 6"),
    "another width": (other_width, r"8 codes of width 32, .*narrow\.pt is of 32 px and takes 8 of width 16"),
    "no generator in it": (lambda files: [files["psp"]], "an encoder without a generator"),
    "no encoder in it": (
        lambda files: [files["nvidia"], "--encoder", files["rosinality"]],
        r"rosinality\.pt: no pSp or e4e encoder .*; it holds g_ema, g, d, latent_avg, args",
    ),
    "not a checkpoint": (text, r"notes\.pt: not a checkpoint: neither torch\.save nor pickle wrote it"),
    "a forged one": (forged, r"forged\.pkl: not laid out as its keys promise"),
    "a constant without a shape": (scalar_constant, r"scalar\.pt: not laid out as its keys promise"),
    "a name of 5001 digits": (endless_name, r"endless\.pt: not laid out as its keys promise"),
    "missing": (lambda files: ["nothing.pt"], r"nothing\.pt: no such file"),
    "a taken place": (taken, r"--out .*made: exists already; give a new folder"),
    "a place within a file": (
        lambda files: [files["nvidia"], "--out", files["nvidia"] / "d"],
        "is a file, not a folder; give another place",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_ends_in_one_line_with_nothing_written(what, files, capsys):
    make, message = BAD[what]
    arguments = make(files)
    before = sorted(files["out"].parent.rglob("*"))
    assert run(*arguments, *([] if "--out" in arguments else ["--out", files["out"]])) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said), said
    assert sorted(files["out"].parent.rglob("*")) == before


def test_a_full_disk_leaves_nothing_behind(files):
    with no_room(20_000), pytest.raises(UserError, match=r"--out .*cannot be written \(.*nothing of it is kept"):
        import_domain(files["nvidia"], None, files["out"])
    assert not list(files["out"].parent.glob("*made*"))


def test_who_may_read_the_folder_is_the_umasks_to_say(files):
    before = os.umask(0o027)
    try:
        import_domain(files["whole"], None, files["out"])
    finally:
        os.umask(before)
    assert files["out"].stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in files["out"].iterdir()} == {0o640}


def test_a_checkpoint_whose_pictures_are_not_finite_is_refused(files, tmp_path):
    state = rosinality(32, WIDTHS, 2)
    for name in ("weight", "modulation.bias"):
        state[f"to_rgb1.conv.{name}"] *= 1e38
    torch.save({"g_ema": state}, tmp_path / "wild.pt")
    with pytest.raises(UserError, match=r"wild\.pt: makes pictures that are not finite"):
        import_domain(tmp_path / "wild.pt", None, files["out"])


def test_every_tensor_of_the_generator_is_in_the_folder(files):
    import_domain(files["nvidia"], None, files["out"])
    kept = Domain.load(files["out"]).generator.state_dict()
    found = find_generator(read(files["nvidia"]), files["nvidia"]).generator.state_dict()
    assert kept.keys() == found.keys()
    assert all(torch.equal(kept[name], found[name]) for name in kept)
    assert json.loads((files["out"] / "domain.json").read_text())["imported"]["generator"]["file"] == "nvidia.pkl"
