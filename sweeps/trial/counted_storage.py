"""Ray's way to a storage behind a URL, which reports the bytes of checkpoints as they move (`svgan.io.transfers`)."""

from __future__ import annotations

from typing import Any

from pyarrow import PythonFile
from pyarrow.fs import FSSpecHandler

from svgan.io.transfers import Transfer


class CountingHandler(FSSpecHandler):  # type: ignore[misc]
    """pyarrow's file system over fsspec, with files that count. pyarrow copies in pieces of 1 MB."""

    def open_output_stream(self, path: str, metadata: Any) -> PythonFile:
        return PythonFile(CountedFile(self.fs.open(path, mode="wb"), f"uploading {_last(path)}"), mode="w")

    def open_input_stream(self, path: str) -> PythonFile:
        if not self.fs.isfile(path):
            raise FileNotFoundError(path)
        return PythonFile(CountedFile(self.fs.open(path, mode="rb"), f"downloading {_last(path)}"), mode="r")


class CountedFile:
    """A file of fsspec that reports what is written and read."""

    def __init__(self, file: Any, what: str) -> None:
        self.file, self.transfer = file, Transfer(what)

    def write(self, content: Any) -> Any:
        written = self.file.write(content)
        self.transfer.moved(len(content))
        return written

    def read(self, size: int = -1) -> Any:
        content = self.file.read(size)
        self.transfer.moved(len(content))
        return content

    def close(self) -> None:
        self.file.close()  # s3fs uploads the last part here
        self.transfer.moved(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _last(path: str) -> str:
    return path.rpartition("/")[2]
