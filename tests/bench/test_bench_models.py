"""What bench/gap_effect.py and bench/ladder.py train: no step twice."""

from pathlib import Path

import torch

BENCH = Path(__file__).parents[2] / "bench"


def test_a_checkpoint_that_a_run_still_has_is_not_trained_for_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import models

    legs = []

    def train_run(run, out, **_):
        legs.append(run.config.steps)
        out.mkdir(exist_ok=True)
        run.save(out)
        (out / models.CHECKPOINTS / f"step-{run.config.steps:08d}").mkdir(parents=True)

    monkeypatch.setattr(models, "train_run", train_run)
    out = tmp_path / "model"
    first = models.trained(out, "tiny", {}, [4, 8], torch.device("cpu"))
    assert [place.name for place in first] == ["model-at-4", "model-at-8"]
    assert legs == [4, 8]
    for place in first:
        place.rmdir()
    assert models.trained(out, "tiny", {}, [4, 8], torch.device("cpu")) == first
    assert all(place.is_dir() for place in first)
    assert legs == [4, 8]
