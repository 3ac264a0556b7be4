"""Checkpoint files are read as torch reads them; hostile, forged and broken ones end in one line, with nothing run."""

import argparse
import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from svgan.errors import UserError
from svgan.io.torch_file import LEGACY, load_torchscript, read, state_of, tensors

VECTORS = Path(__file__).parents[1] / "vectors"
NVIDIA = VECTORS / "nvidia_stylegan2_ada_32.pkl"


class Hostile:
    """Opens (and so makes) `target` when it is unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.fixture(params=[True, False], ids=["zip", "rows"])
def saved(request, tmp_path):
    """A function that writes an object as torch.save does, in either layout."""

    def save(what) -> Path:
        torch.save(what, tmp_path / "x.pt", _use_new_zipfile_serialization=request.param)
        return tmp_path / "x.pt"

    return save


def test_tensors_are_torchs(saved):
    weights = {
        "plain": torch.randn(3, 4),
        "turned": torch.arange(12).view(3, 4).T[1:],
        "half": torch.randn(5).half(),
        "brain": torch.randn(5).bfloat16(),
        "flags": torch.tensor([True, False]),
        "one": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }
    weights |= {"again": weights["plain"], "part": weights["plain"][1]}
    path = saved({"g_ema": weights, "latent_avg": torch.ones(2)})
    found = tensors(read(path)["g_ema"], path)
    assert set(found) == set(weights)
    for name, value in weights.items():
        assert torch.equal(found[name], value), name
        assert found[name].dtype == value.dtype


def test_what_lies_beside_the_weights_is_read_too(saved):
    layer = torch.nn.Linear(2, 2)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    adam.step()
    options = {"device": torch.device("cpu"), "sizes": layer.weight.shape, "loss": np.float64(0.5), "steps": {1, 2}}
    path = saved({"g": layer.state_dict(), "g_optim": adam.state_dict(), "args": argparse.Namespace(size=8), **options})
    found = read(path)
    assert found["args"].state == {"size": 8}
    assert found["loss"] == 0.5
    assert found["sizes"] == (2, 2)
    assert torch.equal(tensors(found["g_optim"]["state"][0], path)["exp_avg"], adam.state_dict()["state"][0]["exp_avg"])


def test_nvidias_pickle_is_read_and_its_source_left_alone():
    """Its embedded module source raises when it is executed."""
    found = read(NVIDIA)
    assert b"raise RuntimeError" in NVIDIA.read_bytes()
    assert found["G_ema"].name == "Generator"
    weights = state_of(found["G_ema"], NVIDIA)
    assert weights["synthesis.b32.conv0.weight"].shape == (16, 32, 3, 3)
    assert weights["mapping.w_avg"].shape == (32,)


def test_a_file_is_not_copied_into_memory(tmp_path):
    torch.save({"big": torch.zeros(8_000_000)}, tmp_path / "x.pt")
    tracemalloc.start()
    assert tensors(read(tmp_path / "x.pt"), tmp_path / "x.pt")["big"].shape == (8_000_000,)
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def rows(*parts: bytes) -> bytes:
    """A file of the layout before zip: the pickles that open one, then `parts`."""
    return LEGACY + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + b"".join(parts)


def archive(content: bytes, compressed: bool = False, **entries: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as file:
        file.writestr("x/data.pkl", content)
        for name, value in entries.items():
            file.writestr(f"x/data/{name.removeprefix('n')}", value)
    return held.getvalue()


def tensor_pickle(offset: int, shape: tuple, stride: tuple, count: int, key: str = "0") -> bytes:
    """A pickle {'w': tensor}, written by hand: what torch would not write."""

    def ints(values: tuple) -> bytes:
        return b"(" + b"".join(b"\x8a\x09" + v.to_bytes(9, "little", signed=True) for v in values) + b"t"

    pid = b"(U\x07storagectorch\nFloatStorage\nU" + bytes([len(key)]) + key.encode() + b"U\x03cpu"
    pid += ints((count,))[1:-1] + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + ints((offset,))[1:-1] + ints(shape) + ints(stride)
    return b"\x80\x02}U\x01w" + call + b"\x89}tRs."


FLOATS = np.arange(4, dtype="<f4").tobytes()
FORGED = {
    "outside its storage": (1, (4,), (1,), 4),
    "far outside": (0, (2,), (2**40,), 4),
    "expanded from few bytes": (0, (10**6, 10**6), (0, 0), 4),
    "negative sizes": (0, (-4,), (1,), 4),
    "negative offset": (-1, (1,), (1,), 4),
    "negative steps": (3, (4,), (-1,), 4),
    "sizes and steps of two lengths": (0, (2, 2), (1,), 4),
    "sizes beyond 64 bits": (0, (2**64, 0), (1, 1), 4),
    "steps beyond 64 bits": (0, (1,), (2**64,), 4),
    "a storage longer than the file": (0, (4,), (1,), 10**9),
    "a storage of negative size": (0, (4,), (1,), -4),
}


@pytest.mark.parametrize("what", FORGED)
@pytest.mark.parametrize("layout", ["zip", "rows"])
def test_forged_tensors_are_refused(what, layout, tmp_path):
    content, path = tensor_pickle(*FORGED[what]), tmp_path / "x.pt"
    path.write_bytes(archive(content, n0=FLOATS) if layout == "zip" else row_file(content, FORGED[what][3]))
    with pytest.raises(UserError, match=r"x\.pt: .*(damaged|forged|breaks off|announced)"):
        tensors(read(path), path)


def row_file(content: bytes, count: int) -> bytes:
    return rows(content, pickle.dumps(["0"], 2), struct.pack("<q", count), FLOATS)


@pytest.mark.parametrize("layout", ["zip", "rows"])
def test_the_forgers_tools_write_honest_tensors_too(layout, tmp_path):
    content, path = tensor_pickle(1, (3,), (1,), 4), tmp_path / "x.pt"
    path.write_bytes(archive(content, n0=FLOATS) if layout == "zip" else row_file(content, 4))
    assert tensors(read(path), path)["w"].tolist() == [1, 2, 3]


def test_many_tensors_of_the_same_bytes_are_refused(tmp_path):
    """Each is possible; written out they would be larger than the file by far."""
    one = torch.zeros(1000)
    torch.save({str(n): one for n in range(100)}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="more bytes than the file"):
        tensors(read(tmp_path / "x.pt"), tmp_path / "x.pt")


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(archive(tensor_pickle(0, (4,), (1,), 4), compressed=True, n0=bytes(50_000_000)))
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match=r"compressed, which torch\.save never does"):
        read(path)


# Opcodes by hand: pickle itself would not write them.
NEST = b"\x85" * 300_000
BYTES = {
    "a tuple 300 000 deep as a key": b"\x80\x02}N" + NEST + b"Ns.",
    "a tuple 300 000 deep in a set": b"\x80\x04\x8f(N" + NEST + b"\x90.",
    "a memo of 64 GB": b"\x80\x02Nr\xff\xff\xff\x7fR.",
    "a bytearray of 2^40": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "bytes of 2^62": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
    "a frame of 2^60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"NR.",
    "a name by number": b"\x80\x02\x82\x01.",
    "attributes of a function": b"\x80\x02ctorch._utils\n_rebuild_parameter\n}U\x08__code__Nsb.",
    "attributes of a class": b"\x80\x02cargparse\nNamespace\n}U\x08__init__Nsb.",
    "a method of an allowed name": b"\x80\x04\x8c\x0bcollections\x8c\x17OrderedDict.__class__\x93.",
    "a storage that is a list": b"\x80\x02]Q.",
    "nothing on the stack": b"\x80\x02R.",
    "no end": b"\x80\x02N",
    "a dtype of objects": b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02O8\x85RU\x08aaaaaaaa\x86R.",
}


@pytest.mark.parametrize("what", BYTES)
def test_hostile_opcodes_end_in_one_line(what, tmp_path):
    content = BYTES[what]
    files = {"x.pkl": content, "x.pt": archive(content), "rows.pt": rows(content)}
    for name in list(files)[: 1 if NEST in content else 3]:
        (tmp_path / name).write_bytes(files[name])
        with pytest.raises(UserError) as caught:
            read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keys", [b"\x80\x02]]a.", b"\x80\x02]N" + NEST + b"a."], ids=["a list", "a deep tuple"])
def test_a_storage_whose_key_is_no_name_is_refused(keys, tmp_path):
    (tmp_path / "x.pt").write_bytes(rows(pickle.dumps({}, 2), keys, bytes(8)))
    with pytest.raises(UserError, match="a storage is not as announced"):
        read(tmp_path / "x.pt")


CALLS = ["os.system", "posix.system", "builtins.eval", "builtins.getattr", "torch.load", "subprocess.Popen"]
CALLS += ["torch.storage._load_from_bytes", "numpy.load", "importlib.import_module", "dnnlib.tflib.network.Network"]


@pytest.mark.parametrize("name", CALLS)
def test_names_outside_the_list_are_refused_by_name(name, tmp_path):
    module, attribute = name.rsplit(".", 1)
    content = f"\x80\x02c{module}\n{attribute}\nX\x04\x00\x00\x00true\x85R.".encode("latin1")
    for file, whole in (("x.pt", archive(content)), ("rows.pt", rows(content)), ("x.pkl", content)):
        if (file, name) == ("x.pkl", "torch.storage._load_from_bytes"):
            continue
        (tmp_path / file).write_bytes(whole)
        with pytest.raises(UserError, match=rf"{file}: refuses to load '{name}' .*can call.*use a trusted file"):
            read(tmp_path / file)


def test_a_hostile_storage_within_nvidias_pickle_is_refused(saved, tmp_path):
    """Their storages are files of torch.save within the pickle, and hold a pickle each."""

    class Nested:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (rows(pickle.dumps(Hostile(tmp_path / "ran"))),)

    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"G_ema": Nested()}))
    with pytest.raises(UserError, match=r"refuses to load '.*open'"):
        read(tmp_path / "x.pkl")
    assert not (tmp_path / "ran").exists()


def test_code_beside_the_weights_is_refused(saved, tmp_path):
    path = saved({"g_ema": {"w": torch.zeros(2)}, "args": Hostile(tmp_path / "ran")})
    with pytest.raises(UserError, match=r"refuses to load '.*open'"):
        read(path)
    assert not (tmp_path / "ran").exists()


def test_modules_within_themselves_are_refused(tmp_path):
    found = read(NVIDIA)
    found["G_ema"].state["_modules"]["again"] = found["G_ema"]
    with pytest.raises(UserError, match="modules within modules"):
        state_of(found["G_ema"], NVIDIA)


@pytest.mark.parametrize("name", ["nvidia_stylegan2_ada_32.pkl", "rosinality_stylegan2_32.pt"])
def test_truncated_files_are_refused(name, tmp_path):
    whole, path = (VECTORS / name).read_bytes(), tmp_path / name
    for part in (1, 2, 3, 5, 100, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:part])
        with pytest.raises(UserError, match=str(path)):
            read(path)


@pytest.mark.parametrize("layout", ["nvidia", "zip", "rows"])
def test_damaged_files_are_read_or_refused(layout, tmp_path):
    """300 files with some bytes changed at random: a tree or one line, never another exception, never a call."""
    path, rng = tmp_path / "x.pt", np.random.default_rng(0)
    torch.save(
        {"g_ema": {f"{n}.weight": torch.zeros(n) for n in range(9)}, "args": argparse.Namespace(size=8)},
        path,
        _use_new_zipfile_serialization=layout == "zip",
    )
    whole = np.frombuffer(NVIDIA.read_bytes()[:60_000] if layout == "nvidia" else path.read_bytes(), np.uint8)
    outcomes = set()
    for _ in range(300 if layout != "nvidia" else 60):
        broken = whole.copy()
        at = rng.integers(0, len(whole), rng.integers(1, 6))
        broken[at] = rng.integers(0, 256, len(at))
        path.write_bytes(broken.tobytes())
        try:
            tree = read(path)
            tensors(tree["g_ema"] if isinstance(tree, dict) and isinstance(tree.get("g_ema"), dict) else {}, path)
            outcomes.add("read")
        except UserError as error:
            outcomes.add("refused" if "\n" not in str(error) else "refused in several lines")
    assert outcomes in ({"refused"}, {"refused", "read"})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"hello, not a checkpoint", "neither torch.save nor pickle wrote it"),
        (b"PK\x03\x04 not an archive", "damaged archive"),
        (archive(b"").replace(b"data.pkl", b"note.txt"), "no data.pkl"),
        (rows(), "breaks off"),
    ],
)
def test_other_files_are_no_checkpoints(content, reason, tmp_path):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read(tmp_path / "x.pt")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.pt: no such file"):
        read(tmp_path / "nothing.pt")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


def test_code_in_a_torchscript_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.pt", "w") as file:
        file.writestr("net/data.pkl", pickle.dumps(Hostile(tmp_path / "ran")))
    with pytest.raises(UserError, match="refuses"):
        load_torchscript(tmp_path / "t.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_torchscript_tensors_equal_torch_jits(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    net[0].weight.data = net[0].weight.data.transpose(2, 3)
    torch.jit.trace(net, torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "t.pt"))
    found = load_torchscript(tmp_path / "t.pt")
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(found[name], value.numpy())
