"""Track one subject through a video: the frames that show the face, its place in them, and the ends of clips.

`scan` looks at one stretch of frames, so stretches can be scanned in any order, anywhere, and kept. `follow` joins the
stretches. A clip is a run of consecutive ticks. Each interruption leaves a gap, and nothing bridges a gap:

- no face: frames without one are left out;
- several faces: the one that continues the clip is followed; if none does, the largest, if it is clearly larger;
- a cut, or a face that jumps: the first frame after it is left out, so that two clips never touch;
- missing frames (variable rate, damage): their ticks are missing; of two frames in one tick the second is left out.

Shapes: N frame (kept), n frame of a stretch, m face. Points are (x, y) in pixels of the upright picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from svgan.errors import UserError
from svgan.faces.alignment import FaceFinder, ffhq_frame, runs, smooth_quads
from svgan.io.video_reader import LONGEST, Survey, pictures

THUMB = 32  # side of the grey pictures that cuts are found in
CUT, CUT_RATIO, SURE_CUT = 4.0, 6.0, 40.0  # mean grey change: least, times what is usual around it, enough by itself
AROUND = 12  # frames on either side that say what is usual
JUMP, GROWTH = 0.5, 1.25  # from frame to frame: centre by half crops, size by this factor
CLEARLY = 0.7  # the next face is at most so large, where nothing but size says which one is meant

Scan = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Track:
    """The usable frames of one video.

    index [N] int64: ticks, increasing. pts [N] int64, time [N] float64 seconds: their places in the file. landmarks [N,
    68, 2] float32, unsmoothed. quads [N, 4, 2] float32: corners of the crops (top left, bottom left, bottom right, top
    right), smoothed. seen: frames decoded. lost: frames left out, by reason. missing: seconds by which the file ends
    too early.
    """

    name: str
    fps: float
    index: np.ndarray
    pts: np.ndarray
    time: np.ndarray
    landmarks: np.ndarray
    quads: np.ndarray
    seen: int
    lost: dict[str, int] = field(default_factory=dict)
    missing: float = 0.0

    @property
    def clips(self) -> list[slice]:
        return runs(self.index)

    def rows(self, first: int, past: int) -> slice:
        """The rows whose pts lie in [first, past)."""
        return slice(*np.searchsorted(self.pts, [first, past]).tolist())


def scan(
    path: str | Path, chunk: tuple[int, int], finder: FaceFinder, progress: Callable[[int], None] = lambda done: None
) -> Scan:
    """What a stretch of a video shows: pts [n], thumbs [n, 32, 32] uint8, owner [m] (a row of n) and faces [m, 68, 2]
    float32.
    """
    pts: list[int] = []
    owner: list[int] = []
    thumbs, faces = np.empty((LONGEST, THUMB, THUMB), np.uint8), np.empty((LONGEST, 68, 2), np.float32)
    for at, picture in pictures(path, *chunk):
        thumbs = _with_room(thumbs, len(pts) + 1)
        small = Image.fromarray(picture).convert("L").resize((THUMB, THUMB), Image.Resampling.BOX)
        thumbs[len(pts)] = np.asarray(small)
        for face in finder(picture):
            faces = _with_room(faces, len(owner) + 1)
            faces[len(owner)] = face
            owner.append(len(pts))
        pts.append(at)
        progress(len(pts))
    return {
        "pts": np.array(pts, np.int64),
        "thumbs": thumbs[: len(pts)].copy(),
        "owner": np.array(owner, np.int64),
        "faces": faces[: len(owner)].copy(),
    }


def _with_room(array: np.ndarray, rows: int) -> np.ndarray:
    """The array, twice as long if it has fewer rows.

    Small arrays that are kept from frame to frame occupy the memory of freed pictures, which then grows by a picture
    per frame (docs/traps.md).
    """
    return array if rows <= len(array) else np.concatenate([array, np.empty_like(array)])


def joined(scans: Sequence[Scan]) -> Scan:
    """Join stretches, in order."""
    starts = np.cumsum([0, *(len(part["pts"]) for part in scans[:-1])])
    whole = {name: np.concatenate([part[name] for part in scans]) for name in ("pts", "thumbs", "faces")}
    owners = [part["owner"] + start for part, start in zip(scans, starts, strict=True)]
    return {**whole, "owner": np.concatenate(owners)}


def follow(path: str | Path, survey: Survey, scans: Sequence[Scan]) -> Track:
    """The subject's track. Raises UserError if no frame shows one clear face."""
    path, whole = Path(path), joined(scans)
    ticks, total = survey.ticks(whole["pts"]), len(whole["pts"])
    if not total:
        raise UserError(f"{path}: no frame could be decoded; is the file whole?")
    rows, chosen, lost = _subject(whole, ticks)
    if not rows:
        if lost["several faces"] > lost["no face"]:
            many = lost["several faces"]
            raise UserError(f"{path}: two or more faces in {many} of {total} frames; crop the video to one subject")
        raise UserError(f"{path}: no face in any of {total} frames; a frontal face is needed")
    if total < len(survey.pts):
        lost["damaged"] = len(survey.pts) - total
    index, landmarks = ticks[rows], whole["faces"][chosen]
    pts = whole["pts"][rows]
    return Track(
        name=path.name,
        fps=float(survey.fps),
        index=index,
        pts=pts,
        time=pts * float(survey.unit),
        landmarks=landmarks,
        quads=smooth_quads(landmarks, index),
        seen=total,
        lost=dict(lost),
        missing=survey.missing,
    )


