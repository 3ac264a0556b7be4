"""`svgan evaluate`: figures of a run on a random domain, and bad input."""

import json
from pathlib import Path

import pytest
from made_world import check_refused, made_world

from svgan import cli

world = pytest.fixture(made_world, scope="module")


def test_evaluate_writes_figures_with_their_protocol(
    world: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    flags = ["--clips", "2", "--real-clips", "2", "--precision", "float32", "--device", "cpu"]
    assert cli.run(["evaluate", str(world["run"]), *flags, "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["fvd_short"] > 0
    assert figures["fvd_long"] > 0
    for name in ("fvd_short", "fvd_long"):
        low, high = figures["intervals"][name]
        assert low <= figures[name] <= high
        assert low < high
    text = capsys.readouterr().out
    assert figures["protocol_long"] in text
    assert f"{figures['fvd_long']:.1f} ({low:.1f} to {high:.1f})" in text
    assert "biased upwards" in text
    assert json.loads(text.splitlines()[-1]) == figures
    assert figures["step"] == 2


def last_json(capsys: pytest.CaptureFixture) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_evaluate_under_a_protocol_gives_the_same_digits_with_intervals(
    world: dict[str, Path], capsys: pytest.CaptureFixture
):
    run, few = str(world["run"]), ["--clips", "2", "--real-clips", "2", "--latents", str(world["long"])]
    assert cli.run(["evaluate", run, *few]) == 0
    usual = last_json(capsys)
    assert cli.run(["evaluate", run, *few, "--protocol", "svg-long", "--against", run]) == 0
    said = capsys.readouterr().out
    told = json.loads(said.splitlines()[-1])
    assert told["figures"]["fvd_long"]["value"] == usual["fvd_long"]
    assert told["protocols"]["svg-long"]["hash"] == usual["protocol_long"]
    assert told["against"]["fvd_long"] == {"difference": 0, "low": 0, "high": 0, "sure": 0.5, "better": None}
    assert "undecided" in said
    assert "2 generated clips are fewer than 400 features: FVD is biased upwards" in said


def test_evaluate_loops_with_the_footages_own(
    world: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("svgan.reports.html_page.SECONDS", 0.2)
    flags = ["--protocol", "svg-short,svg-long", "--metrics", "loops", "--latents", str(world["long"])]
    assert cli.run(["evaluate", str(world["run"]), *flags, "--report", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "loops/recurrence" in page
    assert page.count("data:image/") == 6
    said = capsys.readouterr().out
    told = json.loads(said.splitlines()[-1])
    assert next(line for line in said.splitlines() if line.startswith("loops/phi")).split()[-1] == "-"
    assert set(told["protocols"]) == {"svg-short"}, "loops have no protocol: they are measured once"
    assert told["figures"]["loops/recurrence"]["footage"] == pytest.approx(0.05, abs=0.01)
    phi = told["figures"]["loops/phi"]
    assert 0 < phi["low"] <= phi["value"] <= phi["high"] < 1.6
    assert phi["footage"] is None, "no noise made the footage"


BAD = {
    "one clip": (["evaluate", "{run}", "--clips", "1"], "at least 2"),
    "nothing to evaluate": (["evaluate"], "give a run or checkpoint"),
    "metrics without a protocol": (["evaluate", "{run}", "--metrics", "kvd"], "--metrics: needs a --protocol"),
    "report without a protocol": (["evaluate", "{run}", "--report", "{new}"], "--report: needs a --protocol"),
    "arcface without a protocol": (
        ["evaluate", "{run}", "--arcface", "{folder}/w.pth"],
        "--arcface: needs a --protocol",
    ),
    "arcface without a file": (
        ["evaluate", "{run}", "--protocol", "svg-short", "--metrics", "arcface", "--latents", "{long}"],
        "give your checkpoint as --arcface FILE",
    ),
    "against without a protocol": (["evaluate", "{run}", "--against", "{run}"], "--against: needs a --protocol"),
    "a protocol of no model": (
        ["evaluate", "--domain", "{domain}", "--footage", "{folder}/w.mp4", "--protocol", "svg-short"],
        "--protocol: is of a model's clips",
    ),
    "unknown protocol": (["evaluate", "{run}", "--protocol", "fvd-16"], "'fvd-16': unknown; one of svg-short"),
    "unknown metric": (["evaluate", "{run}", "--protocol", "svg-short", "--metrics", "is"], "--metrics is: unknown"),
    "too few real clips": (["evaluate", "{run}", "--protocol", "svg-short"], "4 real clips, needs 64"),
    "one video for stylegan-v": (
        ["evaluate", "{run}", "--protocol", "stylegan-v-16", "--latents", "{long}"],
        "stylegan-v-16: 1 real clips, needs 64",
    ),
    "clips shorter than the protocol": (
        ["evaluate", "{run}", "--protocol", "stylegan-v-128"],
        "128 frames, but the longest run",
    ),
    "footage of another domain": (
        ["evaluate", "{run}", "--protocol", "svg-short", "--latents", "{alien}"],
        "these codes belong to domain",
    ),
    "compared with no model": (
        ["evaluate", "{run}", "--protocol", "svg-short", "--latents", "{long}", "--against", "{folder}"],
        "not a checkpoint",
    ),
    "foreign footage": (["evaluate", "{run}", "--footage", "{folder}/w.mp4"], "v is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case: str, world: dict[str, Path], capsys: pytest.CaptureFixture):
    check_refused(*BAD[case], world, capsys)
