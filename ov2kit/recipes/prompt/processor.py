"""Processor: chat messages with pictures and videos -> one `Sample`.

Letters: S text tokens, N packed patches, p patch edge in pixels.
"""

import copy
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import torch

from ov2kit.canvases import CLIP_MEAN, CLIP_STD, IMAGE_PAD
from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer, Provenance
from ov2kit.codec.selection.whole_frames import FRAME_SHARE
from ov2kit.errors import (
    CheckpointError,
    DataError,
    OptionError,
    Ov2kitError,
    check_choice,
    check_number,
    check_numbers,
    check_type,
)
from ov2kit.files import fill_folder, write_text
from ov2kit.recipes.prompt.asked import asked_in_prompt, asked_question
from ov2kit.recipes.prompt.chat import (
    Media,
    Piece,
    Supervise,
    chat_pieces,
    default_system,
    encode_pieces,
    pieces_text,
    read_messages,
)
from ov2kit.recipes.prompt.clip_pieces import NEWLINE, clip_pieces
from ov2kit.recipes.prompt.layout import VisualLayout
from ov2kit.recipes.prompt.media import (
    Clip,
    open_media,
    part_subtitles,
    tokenizers_of,
    video_tokenizers,
)
from ov2kit.recipes.prompt.prompts import ItemName, SourceKind, TokensOut
from ov2kit.recipes.prompt.sample import Sample
from ov2kit.recipes.prompt.stats import canvas_stats
from ov2kit.recipes.prompt.text_tokenizer import check_tokenizer, load_tokenizer
from ov2kit.recipes.prompt.visual_tokenizer import build_tokenizer, describe_tokenizer
from ov2kit.recipes.release.preprocessor import PreprocessorFacts, read_preprocessor, write_preprocessor

#: which class public clients take for the directory
PROCESSOR_FILE, PROCESSOR_CLASS = "processor_config.json", "LlavaOnevision2Processor"
_OPTIONS = ("source", "frame_share", "decimals", "system", "supervise")


