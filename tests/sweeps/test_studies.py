"""The studies: short, on installed packages alone, and their spaces make runs that the recipe accepts."""

import ast
import importlib
import shutil
from pathlib import Path

import pytest
from made_plan import PLAN

from svgan.errors import UserError
from svgan.training import registry
from sweeps.reports.variant_table import VARIANT
from sweeps.storage.plan import Plan
from sweeps.study import Study, main

STUDIES = ["gap", "width", "critic", "cross", "systems"]
LINES = {"systems": 61, "critic": 60}  # tables of variants, and what each one has


@pytest.fixture(params=STUDIES)
def study_file(request):
    return Path(importlib.import_module(f"sweeps.{request.param}").__file__)


def test_a_study_is_short_and_says_command_and_cost(study_file):
    text = study_file.read_text()
    assert len(text.splitlines()) < LINES.get(study_file.stem, 40)
    header = ast.get_docstring(ast.parse(text))
    assert f"python sweeps/{study_file.name}" in header
    assert "Cost:" in header
    assert "Expect:" in header


def test_a_study_imports_installed_packages_alone(study_file):
    imports = [n for n in ast.walk(ast.parse(study_file.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert [(node.module, node.level) for node in imports] == [("sweeps.study", 0)]


@pytest.mark.parametrize("name", STUDIES)
def test_controls_and_proposals_make_runs(name):
    import optuna

    from sweeps.search.proposer import sample

    study, plan = importlib.import_module(f"sweeps.{name}").STUDY, Plan.from_fields(PLAN)
    trials = optuna.create_study()
    for control in study.controls:
        trials.enqueue_trial(control)
    for number in range(len(study.controls) + 4):
        trial = trials.ask()
        params = sample(study.space, trial)
        run = registry.read_config(study.config(plan, params))
        if number < len(study.controls):
            assert trial.params == study.controls[number]
        assert {key: getattr(run, key) for key in params if key != VARIANT} == {
            key: value for key, value in params.items() if key != VARIANT
        }


def test_gap_has_a_control_without_gap():
    from sweeps.gap import STUDY

    assert {"gap_weight": 0.0} in STUDY.controls
    assert any(control["gap_weight"] > 0 for control in STUDY.controls)


def test_every_system_is_compared_and_every_ablation_is_of_one_thing():
    from sweeps.systems import STUDY, SYSTEMS, VARIANTS

    assert [control[VARIANT] for control in STUDY.first(len(SYSTEMS)).controls] == list(SYSTEMS)
    assert STUDY.trials == len(STUDY.controls) == len(VARIANTS)
    runs = {name: STUDY.config(Plan.from_fields(PLAN), {VARIANT: name, **own}) for name, own in VARIANTS.items()}
    for name, run in runs.items():
        whole, _, without = name.partition(" without ")
        differing = {key for key in run if run[key] != runs[whole][key]}
        assert len(differing) == (1 + without.count(" and ") if without else 0), name


def test_a_study_by_an_unknown_metric_is_refused():
    with pytest.raises(UserError, match="metric 'fid' is not reported"):
        Study("x", {}, metric="fid")
    with pytest.raises(UserError, match="rungs"):
        Study("x", {}, rungs=(2,))


def refused(capsys, study, *flags):
    with pytest.raises(SystemExit) as stopped:
        main(study, flags)
    out = capsys.readouterr()
    assert stopped.value.code == 2
    assert out.err.startswith("svgan: ")
    assert out.err.count("\n") == 1
    return out.err


@pytest.fixture
def toy(footage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "local")  # and not a cluster that somebody runs on this machine
    space = {"gap_weight": [0.0, 1.0], "batch": 8}
    return Study("toy", space, domain=footage[0], controls=[{"gap_weight": 0.0}], clips=0)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trials", "0"], "--trials 0"),
        (["--workers", "64"], "--workers: a trial asks 64 x 1 = 64 CPU, this machine has"),
        (["--gpus-per-worker", "9"], "--gpus-per-worker: a trial asks 1 x 9 = 9 GPU"),
        (["--concurrency", "99"], "--concurrency 99"),
        (["--latents", "nowhere"], "nowhere: no manifest.json here"),
        (["--domain", "nowhere"], "nowhere: no domain here (domain.json is missing)"),
        (["--tracking", "http://127.0.0.1:9"], "MLflow is not reachable"),
        (
            ["--tracking", "foo://bar"],
            "--tracking foo://bar: MLflow keeps nothing there; give http",
        ),
        (["--tracking", "mlruns"], "mlruns: MLflow keeps nothing there; give http://HOST:PORT or sqlite"),
        (["--workers", "0"], "--workers 0: must be at least 1"),
        (["--concurrency", "0"], "--concurrency 0: must be at least 1"),
        (["--steps", "many"], "argument --steps: invalid int value: 'many'; see sweeps/toy.py --help"),
        (["--storage", "/proc/svgan"], "--storage /proc/svgan: cannot be written"),
        (["--resume", "missing"], "no such study"),
        (["--resume", "missing", "--steps", "3"], "--steps: a study's flags are remembered"),
        (["--name", "../x"], "--name '../x'"),
        (["--clips", "1"], "--clips 1"),
        (["--seconds", "60"], "--seconds 60: trials that are still to be proposed cannot be timed beforehand"),
        (["--seconds", "0", "--trials", "1"], "--seconds 0: must be a number above 0"),
        (["--grid"], "--grid: this study has none of its own"),
        (["--grid", "gap=1"], "--grid gap: no such field of a run; one of"),
        (["--grid", "gap_weight=0,-1"], "gap_weight: must be a number of 0 or more, got -1"),
        (["--grid", "gap_weight=0,1", "--trials", "3"], "--trials 3: the grid has 2 points, a trial each"),
        (["--optuna", "optuna.db"], "--optuna optuna.db: give 'journal' or a postgresql:// URL"),
        (["--optuna", "postgresql://a@127.0.0.1:9/b"], "--optuna postgresql://a@127.0.0.1:9/b: the record cannot be"),
    ],
)
def test_bad_input_is_one_line_before_ray_starts_and_leaves_nothing(capsys, toy, tmp_path, flags, words):
    import ray

    assert words in refused(capsys, toy, *flags)
    assert not ray.is_initialized()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not left


def test_a_space_that_the_recipe_refuses_is_found_before_ray_starts(capsys, toy):
    for space, words in (({"gap_weight": [-1.0, -2.0]}, "gap_weight"), ({"critic": ["nonesuch"]}, "critic")):
        bad = Study("toy", space, domain=toy.domain)
        assert words in refused(capsys, bad, "--clips", "0")
    wide = Study("toy", {"window": [400]}, domain=toy.domain)
    assert "window: 400 frames" in refused(capsys, wide, "--clips", "0")
    odd = Study("toy", {"batch": [7]}, domain=toy.domain)
    assert "cannot share a batch" in refused(capsys, odd, "--clips", "0", "--workers", "2", "--concurrency", "1")


def test_latents_with_a_damaged_shard_are_refused(capsys, toy, footage, tmp_path):
    damaged = Path(shutil.copytree(footage[1], tmp_path / "damaged"))
    shard = min(damaged.glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert f"{shard.name}: corrupt (sha256 differs" in refused(capsys, toy, "--latents", str(damaged))


def test_latents_of_another_domain_are_refused(capsys, toy, tmp_path):
    from made_footage import write_footage

    latents = write_footage(tmp_path / "other", "0123456789abcdef", frames=40)
    assert "belong to domain 0123456789ab" in refused(capsys, toy, "--latents", latents, "--clips", "0")


def test_a_name_that_mlflow_knows_from_elsewhere_is_refused(capsys, toy, tmp_path):
    """Runs are found by the study's name: two studies of one name would write into each other's."""
    from made_plan import PLAN

    from sweeps.storage.plan import Plan
    from sweeps.tracking.client import Tracking

    elsewhere = Plan.from_fields(PLAN).with_fields(
        name="taken", tracking=f"sqlite:///{tmp_path}/mlflow.db", experiment="svgan"
    )
    Tracking(elsewhere).parent()
    capsys.readouterr()
    assert "has a study of that name, begun elsewhere" in refused(capsys, toy, "--name", "taken")
    assert not (tmp_path / "runs" / "taken").exists()


def test_tune_copies_no_aws_key():
    """Of the driver's environment, into command lines and logs (docs/traps.md)."""
    from ray.tune.execution import class_cache

    from sweeps.ray_runtime.session import AWS_SECRETS, keep_secrets

    assert {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS")} <= set(AWS_SECRETS)
    keep_secrets()
    assert not [name for name in class_cache.ENV_VARS_TO_PROPAGATE if "AWS" in name or "TOKEN" in name]


def test_an_imported_domain_has_no_codes_of_its_own(capsys, toy, tmp_path):
    from pathlib import Path

    from svgan.pipelines.import_domain import import_domain

    vector = Path(__file__).parents[1] / "vectors" / "rosinality_stylegan2_32.pt"
    import_domain(vector, None, tmp_path / "theirs")
    said = refused(capsys, toy, "--domain", str(tmp_path / "theirs"))
    assert "an imported domain has no codes of its own; make some of footage (svgan embed)" in said
