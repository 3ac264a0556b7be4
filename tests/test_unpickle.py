"""A pickle that carries code ends in one line, with nothing executed."""

import pickle
import zipfile

import numpy as np
import pytest

from svgan.errors import UserError
from svgan.unpickle import load_numpy, load_torchscript


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


def test_arrays_come_back(tmp_path):
    tree = {"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}, "n": 3}
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(tree))
    found = load_numpy(tmp_path / "t.pkl")
    np.testing.assert_array_equal(found["a"]["b"], tree["a"]["b"])


def test_code_in_a_pickle_is_refused(tmp_path):
    (tmp_path / "t.pkl").write_bytes(pickle.dumps({"weights": Hostile(tmp_path / "ran")}))
    with pytest.raises(UserError, match=r"refuses to load '.*open'"):
        load_numpy(tmp_path / "t.pkl")
    assert not (tmp_path / "ran").exists()


def test_code_in_a_torchscript_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.pt", "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps(Hostile(tmp_path / "ran")))
    with pytest.raises(UserError, match="refuses"):
        load_torchscript(tmp_path / "t.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_torchscript_tensors_equal_torch_jits(tmp_path):
    import torch

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    net[0].weight.data = net[0].weight.data.transpose(2, 3)
    torch.jit.trace(net, torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "t.pt"))
    found = load_torchscript(tmp_path / "t.pt")
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(found[name], value.numpy())
