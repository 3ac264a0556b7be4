"""Bad input, damage and Ctrl-C: one line with a remedy, an exit code, no traceback, and nothing left behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_world import check_refused, made_world, train

from svgan import cli
from svgan.images.domain import Domain
from svgan.runs import training

world = pytest.fixture(made_world, scope="module")


BAD = {
    "no command": ([], "COMMAND"),
    "unknown command": (["dance"], "dance"),
    "not a number": (["train", "--out", "{new}", "--steps", "many"], "many"),
    "no components": (["embed", "{folder}/a.mp4", "--out", "{new}", "--components", "-3"], "--components -3: must be"),
    "offset without a subject": (["sample", "{run}", "--out", "{new}", "--offset", "wild"], "--offset wild: unknown"),
    "a device of others": (
        ["sample", "{run}", "--out", "{new}", "--device", "tpu"],
        "tpu: not usable here (unknown",
    ),
    "unknown asset": (["assets", "face"], "choose from i3d"),
    "unknown recipe": (["train", "--out", "{new}", "--recipe", "huge"], "tiny, pca, paper"),
    "an option of another system": (
        ["train", "--out", "{new}", "--recipe", "mocogan-hd", "--gap-weight", "1"],
        "gap_weight: no such field of a run; known are basis",
    ),
    "a domain too small for another system": (
        ["train", "--out", "{new}", "--recipe", "mocogan-hd", "--domain", "{domain}", "--latents", "{one}"],
        "components: 48, but W of this domain has 8",
    ),
    **{
        f"fewer frames than anchors, {recipe}": (
            ["train", "--out", "{new}", "--recipe", recipe, "--domain", "{domain}", "--latents", "{short}"],
            "has 14, fewer than from one anchor to the next; embed longer footage",
        )
        for recipe in ("stylegan-v-codes", "stylegan-v")
    },
    "recorded frames where codes are learned from": (
        ["train", "--out", "{new}", "--domain", "{domain}", "--latents", "{one}", "--footage", "{folder}/me.mp4"],
        "--footage: tiny learns from codes alone; leave it out",
    ),
    "frames where none are kept": (
        [
            "train",
            "--out",
            "{new}",
            "--recipe",
            "stylegan-v",
            "--domain",
            "{domain}",
            "--latents",
            "{one}",
            "--footage",
        ],
        "keeps no recorded frames beside its codes; embed the videos",
    ),
    **{
        f"--set {words}": (
            ["train", "--out", "{new}", "--recipe", "mocogan-hd", "--steps", "3", "--set", *words.split()],
            said,
        )
        for words, said in {
            "basis": "--set basis: write FIELD=VALUE, as in batch=4",
            "batch=2 batch=4": "--set batch: given twice; leave one out",
            "steps=4": "--set steps: given twice (--steps); leave one out",
            "recipe=tiny": "--set recipe: is what --recipe says",
            "frames=0": "frames: no such field of a run; known are basis",
            "basis=maybe": "basis: must be true or false, got 'maybe'",
        }.items()
    },
    "unknown critic": (["train", "--out", "{new}", "--critic", "loud"], "tconv, multiscale, holistic"),
    "unknown iteration": (["train", "--out", "{new}", "--iteration", "quick"], "plain, fast"),
    "negative weight": (["train", "--out", "{new}", "--gap-weight", "-1", *["--domain", "{domain}"]], "gap_weight"),
    "no domain": (["train", "--out", "{new}", "--domain", "{folder}/nowhere"], "domain.json"),
    "codes of another domain": (
        ["train", "--out", "{new}", "--domain", "{domain}", "--latents", "{alien}"],
        "these codes belong to domain 0000",
    ),
    "no latents": (
        ["train", "--out", "{new}", "--domain", "{domain}", "--latents", "{folder}"],
        "no manifest.json",
    ),
    "a place that is taken": (
        ["train", "--out", "{run}", "--domain", "{domain}", "--latents", "{one}"],
        "--resume to go on",
    ),
    "nothing to resume": (["train", "--out", "{new}", "--resume"], "run.json is missing"),
    "report-every": (
        ["train", "--out", "{new}", "--domain", "{domain}", "--latents", "{one}", "--report-every", "0"],
        "--report-every 0",
    ),
    "unwritable": (
        ["train", "--out", "{run}/run.json/x", "--domain", "{domain}", "--latents", "{one}"],
        "cannot write",
    ),
    "no such device": (["sample", "{run}", "--out", "{new}", "--device", "abacus"], "--device abacus"),
    "no checkpoint": (["sample", "{folder}", "--out", "{new}"], "not a checkpoint"),
    "unknown suffix": (["sample", "{run}", "--out", "{new}.avi"], ".mp4, .gif"),
    "no frames": (["sample", "{run}", "--out", "{new}", "--frames", "0"], "--frames 0"),
    "no frames of a subject": (
        ["sample", "{run}", "--out", "{new}", "--subject", "{two}", "--frames", "0"],
        "--frames 0: must be",
    ),
    "no clips of a subject": (
        ["sample", "{run}", "--out", "{new}", "--subject", "{two}", "--clips", "0"],
        "--clips 0: must be",
    ),
    "truncation": (["sample", "{run}", "--out", "{new}", "--truncation", "2"], "truncation"),
    "no truncation at all": (["sample", "{run}", "--out", "{new}", "--truncation", "0"], "truncation"),
    "unknown offset": (["sample", "{run}", "--out", "{new}", "--subject", "{two}", "--offset", "odd"], "--offset odd"),
    "alien subject": (["sample", "{run}", "--out", "{new}", "--subject", "{alien}"], "these codes belong to"),
    "no subject": (["sample", "{run}", "--out", "{new}", "--subject", "{folder}/nobody.jpg"], "no manifest.json"),
    "a subject that is no picture": (
        ["sample", "{run}", "--out", "{new}", "--subject", "{run}/run.json"],
        "neither a picture nor a set of latents",
    ),
    "figures of no subject": (["sample", "{run}", "--out", "{new}", "--json", "{new}.json"], "--json: figures are"),
    "paste into nothing": (["sample", "{run}", "--out", "{new}", "--paste-back", "{folder}/w.mp4"], "no such file"),
    "paste several clips": (
        ["sample", "{run}", "--out", "{new}", "--paste-back", "{run}/clip.mp4", "--clips", "2"],
        "--clips 2: one face",
    ),
    "paste into another video": (
        ["sample", "{run}", "--out", "{new}", "--paste-back", "{run}/clip.mp4"],
        "not a video that was embedded into",
    ),
    "embed without a domain": (["embed", "{folder}/a.mp4", "--out", "{new}", "--domain", "{folder}"], "domain.json"),
    "embed nothing": (["embed", "{folder}/a.mp4", "--out", "{new}", "--domain", "{domain}"], "no such file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case: str, world: dict[str, Path], capsys: pytest.CaptureFixture):
    check_refused(*BAD[case], world, capsys)


def test_a_damaged_checkpoint_and_a_broken_record(world: dict[str, Path], tmp_path: Path, capsys):
    shutil.copytree(world["run"], tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").rglob("tensors.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    assert cli.run(["sample", str(tmp_path / "run"), "--out", str(tmp_path / "c.mp4"), "--device", "cpu"]) == 2
    assert "damaged" in capsys.readouterr().err
    (tmp_path / "run" / "run.json").write_text("{}")
    assert cli.run(["train", "--out", str(tmp_path / "run"), "--resume"]) == 2
    assert "run.json" in capsys.readouterr().err
    assert not (tmp_path / "c.mp4").exists()


def test_another_domains_checkpoint(world: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture):
    from svgan.images.domain import save_domain

    torch.manual_seed(1)
    domain = Domain.load(world["domain"])
    domain.generator.const.data += 1
    save_domain(tmp_path / "other", domain.generator, domain.encoder, {"name": "other"})
    flags = ["--domain", str(tmp_path / "other"), "--out", str(tmp_path / "c.mp4"), "--device", "cpu"]
    assert cli.run(["sample", str(world["run"]), *flags]) == 2
    assert "give its --domain" in capsys.readouterr().err


def test_a_failing_video_is_told_once(tmp_path: Path, random_domain: Path, capsys: pytest.CaptureFixture):
    bad = tmp_path / ("a-long-name-" * 16 + ".mp4")
    bad.write_text("no video\n")
    assert cli.run(["embed", str(bad), "--out", str(tmp_path / "x"), "--domain", str(random_domain)]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count(bad.name) == 1
    assert "Errno" not in error


def test_interrupt_is_130_without_traceback(world: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    assert train(world, "interrupted", "--steps", "2") == 130
    assert "--resume" in capsys.readouterr().err


def test_as_a_process_without_a_traceback(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "svgan.cli", "train", "--out", "x", "--steps", "many"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent)},
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("svgan: ")
    assert "Traceback" not in done.stderr
