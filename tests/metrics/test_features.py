"""What networks find in clips: the same whether one process sees all of them or several a piece each."""

import numpy as np

from svgan.metrics.features import Extractor, extract


def test_pieces_by_their_numbers_are_the_whole():
    """A kind that looks at the first five clips alone looks at those, whoever has them."""
    clips = np.random.default_rng(0).integers(0, 255, (11, 3, 4, 4, 3), np.uint8)
    kinds = {
        "clips": Extractor(lambda some: some.mean((1, 2, 3)), "means"),
        "faces": Extractor(lambda some: some[:, :, 0, 0], "corners", 5),
    }
    alone = extract(kinds, clips, len(clips), "")
    assert np.array_equal(alone["clips"], clips.mean((1, 2, 3)).astype(np.float32))
    assert np.array_equal(alone["faces"], clips[:5, :, 0, 0].astype(np.float32))
    pieces = [extract(kinds, clips[at : at + 4], 4, "", first=at) for at in (0, 4, 8)]
    assert [set(piece) for piece in pieces] == [{"clips", "faces"}, {"clips", "faces"}, {"clips"}]
    for kind, whole in alone.items():
        assert np.array_equal(np.concatenate([piece[kind] for piece in pieces if kind in piece]), whole)
