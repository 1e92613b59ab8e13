"""Long clips in overlapping windows: which frames each window computes, and which of them are kept."""

from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Window", "cut"]


@dataclass(frozen=True)
class Window:
    """A part of a clip that is encoded at once; all numbers are frames of the clip.

    Attributes:
        start: its first frame
        stop: the frame after its last
        first: its first frame that is kept
        last: the frame after the last that is kept
    """

    start: int
    stop: int
    first: int
    last: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def kept(self) -> int:
        """Number of frames that are kept."""
        return self.last - self.first


def cut(n_frames: int, size: int, overlap: int) -> list[Window]:
    """Cut a clip into windows of ``size`` frames that overlap by ``overlap`` frames or more.

    The seam of two windows lies in the middle of their overlap, so that every kept frame has seen ``overlap // 2``
    frames on either side, or all there are. The windows are equally long: the last one starts earlier instead of being
    shorter. A clip of ``size`` frames or fewer is one window.

    Args:
        n_frames: frames of the clip, at least one
        size: larger than ``overlap``
        overlap: at least 0
    """
    if n_frames <= size:
        return [Window(0, n_frames, 0, n_frames)]
    starts = [*range(0, n_frames - size, size - overlap), n_frames - size]
    seams = [(left + size + right) // 2 for left, right in pairwise(starts)]
    kept = zip([0, *seams], [*seams, n_frames], strict=True)
    return [Window(start, start + size, *each) for start, each in zip(starts, kept, strict=True)]
