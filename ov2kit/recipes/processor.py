"""Processor: chat messages with pictures and videos -> one `Sample`.

Letters: S text tokens, N packed patches, p patch edge in pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ov2kit.canvases import CLIP_MEAN, CLIP_STD, IMAGE_PAD, VISION_END, VISION_START, Canvases
from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer
from ov2kit.errors import Ov2kitError
from ov2kit.recipes.chat import (
    Media,
    Piece,
    Supervise,
    chat_pieces,
    default_system,
    encode_pieces,
    pieces_text,
    read_messages,
)
from ov2kit.recipes.layout import VisualLayout
from ov2kit.recipes.media import VideoKind, open_media
from ov2kit.recipes.prompts import Kind, Run, TokensOut, canvas_runs
from ov2kit.recipes.sample import Sample
from ov2kit.recipes.tokenizer import check_tokenizer


class Processor:
    """Turn a conversation into what the model takes.

    Args:
        tokenizer: fast tokenizer of transformers with the special tokens of the release.
        codec: makes codec canvases of videos.
        frames: samples frames of videos.
        image: makes canvases of pictures.
        source: how videos are tokenized whose part does not name a "source".
        decimals: digits of the seconds in time stamps; 2 for sub-second tasks.
        tokens_out: tokens that the connector makes of an item of so many patches; see `canvas_runs`.
            One per merged block by default.
        system: system text of conversations that begin without one; "auto" takes what the
            tokenizer's chat template writes, None writes no system turn.
        supervise: which assistant turns have labels: "all", "last" or "none".
        mean: per channel, to normalise pixels in [0, 1].
        std: per channel.

    Raises:
        CheckpointError: the tokenizer lacks special tokens.
        ValueError: the three differ in patch or merge.

    Example:
        >>> processor = Processor(small_tokenizer())
        >>> video = {"type": "video", "video": "clip.mp4"}
        >>> sample = processor([{"role": "user", "content": [video, "What happens?"]}], generate=True)
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        codec: CodecTokenizer | None = None,
        frames: FrameTokenizer | None = None,
        image: ImageTokenizer | None = None,
        source: VideoKind = "codec",
        decimals: int = 1,
        tokens_out: TokensOut | None = None,
        system: str | None = "auto",
        supervise: Supervise = "all",
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        check_tokenizer(tokenizer)
        self.tokenizer = tokenizer
        self.codec = codec or CodecTokenizer()
        self.frames = frames or FrameTokenizer()
        self.image = image or ImageTokenizer()
        sizes = {(part.patch, part.merge) for part in (self.codec, self.frames, self.image)}
        if len(sizes) > 1:
            raise ValueError(f"codec, frames and image must have one (patch, merge), got {sorted(sizes)}")
        self.patch, self.merge = sizes.pop()
        self.source, self.decimals, self.tokens_out, self.supervise = source, decimals, tokens_out, supervise
        self.system = default_system(tokenizer) if system == "auto" else system
        self.mean, self.std = tuple(mean), tuple(std)

    def __call__(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        images: Sequence[Any] | None = None,
        videos: Sequence[Any] | None = None,
        generate: bool = False,
        name: str = "",
    ) -> Sample:
        """One conversation.

        Args:
            messages: see `read_messages`.
            images: pictures for `<image>` in the texts.
            videos: videos for `<video>` in the texts.
            generate: end with the head of an assistant turn; nothing is supervised then.
            name: of the sample, for reports.

        Raises:
            DataError: a message is malformed.
            Ov2kitError: a picture or video cannot be opened; says in which message.
        """
        pieces, clips = self._pieces(messages, images, videos, generate)
        ids, labels = encode_pieces(pieces, self.tokenizer)
        width = 3 * self.patch**2
        pixels = [clip.pixel_values(self.mean, self.std) for _, clip in clips]
        positions = [clip.flat_positions() for _, clip in clips]
        stats = _stats(clips) | {"text_tokens": float(len(ids)), "supervised_tokens": float((labels >= 0).sum())}
        stats["visual_tokens"] = float(sum(piece.count for piece in pieces if piece.text == IMAGE_PAD))
        return Sample(
            input_ids=ids,
            labels=labels,
            pixel_values=torch.cat(pixels) if pixels else torch.zeros(0, width),
            positions=torch.cat(positions) if positions else torch.zeros(0, 3, dtype=torch.int32),
            layout=VisualLayout.cat(VisualLayout.from_canvases(clip) for _, clip in clips),
            name=name,
            stats=stats,
        )

    def text(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        images: Sequence[Any] | None = None,
        videos: Sequence[Any] | None = None,
        generate: bool = False,
    ) -> str:
        """The prompt that `__call__` encodes, as text."""
        return pieces_text(self._pieces(messages, images, videos, generate)[0])

    @property
    def pad_id(self) -> int:
        """Token to pad with."""
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def _pieces(
        self,
        messages: Sequence[Mapping[str, Any]],
        images: Sequence[Any] | None,
        videos: Sequence[Any] | None,
        generate: bool,
    ) -> tuple[list[Piece], list[tuple[Kind, Canvases]]]:
        clips: list[tuple[Kind, Canvases]] = []
        turns = []
        for index, message in enumerate(read_messages(messages, images, videos)):
            content: list[Piece] = []
            ends_in_newline = False
            for part in message.parts:
                if isinstance(part, str):
                    text = part.removeprefix("\n") if ends_in_newline else part
                    ends_in_newline = ends_in_newline and not part
                    content += [Piece(text, learn=True)] if text else []
                    continue
                for kind, clip in _named(index, part, self._open):
                    clips.append((kind, clip))
                    content += _shown(kind, canvas_runs(
                        clip, kind, decimals=self.decimals, tokens_out=self.tokens_out
                    ))  # fmt: skip
                    ends_in_newline = kind == "codec"
            turns.append((message.role, content))
        pieces = chat_pieces(turns, system=self.system, supervise=self.supervise, generate=generate)
        return pieces, clips

    def _open(self, part: Media) -> list[tuple[Kind, Canvases]]:
        return open_media(part, codec=self.codec, frames=self.frames, image=self.image, source=self.source)


