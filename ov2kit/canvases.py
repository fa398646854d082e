"""Canvases: pictures, and where in time and space each of their patches came from.

The one currency for images, sampled frames and codec streams; the encoder, the connector and the
prompt never ask which of them it was. Source: LLaVA-OneVision-2 (arXiv 2605.25979, section 2.2),
canvases X with one record per token U and groups G.
Letters: K canvases, H x W pixels, p patch in pixels, m merge (patches per block edge),
N = K * H/p * W/p patches.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from einops import rearrange
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ov2kit.errors import AssetError, CanvasError, check_number, check_numbers, check_type
from ov2kit.files import check_file, check_format, checksum, format_name, write_tensors
from ov2kit.geometry import check_blocks, to_block_layout
from ov2kit.segments import Segments

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
VISION_START, IMAGE_PAD, VISION_END = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
_FILE = "canvases.safetensors"
_KIND, _VERSION = "canvases", 2  # 1 had no checksum
_TENSORS = ("images", "positions", "groups", "is_anchor", "clips")

FrameTimes = Mapping[int, float]


def frame_runs(frames: Tensor, merge: int) -> list[tuple[int, int]]:
    """Runs of equal consecutive frame indices, as (frame, merged tokens).

    Args:
        frames: (N,) source frame of each patch in block layout; negative is padding.
        merge: patches per block edge; a run counts ``patches // merge**2`` tokens.

    Returns:
        One pair per run with at least one token; padding gives none.
        Source: prompt rewriting of the codec front end.
    """
    values, counts = torch.unique_consecutive(frames.cpu(), return_counts=True)
    pairs = zip(values.tolist(), (counts // merge**2).tolist(), strict=True)
    return [(frame, tokens) for frame, tokens in pairs if frame >= 0 and tokens > 0]


@dataclass(frozen=True, eq=False)
class Canvases:
    """K canvases of one size with the provenance of every patch.

    ``==`` compares everything but `provenance`; tensors must agree bit for bit.

    Args:
        images: (K, 3, H, W) uint8 RGB in [0, 255].
        positions: (K, H/p, W/p, 3) int32 source (frame, patch row, patch col); -1 is padding.
        groups: (K,) int32 group of each canvas, not decreasing within a clip.
        is_anchor: (K,) bool, True for whole frames (I-canvases, sampled frames, images).
        frame_times: frame index -> seconds; of several clips a tuple, one per clip. `clip_times` is always a tuple.
        patch: patch edge in pixels.
        merge: patches per block edge (the connector merges merge x merge patches).
        signal: what the blocks were chosen by: "motion+residual", "luma", "none" (nothing was
            chosen), or the name of an external map.
        fps: average frames per second of the source, 0 if unknown; informative only, `frame_times` is
            authoritative. Of several clips a tuple, one per clip (one number given is that of all).
            `clip_fps` is always a tuple.
        clips: (K,) int32 which input each canvas came from; all 0 when omitted.
        provenance: how this was made (preset, signal, codec, options, versions, seconds per
            stage, what was lost), as plain data; `ov2kit.codec.Provenance` gives it names and types.

    Raises:
        CanvasError: shapes, dtypes or devices do not fit together.
    """

    images: Tensor
    positions: Tensor
    groups: Tensor
    is_anchor: Tensor
    frame_times: FrameTimes | tuple[FrameTimes, ...]
    patch: int = 14
    merge: int = 2
    signal: str = "none"
    fps: float | tuple[float, ...] = 0.0
    clips: Tensor = None  # type: ignore[assignment]  # filled below
    provenance: dict[str, Any] = field(default_factory=dict, compare=False)
    _times: tuple[FrameTimes, ...] = field(init=False, repr=False)
    _rates: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("images", "positions", "groups", "is_anchor", "clips"):
            check_type(name, getattr(self, name), Tensor, "a tensor", optional=name == "clips", error=CanvasError)
        for name in ("patch", "merge"):
            check_number(name, getattr(self, name), low=1, integer=True, error=CanvasError)
        check_type("signal", self.signal, str, "a string", error=CanvasError)
        check_type("provenance", self.provenance, dict, "a dict", error=CanvasError)
        self._store_clip_facts()
        if self.images.ndim != 4 or self.images.shape[1] != 3 or self.images.dtype != torch.uint8:
            raise CanvasError(f"images must be (K, 3, H, W) uint8, got {_shape(self.images)}")
        k, _, height, width = self.images.shape
        side = self.patch * self.merge
        if height % side or width % side:
            raise CanvasError(f"canvas sides must be multiples of patch * merge = {side}, got {height} x {width}")
        if cast(Tensor | None, self.clips) is None:
            clips = torch.zeros(k, dtype=torch.int32, device=self.images.device)
            object.__setattr__(self, "clips", clips)
        grid = (k, height // self.patch, width // self.patch, 3)
        for name, tensor, shape, dtype in (
            ("positions", self.positions, grid, torch.int32),
            ("groups", self.groups, (k,), torch.int32),
            ("is_anchor", self.is_anchor, (k,), torch.bool),
            ("clips", self.clips, (k,), torch.int32),
        ):
            if tensor.shape != shape or tensor.dtype != dtype:
                raise CanvasError(f"{name} must be {shape} {dtype}, got {_shape(tensor)}")
            if tensor.device != self.images.device:
                raise CanvasError(f"{name} is on {tensor.device}, images are on {self.images.device}; use .to(device)")

    def _store_clip_facts(self) -> None:
        """Times and rates as tuples with one entry per clip, and the fields as they are read of one clip."""
        times = self.frame_times if isinstance(self.frame_times, tuple) else (self.frame_times,)
        if not times:
            raise CanvasError("frame_times must hold one mapping per clip, got an empty tuple")
        for each in times:
            check_type("frame_times", each, Mapping, "a mapping, or a tuple of one per clip", error=CanvasError)
        if isinstance(self.fps, tuple):
            rates = check_numbers("fps", self.fps, low=0, error=CanvasError)
        else:
            rates = (check_number("fps", self.fps, low=0, error=CanvasError),) * len(times)
        if len(rates) != len(times):
            raise CanvasError(f"fps must hold one number per clip: {len(times)}, got {len(rates)}")
        for name, values in (("frame_times", times), ("fps", rates)):
            object.__setattr__(self, name, values if len(values) > 1 else values[0])
        object.__setattr__(self, "_times", times)
        object.__setattr__(self, "_rates", rates)

    def __len__(self) -> int:
        return len(self.images)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Canvases):
            return NotImplemented
        mine, theirs = ((c.patch, c.merge, c.signal, c.clip_fps()) for c in (self, other))
        times, other_times = ([dict(t) for t in c.clip_times()] for c in (self, other))
        tensors = ((getattr(self, name), getattr(other, name)) for name in _TENSORS)
        return (
            mine == theirs
            and times == other_times
            and all(a.shape == b.shape and torch.equal(a, b) for a, b in tensors)
        )

    __hash__ = None  # type: ignore[assignment]  # holds tensors

    def __repr__(self) -> str:
        k, _, height, width = self.images.shape
        return (
            f"Canvases({k} of {height}x{width}, {self.num_tokens} tokens, "
            f"{len(self.segments().lengths)} groups, patch={self.patch}, merge={self.merge}, "
            f"signal={self.signal!r}, device={self.images.device})"
        )

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches of one canvas."""
        return self.positions.shape[1], self.positions.shape[2]

    @property
    def num_tokens(self) -> int:
        """Merged tokens that come from a source frame: what the language model will see.

        Equals the image pads of `prompt()`. Padding blocks are in `pixel_values()` but not here.
        """
        return int((self.positions[..., 0] >= 0).sum()) // self.merge**2

    def clip_times(self) -> tuple[FrameTimes, ...]:
        """Frame index -> seconds, one mapping per clip."""
        return self._times

    def clip_fps(self) -> tuple[float, ...]:
        """Average frames per second, one number per clip; 0 if unknown."""
        return self._rates

    def _canvases_per_clip(self) -> list[int]:
        return torch.bincount(self.clips.long(), minlength=len(self.clip_times())).tolist()

    def pixel_values(self, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Tensor:
        """(N, 3*p*p) float32 normalized patches in block layout; a row is (3, p, p) flattened.

        Args:
            mean: per channel, for pixels in [0, 1]; the CLIP values of the release by default.
            std: per channel.

        Raises:
            OptionError: not three numbers each, or a deviation that is not positive.
        """
        check_numbers("mean", mean, length=3)
        check_numbers("std", std, length=3, above=0)
        device = self.images.device
        scale = 1.0 / (255.0 * torch.tensor(std, dtype=torch.float32, device=device))
        shift = torch.tensor(mean, dtype=torch.float32, device=device) * 255.0 * scale
        pixels = self.images.float() * scale[:, None, None] - shift[:, None, None]
        return rearrange(
            pixels,
            "k c (h a p) (w b q) -> (k h w a b) (c p q)",
            a=self.merge, b=self.merge, p=self.patch, q=self.patch,
        )  # fmt: skip

    def flat_positions(self) -> Tensor:
        """(N, 3) int32 source (frame, row, col) in block layout, row for row with `pixel_values`."""
        return to_block_layout(self.positions, self.merge)

    def segments(self, window: int | None = None) -> Segments:
        """Who sees whom: tokens of one group, or of `window` neighboring canvases of one clip.

        Args:
            window: canvases per segment (the release uses 4); by group ids when omitted.
        """
        check_number("window", window, low=1, integer=True, optional=True)
        if window is not None:
            return Segments.from_grid(self.grid_thw(), window, self.images.device)
        keys = torch.stack([self.clips, self.groups], dim=1)
        ids = torch.unique_consecutive(keys, dim=0, return_inverse=True)[1] if len(self) else keys[:, 0]
        return Segments.from_groups(ids.to(self.images.device), self.grid[0] * self.grid[1])

    def grid_thw(self) -> Tensor:
        """(clips, 3) int64: canvases, patch rows and patch columns of each clip, as one grid row."""
        h, w = self.grid
        return torch.tensor([(t, h, w) for t in self._canvases_per_clip()], dtype=torch.int64).reshape(-1, 3)

    def prompt(self, decimals: int = 1, newline: bool = True) -> str:
        """Text with one image pad per merged token, each run of one source frame under its time.

        Args:
            decimals: digits after the point of the seconds; 2 for sub-second tasks.
            newline: end each run with a newline, as the codec path of the release does; its
                frames path does not.

        Raises:
            CanvasError: a source frame has no time.
        """
        check_number("decimals", decimals, low=0, high=15, integer=True)
        end = "\n" if newline else ""
        text = []
        for clip, times in zip(self.split(), self.clip_times(), strict=True):
            for frame, tokens in frame_runs(clip.flat_positions()[:, 0], self.merge):
                if frame not in times:
                    raise CanvasError(
                        f"prompt: no time for source frame {frame}; frame_times must hold every frame used"
                    )
                stamp = f"<{times[frame]:.{decimals}f} seconds>"
                text.append(f"{stamp}{VISION_START}{IMAGE_PAD * tokens}{VISION_END}{end}")
        return "".join(text)

    def validate(self) -> "Canvases":
        """Check the contract that constructors cannot see from shapes; returns self.

        Raises:
            CanvasError: names the canvas and the rule that it breaks: a block whose patches are
                not merge x merge neighbors of one source frame, a position outside the source
                grid, a frame without a (finite) time, padding that is not black, blocks out of
                (frame, row, col) order, an anchor that is not one whole frame, group or clip ids
                that go back, a clip without times.
        """
        if len(self) == 0:
            raise CanvasError("there is no canvas")
        h, w = self.grid
        times, m = self.clip_times(), self.merge
        previous = (0, 0)
        for k, key in enumerate(zip(self.clips.tolist(), self.groups.tolist(), strict=True)):
            if min(key) < 0 or key[0] >= len(times):
                raise CanvasError(
                    f"canvas {k}: (clip, group) {key} is negative or beyond the {len(times)} clips with times"
                )
            if key < previous:
                raise CanvasError(f"canvas {k}: (clip, group) goes back from {previous} to {key}")
            previous = key
            corners = check_blocks(self.positions[k].cpu(), m, f"canvas {k}")
            real = corners[:, 0] >= 0
            pixels = rearrange(self.images[k].cpu(), "c (h p) (w q) -> (h w) (c p q)", h=h // m, w=w // m)
            if pixels[~real].any():
                raise CanvasError(f"canvas {k}: a padding block is not black")
            sources = corners[real][:, 0]
            frames = sorted(set(sources.tolist()))
            if missing := [frame for frame in frames if frame not in times[key[0]]]:
                raise CanvasError(f"canvas {k}: no time for source frame(s) {missing[:5]}")
            if not all(math.isfinite(times[key[0]][frame]) for frame in frames):
                raise CanvasError(f"canvas {k}: the time of a source frame is not a finite number of seconds")
            if self.is_anchor[k] and (len(frames) > 1 or not real.all()):
                raise CanvasError(f"canvas {k}: an anchor must be one whole frame")
        return self

    @classmethod
    def cat(cls, parts: Sequence["Canvases"]) -> "Canvases":
        """Pack several inputs, in order. Group and clip ids are shifted so that none is shared.

        Raises:
            CanvasError: no parts, or parts of different canvas size, patch or merge.
        """
        if not parts:
            raise CanvasError("Canvases.cat needs at least one Canvases")
        kinds = {(tuple(c.images.shape[2:]), c.patch, c.merge) for c in parts}
        if len(kinds) > 1:
            raise CanvasError(
                f"Canvases.cat needs one canvas size, patch and merge, got {sorted(kinds)}; "
                "tokenize with the same canvas_size, or concatenate pixel_values() and flat_positions()"
            )
        groups, clips, first_group, first_clip = [], [], 0, 0
        for c in parts:
            groups.append(c.groups + first_group)
            clips.append(c.clips + first_clip)
            first_group += int(c.groups.max()) + 1 if len(c) else 0
            first_clip += len(c.clip_times())
        signals = {c.signal for c in parts}
        times = tuple(t for c in parts for t in c.clip_times())
        fps = tuple(f for c in parts for f in c.clip_fps())
        origins = [origin for c in parts for origin in c._origins()]
        return cls(
            images=torch.cat([c.images for c in parts]),
            positions=torch.cat([c.positions for c in parts]),
            groups=torch.cat(groups),
            is_anchor=torch.cat([c.is_anchor for c in parts]),
            frame_times=times,
            patch=parts[0].patch,
            merge=parts[0].merge,
            signal=signals.pop() if len(signals) == 1 else "mixed",
            fps=fps,
            clips=torch.cat(clips),
            provenance=origins[0]["provenance"] if len(origins) == 1 else {"clips": origins},
        )

    def _origins(self) -> list[dict[str, Any]]:
        """Signal and provenance of each clip, as `cat` keeps them for `split`."""
        match self.provenance:
            case {"clips": [*clips]} if len(clips) == len(self.clip_times()):
                return clips
        return [{"signal": self.signal, "provenance": self.provenance} for _ in self.clip_times()]

    def split(self) -> list["Canvases"]:
        """One Canvases per clip, in order, with its own signal and provenance; group ids start at 0 again."""
        times = self.clip_times()
        if len(times) == 1:
            return [self]
        fps = self.clip_fps()
        parts = []
        for clip, (clip_times, origin) in enumerate(zip(times, self._origins(), strict=True)):
            mine = self.clips == clip
            groups = self.groups[mine]
            part = replace(
                self,
                images=self.images[mine],
                positions=self.positions[mine],
                groups=groups - groups.min() if len(groups) else groups,
                is_anchor=self.is_anchor[mine],
                frame_times=clip_times,
                fps=fps[clip],
                clips=torch.zeros_like(groups),
                **origin,
            )
            parts.append(part)
        return parts

    def to(self, device: torch.device | str) -> "Canvases":
        """The same canvases with all tensors on `device`; times and provenance stay on the host."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write everything, without loss, as one safetensors file in `directory`.

        The file appears whole or not at all. The public layout is `ov2kit.codec.save_assets`.

        Returns:
            The path of the file.

        Raises:
            OutputError: it cannot be written there.
            TypeError: `provenance` holds something that JSON cannot.
        """
        folder = Path(directory)
        header = {
            "format": format_name(_KIND, _VERSION),
            "frame_times": [[[int(f), float(s)] for f, s in t.items()] for t in self.clip_times()],
            "patch": self.patch,
            "merge": self.merge,
            "signal": self.signal,
            "fps": self.fps,
            "provenance": self.provenance,
        }
        tensors = {name: getattr(self, name).cpu().contiguous() for name in _TENSORS}
        # inside the one text: several entries of safetensors' metadata have no fixed order
        text = json.dumps({**header, "checksum": checksum(tensors, json.dumps(header))})
        write_tensors(folder / _FILE, tensors, {"ov2kit": text})
        return folder / _FILE

    @classmethod
    def load(cls, directory: str | os.PathLike[str], device: torch.device | str = "cpu") -> "Canvases":
        """Read what `save` wrote.

        Raises:
            AssetError: the file is missing, was not written by `save`, or has changed since.
        """
        path = check_file(Path(directory) / _FILE, "a file written by Canvases.save", AssetError)
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("ov2kit", "{}"))
                version = check_format(header.get("format", ""), _KIND, _VERSION, path, AssetError)
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
            if version > 1 and header.pop("checksum") != checksum(tensors, json.dumps(header)):
                raise ValueError("damaged: its content has changed since")
            tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
            times = tuple({int(f): float(s) for f, s in clip} for clip in header["frame_times"])
            fps = header["fps"]  # a list of several clips
            return cls(
                **tensors,
                frame_times=times,
                patch=header["patch"],
                merge=header["merge"],
                signal=header["signal"],
                fps=tuple(fps) if isinstance(fps, list) else fps,
                provenance=header["provenance"],
            )
        except AssetError:
            raise
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
            hint = "read the public asset layout with ov2kit.codec.load_assets"
            raise AssetError(f"{path}: not a file written by Canvases.save ({error}); {hint}") from error


def _shape(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"
