"""`python -m sweeps evaluate` on a model that was trained, scored and logged here as a trial's rank 0 does."""

import json
from pathlib import Path

import made_studies as made
import pytest
import torch
from test_reproduce import SMALL

from sweeps import __main__ as commands
from sweeps.tracking.client import sweep_models
from sweeps.tracking.trial_log import TrialLog


@pytest.fixture(scope="module")
def trial(tmp_path_factory, database, footage):
    """A study whose trial 0 logged its best generator with FVD on two clips."""
    from svgan.images.domain import Domain
    from svgan.latents.clips import ClipSource
    from svgan.latents.shards import open_latents
    from svgan.latents.spaces import make_space
    from svgan.metrics.protocol import usual_precision
    from svgan.sampling.sampler import Sampler
    from svgan.training import recipes
    from svgan.training.data import Material
    from svgan.training.loop import train
    from sweeps.trial.artifacts import FIGURES, export_generator, protocols, score

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("evaluate")
    domain, latents = Domain.load(footage[0]), open_latents(footage[1])
    precision = usual_precision("cpu")
    digests = {"domain": domain.digest, "latents": latents.digest, **protocols(2, precision)}
    change = {"domain": footage[0], "latents": footage[1], "clips": 2, "precision": precision}
    study = made.study(folder, database, "study", digests=tuple(digests.items()), **change)
    run = recipes.make("tiny", **SMALL | {"steps": 2})
    clips = ClipSource(latents, run.window, make_space(run.space, latents, run.components), "cpu")
    meta = {"domain": domain.digest, "latents": latents.digest, "fps": 25.0}
    state = train(run, clips, meta=meta)
    from svgan.training import checkpoint

    checkpoint.save(state, folder / "state")
    export_generator(folder / "state", folder / "best")
    study.tracking.trial(0)
    log = TrialLog(study.plan, 0)
    log.open(run.to_json())
    log.model(2, folder / "best", study.plan.tags, {})
    log.metrics(2, {"latent_fd": 1.0}, 2)
    figures = score(Sampler.load(folder / "best"), Material(domain=domain, latents=latents), study.plan)
    assert set(figures) == set(FIGURES[:2])
    log.metrics(2, figures, 2)
    study.figures = figures
    return study