def _named(index: int, part: Media, opened: Callable[[Media], list[tuple[Kind, Canvases]]]) -> Any:
    try:
        return opened(part)
    except Ov2kitError as error:
        raise type(error)(f"message {index}: {error}") from error


def _shown(kind: Kind, runs: Sequence[Run]) -> list[Piece]:
    pieces = []
    for run in runs:
        pieces += [Piece(run.stamp)] if run.stamp else []
        pieces += [Piece(VISION_START, 1), Piece(IMAGE_PAD, run.tokens), Piece(VISION_END, 1)]
        pieces += [Piece("\n")] if kind == "codec" else []
    return pieces


def _stats(clips: Sequence[tuple[Kind, Canvases]]) -> dict[str, float]:
    counts = {"canvases": 0.0, "p_canvases": 0.0, "groups": 0.0, "images": 0.0, "videos": 0.0, "video_seconds": 0.0}
    shown = shown_p = 0
    for kind, clip in clips:
        real = (clip.positions[..., 0] >= 0).flatten(1).sum(1)
        shown += int(real.sum())
        shown_p += int(real[~clip.is_anchor].sum())
        counts["canvases"] += len(clip)
        counts["p_canvases"] += int((~clip.is_anchor).sum())
        counts["groups"] += len(clip.segments().lengths)
        counts["images" if kind == "image" else "videos"] += 1
        if kind != "image":
            counts["video_seconds"] += _seconds(clip)
    return counts | {"p_share": shown_p / shown if shown else 0.0}


def _seconds(clip: Canvases) -> float:
    """Length of the video, as far as its canvases know."""
    source = clip.provenance.get("source")
    if isinstance(source, Mapping) and isinstance(source.get("seconds"), int | float):
        return float(source["seconds"])
    return max(clip.clip_times()[0].values(), default=0.0)
