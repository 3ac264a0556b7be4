"""A protocol's hash changes with every field, and its real side's only with the fields that decide the real side."""

from dataclasses import replace

import pytest

from svgan import assets
from svgan.errors import UserError
from svgan.metrics.protocol import PROTOCOLS, REAL_FIELDS, Protocol, usual_precision

CHANGED = {
    "name": "other",
    "clips": 65,
    "real_clips": 257,
    "frames": 24,
    "rollout": 60,
    "stride": 2,
    "resize": "bicubic",
    "detector": "other",
    "precision": "float32",
    "seed": 1,
}


@pytest.mark.parametrize("field", CHANGED)
def test_every_field_enters_the_hash(field):
    base = Protocol(name="p", rollout=50)
    other = replace(base, **{field: CHANGED[field]})
    assert other.hash != base.hash
    assert (other.real_hash != base.real_hash) == (field in REAL_FIELDS)


def test_changed_covers_every_field():
    assert set(CHANGED) == set(Protocol(name="p").to_json())


def test_short_and_long_share_their_real_side():
    short, long = PROTOCOLS["svg-short"], PROTOCOLS["svg-long"]
    assert short.real_hash == long.real_hash
    assert short.hash != long.hash
    assert (short.rollout, long.rollout, short.frames, long.frames) == (25, 250, 25, 25)
    assert short.with_clips(2048).real_hash == short.real_hash


def test_json_round_trip():
    protocol = PROTOCOLS["svg-long"].with_clips(7).with_precision("float32")
    assert Protocol.from_json(protocol.to_json()) == protocol
    with pytest.raises(UserError, match="unknown fields"):
        Protocol.from_json({**protocol.to_json(), "colour": 1})


def test_the_detector_is_the_asset():
    digest = assets.ASSETS["i3d"].files[0].sha256
    assert PROTOCOLS["svg-short"].detector.endswith(digest[:12])


@pytest.mark.parametrize(
    ("field", "value"), [("clips", 1), ("real_clips", 0), ("frames", 8), ("stride", 0), ("rollout", 24)]
)
def test_checks_name_the_field(field, value):
    with pytest.raises(UserError, match=field):
        Protocol(name="p", **{field: value})
    with pytest.raises(UserError, match="precision"):
        Protocol(name="p", precision="float16")


def test_usual_precision_of_this_machine():
    assert usual_precision("cpu") in ("float32", "bfloat16")
