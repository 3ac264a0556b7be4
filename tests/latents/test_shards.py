import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from full_disk import no_room

from svgan.errors import UserError
from svgan.latents.manifest import VideoCodes
from svgan.latents.shards import open_latents, write_latents

LAYERS, WIDTH = 4, 8


def video(name: str, index: list[int], seed: int = 0) -> VideoCodes:
    codes = np.random.default_rng(seed).normal(size=(len(index), LAYERS, WIDTH)).astype(np.float32)
    return VideoCodes(name, np.array(index), codes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    videos = [video("a.webm", [*range(30), *range(40, 50)], 1), video("b.webm", list(range(12)), 2)]
    write_latents(tmp_path / "set", iter(videos), domain="d" * 64, fps=25, shard_rows=20, components=5)
    return tmp_path / "set"


def fails(folder: Path, *words: str, **kwargs) -> None:
    with pytest.raises(UserError) as error:
        open_latents(folder, **kwargs)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_round_trip_and_statistics(folder: Path):
    latents = open_latents(folder, domain="d" * 64)
    expected = np.concatenate([video("a", [0] * 40, 1).codes, video("b", [0] * 12, 2).codes])
    assert (latents.codes == expected.astype(np.float16).astype(np.float32)).all()
    assert latents.index.tolist() == [*range(30), *range(40, 50), *range(12)]
    assert latents.video.tolist() == [0] * 40 + [1] * 12
    assert [shard["rows"] for shard in latents.manifest.shards] == [20, 20, 12]
    flat = latents.codes.reshape(52, -1).astype(np.float64)
    np.testing.assert_allclose(latents.mean, flat.mean(0), atol=1e-6)
    np.testing.assert_allclose(latents.std, flat.std(0), rtol=1e-5)
    values, vectors = np.linalg.eigh(np.cov(flat.T, bias=True))
    np.testing.assert_allclose(latents.scale**2, values[::-1][:5], rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(latents.basis * vectors.T[::-1][:5], 1)), 1, atol=1e-4)


def test_codes_are_plain_fixed_size_bytes(folder: Path):
    file = pq.ParquetFile(folder / "shard-00000.parquet")
    assert file.schema_arrow.field("code").type.byte_width == 2 * LAYERS * WIDTH
    assert file.schema_arrow.metadata == {b"dtype": b"float16", b"shape": b"[4, 8]"}
    code = file.metadata.row_group(0).column(2)
    assert code.path_in_schema == "code"
    assert not code.has_dictionary_page


def test_digest_names_the_content(tmp_path: Path):
    kwargs = {"domain": "d", "fps": 25.0}
    one, same = (write_latents(tmp_path / n, [video("a", [0, 1, 2])], **kwargs) for n in "xy")
    other = write_latents(tmp_path / "z", [video("a", [0, 1, 3])], **kwargs)
    assert one.digest == same.digest != other.digest
    assert open_latents(tmp_path / "x").digest == one.digest


def test_windows_cross_neither_video_nor_gap(folder: Path):
    latents = open_latents(folder)
    assert latents.windows(12).tolist() == [*range(19), 40]
    fails_window = pytest.raises(UserError, match=r"31 frames.*has 30 \(in a.webm\)")
    with fails_window:
        latents.windows(31)


def test_missing_manifest(tmp_path: Path):
    fails(tmp_path, "no manifest.json", "svgan embed")


def test_another_domain(folder: Path):
    fails(folder, "belong to domain dddddddddddd", "not to the one that is used, eeeeeeeeeeee", domain="e" * 64)


@pytest.mark.parametrize("name", ["shard-00001.parquet", "stats.safetensors"])
def test_corrupt_and_missing_files_are_named(folder: Path, name: str):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    fails(folder, name, "corrupt")
    (folder / name).unlink()
    fails(folder, name, "missing")


def test_broken_manifest(folder: Path):
    (folder / "manifest.json").write_text("{")
    fails(folder, "manifest.json", "not a manifest")
    (folder / "manifest.json").write_text('{"version": 99}')
    fails(folder, "version 99")


def test_codes_of_the_wrong_shape(folder: Path):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "width": 16}))
    fails(folder, "shard-00000.parquet", "(4, 8)", "(4, 16)")


def test_nan_is_located_on_reading(folder: Path):
    path = folder / "shard-00001.parquet"
    table = pq.read_table(path)
    codes = np.frombuffer(table["code"].combine_chunks().buffers()[1], np.float16).copy().reshape(20, -1)
    codes[15, 3] = np.nan
    import pyarrow as pa

    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(2 * LAYERS * WIDTH), 20, [None, pa.py_buffer(codes)])
    pq.write_table(table.set_column(2, table.schema.field(2), column), path)
    fails(folder, "a.webm", "frame 45", verify=False)


@pytest.mark.parametrize(
    ("videos", "words"),
    [
        ([VideoCodes("n", np.arange(2), np.full((2, 4, 8), np.nan))], "NaN or infinity in the code of frame 0"),
        ([VideoCodes("n", np.arange(2), np.full((2, 4, 8), 1e6))], "NaN or infinity"),
        ([video("n", [1, 1])], "increasing"),
        ([video("n", [1]), video("n", [2])], "two videos of this name"),
        ([video("n", [1]), VideoCodes("m", np.arange(1), np.zeros((1, 2, 8)))], "m: codes of shape"),
        ([], "no video"),
    ],
)
def test_bad_codes_are_not_written(tmp_path: Path, videos: list[VideoCodes], words: str):
    with pytest.raises(UserError, match=words):
        write_latents(tmp_path / "set", videos, domain="d", fps=25)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path):
    def interrupted():
        yield video("a", [0, 1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_latents(tmp_path / "set", interrupted(), domain="d", fps=25)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_or_unwritable_place(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="already holds"):
        write_latents(folder, [video("a", [0])], domain="d", fps=25)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        write_latents(tmp_path / "file" / "set", [video("a", [0])], domain="d", fps=25)
    with pytest.raises(UserError, match="not an empty folder"):
        write_latents(tmp_path / "file", [video("a", [0])], domain="d", fps=25)
    with pytest.raises(UserError, match="cannot read"):
        open_latents("nosuchscheme://bucket/x")


def test_a_failed_upload_is_taken_back(monkeypatch: pytest.MonkeyPatch):
    from fsspec.implementations.memory import MemoryFileSystem

    put = MemoryFileSystem.put_file

    def full(self, source, path, **kwargs):
        if "/stats-" in path:
            raise OSError("no space left")
        put(self, source, path, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "put_file", full)
    with pytest.raises(UserError, match="no space left"):
        write_latents("memory://failed/set", [video("a", [0, 1])], domain="d", fps=25)
    assert not MemoryFileSystem().find("/failed")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path):
    with no_room(1000), pytest.raises(UserError, match=r"set: cannot write \(.*File too large"):
        write_latents(tmp_path / "set", [video("a", list(range(200)))], domain="d", fps=25)
    assert not list(tmp_path.iterdir())