class Processor:
    """Turn a conversation into what the model takes.

    Args:
        tokenizer: fast tokenizer of transformers with the special tokens of the release.
        codec: makes codec canvases of videos.
        frames: samples frames of videos.
        image: makes canvases of pictures.
        source: how videos are tokenized whose part does not name a "source": "codec", "frames", "hybrid", which is
            codec canvases of which a share is whole frames, or "route": a `Router` chooses one of these by the question
            before the answer, within the budget of `codec`.
        frame_share: of the canvases of a hybrid, see `CodecTokenizer`.
        decimals: digits of the seconds in time stamps; 2 for sub-second tasks.
        tokens_out: tokens that the connector makes of an item of so many patches; see `canvas_runs`.
            One per merged block by default.
        item: what such a connector takes at a time: "group", or "canvas" (convolutions).
        system: system text of conversations that begin without one; "auto" takes what the
            tokenizer's chat template writes, None writes no system turn.
        supervise: which assistant turns have labels: "all", "last" or "none".
        mean: per channel, to normalize pixels in [0, 1].
        std: per channel.

    Raises:
        CheckpointError: the tokenizer lacks special tokens.
        OptionError: the three differ in patch or merge, or an option is unknown or out of range.

    Example:
        >>> from ov2kit.recipes import small_tokenizer
        >>> processor = Processor(small_tokenizer())
        >>> video = {"type": "video", "video": "clip.mp4"}
        >>> sample = processor([{"role": "user", "content": [video, "What happens?"]}], generate=True)
        >>> sample.pixel_values.shape, sample.positions.shape  # 32 canvases
        (torch.Size([23040, 588]), torch.Size([23040, 3]))
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        codec: CodecTokenizer | None = None,
        frames: FrameTokenizer | None = None,
        image: ImageTokenizer | None = None,
        source: SourceKind = "codec",
        frame_share: float = FRAME_SHARE,
        decimals: int = 1,
        tokens_out: TokensOut | None = None,
        item: ItemName = "group",
        system: str | None = "auto",
        supervise: Supervise = "all",
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        check_tokenizer(tokenizer)
        check_choice("source", source, get_args(SourceKind))
        check_choice("supervise", supervise, get_args(Supervise))
        check_choice("item", item, get_args(ItemName))
        check_number("frame_share", frame_share, above=0, high=1)
        check_number("decimals", decimals, low=0, high=9, integer=True)
        check_type("tokens_out", tokens_out, Callable, "a function of the patches of an item", optional=True)
        check_type("system", system, str, "a text", optional=True)
        check_numbers("mean", mean, length=3)
        check_numbers("std", std, length=3, above=0)
        self.tokenizer = tokenizer
        self.codec, self.frames, self.image = tokenizers_of(codec, frames, image)
        sizes = {(part.patch, part.merge) for part in (self.codec, self.frames, self.image)}
        if len(sizes) > 1:
            raise OptionError(f"codec, frames and image must have one (patch, merge), got {sorted(sizes)}")
        self.patch, self.merge = sizes.pop()
        self.source, self.decimals, self.tokens_out, self.supervise = source, decimals, tokens_out, supervise
        self.item, self.frame_share = item, frame_share
        self.question: str | None = None
        self.system = default_system(tokenizer) if system == "auto" else system
        self.mean, self.std = tuple(mean), tuple(std)
        self.preprocessor = PreprocessorFacts()

    @property
    def hybrid(self) -> CodecTokenizer:
        """Makes codec canvases of videos of which a share is whole frames."""
        return self.codec.with_frame_share(self.frame_share)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | os.PathLike[str],
        *,
        codec: CodecTokenizer | Mapping[str, Any] | None = None,
        frames: FrameTokenizer | Mapping[str, Any] | None = None,
        image: ImageTokenizer | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> "Processor":
        """The processor of a model directory: its tokenizer and its preprocessor_config.json.

        Sizes, normalization and pixel limits come from the file, and so do the options of a
        processor that `save_pretrained` wrote. What is given here rules over both.

        Args:
            directory: of a released or a saved model.
            codec: a tokenizer, or options that differ from the file's, such as ``{"budget_canvases": 8}``.
            frames: likewise.
            image: likewise.
            **options: other arguments of the constructor.

        Raises:
            CheckpointError: a file is missing or unreadable, or an option is impossible.
        """
        facts = read_preprocessor(directory)
        own = facts.own
        cut = {"patch": facts.patch, "merge": facts.merge}
        pixels = {"min_pixels": facts.min_pixels, "max_pixels": facts.max_pixels}
        kinds = (
            ("codec", CodecTokenizer, codec, cut | facts.codec_options()),
            ("frames", FrameTokenizer, frames, cut | pixels),
            ("image", ImageTokenizer, image, cut | pixels),
        )
        built = {
            name: build_tokenizer(kind, given, said | own.get(name, {}), name) for name, kind, given, said in kinds
        }
        said = {name: own[name] for name in _OPTIONS if name in own}
        processor = cls(load_tokenizer(directory), **built, **{"mean": facts.mean, "std": facts.std, **said, **options})
        processor.preprocessor = facts
        return processor

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write the files of tokenizer and processor, which `from_pretrained` and public tools read.

        Not written: `tokens_out` and `item`, which belong to the connector, and modules that the tokenizers
        were given (a grouping, a saliency); `from_pretrained` asks for those.

        Raises:
            OutputError: the directory cannot be written.
        """
        own = {name: getattr(self, name) for name in _OPTIONS}
        own |= {name: describe_tokenizer(getattr(self, name)) for name in ("codec", "frames", "image")}
        codec = {
            "target_canvas": self.codec.budget_canvases,
            "images_per_group": self.codec.canvases_per_group,
            "min_pixels": self.codec.min_pixels,
            "max_pixels": self.codec.max_pixels,
        }
        facts = replace(
            self.preprocessor,
            patch=self.patch,
            merge=self.merge,
            mean=self.mean,
            std=self.std,
            min_pixels=self.image.min_pixels,
            max_pixels=self.image.max_pixels,
            codec={**self.preprocessor.codec, **{name: value for name, value in codec.items() if value is not None}},
            own=own,
        )
        with fill_folder(directory) as scratch:
            self.tokenizer.save_pretrained(str(scratch))
            write_preprocessor(scratch, facts)
            write_text(scratch / PROCESSOR_FILE, json.dumps({"processor_class": PROCESSOR_CLASS}, indent=2) + "\n")

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
        return self._sample(*self._pieces(messages, images, videos, generate), name)

    def prompt(self, texts: Sequence[str], media: Sequence[Media], *, name: str = "") -> Sample:
        """One prompt that is text already, with media between its stretches; nothing is supervised.

        Names of special tokens in the text are those tokens, as in every tokenizer of transformers.

        Args:
            texts: one more than there are media.
            media: what stands between them.
            name: of the sample, for reports.

        Raises:
            Ov2kitError: a picture or video cannot be opened; says which.
        """
        known = self.tokenizer.get_added_vocab()
        special = re.compile("(" + "|".join(map(re.escape, sorted(known, key=len, reverse=True))) + ")")
        pieces: list[Piece] = []
        clips: list[Clip] = []
        dropped = 0
        has_newline = False
        for number, text in enumerate(texts):
            rest = text.removeprefix("\n") if has_newline else text
            pieces += [Piece(part, int(part in known)) for part in special.split(rest) if part]
            if number < len(media):
                try:
                    shown, new, lost = self._show(media[number], partial(asked_in_prompt, "".join(texts)))
                except Ov2kitError as error:
                    raise type(error)(f"{media[number].kind} {number}: {error}") from error
                pieces, clips, dropped = pieces + shown, clips + new, dropped + lost
                has_newline = new[-1][0] == "codec" or shown[-1:] == [NEWLINE]
        return self._sample(pieces, clips, dropped, name)

    def with_options(
        self,
        *,
        source: SourceKind | None = None,
        question: str | None = None,
        frame_share: float | None = None,
        decimals: int | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        num_frames: int | None = None,
        target_fps: float | None = None,
        codec_config: Mapping[str, Any] | None = None,
    ) -> "Processor":
        """The same processor with options of a single request; the names are those that public clients use.

        Args:
            source: "codec", "frames", "hybrid" or "route".
            question: what "route" chooses by, in place of the question of the conversation.
            frame_share: of the canvases of a hybrid that are whole frames.
            decimals: digits of the seconds.
            min_pixels: smallest canvas area of pictures and videos.
            max_pixels: largest.
            num_frames: of sampled frames.
            target_fps: of sampled frames, per second.
            codec_config: options of `CodecTokenizer`, such as ``{"budget_canvases": 8}``.

        Raises:
            OptionError: an option is unknown or out of range.
        """
        pixels = {k: v for k, v in (("min_pixels", min_pixels), ("max_pixels", max_pixels)) if v is not None}
        sampled = {k: v for k, v in (("budget_canvases", num_frames), ("target_fps", target_fps)) if v is not None}
        changed = copy.copy(self)
        for part, kind, options in (
            ("codec", CodecTokenizer, pixels | dict(codec_config or {})),
            ("frames", FrameTokenizer, pixels | sampled),
            ("image", ImageTokenizer, pixels),
        ):
            if options:
                now = getattr(self, part)
                saved = describe_tokenizer(now)
                try:
                    setattr(changed, part, build_tokenizer(kind, options, saved, part))
                except CheckpointError as error:
                    raise OptionError(str(error)) from error
        if source is not None:
            check_choice("source", source, get_args(SourceKind))
            changed.source = source
        if question is not None:
            changed.question = check_type("question", question, str, "a text")
        if frame_share is not None:
            changed.frame_share = check_number("frame_share", frame_share, above=0, high=1)
        if decimals is not None:
            check_number("decimals", decimals, low=0, high=9, integer=True)
            changed.decimals = decimals
        return changed

    def _sample(self, pieces: list[Piece], clips: list[Clip], dropped: int, name: str) -> Sample:
        ids, labels = encode_pieces(pieces, self.tokenizer)
        width = 3 * self.patch**2
        pixels = [clip.pixel_values(self.mean, self.std) for _, clip in clips]
        positions = [clip.flat_positions() for _, clip in clips]
        stats = canvas_stats(clips) | {
            "tokens": float(len(ids)),
            "supervised_tokens": float((labels >= 0).sum()),
            "visual_tokens": float(sum(piece.count for piece in pieces if piece.text == IMAGE_PAD)),
            "subtitles_dropped": float(dropped),
        }
        stats["p_tokens"] = stats["p_share"] * stats["visual_tokens"]
        return Sample(
            input_ids=ids,
            labels=labels,
            pixel_values=torch.cat(pixels) if pixels else torch.zeros(0, width),
            positions=torch.cat(positions) if positions else torch.zeros(0, 3, dtype=torch.int32),
            layout=VisualLayout.cat(VisualLayout.from_canvases(clip) for _, clip in clips),
            name=name,
            stats=stats,
            plans=[plan for _, clip in clips if (plan := Provenance.of(clip).plan) is not None],
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
    ) -> tuple[list[Piece], list[Clip], int]:
        """The prompt, the canvases in its order, and how many subtitles lie beyond the end of their video."""
        clips: list[Clip] = []
        turns = []
        dropped = 0
        read = read_messages(messages, images, videos)
        asked = partial(asked_question, read, supervise=self.supervise, generate=generate)
        if generate and read[-1].role == "assistant":
            raise DataError(f"message {len(read) - 1}: an answer is there already; leave it out to generate one")
        for index, message in enumerate(read):
            content: list[Piece] = []
            has_newline = False  # of a codec video or a subtitle: one that follows in the text is swallowed
            for part in message.parts:
                if isinstance(part, str):
                    text = part.removeprefix("\n") if has_newline else part
                    has_newline = has_newline and not part
                    content += [Piece(text, learn=True)] if text else []
                    continue
                try:
                    shown, new, lost = self._show(part, asked)
                except Ov2kitError as error:
                    raise type(error)(f"message {index}: {error}") from error
                clips += new
                content += shown
                dropped += lost
                has_newline = new[-1][0] == "codec" or shown[-1:] == [NEWLINE]
            turns.append((message.role, content))
        return (
            chat_pieces(turns, system=self.system, supervise=self.supervise, generate=generate),
            clips,
            dropped,
        )

    def _show(self, part: Media, asked: Callable[[], str]) -> tuple[list[Piece], list[Clip], int]:
        given = self.question
        videos = video_tokenizers(self.codec, self.frames, self.hybrid, asked if given is None else lambda: given)
        clips = open_media(part, videos=videos, image=self.image, source=self.source)
        pieces: list[Piece] = []
        subtitles = part_subtitles(part, clips)
        dropped = 0
        for kind, clip in clips:
            if (clip.patch, clip.merge) != (self.patch, self.merge):
                raise DataError(
                    f"the canvases have patch {clip.patch} and merge {clip.merge}, expected {self.patch} and "
                    f"{self.merge}; tokenize them with the sizes of the model"
                )
            shown, dropped = clip_pieces(
                clip, kind, subtitles, decimals=self.decimals, tokens_out=self.tokens_out, item=self.item
            )
            pieces += shown
        return pieces, clips, dropped