@pytest.fixture
def here(trial, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return trial


def evaluate(capsys, study, *arguments) -> tuple[dict, str]:
    """The last line's JSON, and all that was said."""
    where = ["--storage", study.plan.output.storage, "--tracking", study.plan.output.tracking]
    commands.main(["evaluate", *arguments, *where])
    said = capsys.readouterr().out
    return json.loads(said.splitlines()[-1]), said


def test_what_a_trial_logged_comes_again_in_every_digit(capsys, here):
    found, said = evaluate(capsys, here, "study:0", "--protocol", "svg-long")
    value = here.figures["fvd_long"]
    assert found["figures"]["fvd_long"]["value"] == value
    assert found["logged"] == {"fvd_long": {"value": value, "equal": True}}
    assert "equal in every digit" in said
    assert found["protocols"]["svg-long"]["hash"] == here.plan.tags["protocol.long"]


def test_a_model_against_itself_is_undecided(capsys, here):
    asked = ["--against", "study:0", "--protocol", "svg-short", "--metrics", "fvd,loops"]
    found, said = evaluate(capsys, here, "study:0", *asked)
    assert found["against"]["fvd_short"] == {"difference": 0, "low": 0, "high": 0, "sure": 0.5, "better": None}
    assert found["logged"]["fvd_short"]["equal"]
    assert "undecided" in said


def test_a_registered_model_by_alias_version_and_id(capsys, here):
    (model,) = sweep_models(here.tracking.client, here.tracking.experiment, "study", 0)
    client = here.tracking.client
    client.create_registered_model("m")
    client.create_model_version("m", source=f"models:/{model.model_id}", model_id=model.model_id)
    client.set_registered_model_alias("m", "champion", "1")
    asked = ["--protocol", "svg-short", "--metrics", "loops"]
    found = [
        evaluate(capsys, here, uri, *asked)[0]
        for uri in ("models:/m@champion", "models:/m/1", f"models:/{model.model_id}")
    ]
    assert found[0] == found[1] == found[2]
    assert found[0]["model"] == f"models:/{model.model_id}"
    assert found[0]["logged"] == {}
    assert found[0]["figures"]["loops/still"]["footage"] is not None


def test_a_figure_that_was_logged_otherwise_is_said(here):
    from sweeps.commands.evaluate import compared

    (model,) = sweep_models(here.tracking.client, here.tracking.experiment, "study", 0)
    from svgan.reports.evaluation import chosen

    figures = {"fvd_short": {"value": here.figures["fvd_short"] * (1 + 2**-40)}}
    found = compared(model, chosen("svg-short", None, None, "float32"), figures)
    assert found == {"fvd_short": {"value": here.figures["fvd_short"], "equal": False}}


def test_log_adds_what_the_model_has_not(capsys, here, monkeypatch, tmp_path):
    from svgan.reports.evaluation import chosen
    from sweeps.commands.evaluate import Logged, keep

    monkeypatch.setattr("svgan.reports.html_page.SECONDS", 0.2)
    (model,) = sweep_models(here.tracking.client, here.tracking.experiment, "study", 0)
    asked = ["study:0", "--protocol", "svg-short", "--metrics", "loops", "--log"]
    _, said = evaluate(capsys, here, *asked, "--report", str(tmp_path / "page.html"))
    assert "loops/phi" in said
    assert "logged to its run: reports/step-000002.html" in said
    page = here.tracking.client.download_artifacts(model.source_run_id, "reports/step-000002.html")
    assert Path(page).read_text() == (tmp_path / "page.html").read_text()
    assert "study, trial 0, step 2" in (tmp_path / "page.html").read_text()
    _, said = evaluate(capsys, here, "study:0", "--protocol", "svg-short", "--metrics", "loops", "--log")
    assert "nothing new" in said

    figures = {name: {"value": 7.0} for name in ("fvd_long", "kvd_long", "fvd/stylegan-v-16", "fvd_short")}
    own = chosen("svg-short", 2, None, here.plan.judging.precision)
    asked = [*own, *chosen("svg-long,stylegan-v-16", 9, None, here.plan.judging.precision)]
    hashes = {protocol.name: {"hash": protocol.hash} for protocol in asked}
    long = hashes["svg-long"]["hash"]
    added = keep(Logged(here.plan, model), {"figures": figures, "protocols": hashes})
    assert added == sorted(["fvd/stylegan-v-16", f"fvd_long/{long}", f"kvd_long/{long}"]), "fvd_short was there"
    again = here.tracking.client.get_logged_model(model.model_id)
    assert again.tags["protocol.stylegan-v-16"] == hashes["stylegan-v-16"]["hash"]
    assert again.tags["protocol.long"] == here.plan.tags["protocol.long"]
    logged = {metric.key: metric.value for metric in again.metrics}
    assert logged["fvd_long"] == here.figures["fvd_long"], "the study's own figure stays"
    assert logged[f"fvd_long/{long}"] == logged["fvd/stylegan-v-16"] == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["study:7"], "study has trials 0"),
        (["study:0", "--protocol", "svg-shrt"], "'svg-shrt': unknown"),
        (["study:0", "--metrics", "fdv"], "--metrics fdv: unknown"),
        (["study:0", "--workers", "0"], "--workers 0: must be at least 1"),
        (["study:0", "--clips", "1"], "clips must be at least 2"),
        (["study:0", "--protocol", "stylegan-v-16"], "2 real clips, needs 64"),
        (["study:0", "--clips", "4"], "svg-short: 24 real clips, needs 64"),
    ],
)
def test_bad_input_is_one_line(capsys, here, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        evaluate(capsys, here, *arguments)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
