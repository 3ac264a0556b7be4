"""Files that are there whole or not at all, and who may read them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from full_disk import no_room
from safetensors.torch import save_file

from svgan.errors import UserError
from svgan.io.atomic import disk_errors, folder_beside, write_whole


@pytest.fixture
def group_reads() -> Iterator[None]:
    """A umask that lets the group read and others nothing."""
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("group_reads")
def test_new_files_and_folders_have_the_rights_that_the_umask_leaves(tmp_path: Path):
    with write_whole(tmp_path / "a" / "weights") as aside:
        save_file({"w": torch.zeros(2)}, aside)
        assert aside.stat().st_mode & 0o777 == 0o600, "safetensors has changed: whole need not mend it"
    folder = folder_beside(tmp_path / "a" / "made")
    assert [p.stat().st_mode & 0o777 for p in (tmp_path / "a" / "weights", folder)] == [0o640, 0o750]
    assert folder.parent == tmp_path / "a"


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path):
    (tmp_path / "kept").write_text("before")
    for place in ("kept", "new"):
        told = pytest.raises(UserError, match=rf"{place}: cannot write \(.*too large.*\); make room")
        with no_room(1000), told, disk_errors(tmp_path / place), write_whole(tmp_path / place) as aside:
            aside.write_bytes(bytes(2000))
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]
