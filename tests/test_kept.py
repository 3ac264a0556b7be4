"""Files of earlier commits load; of a format that is not known yet, one line says so."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState
from played_tune import PlayedTune

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.clips import ClipSource
from svgan.latents.shards import open_latents
from svgan.latents.spaces import make_space
from svgan.sampling.sampler import Sampler
from svgan.training import checkpoint
from svgan.training.loop import train
from sweeps.search.optuna_mirror import reports
from sweeps.search.optuna_store import open_study
from sweeps.storage.plan import Plan

VERSIONS = sorted(path for path in Path(__file__).with_name("kept").iterdir() if path.is_dir())


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def kept(request, tmp_path):
    """A copy, so that reading cannot change what is kept."""
    return Path(shutil.copytree(request.param, tmp_path / "kept"))


def test_a_checkpoint_samples_what_it_sampled_then(kept):
    # Computed on another machine: sums may differ in their last bits, and a GRU hands them on from frame to frame.
    codes = Sampler.load(kept / "checkpoint").codes(1, 5, 0).numpy()
    np.testing.assert_allclose(codes, np.load(kept / "codes.npy"), rtol=1e-4, atol=1e-5)


def test_a_checkpoint_domain_and_codes_belong_together_and_train_on(kept):
    domain = Domain.load(str(kept / "domain"))
    latents = open_latents(str(kept / "latents"), domain=domain.digest)
    state = checkpoint.load(kept / "checkpoint")
    assert (state.step, state.meta["domain"], state.meta["latents"]) == (2, domain.digest, latents.digest)
    space = make_space("pca", latents, state.config.components)
    more = dataclasses.replace(state.config, steps=3)
    assert train(more, ClipSource(latents, more.window, space, "cpu"), state=state).step == 3
    assert domain.render(latents.codes[:2]).shape == (2, 16, 16, 3)


def test_a_study_file_is_written_as_it_was_read(kept):
    """In format 1, flat, with the fields that came later; the kept ones with the values they had."""
    fields = json.loads((kept / "study" / "study.json").read_text())
    written = json.loads(json.dumps(Plan.from_json(fields).to_json()))
    assert written | fields == written
    later = {name: value for name, value in written.items() if name not in fields}
    assert later["promotion_clips"] == 0
    assert (later["grid"], later["objectives"], later["seeds"], later["metrics"]) == ({}, [], 1, ["fvd"])


def test_a_study_is_resumed(kept):
    fields = json.loads((kept / "study" / "study.json").read_text())
    plan = Plan.from_json(fields).with_fields(storage=str(kept), folder=str(kept / "study"))
    assert (plan.name, plan.search.trials, plan.search.rungs) == ("kept", 3, (10, 20))
    trials = open_study(plan).get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING]
    assert reports(trials[0]) == {10: 1.0, 20: 0.5}
    played = PlayedTune(plan, {"gap_weight": [0.0]}, [{"gap_weight": 0.0}])
    assert (played.left, played.suggest("a")["number"]) == (1, 2)


@pytest.mark.parametrize(
    ("file", "key", "read"),
    [
        ("checkpoint/state.json", "format", lambda kept: checkpoint.load(kept / "checkpoint")),
        ("latents/manifest.json", "version", lambda kept: open_latents(str(kept / "latents"))),
        ("domain/domain.json", "format", lambda kept: Domain.load(str(kept / "domain"))),
        ("study/study.json", "format", lambda kept: Plan.load(kept / "study")),
    ],
)
def test_a_format_of_the_future_is_one_line(kept, file, key, read):
    fields = json.loads((kept / file).read_text())
    assert fields[key] == 1
    (kept / file).write_text(json.dumps(fields | {key: 99}))
    with pytest.raises(UserError, match=f"{key} 99") as refused:
        read(kept)
    assert "\n" not in str(refused.value)
