"""A pickle that carries code ends in one line, with nothing executed."""

import pickle

import numpy as np
import pytest

from svgan.errors import UserError
from svgan.io.safe_unpickle import load_numpy


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