def _subject(whole: Scan, ticks: np.ndarray) -> tuple[list[int], list[int], Counter[str]]:
    """The rows of the kept frames, the face of each, and the number of frames left out, by reason."""
    centres, axes = ffhq_frame(whole["faces"].astype(np.float64)) if len(whole["faces"]) else (np.zeros((0, 2)),) * 2
    sizes = np.linalg.norm(axes, axis=-1)
    first = np.searchsorted(whole["owner"], np.arange(len(ticks) + 1))
    cuts = _cuts(whole["thumbs"])
    rows: list[int] = []
    chosen: list[int] = []
    lost: Counter[str] = Counter()
    before: int | None = None  # the face that a clip has come to
    seen = -1
    for row, tick in enumerate(ticks):
        if tick <= seen:
            lost["second of a tick"] += 1
            continue
        connected, seen = tick == seen + 1, tick
        before = before if connected else None
        faces = np.arange(first[row], first[row + 1])
        if not len(faces):
            before, reason = None, "no face"
        elif before is not None and cuts[row]:
            before, reason = None, "cut"
        elif before is None:
            before, reason = largest(faces, sizes), "several faces"
        else:
            before, reason = _next(faces, before, centres, sizes), "cut"
        if before is None:
            lost[reason] += 1
        else:
            rows.append(row)
            chosen.append(before)
    return rows, chosen, lost


def largest(faces: np.ndarray, sizes: np.ndarray) -> int | None:
    """The largest of the faces, rows of `sizes`; None if another is about as large."""
    order = faces[np.argsort(-sizes[faces], kind="stable")]
    alone = len(order) == 1 or sizes[order[1]] <= CLEARLY * sizes[order[0]]
    return int(order[0]) if alone else None


def _next(faces: np.ndarray, before: int, centres: np.ndarray, sizes: np.ndarray) -> int | None:
    """The face that continues the one before, None if all are too far away or of another size."""
    apart = np.linalg.norm(centres[faces] - centres[before], axis=-1)
    near = int(faces[apart.argmin()])
    grown = sizes[near] / sizes[before]
    return near if apart.min() <= JUMP * sizes[before] and 1 / GROWTH <= grown <= GROWTH else None


def _cuts(thumbs: np.ndarray) -> np.ndarray:
    """[n] bool: whether the picture changed from the frame before by far more than around."""
    if len(thumbs) < 2:
        return np.zeros(len(thumbs), bool)
    change = np.abs(np.diff(thumbs.astype(np.int16), axis=0)).mean((1, 2))
    around = np.pad(change, AROUND, mode="edge")
    usual = np.median(np.lib.stride_tricks.sliding_window_view(around, 2 * AROUND + 1), axis=1)
    cut = (change > CUT) & ((change > CUT_RATIO * (usual + 0.5)) | (change > SURE_CUT))
    return np.concatenate([[False], cut])
