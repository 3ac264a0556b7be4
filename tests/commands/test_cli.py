"""The commands: frozen options, help, and a run from training to clips on a random domain. `svgan evaluate` has a file
of its own, and so has bad input."""

import json
from pathlib import Path

import pytest
import torch
from made_world import made_world, train

from svgan import cli
from svgan.io.video_reader import frame_rate, read_frames
from svgan.runs.folder import Run
from svgan.training.recipes import make, names

OPTIONS = {
    "assets": ["NAME"],
    "import": ["--device", "--encoder", "--out", "CHECKPOINT"],
    "embed": ["--components", "--device", "--domain", "--frames", "--out", "VIDEO"],
    "train": [
        "--critic",
        "--device",
        "--domain",
        "--footage",
        "--gap-weight",
        "--iteration",
        "--latents",
        "--out",
        "--pictures",
        "--recipe",
        "--report-every",
        "--resume",
        "--seed",
        "--set",
        "--steps",
        "--width",
    ],
    "sample": [
        "--clips",
        "--device",
        "--domain",
        "--fps",
        "--frames",
        "--json",
        "--offset",
        "--out",
        "--paste-back",
        "--seed",
        "--share",
        "--start",
        "--subject",
        "--truncation",
        "RUN",
    ],
    "predict": [
        "--clips",
        "--device",
        "--domain",
        "--first-frame",
        "--footage",
        "--frames",
        "--json",
        "--latents",
        "--out",
        "--seed",
        "RUN",
    ],
    "evaluate": [
        "--against",
        "--arcface",
        "--clips",
        "--device",
        "--domain",
        "--footage",
        "--json",
        "--latents",
        "--metrics",
        "--precision",
        "--protocol",
        "--real-clips",
        "--report",
        "--seed",
        "RUN",
    ],
    "domain": [
        "--device",
        "--footage",
        "--name",
        "--others",
        "--pictures",
        "--sources",
        "--steps",
        "DIR",
    ],
}


def subcommands() -> dict:
    actions = cli.parser()._subparsers._group_actions
    return actions[0].choices


def test_the_command_line_is_frozen():
    """A new option is a decision: change this list with it, and the documents where they show the command."""
    found = {
        name: sorted(a.option_strings[-1] if a.option_strings else a.metavar for a in p._actions if a.dest != "help")
        for name, p in subcommands().items()
    }
    assert found == OPTIONS


def test_help_teaches(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        cli.run(["--help"])
    text = capsys.readouterr().out
    for name, command in subcommands().items():
        assert f"    {name} " in text  # with a phrase behind it
        assert f"  svgan {name}" in command.description, "an example"
        assert name == "assets" or "Cost:" in command.description


world = pytest.fixture(made_world, scope="module")


def test_train_leaves_a_run(world: dict[str, Path]):
    run = world["run"]
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoints",
        "clip.mp4",
        "contact_sheet.png",
        "figures.json",
        "run.json",
    ]
    assert [f["step"] for f in json.loads((run / "figures.json").read_text())] == [2, 4]
    assert len(list(read_frames(run / "clip.mp4"))) == 30
    assert frame_rate(run / "clip.mp4") == 25


def test_resumed_equals_undisturbed(world: dict[str, Path], capsys: pytest.CaptureFixture):
    flags = ("--report-every", "2", "--gap-weight", "7", "--critic", "holistic", "--seed", "3", "--iteration", "fast")
    assert train(world, "whole", "--steps", "4", *flags) == 0
    assert train(world, "halves", "--steps", "2", *flags) == 0
    halves = world["folder"] / "halves"
    assert cli.run(["train", "--out", str(halves), "--resume", "--steps", "4", "--device", "cpu"]) == 0
    one, two = (
        (world["folder"] / name / "checkpoints" / "step-00000004" / "tensors.safetensors").read_bytes()
        for name in ("whole", "halves")
    )
    assert one == two
    record = json.loads((halves / "run.json").read_text())
    assert record["config"]["steps"] == 4
    assert record["config"]["gap_weight"] == 7
    assert record["config"]["iteration"] == "fast"
    assert len(json.loads((halves / "figures.json").read_text())) == 2

    assert cli.run(["train", "--out", str(halves), "--resume", "--width", "8"]) == 2
    assert "width (the run to be resumed has 32, asked for is 8)" in capsys.readouterr().err
    for flags, words in (
        (("--recipe", "pca", "--seed", "5"), "--recipe pca: the run to be resumed is of tiny"),
        (
            ("--seed", "5", "--critic", "tconv"),
            "asked for is 5), critic (the run to be resumed has holistic, asked for is tconv)",
        ),
        (("--steps", "3"), "--steps 3: the run in "),
    ):
        assert cli.run(["train", "--out", str(halves), "--resume", *flags]) == 2
        assert words in capsys.readouterr().err
        assert json.loads((halves / "run.json").read_text()) == record


