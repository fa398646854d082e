"""Records -> samples and batches, as workers make them: a bad file gives a fault and never an exception."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from ov2kit.canvases import IMAGE_PAD, Canvases
from ov2kit.errors import DataError, Ov2kitError, check_choice, check_flag, check_number
from ov2kit.files import kind_of
from ov2kit.recipes.data.canvas_cache import CanvasCache
from ov2kit.recipes.data.conversations import KINDS, Conversation, Kind
from ov2kit.recipes.data.faults import BadRecord, Fault
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.data.mixing import VIDEO_KINDS
from ov2kit.recipes.prompt.media import load_canvases
from ov2kit.recipes.prompt.sample import IGNORE, SAMPLE_KINDS, Batch, Sample, collate, pack
from ov2kit.recipes.spatial.mirrored import mirror_canvases, mirror_messages

Oversize = Literal["skip", "truncate"]
_SUBSTITUTES = 32  # records tried in the place of a batch that has none left


class Processes(Protocol):
    """What a `Processor` is to the data."""

    tokenizer: Any
    codec: Any
    frames: Any
    image: Any

    @property
    def hybrid(self) -> Any: ...

    @property
    def pad_id(self) -> int: ...

    def __call__(self, messages: Sequence[Any], /, *, generate: bool = False, name: str = "") -> Sample: ...


@dataclass(frozen=True)
class Wanted:
    """Which records make a sample or batch: their numbers, places in `SAMPLE_KINDS`, and which are mirrored."""

    records: tuple[int, ...]
    choices: tuple[int, ...]
    mirrored: tuple[bool, ...]


@dataclass(frozen=True)
class Delivered:
    """What a worker gives back: a sample or batch if there is one, faults, and how many records were good."""

    content: Any
    faults: list[Fault] = field(default_factory=list)
    good: int = 0

    def pin_memory(self) -> "Delivered":
        pin = getattr(self.content, "pin_memory", None)
        return self if pin is None else replace(self, content=pin())


class ConversationDataset(Dataset[Delivered]):
    """Makes single samples.

    Args:
        index: the records.
        processor: makes a sample of a conversation.
        cache: of canvases.
        generate: prompts without the final answer, to generate one.
        max_length: most tokens of a sample; any number when omitted.
        oversize: what happens to longer ones. Both are reported. "truncate" cuts text at the end;
            a sample whose visual tokens or whole supervised text would be cut is skipped.
    """

    def __init__(
        self,
        index: ConversationIndex,
        processor: Processes,
        cache: CanvasCache | None = None,
        *,
        generate: bool = False,
        max_length: int | None = None,
        oversize: Oversize = "skip",
    ) -> None:
        check_choice("oversize", oversize, get_args(Oversize))
        check_number("max_length", max_length, low=1, integer=True, optional=True)
        check_flag("generate", generate)
        self.index, self.processor, self.cache = index, processor, cache or CanvasCache()
        self.generate, self.max_length, self.oversize = generate, max_length, oversize

    def __getitem__(self, wanted: Wanted) -> Delivered:
        """The sample of one record."""
        sample, faults = self.sample(wanted.records[0], wanted.choices[0], wanted.mirrored[0])
        return Delivered(sample, faults, int(sample is not None))

    def sample(self, record: int, choice: int, mirrored: bool = False) -> tuple[Sample | None, list[Fault]]:
        """A sample, or None, and what was wrong. A record that has no mirror image comes as it is."""
        place, name = self.index.place(record), ""
        self.cache.rebuilt.clear()
        try:
            conversation = self.index.read(record)
            name = conversation.name
            messages, mirrored = self._opened(conversation, choice, mirrored)
            sample = self.processor(messages, generate=self.generate, name=name)
        except BadRecord as error:
            return None, [Fault(place, name or place, str(error))]
        except Ov2kitError as error:
            return None, [Fault(place, name, _one_line(error))]
        except Exception as error:  # a worker must survive whatever a file does to the libraries that read it
            return None, [Fault(place, name or place, f"{type(error).__name__}: {_one_line(error)}")]
        facts = {kind: float(SAMPLE_KINDS[choice] == kind) for kind in SAMPLE_KINDS} | {"mirrored": float(mirrored)}
        sample = replace(sample, stats=sample.stats | facts, record=self.index.position(record))
        rebuilt = [Fault(place, name, reason, "rebuilt") for reason in self.cache.rebuilt]
        fitted, faults = self._fitted(sample, place)
        return fitted, rebuilt + faults

    def _opened(self, conversation: Conversation, choice: int, mirrored: bool) -> tuple[list[dict[str, Any]], bool]:
        """Messages with canvases in the place of paths, and whether they are mirrored."""
        messages = conversation.prompt() if self.generate else conversation.messages
        if mirrored:
            try:
                messages = mirror_messages(messages)
            except DataError:  # its text would be untrue
                mirrored = False
        return [
            message | {"content": [self._part(part, SAMPLE_KINDS[choice], mirrored) for part in message["content"]]}
            for message in messages
        ], mirrored

    def _part(self, part: dict[str, Any], choice: str, mirrored: bool) -> dict[str, Any]:
        kind = part["type"]
        if kind == "text":
            return part
        number, stored = part.pop("stored", None), self.index.stored
        shown: dict[str, Any] = {}
        if kind == "image":
            canvases = self._canvases(self.processor.image, part["image"])
        elif stored is not None and number is not None and (choice != "frames" or kind_of(part["video"]) != "file"):
            shown["source"] = "codec"
            canvases = stored.canvases(number)
        elif Path(part["video"]).is_dir():
            if not mirrored:
                return part
            canvases = load_canvases(part["video"])
        else:
            shown["source"] = source = choice if choice in VIDEO_KINDS else "codec"
            canvases = self._canvases(getattr(self.processor, source), part["video"])
        return part | shown | {kind: mirror_canvases(canvases) if mirrored else canvases}

    def _canvases(self, tokenizer: Any, path: str) -> Canvases:
        return self.cache(tokenizer, Path(path))

    def _fitted(self, sample: Sample, place: str) -> tuple[Sample | None, list[Fault]]:
        most = self.max_length
        if most is None or len(sample) <= most:
            return sample, []
        told = f"{len(sample)} tokens, {most} at most"
        if self.oversize == "skip":
            return None, [Fault(place, sample.name, told)]
        pad = self.processor.tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        if bool((sample.input_ids[most:] == pad).any()):
            return None, [Fault(place, sample.name, f"{told}, and visual tokens among those beyond")]
        cut = replace(sample, input_ids=sample.input_ids[:most].clone(), labels=sample.labels[:most].clone())
        if not self.generate and bool((cut.labels == IGNORE).all()):
            return None, [Fault(place, sample.name, f"{told}, and none of those is supervised")]
        if not self.generate and bool((cut.input_ids[int((cut.labels != IGNORE).nonzero()[-1]) :] == pad).any()):
            return None, [Fault(place, sample.name, f"{told}, and pictures without an answer to them in those")]
        return cut, [Fault(place, sample.name, told, "truncated")]


class BatchDataset(Dataset[Delivered]):
    """Makes whole batches, in one worker each.

    A batch whose records are partly bad is smaller; one whose records are all bad holds the next
    record of the set that is good, so that every rank has a batch for every step.

    Args:
        samples: makes the samples.
        records: of the set, ascending: where substitutes come from.
        pack_length: put the samples into one packed row of so many tokens; else one row each.
        side: where rows are padded.
    """

    def __init__(
        self,
        samples: ConversationDataset,
        records: np.ndarray,
        *,
        pack_length: int | None = None,
        side: Literal["right", "left"] = "right",
    ) -> None:
        self.samples, self.records = samples, records
        self.pack_length, self.side = pack_length, side

    def __getitem__(self, wanted: Wanted) -> Delivered:
        """The batch of some records; without content when they and all their substitutes are bad."""
        faults: list[Fault] = []
        found: list[Sample] = []
        room = self.pack_length
        for record, choice, mirrored in zip(wanted.records, wanted.choices, wanted.mirrored, strict=True):
            sample, wrong = self.samples.sample(record, choice, mirrored)
            faults += wrong
            if sample is None:
                continue
            if room is not None:
                if len(sample) > room:
                    told = f"{len(sample)} tokens, {room} left in its row: its length was given wrong"
                    faults.append(Fault(self.samples.index.place(record), sample.name, told))
                    continue
                room -= len(sample)
            found.append(sample)
        good = len(found)
        if not found:
            found = self._substitute(wanted)
            faults = [replace(f, action="replaced") if f.action == "skipped" else f for f in faults]
        return Delivered(self.batch(found) if found else None, faults, good)

    def batch(self, samples: list[Sample]) -> Batch:
        pad = self.samples.processor.pad_id
        if self.pack_length is not None:
            return pack(samples, pad, self.pack_length)
        return collate(samples, pad, self.side)

    def _substitute(self, wanted: Wanted) -> list[Sample]:
        kinds = self.samples.index.kinds
        start = int(np.searchsorted(self.records, wanted.records[-1]))
        tried = min(_SUBSTITUTES, len(self.records) - 1)
        for step in range(1, tried + 1):
            record = int(self.records[(start + step) % len(self.records)])
            if record in wanted.records:
                continue
            sample, _ = self.samples.sample(record, _choice(KINDS[kinds[record]], wanted.choices[-1]))
            if sample is not None and (self.pack_length is None or len(sample) <= self.pack_length):
                return [sample]
        return []


def _choice(kind: Kind, wanted: int) -> int:
    """How a record of this kind is shown where another was wanted."""
    if kind == "video":
        return wanted if SAMPLE_KINDS[wanted] in VIDEO_KINDS else SAMPLE_KINDS.index("codec")
    return SAMPLE_KINDS.index("codec" if kind == "assets" else kind)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]


def prepare_worker(_: int) -> None:
    """Leave Ctrl-C to the main process, and the other cores to the other workers."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
