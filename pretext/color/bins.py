"""Bins of the ab plane, and soft encoding of ab colours over their nearest bins.

Source: Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, section 2.2. The ab plane is cut into
bins on a grid of 10 CIE units, and a colour becomes a Gaussian-weighted mixture of its K nearest bins.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor, nn

from pretext.checks import check_choice
from pretext.errors import InputError

#: Half the side of the square of the ab plane that is tabulated; sRGB colours stay within 108.
AB_LIMIT = 128

#: Number K of nearest bins: the paper's, that of the authors' released Caffe layer, and hard labels.
NEIGHBORS: Mapping[str, int] = MappingProxyType({"paper": 5, "caffe_release": 10, "one_hot": 1})

_SPACING = 10
_CELL = 2  # a power of two, so that finding a colour's cell is exact in floating point
_CELLS = 2 * AB_LIMIT // _CELL

# Each row is a: (lowest b, highest b), both included, in steps of 10.
_OFFICIAL313 = {
    -90: (50, 90), -80: (20, 90), -70: (0, 90), -60: (-20, 90), -50: (-30, 100),
    -40: (-40, 100), -30: (-50, 100), -20: (-50, 100), -10: (-60, 100), 0: (-70, 100),
    10: (-80, 90), 20: (-80, 90), 30: (-90, 90), 40: (-100, 90), 50: (-100, 80),
    60: (-110, 80), 70: (-110, 80), 80: (-110, 70), 90: (-110, 70), 100: (-90, 0),
}  # fmt: skip
_GAMUT_NEAREST = {
    -90: (80, 80), -80: (40, 80), -70: (20, 90), -60: (0, 90), -50: (-20, 90),
    -40: (-30, 90), -30: (-40, 90), -20: (-40, 90), -10: (-50, 90), 0: (-60, 90),
    10: (-70, 80), 20: (-70, 80), 30: (-80, 80), 40: (-90, 80), 50: (-90, 70),
    60: (-100, 70), 70: (-110, 70), 80: (-110, 70), 90: (-90, 0), 100: (-70, -50),
}  # fmt: skip
_GAMUT_CENTER = {
    -80: (60, 80), -70: (30, 80), -60: (10, 80), -50: (-10, 80), -40: (-20, 90),
    -30: (-30, 90), -20: (-40, 90), -10: (-40, 90), 0: (-50, 80), 10: (-60, 80),
    20: (-70, 80), 30: (-70, 70), 40: (-80, 70), 50: (-90, 70), 60: (-90, 70),
    70: (-100, 60), 80: (-100, 60), 90: (-70, -30),
}  # fmt: skip
_FULL529 = dict.fromkeys(range(-110, 111, _SPACING), (-110, 110))

#: The rows of bins of each rule; see `ab_bins`.
BIN_RULES: Mapping[str, Mapping[int, tuple[int, int]]] = MappingProxyType(
    {
        "official313": _OFFICIAL313,
        "gamut_nearest": _GAMUT_NEAREST,
        "gamut_center": _GAMUT_CENTER,
        "full529": _FULL529,
    }
)


def ab_bins(rule: str = "official313") -> Float[Tensor, "q 2"]:
    """Return the bin centres of a named rule, sorted by a, then by b.

    Args:
        rule: One of
            `official313`: the 313 bins of the authors' release, as a list. No rule on the sRGB gamut alone gives
                them; most likely they are the bins that received weight on ImageNet.
            `gamut_nearest`: the 261 grid points that are nearest to some 8-bit sRGB colour.
            `gamut_center`: the 229 grid points that are themselves an sRGB colour at some lightness.
            `full529`: the whole 23 x 23 grid over [-110, 110].

    Returns:
        Bin centres in CIE units, (Q, 2), float32. For bins from your own photos, see `bins_from_counts`.

    Raises:
        InputError: `rule` is not one of these.
    """
    check_choice("rule of ab bins", rule, BIN_RULES)
    rows = BIN_RULES[rule].items()
    centers = [(a, b) for a, (low, high) in rows for b in range(low, high + 1, _SPACING)]
    return torch.tensor(centers, dtype=torch.float32)


def bins_from_counts(
    counts: Num[Tensor, "256 256"], min_mass: float = 1e-7, neighbors: int = 5, sigma: float = 5.0
) -> Float[Tensor, "q 2"]:
    """Choose bins from photos: the grid points that get weight when their pixels are soft-encoded.

    Args:
        counts: Pixels per unit cell of the ab plane, (256, 256), from `count_ab` and summed over photos.
        min_mass: Smallest share of all soft-encoding weight that a bin must receive, in [0, 1).
        neighbors: Number K of nearest bins in that soft encoding.
        sigma: Width of its Gaussian in CIE units.

    Returns:
        Bin centres in CIE units, (Q, 2), float32, sorted by a, then by b.

    Raises:
        InputError: `counts` is empty, or no bin reaches `min_mass`.
    """
    grid = ab_bins("full529").to(counts.device)
    encoder = SoftEncoder(grid, neighbors, sigma)
    indices, weights = encoder.encode(
        unit_cell_centers(counts.device).T.reshape(1, 2, 2 * AB_LIMIT, 2 * AB_LIMIT)
    )
    mass = torch.zeros(len(grid), dtype=torch.float64, device=counts.device)
    mass.index_add_(0, indices.flatten(), (weights.double() * counts).flatten())
    chosen = (mass > 0) & (mass >= min_mass * mass.sum())
    if not chosen.any():
        raise InputError(
            "no bin has enough pixels",
            received=f"{int(counts.sum())} pixels and min_mass={min_mass}",
            allowed="count more photos, or lower min_mass",
        )
    return grid[chosen]


def unit_cell_centers(device: torch.device | None = None) -> Float[Tensor, "65536 2"]:
    """Return the centres of the unit cells of `count_ab`, (256 * 256, 2), sorted by a, then by b."""
    axis = torch.arange(-AB_LIMIT, AB_LIMIT, device=device) + 0.5
    return torch.cartesian_prod(axis, axis)


class SoftEncoder(nn.Module):
    """Soft encoding of ab colours over their K nearest bins (Zhang et al., ECCV 2016, section 2.2).

    The neighbours are exact for any set of bins, but no pixel is compared with every bin. A table, made once, lists
    for each 2 x 2 cell of the ab plane the few bins that can be among the K nearest of any point in the cell (12 to
    16 of the official 313). A bin is listed unless K bins are surely nearer: its least distance to the cell is
    compared with the K-th smallest of all bins' greatest distances.

    A fixed network of comparators sorts the candidates' squared distances, each comparator an element-wise minimum
    and maximum over all pixels at once. This takes a fraction of the time of sorting so many short rows. The lowest
    bits of each number hold the candidate's place in the list, so distances that agree to 2^-19 (in float32) count as
    equal.

    The target stays sparse, with K indices and K weights per pixel; a dense target over all bins would be 60 times as
    large.

    Attributes:
        bins: Bin centres in CIE units, (Q, 2), sorted as given.
        neighbors: Number K of nearest bins; see `NEIGHBORS`.
        sigma: Width of the Gaussian in CIE units.
    """

    bins: Tensor
    candidates: Tensor
    candidate_a: Tensor
    candidate_b: Tensor

    def __init__(self, bins: Float[Tensor, "q 2"], neighbors: int = 5, sigma: float = 5.0) -> None:
        """Tabulate the candidates of every cell, which takes about 0.1 s.

        Args:
            bins: Bin centres in CIE units, (Q, 2), within [-128, 128].
            neighbors: Number K of nearest bins, 1 to Q.
            sigma: Width of the Gaussian in CIE units, above 0.

        Raises:
            InputError: An argument is out of its range.
        """
        super().__init__()
        if not 1 <= neighbors <= len(bins):
            raise InputError(
                "neighbors of soft encoding is out of range",
                received=neighbors,
                allowed=f"allowed are 1 to {len(bins)}, the number of bins",
            )
        if not sigma > 0:
            raise InputError(
                "sigma of soft encoding is out of range",
                received=sigma,
                allowed="allowed are numbers above 0",
            )
        if not bool((bins.abs() <= AB_LIMIT).all()):
            raise InputError(
                "bins lie outside the ab plane",
                received=(bins.min().item(), bins.max().item()),
                allowed=f"allowed are values from -{AB_LIMIT} to {AB_LIMIT}",
            )
        self.neighbors = neighbors
        self.sigma = sigma
        candidates = _candidate_table(bins.double(), neighbors)
        # The padding, index Q, is infinitely far away, so it is never chosen.
        padded = torch.cat([bins, bins.new_full((1, 2), torch.inf)])
        self._comparators = _comparators(len(candidates), neighbors)
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("candidates", candidates.int(), persistent=False)
        self.register_buffer("candidate_a", padded[candidates, 0], persistent=False)
        self.register_buffer("candidate_b", padded[candidates, 1], persistent=False)

    @torch.no_grad()
    def encode(
        self, ab: Float[Tensor, "n 2 h w"]
    ) -> tuple[Int64[Tensor, "n k h w"], Float[Tensor, "n k h w"]]:
        """Encode colours over their K nearest bins: weights exp(-d^2 / (2 sigma^2)), normalised to sum 1.

        Args:
            ab: Colours in CIE units, (N, 2, H, W). Values outside [-128, 128], which no sRGB colour has, are
                encoded as the nearest colour inside. The targets get no gradient.

        Returns:
            The indices of the bins, (N, K, H, W), nearest first and, among equally near bins, lower index first; and
            their weights, (N, K, H, W). With K = 1 every weight is 1, a hard label.
        """
        n, _, h, w = ab.shape
        cell, squared = self._candidate_distances(ab)
        slots = self._nearest_slots(squared)
        # Subtract the smallest distance, so that the weights are finite even far away from every bin.
        # torch.softmax would do the same, but several times slower over so few entries.
        squared = squared.gather(0, slots)
        squared = squared.sub_(squared[0].clone()).div_(-2 * self.sigma**2).exp_()
        chosen = self.candidates.take(slots.mul_(self.candidates.shape[1]).add_(cell))
        # The last operation on each goes from (K, N * H * W) to (N, K, H, W).
        shape = (self.neighbors, n, h, w)
        indices = ab.new_empty(n, self.neighbors, h, w, dtype=torch.int64)
        weights = squared.new_empty(n, self.neighbors, h, w)
        indices.transpose(0, 1).copy_(chosen.view(shape))
        torch.div(squared.view(shape), squared.sum(dim=0).view(n, h, w), out=weights.transpose(0, 1))
        return indices, weights

    @torch.no_grad()
    def nearest_bin(self, ab: Float[Tensor, "n 2 h w"]) -> Int64[Tensor, "n h w"]:
        """Return the index of each colour's nearest bin, (N, H, W); `ab` is as for `encode`."""
        n, _, h, w = ab.shape
        cell, squared = self._candidate_distances(ab)
        slot = squared.argmin(dim=0)
        return self.candidates.take(slot.mul_(self.candidates.shape[1]).add_(cell)).long().view(n, h, w)

    def _candidate_distances(self, ab: Tensor) -> tuple[Tensor, Tensor]:
        """Return each colour's cell, (N*H*W,), and the squared distances to its candidates, (C, N*H*W)."""
        ab = ab.to(torch.promote_types(ab.dtype, self.bins.dtype)).clamp(-AB_LIMIT, AB_LIMIT)
        cells = (ab / _CELL).floor().add_(_CELLS // 2).clamp_(max=_CELLS - 1).int()
        cell = (cells[:, 0] * _CELLS + cells[:, 1]).flatten()
        a, b = (channel.flatten() for channel in ab.unbind(1))
        squared = self.candidate_a.index_select(1, cell).to(ab.dtype).sub_(a).square_()
        squared += self.candidate_b.index_select(1, cell).to(ab.dtype).sub_(b).square_()
        return cell, squared

    def _nearest_slots(self, squared: Tensor) -> Tensor:
        """Return the places of the K smallest of the squared distances (C, P), in rising order, (K, P)."""
        # Numbers from 0 up to infinity sort like the integers of the same bits.
        bits = torch.int64 if squared.dtype == torch.float64 else torch.int32
        lowest = (1 << (len(squared) - 1).bit_length()) - 1
        slots = torch.arange(len(squared), dtype=bits, device=squared.device).unsqueeze(1)
        rows = list(squared.view(bits).bitwise_and(~lowest).bitwise_or_(slots))
        for i, j in self._comparators:
            rows[i], rows[j] = torch.minimum(rows[i], rows[j]), torch.maximum(rows[i], rows[j])
        return torch.stack(rows[: self.neighbors]).bitwise_and_(lowest).long()


def to_dense(
    indices: Int64[Tensor, "n k h w"], weights: Float[Tensor, "n k h w"], num_bins: int
) -> Float[Tensor, "n q h w"]:
    """Spread sparse targets over all bins, (N, Q, H, W); for inspection and tests, not for training."""
    n, _, h, w = indices.shape
    return weights.new_zeros(n, num_bins, h, w).scatter_add_(1, indices, weights)


def _candidate_table(bins: Tensor, neighbors: int) -> Tensor:
    """List for each cell the bins that can be among the K nearest of a point in it: (C, cells), padded with Q."""
    low = torch.arange(_CELLS, dtype=bins.dtype, device=bins.device).unsqueeze(1) * _CELL - AB_LIMIT
    high = low + _CELL
    # Squared distances along each axis from each interval to each bin, each (_CELLS, Q).
    nearest = [torch.maximum(low - center, center - high).clamp_min(0).square() for center in bins.unbind(1)]
    farthest = [torch.maximum(center - low, high - center).square() for center in bins.unbind(1)]
    greatest = (farthest[0].unsqueeze(1) + farthest[1]).flatten(0, 1)
    bound = greatest.topk(neighbors, dim=1, largest=False).values[:, -1:]
    # The slack covers rounding: a bin too many costs nothing, a bin too few would be wrong.
    possible = (nearest[0].unsqueeze(1) + nearest[1]).flatten(0, 1) <= bound + 1e-9
    cell, index = possible.nonzero(as_tuple=True)  # rising bin index within each cell
    sizes = torch.bincount(cell, minlength=_CELLS**2)
    slot = torch.arange(len(cell), device=bins.device) - (sizes.cumsum(0) - sizes)[cell]
    table = torch.full((int(sizes.max()), _CELLS**2), len(bins), device=bins.device)
    table[slot, cell] = index
    return table


def _comparators(length: int, smallest: int) -> list[tuple[int, int]]:
    """Return the pairs (i, j) that bring the ``smallest`` smallest of ``length`` values to the front, in rising order.

    Each pair, in turn, leaves the smaller of two values at i and the larger at j. This is Batcher's merge exchange
    (Knuth, The Art of Computer Programming, volume 3, 5.2.2, algorithm M), without the pairs that have no influence on
    the first ``smallest`` places.
    """
    top = 1 << max((length - 1).bit_length() - 1, 0)
    pairs = []
    step = top
    while step:
        reach, offset, distance = top, 0, step
        pairs += [(i, i + distance) for i in range(length - distance) if i & step == offset]
        while reach != step:
            distance, reach, offset = reach - step, reach // 2, step
            pairs += [(i, i + distance) for i in range(length - distance) if i & step == offset]
        step //= 2
    wanted, kept = set(range(smallest)), []
    for pair in reversed(pairs):
        if wanted & set(pair):
            wanted |= set(pair)
            kept.append(pair)
    return kept[::-1]
