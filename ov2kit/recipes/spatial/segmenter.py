"""From points to masks: what every segmenter takes and gives."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ov2kit.recipes.spatial.frames import Frames
from ov2kit.recipes.spatial.rle import Mask, Rle, decode_mask, encode_mask
from ov2kit.recipes.spatial.tracks import Tracks

#: frame number -> object id -> points (x, y) in pixels
Prompts = Mapping[int, Mapping[int, list[tuple[float, float]]]]


class PointSegmenter(Protocol):
    """Points on some frames -> a mask of every object on every frame."""

    def segment(self, frames: Frames, prompts: Prompts) -> Iterator[tuple[int, dict[int, Mask]]]:
        """Segment objects through a video: from the first prompt to the end, then from there to the start.

        New points of an object replace what was known of it at that frame.

        Args:
            frames: T pictures.
            prompts: points by frame and object; nothing is yielded where there are none.

        Yields:
            Frame number and object id -> (H, W) bool, for every frame; where one comes twice the later counts. An
            object not in sight has an empty mask.
        """


def frame_prompts(tracks: Tracks, frames: int, size: tuple[int, int], *, fps: float = 6.0) -> Prompts:
    """Points of an answer as prompts on frames of a constant rate, as the public evaluation places them.

    The frame is round(seconds x fps), halves to the even one, clamped into the video; points are clamped into the
    picture. Two times that fall on one frame give an object two points there.

    Args:
        tracks: of an answer.
        frames: T.
        size: (H, W) in pixels.
        fps: pictures per second.
    """
    height, width = size
    prompts: dict[int, dict[int, list[tuple[float, float]]]] = {}
    for point in tracks.points:
        frame = max(0, min(round(point.seconds * fps), frames - 1))
        place = (
            max(0.0, min(point.x * width, float(width - 1))),
            max(0.0, min(point.y * height, float(height - 1))),
        )
        prompts.setdefault(frame, {}).setdefault(point.object_id, []).append(place)
    return prompts


@dataclass
class MaskTracks:
    """Masks of objects over the frames of a video, held as run lengths.

    Args:
        frames: T.
        size: (H, W).
        objects: object id -> one entry per frame, None where there is nothing.
    """

    frames: int
    size: tuple[int, int]
    objects: dict[int, list[Rle | None]] = field(default_factory=dict)

    def put(self, number: int, masks: Mapping[int, Mask]) -> None:
        """Store the masks of one frame."""
        for object_id, mask in masks.items():
            if mask.shape != self.size:
                raise ValueError(f"masks must be {self.size}, got {mask.shape}")
            track = self.objects.setdefault(object_id, [None] * self.frames)
            track[number] = encode_mask(mask) if mask.any() else None

    def mask(self, object_id: int, number: int) -> Mask:
        """(H, W) bool of one object; empty where there is none."""
        track = self.objects.get(object_id)
        coded = None if track is None else track[number]
        return np.zeros(self.size, dtype=bool) if coded is None else decode_mask(coded)

    def union(self, number: int) -> Mask:
        """(H, W) bool of all objects together."""
        whole = np.zeros(self.size, dtype=bool)
        for object_id in self.objects:
            whole |= self.mask(object_id, number)
        return whole

    def resized(self, size: tuple[int, int]) -> "MaskTracks":
        """The same objects at another size (H, W): every pixel is the one of the old picture that it begins in."""
        if size == self.size:
            return self
        rows, columns = (np.arange(new) * old // new for new, old in zip(size, self.size, strict=True))
        found = MaskTracks(self.frames, size, {object_id: [None] * self.frames for object_id in self.objects})
        for object_id, track in self.objects.items():
            for number, coded in enumerate(track):
                if coded is not None:
                    found.put(number, {object_id: decode_mask(coded)[rows[:, None], columns]})
        return found

    def plain(self) -> dict[str, list[Rle | None]]:
        """What JSON can hold."""
        return {str(object_id): track for object_id, track in sorted(self.objects.items())}


def segment_tracks(segmenter: PointSegmenter, frames: Frames, tracks: Tracks, *, fps: float = 6.0) -> MaskTracks:
    """Masks of the objects of an answer on all frames; none where the answer has no points."""
    found = MaskTracks(len(frames), frames.size)
    prompts = frame_prompts(tracks, len(frames), frames.size, fps=fps)
    if prompts:
        for number, masks in segmenter.segment(frames, prompts):
            found.put(number, masks)
    return found
