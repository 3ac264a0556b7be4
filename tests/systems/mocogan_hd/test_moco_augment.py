"""Augmentations: what each does, within its bounds, each picture's own, and ranks' parts of one draw."""

import torch

from svgan.systems.mocogan_hd.augment import AFFINE, COLOUR, MIRROR, augmented, draw_augmentation, holes

SIDE = 32


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_holes_are_an_eighth_to_a_quarter_at_a_border():
    cut = draw_augmentation(200, seeded()).cut
    hole = holes(cut, SIDE)
    rows, columns = hole.any(2), hole.any(1)
    for along in (rows.sum(1), columns.sum(1)):
        assert along.min() >= SIDE * 0.125 - 1
        assert along.max() <= SIDE * 0.25 + 1
    assert torch.equal(hole, rows[:, :, None] & columns[:, None, :])
    touches = rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1]
    assert touches.all()


def test_every_change_happens_and_does_what_it_says():
    pictures = torch.rand(400, 3, SIDE, SIDE, generator=seeded(1)) + 0.5  # nowhere 0, as a hole is
    by = draw_augmentation(400, seeded())
    changed, hole = augmented(pictures, by), holes(by.cut, SIDE)[:, None]
    kept = pictures * ~hole
    assert (torch.bincount(by.change, minlength=3) > 100).all()
    assert torch.equal(changed[by.change == MIRROR], kept[by.change == MIRROR].flip(-1))
    added = (changed - kept)[by.change == COLOUR]
    assert ((added.amax((2, 3)) - added.amin((2, 3))).abs() < 1e-5).all()
    assert 0.45 < added.abs().max() <= 0.5 + 1e-5
    shifts = added[:, :, 0, 0]
    alike = (shifts - shifts[:, :1]).abs().amax(1) < 1e-6
    assert 15 < int(alike.sum()) < 60, "all channels by one shift, a quarter of the time"
    assert ((shifts[~alike].abs() > 1e-6).sum(1) == 1).all(), "else one channel alone"
    affine = by.affine[by.change == AFFINE]
    scale = 1 / torch.linalg.det(affine[:, :, :2]).sqrt()
    assert ((scale > 0.95 - 1e-4) & (scale < 1.05 + 1e-4)).all()
    assert affine[:, :, 2].abs().max() <= 0.2
    angles = torch.atan2(affine[:, 1, 0], affine[:, 0, 0])
    assert angles.min() < -2.5
    assert angles.max() > 2.5


def test_a_ranks_part_of_a_draw_is_its_part_of_the_pictures():
    pictures, by = torch.randn(6, 3, SIDE, SIDE), draw_augmentation(6, seeded())
    whole = augmented(pictures, by)
    parts = [augmented(pictures[own], by[own]) for own in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_gradients_pass():
    pictures = torch.randn(8, 3, SIDE, SIDE, requires_grad=True)
    augmented(pictures, draw_augmentation(8, seeded())).sum().backward()
    assert pictures.grad.flatten(1).any(1).all()
