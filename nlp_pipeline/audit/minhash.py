"""Near duplicates among many texts: MinHash (Broder 1997, "On the resemblance and containment of documents") and
locality-sensitive hashing by bands (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3).

The resemblance of two texts is the Jaccard index of their sets of shingles: every run of four characters, of texts in
lower case and without punctuation. The least value of a random hash over a set is the same for two sets with a
probability of just their resemblance; pairs that agree in a whole band of such values are compared exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .characters import Characters

SHINGLE = 4
"""Characters a shingle: few enough that a typing error leaves most shingles of a short text as they are."""
HASHES = 64
RECALL = 0.99
"""The least probability with which a pair at the threshold has to meet in some band."""
AT_ONCE = 1 << 17
"""Shingles whose hashes are worked on together: they stay in the processor's cache."""
ALL_PAIRS = 16
"""In a bucket of more texts each is compared with the first and the one before it only: pairs would be too many."""


def normalised(texts: pa.ChunkedArray) -> list[str]:
    """Lower case, every run of other characters than letters and digits one blank, outer blanks cut."""
    words = pc.replace_substring_regex(pc.utf8_lower(texts), r"[^\p{L}\p{M}\p{N}]+", " ")
    return pc.utf8_trim_whitespace(words).to_pylist()


@dataclass(frozen=True)
class Shingles:
    """The set of shingles of each text: sorted, distinct hashes `values[offsets[i]:offsets[i + 1]]` (uint32)."""

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Shingles":
        """Shingles of normalised texts; a text too short for one is a shingle itself, an empty one has none."""
        characters = Characters.of(texts)
        codes, starts, lengths = characters.codes, characters.offsets[:-1], characters.lengths
        counts = np.where(lengths > 0, np.maximum(lengths - SHINGLE + 1, 1), 0)
        rows = np.repeat(np.arange(len(texts)), counts)
        first = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) - first[rows] + starts[rows]
        last = starts + lengths - 1
        mixed = np.zeros(len(places), np.uint64)
        for step in range(SHINGLE):
            code = codes[np.minimum(places + step, last[rows])].astype(np.uint64)
            # What lies beyond the end of a short text is no character.
            code[places + step > last[rows]] = 0
            mixed = mixed * np.uint64(0x100000001B3) + code
        keys = (rows.astype(np.uint64) << np.uint64(32)) | scramble(mixed)
        keys = _distinct(keys)
        owners = (keys >> np.uint64(32)).astype(np.int64)
        offsets = np.searchsorted(owners, np.arange(len(texts) + 1))
        return cls((keys & np.uint64(0xFFFFFFFF)).astype(np.uint32), offsets)

    @property
    def sizes(self) -> np.ndarray:
        """int64[texts], how many shingles each has."""
        return np.diff(self.offsets)

    def jaccard(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """float64[pairs], the resemblance of texts `left[i]` and `right[i]`."""
        owners = np.repeat(np.arange(len(self.sizes), dtype=np.uint64), self.sizes)
        keys = (owners << np.uint64(32)) | self.values
        result = np.zeros(len(left))
        for begin, end in _batches(self.sizes[left], 16 * AT_ONCE):
            sizes = self.sizes[left[begin:end]]
            pairs = np.repeat(np.arange(end - begin), sizes)
            inner = np.arange(len(pairs)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            values = self.values[self.offsets[left[begin:end]][pairs] + inner]
            wanted = (right[begin:end][pairs].astype(np.uint64) << np.uint64(32)) | values
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            common = np.bincount(pairs, keys[at] == wanted, minlength=end - begin)
            union = sizes + self.sizes[right[begin:end]] - common
            result[begin:end] = common / np.maximum(union, 1)
        return result


def scramble(values: np.ndarray) -> np.ndarray:
    """uint64 to well mixed uint64 below 2^32 (the upper half of MurmurHash3's finaliser)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values >> np.uint64(32)


def signatures(shingles: Shingles, hashes: int = HASHES, seed: int = 0) -> np.ndarray:
    """uint32[texts, hashes], the least value of each random hash over the shingles of each text.

    Texts without shingles get the greatest value throughout.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    factors = generator.integers(0, 2**32, hashes, np.uint32) | np.uint32(1)
    masks = generator.integers(0, 2**32, hashes, np.uint32)
    result = np.full((len(shingles.sizes), hashes), np.iinfo(np.uint32).max, np.uint32)
    filled = np.flatnonzero(shingles.sizes)
    sizes = shingles.sizes[filled]
    for begin, end in _batches(sizes, AT_ONCE):
        rows = filled[begin:end]
        start = shingles.offsets[rows[0]]
        values = shingles.values[start : shingles.offsets[rows[-1] + 1]]
        edges = shingles.offsets[rows] - start
        for i in range(hashes):
            mixed = (values ^ masks[i]) * factors[i]
            mixed ^= mixed >> np.uint32(15)
            mixed *= np.uint32(0x2C1B3C6D)
            result[rows, i] = np.minimum.reduceat(mixed, edges)
    return result


def band_rows(threshold: float, hashes: int = HASHES, recall: float = RECALL) -> int:
    """How many hashes make a band: as many as leave a pair at the threshold the wanted chance to meet in one.

    Of b bands of r hashes, a pair with resemblance s agrees in at least one with probability 1 - (1 - s^r)^b.
    """
    fits = [r for r in range(1, 17) if 1 - (1 - threshold**r) ** (hashes // r) >= recall]
    return max(fits, default=1)


def candidates(signature: np.ndarray, rows_a_band: int) -> np.ndarray:
    """int64[pairs, 2], ascending: texts whose signatures agree in a band."""
    pairs = []
    for start in range(0, signature.shape[1] - rows_a_band + 1, rows_a_band):
        keys = np.zeros(len(signature), np.uint64)
        for column in signature[:, start : start + rows_a_band].T:
            keys = (keys ^ column) * np.uint64(0x9E3779B97F4A7C15)
            keys ^= keys >> np.uint64(29)
        pairs.append(_within_buckets(keys))
    packed = _distinct(np.concatenate(pairs))
    return np.stack([packed >> np.uint64(32), packed & np.uint64(0xFFFFFFFF)], 1).astype(np.int64)


def _distinct(values: np.ndarray) -> np.ndarray:
    """Sorted, each once. numpy's own `unique` hashes, which is many times slower on millions of numbers."""
    values = np.sort(values)
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


def _within_buckets(keys: np.ndarray) -> np.ndarray:
    """uint64[pairs], both places in one number: pairs with the same key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    bucket = np.cumsum(first) - 1
    starts = np.flatnonzero(first)
    sizes = np.diff(np.append(starts, len(keys)))
    place = np.arange(len(keys)) - starts[bucket]
    found = []
    for back in range(1, min(int(sizes.max(initial=1)), ALL_PAIRS)):
        later = np.flatnonzero((place >= back) & ((sizes[bucket] <= ALL_PAIRS) | (back == 1)))
        found.append((order[later - back], order[later]))
    later = np.flatnonzero((place > 1) & (sizes[bucket] > ALL_PAIRS))
    found.append((order[starts[bucket[later]]], order[later]))
    left, right = (np.concatenate(side).astype(np.uint64) for side in zip(*found, strict=True))
    packed: np.ndarray = (left << np.uint64(32)) | right  # a stable sort keeps each bucket in ascending order
    return packed


def near_pairs(
    texts: Sequence[str], threshold: float, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of texts whose resemblance is at least `threshold`: of every text those with its most alike partners.

    A partner at the threshold is met with a probability of 0.99 or more, one above it more surely.

    Args:
        texts: normalised.
        groups: int[texts]; every text gets partners in each group where it has any.

    Returns:
        int64[pairs, 2], and float64[pairs], their resemblance.
    """
    shingles = Shingles.of(texts)
    signature = signatures(shingles)
    pairs = candidates(signature, band_rows(threshold))
    pairs = pairs[shingles.sizes[pairs[:, 0]] > 0]
    # Sets of very different size can't be alike, and a signature tells most of the rest: its standard error is 0.05.
    smaller, larger = np.sort(shingles.sizes[pairs], axis=1).T
    pairs = pairs[smaller >= threshold * larger]
    agree = np.concatenate([_agreement(signature, part) for part in np.array_split(pairs, len(pairs) // AT_ONCE + 1)])
    promising = agree >= threshold - 0.2
    pairs = _best(pairs[promising], agree[promising], np.zeros(len(texts), np.int64) if groups is None else groups)
    alike = shingles.jaccard(pairs[:, 0], pairs[:, 1])
    close = alike >= threshold
    return pairs[close], alike[close]


def _best(pairs: np.ndarray, agree: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The pairs in which one text is among the two most promising partners of the other within its group."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    order = np.lexsort((-np.tile(agree, 2), groups[both[:, 1]], both[:, 0]))
    owners, kinds = both[order, 0], groups[both[order, 1]]
    third = np.zeros(len(order), bool)
    third[2:] = (owners[2:] == owners[:-2]) & (kinds[2:] == kinds[:-2])
    chosen = np.zeros(len(pairs), bool)
    chosen[order[~third] % max(len(pairs), 1)] = True
    return pairs[chosen]


def _agreement(signature: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """float64[pairs], the share of hashes that agree."""
    shares: np.ndarray = (signature[pairs[:, 0]] == signature[pairs[:, 1]]).mean(1)
    return shares


def _batches(sizes: np.ndarray, most: int) -> "list[tuple[int, int]]":
    """Ranges of items whose sizes add up to about `most`."""
    total = np.cumsum(sizes)
    wanted = np.arange(most, int(total[-1]) + most, most) if len(total) else np.zeros(0, np.int64)
    cuts = np.minimum(np.searchsorted(total, wanted) + 1, len(sizes))
    edges = np.unique(np.concatenate([[0], cuts]).astype(np.int64))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
