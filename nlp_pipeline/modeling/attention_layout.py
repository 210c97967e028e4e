"""Where the rows of a packed batch lie, and how they are grouped to attend."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

GROUP_RATIO = 0.6
"""A row shorter than this share of its group's longest opens the next group. Measured on short texts, where fewer
groups cost padding and more of them cost calls: 0.5 to 0.7 are alike."""


@dataclass(frozen=True)
class Group:
    """Rows that attend together, padded to the longest of them: `rows` positions in the batch, `longest` tokens."""

    rows: np.ndarray
    longest: int


ROUND_TO = 64
"""Tokens of a packed batch are filled up to a multiple of this: the matrix library prepares itself for every new shape,
which takes it longer than the work on a few tokens more, and memory that it keeps."""


class Layout:
    """Where each row's tokens lie in a packed batch.

    Args:
        lengths: int[rows], tokens a row; at least 1 each.
        multiple: fill the batch up to a multiple of so many tokens, with a last row that nobody reads.
    """

    def __init__(self, lengths: "Sequence[int] | np.ndarray", multiple: int = 1) -> None:
        real = np.asarray(lengths, np.int64)
        self.rows = len(real)
        self.longest = int(real.max())
        self.real_tokens = int(real.sum())
        filler = -self.real_tokens % multiple
        self.lengths = np.append(real, filler) if filler else real
        """int64[rows, and perhaps the filling one]."""
        self.ends = np.cumsum(self.lengths)
        self.starts = self.ends - self.lengths
        self.tokens = int(self.ends[-1])
        self._indices: dict[tuple[int, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}
        self._device: dict[tuple[str, torch.device], torch.Tensor] = {}
        self._biases: dict[tuple[bool, int | None], list[torch.Tensor | None]] = {}

    @cached_property
    def positions(self) -> np.ndarray:
        """int64[tokens], each token's place in its row; 0 where the batch is filled up."""
        places = np.arange(self.tokens) - np.repeat(self.starts, self.lengths)
        places[self.real_tokens :] = 0
        return places

    @cached_property
    def padded(self) -> np.ndarray:
        """int64[tokens], each token's place in the flattened [rows, longest]; 0 where the batch is filled up."""
        rows = np.repeat(np.arange(len(self.lengths)), self.lengths)
        places = self.positions + rows * self.longest
        places[self.real_tokens :] = 0
        return places

    @cached_property
    def groups(self) -> list[Group]:
        """Rows by similar length, longest first."""
        order = np.argsort(-self.lengths, kind="stable")
        groups, first = [], 0
        for i, row in enumerate(order):
            if self.lengths[row] < GROUP_RATIO * self.lengths[order[first]]:
                groups.append(Group(order[first:i], int(self.lengths[order[first]])))
                first = i
        return [*groups, Group(order[first:], int(self.lengths[order[first]]))]

    def on(self, device: torch.device, name: str) -> torch.Tensor:
        """`positions`, `padded`, `starts` or `offsets` (int32[rows + 1]) as a tensor there, moved once."""
        key = (name, device)
        if key not in self._device:
            array = np.append(0, self.ends).astype(np.int32) if name == "offsets" else getattr(self, name)
            self._device[key] = torch.from_numpy(array).to(device, non_blocking=True)
        return self._device[key]

    def gather(self, heads: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices between packed [tokens × heads] and all groups' [rows × heads × longest], one after the other.

        Returns:
            (into, back): `into` int64[padded elements] names the packed one for each (a row's first where it is
            padding); `back` int64[tokens × heads] is the way home.
        """
        key = (heads, device)
        if key not in self._indices:
            into, back = [], np.empty((self.tokens, heads), np.int64)
            at = 0
            for group in self.groups:
                places = np.arange(group.longest)
                real = places < self.lengths[group.rows, None]
                token = self.starts[group.rows, None] + np.where(real, places, 0)
                into.append((token[:, None, :] * heads + np.arange(heads)[:, None]).ravel())
                slots = at + np.arange(into[-1].size).reshape(len(group.rows), heads, group.longest)
                back[token[real]] = slots.transpose(0, 2, 1)[real]
                at += into[-1].size
            pair = (torch.from_numpy(np.concatenate(into)), torch.from_numpy(back.ravel()))
            self._indices[key] = (pair[0].to(device), pair[1].to(device))
        return self._indices[key]

    def hidden(self, group: Group, causal: bool, window: int | None) -> np.ndarray | None:
        """bool[rows or 1, longest or 1, longest], true where a query must not see a key; None when it may see all.

        Padding lies behind every real token, so that a causal mask alone hides it.
        """
        places = np.arange(group.longest)
        distance = places[:, None] - places[None, :]
        mask = np.zeros((1, 1, group.longest), bool)
        if causal:
            mask = mask | (distance < 0)
        elif (self.lengths[group.rows] < group.longest).any():
            mask = mask | (places >= self.lengths[group.rows, None, None])
        if window is not None:
            # Also a padded query sees something, itself: a softmax over nothing is not a number.
            mask = (mask | (np.abs(distance) > window)) & (distance != 0)
        return mask if mask.any() else None

    def biases(self, causal: bool, window: int | None) -> list[torch.Tensor | None]:
        """For each group what is added to its scores [rows, heads, longest, longest]; made once for all layers."""
        key = (causal, window)
        if key not in self._biases:
            hidden = [self.hidden(group, causal, window) for group in self.groups]
            self._biases[key] = [
                None if h is None else torch.from_numpy(h[:, None].astype(np.float32) * np.finfo(np.float32).min)
                for h in hidden
            ]
        return self._biases[key]
