"""A study's plan: everything its driver, trials and workers agree on, kept as JSON so that `--resume` remembers it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from svgan.errors import UserError
from svgan.io import storage
from svgan.io.atomic import write_whole
from sweeps.storage.paths import is_remote, study_folder
from sweeps.storage.plan_parts import PARTS, PATIENCE_MINUTES, Compute, Data, Judging, Output, Search

FORMAT = 1
PLAN_FILE = "study.json"
KEPT_CHECKPOINTS = 2  # that Ray Train keeps of a trial
# What a plan has that was kept before these fields were there.
ABSENT: dict[str, Any] = {
    "grid": {},
    "objectives": (),
    "promotion_clips": 0,
    "promotion_seeds": 1,
    "patience": PATIENCE_MINUTES,
    "sampler": "tpe",
    "pruner": "asha",
}
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A study's settings in parts. As JSON it is flat: the fields of all parts side by side, no handles."""

    study: str
    """The study file's name without `.py`."""
    name: str
    """The name of this run of the study: of its folder, its record and its runs in MLflow."""
    search: Search
    data: Data
    compute: Compute
    judging: Judging
    output: Output
    digests: tuple[tuple[str, str], ...] = ()
    """Digests of what the figures depend on: git commit, package, latents, domain, protocols."""

    def __post_init__(self) -> None:
        check_name(self.name)
        objectives = self.search.objectives
        if not self.judging.clips and any(name.startswith("fvd") for name in objectives):
            raise UserError(f"--objectives {','.join(objectives)}: FVD needs clips, and --clips is 0; give 64")

    @property
    def tags(self) -> dict[str, str]:
        """The digests by name."""
        return dict(self.digests)

    def trial_name(self, number: int) -> str:
        """The fixed name of a trial's Ray Train run; a restart under it continues from its checkpoint."""
        return f"{self.name}/train-{number:04d}"

    @property
    def scratch(self) -> Path:
        """Where workers on a machine put files while they run. The driver removes it when the study ends.

        Studies of one name in two storages have two.
        """
        place = hashlib.sha256(f"{self.output.storage}\0{self.output.folder}".encode()).hexdigest()[:8]
        return Path(tempfile.gettempdir(), f"svgan-{os.getuid()}-{self.name}-{place}")

    def with_fields(self, **changes: Any) -> Plan:
        """A plan with other values of these fields, whichever part they are in."""
        return self.from_fields(self.to_fields() | changes)

    def to_fields(self) -> dict[str, Any]:
        """The fields of all parts, side by side."""
        fields = {name: value for name, value in vars(self).items() if name not in PARTS}
        for name in PARTS:
            fields |= vars(getattr(self, name))
        return fields

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **self.to_fields()}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Plan:
        """A plan of the fields of all parts. Raises TypeError for one that is missing or unknown."""
        rest, parts = dict(fields), {}
        for name, part in PARTS.items():
            own = [field.name for field in dataclasses.fields(part) if field.name in rest]
            parts[name] = part(**{key: rest.pop(key) for key in own})
        return cls(**parts, **rest)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Plan:
        fields = ABSENT | fields
        version = fields.pop("format", None)
        if version != FORMAT:
            raise UserError(f"study file of format {version}: this version reads format {FORMAT}")
        for name in ("rungs", "objectives", "metrics", "lengths", "enqueued"):
            if name in fields:
                fields[name] = tuple(fields[name])
        fields["digests"] = tuple((key, value) for key, value in fields["digests"])
        return cls.from_fields(fields)

    def save(self) -> None:
        """Write `study.json` into the study's folder, and into its storage for drivers on other machines.

        Each is written whole or not at all. Raises one of storage.ERRORS if the storage cannot be written.
        """
        content = json.dumps(self.to_json(), indent=1)
        with write_whole(Path(self.output.folder, PLAN_FILE)) as aside:
            aside.write_text(content)
        if is_remote(self.output.storage):
            storage.write(storage.join(self.output.storage, self.name, PLAN_FILE), content.encode())

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """The plan in a study's folder. Raises UserError if there is none."""
        path = folder / PLAN_FILE
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise UserError(f"{path}: no such study; check its name and --storage") from None
        return cls._parsed(content, str(path))

    @classmethod
    def find(cls, location: str, name: str) -> Plan:
        """The plan of a study in this storage, with its folder on this machine. Raises UserError if there is none."""
        folder = study_folder(location, name)
        if is_remote(location):
            place = storage.join(location, name, PLAN_FILE)
            if content := storage.read_or_explain(place):
                return cls._parsed(content, place).with_fields(folder=str(folder))
        return cls.load(folder)

    @classmethod
    def _parsed(cls, content: bytes, place: str) -> Plan:
        try:
            fields = json.loads(content)
            if not isinstance(fields, dict):
                raise ValueError("not an object")
            return cls.from_json(fields)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{place}: unreadable study file ({error}); start the study anew under another --name"
            ) from None


def check_name(name: str) -> None:
    """Raises UserError for a name that cannot be a folder's."""
    if not _NAME.match(name):
        raise UserError(f"--name {name!r}: use up to 80 letters, digits, '.', '_' or '-'")
