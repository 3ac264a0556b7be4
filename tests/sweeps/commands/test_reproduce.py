"""`python -m sweeps reproduce`: a trial that was trained and logged here, again; and one that is not as it was."""

import made_studies as made
import pytest
from mlflow.entities import Metric

from sweeps import __main__ as commands
from sweeps.commands import reproduce
from sweeps.storage import provenance

SMALL = {"trunk": (16,), "critic_widths": (16, 8), "width": 8, "batch": 8, "n_critic": 1, "components": 16, "steps": 8}


@pytest.fixture(scope="module")
def trial(tmp_path_factory, database, footage):
    """A study whose trial 0 was trained by svgan's own loop and logged as rank 0 logs it."""
    from svgan.images.domain import Domain
    from svgan.latents.clips import ClipSource
    from svgan.latents.shards import open_latents
    from svgan.latents.spaces import make_space
    from svgan.runs.validation import latent_judge
    from svgan.training import recipes
    from svgan.training.loop import train

    folder = tmp_path_factory.mktemp("reproduce")
    domain, latents = Domain.load(footage[0]), open_latents(footage[1])
    digests = {"domain": domain.digest, "latents": latents.digest, **provenance.code_tags()}
    change = {"domain": footage[0], "latents": footage[1], "clips": 0, "steps": 8, "reports": 4}
    study = made.study(folder, database, "study", digests=tuple(digests.items()), **change)
    run = recipes.make("tiny", **SMALL)
    run_id = study.tracking.trial(0)
    study.tracking.params(run_id, run.to_json())

    class Log:
        def report(self, step, metrics, state):
            best = min(report["latent_fd"] for report in state.history)
            values = {**metrics, "latent_fd_best": best, "steps_done": step}
            points = [Metric(key, float(value), 0, step) for key, value in values.items()]
            study.tracking.client.log_batch(run_id, metrics=points)

    clips = ClipSource(latents, run.window, make_space(run.space, latents, run.components), "cpu")
    train(run, clips, reporter=Log(), evaluate=latent_judge(clips, run.seed), report_every=2)
    study.tracking.close_trial(run_id, "finished")
    return study


@pytest.fixture
def here(trial, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return trial


def reproduced(capsys, study, *flags):
    """Exit code and what was said."""
    code = 0
    try:
        commands.main(["reproduce", "study:0", "--storage", study.plan.output.storage, *flags])
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_trial_comes_out_equal_in_every_bit(capsys, here):
    code, said = reproduced(capsys, here)
    assert code == 0, said
    metrics = here.tracking.runs()[0].data.metrics
    compared = set(metrics) - {"iterations_per_second", "steps_done"}
    rows = {text.split()[0]: text.split()[1:] for text in said.splitlines() if text and text.split()[0] in compared}
    assert rows == {name: ["4", "4"] for name in compared}
    assert f"all {4 * len(compared)} figures are equal in every bit" in said


def test_one_figure_that_differs_is_named_with_its_step(capsys, here, monkeypatch):
    points = reproduce.logged_points

    def off(*arguments):
        found = points(*arguments)
        found["latent_fd"][4] *= 1 + 2**-40
        return found

    monkeypatch.setattr(reproduce, "logged_points", off)
    code, said = reproduced(capsys, here)
    assert code == 1
    row = next(text.split() for text in said.splitlines() if text.startswith("latent_fd "))
    assert row == ["latent_fd", "4", "3", "9.1e-13", "4"]
    assert "NOT equal; 1 of" in said


def test_several_seeds_are_run_and_compared_seed_by_seed(here):
    config = reproduce.logged_config(here.tracking.runs()[0])
    found = reproduce.repeat_all(here.plan, config, 2, lambda *told: None)
    assert set(found) == {"latent_fd/seed-0", "latent_fd/seed-1"}
    points = here.tracking.client.get_metric_history(here.tracking.runs()[0].info.run_id, "latent_fd")
    assert found["latent_fd/seed-0"] == {point.step: point.value for point in points}
    assert found["latent_fd/seed-1"] != found["latent_fd/seed-0"]


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        ("package", "0123456789ab", "code: its package digest was 0123456789ab"),
        ("latents", "feedfeed", "latents: the digest was feedfeed"),
        ("domain", "feedfeed", "domain: the digest was feedfeed"),
    ],
)
def test_what_is_not_as_it_was_stops_it(capsys, here, tag, value, words):
    run = here.tracking.runs()[0]
    before = run.data.tags[tag]
    here.tracking.client.set_tag(run.info.run_id, tag, value)
    try:
        code, said = reproduced(capsys, here)
    finally:
        here.tracking.client.set_tag(run.info.run_id, tag, before)
    assert code == 2
    assert said.startswith(words)
    assert "give --anyway" in said


def test_another_seed_stops_it_and_anyway_goes_on(capsys, here):

    here.plan.with_fields(seed=5).save()
    try:
        code, said = reproduced(capsys, here)
        assert code == 2
        assert "seed: it was trained with 0, its study says 5" in said
        code, said = reproduced(capsys, here, "--anyway")
        assert code == 0
        assert "seed: it was trained with 0" in said
    finally:
        here.plan.save()


def test_the_configuration_comes_back_from_its_parameters(here):
    from svgan.training import recipes

    config = reproduce.logged_config(here.tracking.runs()[0])
    assert config == recipes.make("tiny", **SMALL).to_json()


def test_relative_differences():
    nan = float("nan")
    assert reproduce.same(nan, nan)
    assert reproduce.apart(nan, nan) == 0
    assert reproduce.apart(None, 1.0) == float("inf")
    assert reproduce.apart(nan, 1.0) == float("inf")
    assert reproduce.apart(2.0, 1.0) == 0.5
    assert reproduce.apart(0.0, 0.0) == 0
