"""A protocol's hash changes with every field, and its real side's only with the fields that decide the real side."""

from dataclasses import replace

import pytest

from svgan.assets import cache
from svgan.errors import UserError
from svgan.images.domain import DEFAULT
from svgan.metrics.protocol import PROTOCOLS, REAL_FIELDS, Protocol, named, usual_precision

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
    "split": "test",
    "per_video": 1,
    "starts": "first",
    "image_size": 64,
    "covariance": "1/N",
    "pictures": 5,
    "picture_detector": "other",
}
# As they were when svg-short and svg-long had no such fields: figures and moments of then keep their hashes.
HASHES = {"svg-short": ("9d7d67f1b6b9", "90f2d0b1c19c"), "svg-long": ("35a7bbfb3994", "90f2d0b1c19c")}


def changed(base: Protocol, field: str) -> Protocol:
    """With another value, whether this svgan can carry it out or not."""
    other = replace(base)
    object.__setattr__(other, field, CHANGED[field])
    return other


@pytest.mark.parametrize("field", CHANGED)
def test_every_field_enters_the_hash(field):
    base = Protocol(name="p", rollout=50)
    other = changed(base, field)
    assert other.hash != base.hash
    assert (other.real_hash != base.real_hash) == (field in REAL_FIELDS)


def test_changed_covers_every_field():
    assert set(CHANGED) == set(Protocol(name="p").to_json())


@pytest.mark.parametrize("name", HASHES)
def test_hashes_of_before_hold(name):
    protocol = PROTOCOLS[name]
    assert (protocol.hash, protocol.real_hash) == HASHES[name]
    folder = DEFAULT / "moments"
    for precision in ("float32", "bfloat16"):
        for reference in ("wplus", "original"):
            assert list(folder.glob(f"{reference}-{protocol.with_precision(precision).real_hash}-*.safetensors"))


def test_named_protocols_are_those_of_their_sources():
    """docs/papers.md#fvd-protocol and #mocogan-hd-protocol."""
    lengths = {"stylegan-v-16": (16, 1, 16), "stylegan-v-128": (128, 1, 128), "stylegan-v-128-s8": (16, 8, 121)}
    for name, shape in lengths.items():
        protocol = named(name)
        assert (protocol.frames, protocol.stride, protocol.rollout) == shape
        assert (protocol.clips, protocol.real_clips, protocol.per_video) == (2048, 2048, 1)
        assert protocol.covariance == "1/N"
        assert protocol.image_size is None, "resize inside the detector"
    moco = named("mocogan-hd-16")
    assert (moco.frames, moco.clips, moco.image_size, moco.covariance) == (16, 2048, 128, "1/(N-1)")
    assert len({protocol.hash for protocol in PROTOCOLS.values()}) == len(PROTOCOLS) == 6
    assert {p.figure for p in PROTOCOLS.values()} == {
        *("fvd_short", "fvd_long", "fvd/mocogan-hd-16"),
        *("fvd/stylegan-v-16", "fvd/stylegan-v-128", "fvd/stylegan-v-128-s8"),
    }
    with pytest.raises(UserError, match="'svg-shrt': unknown; one of svg-short, svg-long, stylegan-v-16"):
        named("svg-shrt")


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


def test_the_detectors_are_the_assets():
    digest = cache.ASSETS["i3d"].files[0].sha256
    assert PROTOCOLS["svg-short"].detector.endswith(digest[:12])
    digest = cache.ASSETS["inception"].files[0].sha256
    assert PROTOCOLS["svg-short"].picture_detector.endswith(digest[:12])


@pytest.mark.parametrize(
    ("field", "value"), [("clips", 1), ("real_clips", 0), ("frames", 8), ("stride", 0), ("rollout", 24)]
)
def test_checks_name_the_field(field, value):
    with pytest.raises(UserError, match=field):
        Protocol(name="p", **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", "float16"),
        ("split", "test"),
        ("per_video", 2),
        ("starts", "first"),
        ("covariance", "1/2"),
        ("image_size", 4),
    ],
)
def test_rules_that_are_not_known_are_refused(field, value):
    with pytest.raises(UserError, match=f"protocol p: {field} must be .*, got {value}"):
        Protocol(name="p", **{field: value})


def test_usual_precision_of_this_machine():
    assert usual_precision("cpu") in ("float32", "bfloat16")
