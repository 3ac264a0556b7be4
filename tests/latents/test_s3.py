"""Latents on a real S3 server."""

import numpy as np
import pytest

from svgan.errors import UserError
from svgan.latents import storage
from svgan.latents.shards import VideoCodes, open_latents, write_latents


@pytest.fixture
def video() -> VideoCodes:
    codes = np.random.default_rng(0).normal(size=(50, 4, 8)).astype(np.float32)
    return VideoCodes("a", np.arange(50), codes)


def test_round_trip_missing_and_corrupt(s3: str, video: VideoCodes):
    uri = f"{s3}/codes/one"
    written = write_latents(uri, [video], domain="d", fps=25, shard_rows=20)
    latents = open_latents(uri, domain="d")
    assert latents.digest == written.digest
    np.testing.assert_array_equal(latents.codes, video.codes.astype(np.float16))

    with pytest.raises(UserError, match="already holds"):
        write_latents(uri, [video], domain="d", fps=25)
    filesystem, root = storage._open(uri)
    filesystem.pipe_file(f"{root}/shard-00001.parquet", b"PAR1")
    with pytest.raises(UserError, match=r"shard-00001.parquet: corrupt"):
        open_latents(uri)
    filesystem.rm_file(f"{root}/shard-00001.parquet")
    with pytest.raises(UserError, match=r"shard-00001.parquet: missing"):
        open_latents(uri)
    with pytest.raises(UserError, match=r"no manifest.json"):
        open_latents(f"{s3}/codes/none")


def test_no_such_bucket_and_no_server(s3: str, video: VideoCodes, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"no manifest.json"):
        open_latents("s3://no-such-bucket/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for call in (lambda: open_latents(f"{s3}/x"), lambda: write_latents(f"{s3}/x", [video], domain="d", fps=25)):
        with pytest.raises(UserError, match="AWS_ENDPOINT_URL") as error:
            call()
        assert "\n" not in str(error.value)
