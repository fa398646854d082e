"""Questions about a clip of the set of events, and what of their answers canvases show, from 0 to 1.

A reader that knows where to look and misses nothing that is shown: what it cannot see, no model can.

| kind | question | what of the answer is shown |
|---|---|---|
| when | at which second something happens | half of the event's blocks in one frame |
| count | how many things happen | share of the events shown in that way |
| order | which of two events that follow each other was first | 1 where both are shown in that way |
| happens | what happens | half of the event's blocks in two frames |
| say | what a sign says before it changes, and after | the most of its blocks that one frame of the time shows |
| where | where something stands in the end | the most of it and of what surrounds it (a block around) in one frame |
| look | what the picture looks like at a moment | share of its blocks of which canvases show a look-alike in place |

Signs and things are asked about where the camera stands: there they are where the event's masks begin and end. Two
blocks look alike where their luma, at a fifth of their edge, differs by at most 12 gray levels in the mean.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TIME_KINDS = ("when", "count", "order", "happens")
DETAIL_KINDS = ("say", "where", "look")
_ALIKE = 12.0
_EDGE = 5
_MOMENTS = 3  # of a clip that "look" asks about
_STANDS = {
    "still", "sensor", "rain", "snow", "flicker", "water", "cut", "fade", "real", "screen", "leaves", "crowd",
}  # fmt: skip

Blocks = NDArray[np.bool_]
Shown = Mapping[int, Blocks]


@dataclass(frozen=True)
class Question:
    """One question: its kind, what it is about (a number, of the events or of moments), and which wording it takes."""

    kind: str
    about: tuple[int, ...]
    wording: int


def ask_all(clip: Any, seed: int) -> list[Question]:
    """The questions about a clip."""
    rng = np.random.default_rng((seed, len(clip.events), sum(clip.id.encode())))
    asked: list[tuple[str, tuple[int, ...]]] = [("count", tuple(range(len(clip.events))))]
    for n, event in enumerate(clip.events):
        asked += [("when", (n,)), ("happens", (n,))]
        asked += [("order", (n, n + 1))] if n + 1 < len(clip.events) else []
        if clip.footage in _STANDS and event.kind == "text":
            asked.append(("say", (n,)))
        elif clip.footage in _STANDS and event.kind != "speak":
            asked.append(("where", (n,)))
    asked += [("look", (int(frame),)) for frame in rng.integers(0, clip.frames, _MOMENTS)]
    return [Question(kind, about, int(rng.integers(1 << 30))) for kind, about in asked]


def measure(
    clip: Any, questions: Sequence[Question], sources: Mapping[str, Callable[[Any], Any]]
) -> list[dict[str, Any]]:
    """One row per question: what each source shows of its answer, and what the stream says of itself."""
    from ov2kit.codec import VideoStream
    from ov2kit.recipes.metrics import shown_blocks
    from ov2kit.recipes.routing.stream_facts import stream_facts

    stream = VideoStream(clip.video, threads=1)
    facts = stream_facts(stream)
    shown, counts = {}, set()
    for name, tokenize in sources.items():
        canvases = tokenize(stream)
        counts.add(canvases.num_tokens)
        grid = (canvases.images.shape[2] // 28, canvases.images.shape[3] // 28)
        shown[name] = shown_blocks(canvases.positions, canvases.merge, grid)
    tokens = list(counts)
    if len(tokens) != 1:
        raise ValueError(f"{clip.id}: the sources differ in tokens: {tokens}")
    truth = _Truth(clip, stream, grid)
    return [
        {
            "clip": clip.id, "footage": clip.footage, "encoding": clip.encoding, "kind": q.kind, "about": list(q.about),
            "wording": q.wording, "tokens": tokens[0], "facts": facts.plain(),
            "shown": {name: round(truth.answered(q, blocks), 4) for name, blocks in shown.items()},
        }
        for q in questions
    ]  # fmt: skip


class _Truth:
    """What is known of a clip, on the grid of blocks."""

    def __init__(self, clip: Any, stream: Any, grid: tuple[int, int]) -> None:
        from ov2kit.recipes.metrics import blocks_of_mask

        self.clip, self.seconds = clip, stream.packets.frame_seconds
        self.blocks = [{t: blocks_of_mask(m, grid) for t, m in event.masks.items()} for event in clip.events]
        size = (grid[0] * _EDGE, grid[1] * _EDGE)
        frames = stream.frames(range(clip.frames), rgb=False, luma_size=size)
        luma = np.stack([frame.luma.numpy() for frame in frames]).astype(np.float32)
        self.luma = luma.reshape(len(luma), grid[0], _EDGE, grid[1], _EDGE)

    def answered(self, question: Question, shown: Shown) -> float:
        """What of the answer is shown."""
        about = question.about
        if question.kind == "look":
            return self._look(about[0], shown)
        if question.kind in ("say", "where"):
            return self._detail(about[0], shown, whole=question.kind == "where")
        frames = [self._frames(n, shown) for n in about]
        if question.kind == "happens":
            return float(frames[0] >= 2)
        seen = [float(count >= 1) for count in frames]
        return min(seen) if question.kind == "order" else float(np.mean(seen))

    def _frames(self, n: int, shown: Shown) -> int:
        """Frames that show half of an event's blocks."""
        found = 0
        for frame, bearing in self.blocks[n].items():
            if frame in shown and bearing.any():
                found += int((bearing & shown[frame]).sum() >= 0.5 * bearing.sum())
        return found

    def _detail(self, n: int, shown: Shown, *, whole: bool) -> float:
        """The most that one frame shows of a thing that stands still before its event, and after."""
        event = self.clip.events[n]
        first, last = min(event.masks), max(event.masks)
        times = {
            "before": [t for t in shown if self.seconds[t] < event.start],
            "after": [t for t in shown if self.seconds[t] >= event.stop],
        }
        last_state = "before" if event.kind == "vanish" else "after"
        wanted = [last_state] if whole else ["before", "after"]
        best = []
        for state in wanted:
            region = self.blocks[n][first if state == "before" else last]
            region = _grown(region) if whole else region
            shares = [float((region & shown[t]).sum() / region.sum()) for t in times[state]]
            best.append(max(shares, default=0.0))
        return float(np.mean(best))

    def _look(self, moment: int, shown: Shown) -> float:
        """Share of the blocks at a moment of which a look-alike is shown at the same place."""
        found = np.zeros(self.luma.shape[1::2], dtype=bool)
        for frame, blocks in shown.items():
            alike = np.abs(self.luma[frame] - self.luma[moment]).mean(axis=(1, 3)) <= _ALIKE
            found |= alike & blocks
        return float(found.mean())


def _grown(blocks: Blocks) -> Blocks:
    """With the blocks around them."""
    padded = np.pad(blocks, 1)
    rows, columns = blocks.shape
    near = [padded[a : a + rows, b : b + columns] for a in range(3) for b in range(3)]
    grown: Blocks = np.logical_or.reduce(near)
    return grown