def test_sample_is_repeatable_and_moves_subjects(world: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture):
    common = ["sample", str(world["run"]), "--device", "cpu", "--frames", "12"]
    moved = ["--subject", str(world["two"])]
    for name in ("a", "b"):
        assert cli.run([*common, "--out", str(tmp_path / name)]) == 0
    assert (
        cli.run(
            [*common, "--out", str(tmp_path / "c"), *moved, "--offset", "plain", "--json", str(tmp_path / "c.json")]
        )
        == 0
    )
    assert cli.run([*common, "--out", str(tmp_path / "d"), "--truncation", "0.5"]) == 0
    a, b, c, d = ([p.read_bytes() for p in sorted((tmp_path / name).iterdir())] for name in "abcd")
    assert len(a) == 12
    assert a == b
    assert a != c != d
    figures = json.loads((tmp_path / "c.json").read_text())
    assert figures["offset"] == "plain"
    assert figures["frames"] == 12
    assert figures["mouth"] is None  # a random domain shows no face
    assert "no frame shows a face" in capsys.readouterr().out
    assert cli.run([*common, "--clips", "3", "--out", str(tmp_path / "grid.gif")]) == 0
    assert cli.run([*common, "--out", str(tmp_path / "clip.mp4")]) == 0
    assert len(list(read_frames(tmp_path / "clip.mp4"))) == 12


@pytest.mark.parametrize(("asked", "threads"), [(None, 1), ("3", 3)])
def test_small_recipes_take_one_thread_unless_told_otherwise(asked, threads, world: dict[str, Path], monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)  # as torch does by itself, from the variable or the cores
        assert train(world, f"threads-{asked}", "--steps", "1") == 0
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_any_field_of_a_recipe_can_be_set_and_is_remembered(
    world: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    where = ["--latents", str(world["one"]), "--domain", str(world["domain"]), "--device", "cpu"]
    small = "memory=6 components=6 mapping_samples=500 critic_size=8 batch=2 window=4 embedding=5 queue=8 n_generator=1"
    own = "form=paper basis=true lr=1e-3 video_widths=4,6 image_widths=4,6"
    flags = ["--recipe", "mocogan-hd-cross", "--steps", "1", "--set", *small.split(), *own.split()]
    assert cli.run(["train", "--out", str(tmp_path / "run"), *where, *flags]) == 0
    config = Run.load(tmp_path / "run").config
    assert (config.form, config.basis, config.lr, config.video_widths) == ("paper", True, 1e-3, (4, 6))
    again = ["train", "--out", str(tmp_path / "run"), "--resume", "--steps", "2", "--device", "cpu"]
    assert cli.run([*again, "--set", "lr=5e-4"]) == 2
    assert "lr (the run to be resumed has 0.001, asked for is 0.0005)" in capsys.readouterr().err
    assert cli.run(again) == 0
    assert Run.load(tmp_path / "run").config.form == "paper"


def test_fields_of_a_recipe_are_listed_with_its_values(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended:
        cli.run(["train", "--recipe", "stylegan-v", "--set", "help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out.splitlines()
    assert "window=33 " in said[0]
    assert "Frames of the footage that a clip is drawn from." in said[0]
    assert any(line.split()[0] == "r1_gamma=null" for line in said)


def test_help_states_what_the_recipes_use():
    """'(1)' behind an option of train is what every recipe has; what differs is said by recipe."""
    texts = {action.dest: action.help or "" for action in subcommands()["train"]._actions}
    every = {name: make(name) for name in names()}
    made = {name: config for name, config in every.items() if config.system == "codes"}
    assert all(name in texts["recipe"] for name in every)
    assert {config.seed for config in every.values()} == {0}
    assert {name: config.critic for name, config in made.items() if config.critic != "tconv"} == {
        "stylegan-v-codes": "holistic"
    }
    assert "(tconv; stylegan-v-codes holistic)" in texts["critic"]
    for field in ("width", "seed"):
        (value,) = {getattr(config, field) for config in made.values()}
        assert f"({value})" in texts[field]
    weights = {name: config.gap_weight for name, config in made.items()}
    assert weights == {"tiny": 1, "pca": 100, "paper": 100, "stylegan-v-codes": 0}
    assert "(tiny 1, stylegan-v-codes 0, else 100)" in texts["gap_weight"]


def test_assets_print_where_their_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    from svgan.assets import cache

    monkeypatch.setattr(cache, "paths", lambda name: [tmp_path / f"{name}.webm"])
    assert cli.run(["assets", "talking-face"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/talking-face.webm\n"
