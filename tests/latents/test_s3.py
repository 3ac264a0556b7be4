"""Latents on a real S3 server: written whole by one, read in ranges, what goes wrong in one line."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from svgan.errors import UserError
from svgan.io import storage
from svgan.latents import shard_cache
from svgan.latents.manifest import MANIFEST, VideoCodes, read_manifest
from svgan.latents.origins import Origins
from svgan.latents.recorded_frames import open_recorded
from svgan.latents.shards import open_latents, write_latents


@pytest.fixture
def video() -> VideoCodes:
    codes = np.random.default_rng(0).normal(size=(50, 4, 8)).astype(np.float32)
    return VideoCodes("a", np.arange(50), codes)


def test_recorded_frames_are_on_s3_beside_the_codes(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SVGAN_CACHE", str(tmp_path))
    crops, codes = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), np.uint8), np.ones((5, 4, 8), np.float32)
    places = {"landmarks": np.zeros((5, 68, 2), np.float32), "transform": np.zeros((5, 2, 3), np.float32)}
    origins = Origins(source="a", pts=np.arange(5), time=np.arange(5) / 25, **places)
    video = VideoCodes("a", np.arange(5), codes + np.arange(5)[:, None, None], origins)
    written = write_latents(f"{s3}/codes/two", [video], domain="d", fps=25, recorded=lambda name, origins: crops)
    (shard,) = written.recorded["shards"]
    assert shard["sha256"][:12] in shard["name"], "nobody overwrites another's"
    assert np.array_equal(open_recorded(open_latents(f"{s3}/codes/two")), crops)


def test_round_trip_missing_and_corrupt(s3: str, video: VideoCodes):
    uri = f"{s3}/codes/one"
    written = write_latents(uri, [video], domain="d", fps=25, shard_rows=20)
    latents = open_latents(uri, domain="d")
    assert latents.digest == written.digest
    np.testing.assert_array_equal(latents.codes, video.codes.astype(np.float16))

    with pytest.raises(UserError, match="already holds"):
        write_latents(uri, [video], domain="d", fps=25)
    filesystem, root = storage.open_filesystem(uri)
    name = written.shards[1]["name"]
    filesystem.pipe_file(f"{root}/{name}", b"PAR1")
    with pytest.raises(UserError, match=rf"{name}: corrupt"):
        open_latents(uri)
    filesystem.rm_file(f"{root}/{name}")
    with pytest.raises(UserError, match=rf"{name}: missing"):
        open_latents(uri)
    with pytest.raises(UserError, match=r"no manifest.json"):
        open_latents(f"{s3}/codes/none")


def test_large_files_come_in_ranges_and_whole(s3: str, video: VideoCodes, monkeypatch: pytest.MonkeyPatch):
    uri = f"{s3}/codes/ranges"
    written = write_latents(uri, [video], domain="d", fps=25)
    monkeypatch.setattr(storage, "RANGE", 1000)
    assert written.shards[0]["bytes"] % 1000
    latents = open_latents(uri)
    np.testing.assert_array_equal(latents.codes, video.codes.astype(np.float16))


def test_of_two_that_publish_at_once_the_first_stays_whole(s3: str, video: VideoCodes):
    uri = f"{s3}/codes/both"
    other = VideoCodes("b", np.arange(30), video.codes[:30])

    def meanwhile():
        write_latents(uri, [other], domain="d", fps=25, shard_rows=10)
        yield video

    with pytest.raises(UserError, match="already holds"):
        write_latents(uri, meanwhile(), domain="d", fps=25, shard_rows=10)
    assert [row["name"] for row in open_latents(uri).manifest.videos] == ["b"]
    filesystem, root = storage.open_filesystem(uri)
    named = {MANIFEST, *(shard["name"] for shard in read_manifest(uri).shards), read_manifest(uri).stats["name"]}
    assert {path.rpartition("/")[2] for path in filesystem.find(root)} == named


def test_the_loser_of_a_race_leaves_what_both_have(s3: str, video: VideoCodes):
    uri = f"{s3}/codes/same"

    def meanwhile():
        write_latents(uri, [video], domain="d", fps=25)
        yield video

    with pytest.raises(UserError, match="already holds"):
        write_latents(uri, meanwhile(), domain="d", fps=25)
    assert len(open_latents(uri).codes) == 50


def test_the_second_trial_of_a_node_needs_no_shard_of_the_server(
    s3: str, video: VideoCodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SVGAN_CACHE", str(tmp_path))
    monkeypatch.setenv("SVGAN_CACHE_GB", "1")
    uri = f"{s3}/codes/cached"
    written = write_latents(uri, [video], domain="d", fps=25, shard_rows=20)
    first = open_latents(uri)
    filesystem, root = storage.open_filesystem(uri)
    for entry in (*written.shards, written.stats):
        filesystem.rm_file(f"{root}/{entry['name']}")
    np.testing.assert_array_equal(open_latents(uri).codes, first.codes)
    digests = {entry["sha256"] for entry in (*written.shards, written.stats)}
    assert {path.name for path in shard_cache.folder().iterdir() if not path.suffix} == digests


def one_line(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def reading_and_writing(uri: str, video: VideoCodes) -> list[str]:
    calls = (lambda: open_latents(uri), lambda: write_latents(uri, [video], domain="d", fps=25))
    return [one_line(call) for call in calls]


def test_a_bucket_that_is_not_there(s3: str, video: VideoCodes):
    for told in reading_and_writing("s3://no-such-bucket/x", video):
        assert "there is no bucket no-such-bucket" in told


def test_credentials_that_are_refused(s3: str, video: VideoCodes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
    for told in reading_and_writing(f"{s3}/x", video):
        assert "refuses these credentials: SignatureDoesNotMatch" in told
        assert "AWS_SECRET_ACCESS_KEY" in told
        assert "geheim" not in told
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "refuses these credentials: InvalidAccessKeyId" in one_line(lambda: open_latents(f"{s3}/x"))


def test_no_credentials(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "there are no credentials" in one_line(lambda: open_latents(f"{s3}/x"))


def test_no_server(s3: str, video: VideoCodes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for told in reading_and_writing(f"{s3}/x", video):
        assert "no S3 server answers at http://127.0.0.1:9" in told
        assert "check AWS_ENDPOINT_URL" in told


class Elsewhere(BaseHTTPRequestHandler):
    """Answers as AWS does for a bucket of another region."""

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_GET(self) -> None:
        self.answer(
            b"<?xml version='1.0'?><Error><Code>PermanentRedirect</Code><Message>use the other endpoint</Message>"
            b"<Bucket>far</Bucket></Error>"
        )

    do_PUT = do_GET

    def answer(self, body: bytes) -> None:
        self.send_response(301)
        self.send_header("x-amz-bucket-region", "eu-north-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments) -> None:
        pass


def test_a_bucket_of_another_region(s3: str, monkeypatch: pytest.MonkeyPatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    told = one_line(lambda: open_latents("s3://far/x"))
    server.shutdown()
    server.server_close()
    assert "bucket far is in region eu-north-1, not us-east-1" in told
    assert "AWS_DEFAULT_REGION=eu-north-1" in told


def test_an_endpoint_of_the_environment_is_read_once(s3: str, monkeypatch: pytest.MonkeyPatch):
    """Which is why tests forget their file systems, and processes keep to one endpoint (docs/traps.md)."""
    import fsspec

    before = fsspec.core.url_to_fs(f"{s3}/a")[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert fsspec.core.url_to_fs(f"{s3}/b")[0] is before
    type(before).clear_instance_cache()
    assert fsspec.core.url_to_fs(f"{s3}/b")[0] is not before
