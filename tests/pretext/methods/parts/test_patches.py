import pytest
import torch
from refusals import refused

from pretext.methods.parts.patches import (
    cut,
    drop_colors,
    gray_at_random,
    jittered_grid,
    normalize_each,
    project_colors,
    tiles_of_cells,
)


def coordinates(count, height, width):
    """Photos whose red is the column and whose green is the row of each pixel."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([column, row, 0 * row]).to(torch.uint8).expand(count, -1, -1, -1)


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def test_a_patch_is_the_slice_at_its_place():
    photos = noise(2, 3, 10, 12)
    top, left = torch.tensor([[0, 5, 2], [6, 1, 3]]), torch.tensor([[8, 0, 3], [1, 2, 7]])
    patches = cut(photos, top, left, 4)
    assert patches.dtype == torch.uint8
    for n in range(2):
        for k in range(3):
            y, x = int(top[n, k]), int(left[n, k])
            assert torch.equal(patches[n, k], photos[n, :, y : y + 4, x : x + 4])


def test_a_jittered_grid_begins_everywhere_between_its_bounds():
    torch.manual_seed(0)
    top, left = jittered_grid(500, grid=3, pitch=10, jitter=2)
    for k in range(9):
        assert set(top[:, k].tolist()) == {k // 3 * 10 + shift for shift in range(3)}
        assert set(left[:, k].tolist()) == {k % 3 * 10 + shift for shift in range(3)}
    assert not torch.equal(top[:, 0], left[:, 0])


def test_a_tile_lies_at_random_within_its_cell():
    torch.manual_seed(0)
    tiles = tiles_of_cells(coordinates(200, 32, 31), grid=3, share=0.7)
    assert tiles.shape == (200, 9, 3, 7, 7)  # cells of 10
    first, last = tiles[..., 0, 0], tiles[..., -1, -1]
    for k in range(9):
        for channel, cell in ((0, k % 3), (1, k // 3)):
            assert set(first[:, k, channel].tolist()) == {cell * 10 + shift for shift in range(4)}
            assert (last[:, k, channel] == first[:, k, channel] + 6).all()


def test_tiles_of_whole_cells_are_the_photo():
    photos = noise(2, 3, 9, 9)
    tiles = tiles_of_cells(photos, grid=3, share=1.0).view(2, 3, 3, 3, 3, 3)
    assert torch.equal(tiles.permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 9, 9), photos)


def test_channels_are_shifted_against_each_other_and_stay_within_the_photo():
    torch.manual_seed(0)
    column = coordinates(100, 30, 30)[:, :1].expand(-1, 3, -1, -1)
    corner = tiles_of_cells(column, grid=3, share=1.0, channel_shift=1)[..., 0, 0].int()
    place = torch.arange(9) % 3 * 10
    shift = corner - place[:, None]
    assert set(shift[:, 1::3].flatten().tolist()) == {-1, 0, 1}
    # At the left border there is nothing further left.
    assert set(shift[:, 0::3].flatten().tolist()) == {0, 1}
    assert (shift[:, :, 0] != shift[:, :, 1]).any()


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_tiles_that_are_no_share_of_a_cell_are_refused(share):
    with refused("share", received=share, allowed="above 0 to 1"):
        tiles_of_cells(noise(1, 3, 30, 30), grid=3, share=share)


def test_cells_that_are_too_small_are_refused():
    with refused("20 cells", received="30x30 pixels", allowed="2x2 pixels"):
        tiles_of_cells(noise(1, 3, 30, 30), grid=20, share=1.0)


def kept_channels(patches, dropped):
    """Which channels differ by a constant alone."""
    difference = (dropped - patches.float()).flatten(2)
    return difference.amax(2) - difference.amin(2) < 1e-3


def test_dropping_colours_leaves_one_channel_and_noise_in_the_others():
    torch.manual_seed(0)
    patches = noise(60, 3, 24, 24)
    dropped = drop_colors(patches)
    means = 255 * torch.tensor([0.485, 0.456, 0.406])
    torch.testing.assert_close(dropped.mean((2, 3)), means.expand(60, 3), atol=0.3, rtol=0)
    same = kept_channels(patches, dropped)
    assert same.sum(1).tolist() == [1] * 60
    assert same.any(0).all(), "each channel stays in some patch"
    for n in range(60):
        kept = int(same[n].int().argmax())
        for channel in {0, 1, 2} - {kept}:
            values = dropped[n, channel]
            expected = 0.01 * patches[n, kept].float().std()
            assert values.mean().item() == pytest.approx(means[channel].item(), abs=0.2)
            assert values.std().item() == pytest.approx(expected.item(), rel=0.2)


def test_what_was_dropped_is_not_seen():
    patches = noise(6, 3, 8, 8)
    torch.manual_seed(0)
    first = drop_colors(patches)
    kept = kept_channels(patches, first)[..., None, None]
    others = torch.where(kept, patches // 2 + 40, noise(6, 3, 8, 8, seed=1))
    halved = torch.where(kept, patches // 2, others)
    torch.manual_seed(0)
    second = drop_colors(others)
    assert not torch.equal(second, first)
    torch.manual_seed(0)
    # Neither the other channels nor the brightness of the one that stays.
    torch.testing.assert_close(drop_colors(halved), second)


def test_projection_is_the_papers_matrix():
    a = torch.tensor([[-1.0, 2.0, -1.0]])
    matrix = torch.eye(3) - a.T @ a / (a @ a.T)
    patches = 64 + noise(4, 3, 8, 8) // 2  # not so saturated that anything leaves 0..255
    expected = torch.einsum("ij,njhw->nihw", matrix, patches.float())
    torch.testing.assert_close(project_colors(patches), expected)
    saturated = project_colors(noise(4, 3, 8, 8))
    assert saturated.min() >= 0
    assert saturated.max() <= 255


def test_projection_hides_a_shift_of_green():
    gray = noise(2, 1, 8, 9)
    shifted = torch.cat([gray[..., :-1], gray[..., 1:], gray[..., :-1]], 1)
    red, green, blue = project_colors(shifted).unbind(1)
    torch.testing.assert_close(red, green)
    torch.testing.assert_close(red, blue)


def test_each_tile_is_normalised_by_itself():
    tiles = 100 + noise(5, 3, 16, 16) // 4
    normalised = normalize_each(tiles)
    torch.testing.assert_close(normalised.mean((2, 3)), torch.full((5, 3), 127.5))
    torch.testing.assert_close(normalised.std((2, 3), correction=0), torch.full((5, 3), 42.5))
    # Brightness and contrast of a tile do not tell where it is from.
    torch.testing.assert_close(normalize_each(tiles.float() * 0.5 + 30), normalised)
    flat = normalize_each(torch.full((1, 3, 4, 4), 7, dtype=torch.uint8))
    assert (flat == 127.5).all()


def test_some_photos_are_gray():
    torch.manual_seed(0)
    photos = noise(400, 3, 4, 4)
    shown = gray_at_random(photos, 0.3)
    gray = (shown[:, 0] == shown[:, 1]).flatten(1).all(1) & (shown[:, 0] == shown[:, 2]).flatten(1).all(1)
    assert 0.2 < gray.float().mean() < 0.4
    assert torch.equal(shown[~gray], photos[~gray])
    luma = (photos.float() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)
    torch.testing.assert_close(shown[gray][:, 0].float(), luma[gray], atol=1.1, rtol=0)
    assert torch.equal(gray_at_random(photos, 0.0), photos)
    tiles = noise(50, 9, 3, 4, 4)
    shown = gray_at_random(tiles, 0.5)
    gray = (shown[:, :, 0] == shown[:, :, 2]).flatten(2).all(2)
    assert set(gray.sum(1).tolist()) == {0, 9}, "all tiles of a photo or none"
