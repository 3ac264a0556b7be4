"""Identity descriptors of faces, and measures on 68 landmarks.

The descriptor is dlib's ResNet. Two pictures of one person are about 0.3 apart, of two people about 0.84; the usual
threshold is 0.6. Small frames are enlarged for the detector.

Axes: N frame, R pixels. Points are (x, y) in pixels of the frame. A frame without a face gives NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from svgan.assets import cache

SAME_PERSON = 0.6
CHIP = 150  # side of the picture that the descriptor network takes
DETECT_AT = 320  # smaller frames are enlarged to this; dlib's detector misses faces under 80 pixels

# indices into the 68 landmarks: eye contours (p1 ... p6), inner lips, nose tip, ends of the jaw
LEFT_EYE, RIGHT_EYE = np.arange(36, 42), np.arange(42, 48)
UPPER_LIP, LOWER_LIP = np.arange(61, 64), np.arange(67, 64, -1)
NOSE, JAW_LEFT, JAW_RIGHT = 30, 0, 16


@dataclass(frozen=True)
class Faces:
    """Faces of frames: landmarks [N, 68, 2] float32, descriptors [N, 128] float32; NaN if there is no face."""

    landmarks: np.ndarray
    descriptors: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Whether each frame has a face, [N] bool."""
        return np.isfinite(self.landmarks[:, 0, 0])


class FaceReader:
    """dlib's detector, 68-point predictor and descriptor; svgan.assets.cache fetches the weights (100 MB, once)."""

    def __init__(self) -> None:
        import dlib  # heavy, and needed only here

        self._dlib = dlib
        self._detect = dlib.get_frontal_face_detector()
        self._predict = dlib.shape_predictor(str(cache.path("landmarks68")))
        self._chip = dlib.shape_predictor(str(cache.path("landmarks5")))
        self._describe = dlib.face_recognition_model_v1(str(cache.path("identity")))

    def read(self, frames: np.ndarray, *, descriptors: bool = True) -> Faces:
        """Read the largest face of each uint8 [N, R, R, 3] frame."""
        landmarks = np.full((len(frames), 68, 2), np.nan, np.float32)
        described = np.full((len(frames), 128), np.nan, np.float32)
        for row, frame in enumerate(frames):
            picture, scale = enlarged(frame)
            boxes = sorted(self._detect(picture, 0), key=lambda box: -box.area())
            if not boxes:
                continue
            points = [(p.x, p.y) for p in self._predict(picture, boxes[0]).parts()]
            landmarks[row] = (np.array(points, np.float32) + 0.5) / scale - 0.5
            if descriptors:
                chip = self._dlib.get_face_chip(picture, self._chip(picture, boxes[0]), size=CHIP)
                described[row] = np.array(self._describe.compute_face_descriptor(chip))
        return Faces(landmarks, described)


class FaceDescriber:
    """dlib's identity descriptor for faces with known 68 landmarks."""

    def __init__(self) -> None:
        import dlib

        self._dlib = dlib
        self._describe = dlib.face_recognition_model_v1(str(cache.path("identity")))

    def __call__(self, picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Return the descriptor [128] float32 of the face at landmarks [68, 2] in a uint8 [H, W, 3] picture."""
        points = [self._dlib.point(*point) for point in landmarks.round().astype(int).tolist()]
        (left, top), (right, bottom) = landmarks.min(0).tolist(), landmarks.max(0).tolist()
        box = self._dlib.rectangle(int(left), int(top), int(right), int(bottom))
        face = self._dlib.full_object_detection(box, points)
        chip = self._dlib.get_face_chip(np.ascontiguousarray(picture), face, size=CHIP)
        return np.array(self._describe.compute_face_descriptor(chip), np.float32)


def enlarged(frame: np.ndarray) -> tuple[np.ndarray, float]:
    """Enlarge a uint8 [H, W, 3] frame to a width of DETECT_AT or more; return it and the scale."""
    from PIL import Image

    height, width = frame.shape[:2]
    if width >= DETECT_AT:
        return np.ascontiguousarray(frame), 1.0
    scale = DETECT_AT / width
    picture = Image.fromarray(frame).resize((DETECT_AT, round(height * scale)), Image.Resampling.BICUBIC)
    return np.asarray(picture), scale


def identity_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance between descriptors a [..., 128] and b [..., 128]; NaN if either is."""
    return np.linalg.norm(np.asarray(a) - np.asarray(b), axis=-1)


def typical_descriptor(descriptors: np.ndarray) -> np.ndarray:
    """The mean descriptor [128] of one person's frames [N, 128] without those that lack a face; NaN if all do."""
    found = descriptors[np.isfinite(descriptors[:, 0])]
    return found.mean(0) if len(found) else np.full(descriptors.shape[1], np.nan)


def content_distance(descriptors: np.ndarray) -> float:
    """ACD, the average content distance: the mean distance between descriptors [T, 128] of a clip's frames.

    Tulyakov et al. 2018, arXiv:1707.04993, section 4. NaN for fewer than two frames with a face.
    """
    found = descriptors[np.isfinite(descriptors[:, 0])].astype(np.float64)
    if len(found) < 2:
        return float("nan")
    apart = identity_distance(found[:, None], found[None])
    return float(apart.sum() / (len(found) * (len(found) - 1)))


def subject_distance(descriptors: np.ndarray, subject: np.ndarray) -> float:
    """Mean distance between a clip's descriptors [T, 128] and a subject's [128]; NaN if no frame has a face."""
    apart = identity_distance(descriptors, subject)
    return float(np.nanmean(apart)) if np.isfinite(apart).any() else float("nan")


def _distance(landmarks: np.ndarray, a: int | np.ndarray, b: int | np.ndarray) -> np.ndarray:
    return np.linalg.norm(landmarks[:, a] - landmarks[:, b], axis=-1)


def eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Pixels between the eye centres, [N], for landmarks [N, 68, 2]."""
    return np.linalg.norm(landmarks[:, LEFT_EYE].mean(1) - landmarks[:, RIGHT_EYE].mean(1), axis=-1)


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    """Mean gap between the inner lips divided by the distance between the eyes, [N]."""
    return _distance(landmarks, UPPER_LIP, LOWER_LIP).mean(1) / eye_distance(landmarks)


def eye_opening(landmarks: np.ndarray) -> np.ndarray:
    """Eye aspect ratio (Soukupova and Cech 2016), (|p2 p6| + |p3 p5|) / (2 |p1 p4|), mean of both eyes, [N]."""
    ratios = [
        (_distance(landmarks, eye[1], eye[5]) + _distance(landmarks, eye[2], eye[4]))
        / (2 * _distance(landmarks, eye[0], eye[3]))
        for eye in (LEFT_EYE, RIGHT_EYE)
    ]
    return np.mean(ratios, axis=0)


def head_yaw(landmarks: np.ndarray) -> np.ndarray:
    """Position of the nose tip between the ends of the jaw: 0 in the middle, -1 and 1 at the ends, [N]. A proxy
    (ours).
    """
    left, right = landmarks[:, JAW_LEFT], landmarks[:, JAW_RIGHT]
    across = right - left
    along = np.sum((landmarks[:, NOSE] - left) * across, -1) / np.sum(across * across, -1)
    return 2 * along - 1
