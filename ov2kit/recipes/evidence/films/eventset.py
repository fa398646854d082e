"""A set of small events on disk: clips of every kind of footage, and which pixels each event covers in each frame.

Layout:

    videos/NAME.mp4
    masks/NAME.json          {"0": [run lengths or null per frame], ...}, one track per event
    tune.json, test.json, held.json
                             lists of {"id", "video", "footage", "encoding", "fps", "variable", "frames", "size",
                             "background", "events": [{"kind", "start", "stop", "track"}]}
    eventset.json            how it was made, written last

What is tuned on `tune` is reported on `test`: the two share neither a seed nor a made background nor a file of footage.
`held` has kinds of footage, of events, of encodings and frame rates that are in neither: what was tuned on none of it.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.stream import VideoStream
from ov2kit.errors import DataError, OptionError, check_choice, check_number
from ov2kit.files import check_format, format_name, kind_of, write_folder
from ov2kit.recipes.evidence.films.encode import ENCODINGS, EncoderError, write_video
from ov2kit.recipes.evidence.films.event_actors import HELD_KINDS, EventKind
from ov2kit.recipes.evidence.films.event_scene import (
    FOOTAGE,
    HELD_FOOTAGE,
    REAL,
    Event,
    EventClip,
    EventScene,
    frame_seconds,
    render_events,
    world_size,
)
from ov2kit.recipes.spatial.segmenter import MaskTracks

EVENT_SPLITS = ("tune", "test", "held")
#: encodings of the mixed set, drawn per clip
EVENT_MIX = (
    "x264-medium", "x264-veryfast", "x264-nobframes", "x264-longgop", "x264-rate", "x264-lowrate", "hevc", "vp9", "av1",
)  # fmt: skip
#: the same of the split `held`
HELD_MIX = ("x264-pyramid", "x264-vbr", "x264-hrd")
_FPS = (10, 25, 25, 30, 60)
_HELD_FPS = (12, 15, 24, 50)
_VARIABLE = 0.15  # share of clips whose frame rate varies
_FACTS, _KIND, _VERSION = "eventset.json", "eventset", 1


@dataclass(frozen=True)
class EventRecord:
    """One clip of a set.

    Args:
        id: name.
        video: path.
        footage: a name of `FOOTAGE`.
        encoding: a name of `ENCODINGS`.
        fps: frames per second, on average.
        variable: whether the rate varies.
        frames: T.
        size: (H, W).
        events: what happens, by start.
    """

    id: str
    video: Path
    footage: str
    encoding: str
    fps: float
    variable: bool
    frames: int
    size: tuple[int, int]
    events: tuple[Event, ...]


def make_eventset(
    out: str | Path,
    clips: int,
    *,
    seed: int = 0,
    footage: Sequence[str] | None = None,
    encoding: str = "mix",
    kinds: Sequence[EventKind] | None = None,
    real: Sequence[str | Path] = (),
    scene: EventScene | None = None,
    processes: int = 1,
) -> Path:
    """Render and encode a set; the folder appears whole or not at all.

    `tune` and `test` have no footage of `HELD_FOOTAGE` and no event of `HELD_KINDS`. `held` has every event on such
    footage, and such events on every other.

    The pixels of a clip depend on seed, split, footage and number alone, so sets of two encodings show the same clips.

    Args:
        out: folder to make; must not exist.
        clips: of each kind of footage in each split.
        seed: decides every clip.
        footage: names of `FOOTAGE`; all that can be made when omitted, those in `REAL` only with `real`.
        encoding: a name of `ENCODINGS`, or "mix": drawn per clip from `EVENT_MIX`, in `held` from `HELD_MIX`.
        kinds: of events; all when omitted.
        real: video files to use as background, at least two: every other one is for `tune`, the others for `test` and
            `held`.
        scene: knobs of the scenes.
        processes: clips made side by side.

    Raises:
        DataError: `out` exists.
        EncoderError: unknown encoding, or one that this PyAV lacks.
        OptionError: another option is unknown or out of range.
        OutputError: it cannot be written there.
        VideoError: footage cannot be read.
    """
    folder, knobs = Path(out), scene or EventScene()
    if folder.exists():
        raise DataError(f"{folder}: exists already; choose another folder or remove it")
    check_number("clips", clips, low=1, integer=True)
    check_number("seed", seed, low=0, integer=True)
    check_number("processes", processes, low=1, integer=True)
    check_choice("encoding", encoding, ("mix", *ENCODINGS), EncoderError)
    shown = tuple(name for name in FOOTAGE if real or name not in REAL) if footage is None else tuple(footage)
    drawn = get_args(EventKind) if kinds is None else tuple(kinds)
    for name in shown:
        check_choice("footage", name, FOOTAGE)
    for name in drawn:
        check_choice("kinds", name, get_args(EventKind))
    if not shown or not drawn:
        raise OptionError(f"a set needs at least one kind of footage and of event, got {shown} and {drawn}")
    if set(shown) & set(REAL) and len(real) < 2:
        raise OptionError(f"footage {' and '.join(REAL)} needs at least two video files in real, got {len(real)}")
    with write_folder(folder) as scratch:
        (scratch / "videos").mkdir()
        (scratch / "masks").mkdir()
        jobs = [
            (split, name, n)
            for split, split_name in enumerate(EVENT_SPLITS)
            for name in shown
            for n in range(clips)
            if _kinds(split_name, name, drawn)
        ]
        make = partial(_make_clip, scratch, seed, encoding, drawn, [str(path) for path in real], knobs)
        if processes > 1:
            with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
                records = list(pool.map(make, jobs))
        else:
            records = [make(job) for job in jobs]
        for split, split_name in enumerate(EVENT_SPLITS):
            own = [record for record, job in zip(records, jobs, strict=True) if job[0] == split]
            _write_json(scratch / f"{split_name}.json", own)
        made = {
            "format": format_name(_KIND, _VERSION), "clips": clips, "seed": seed, "footage": shown,
            "encoding": encoding, "kinds": drawn, "real": [Path(path).name for path in real], "scene": asdict(knobs),
        }  # fmt: skip
        _write_json(scratch / _FACTS, made)
    return folder


def read_events(folder: str | Path, split: str) -> list[EventRecord]:
    """The clips of one split with their truth.

    Raises:
        DataError: there is no such set, its format is newer, or it is damaged.
        OptionError: unknown split.
    """
    place = Path(folder)
    check_choice("split", split, EVENT_SPLITS)
    if kind_of(place / _FACTS) != "file":
        raise DataError(f"{place}: expected a set of events with {_FACTS}; make one with: ov2kit eventset --out DIR")
    facts = json.loads((place / _FACTS).read_text(encoding="utf-8"))
    check_format(facts.get("format"), _KIND, _VERSION, place / _FACTS, DataError)
    if kind_of(place / f"{split}.json") != "file":
        raise DataError(f"{place}: expected {split}.json, which sets of before do not have; make the set again")
    plain = json.loads((place / f"{split}.json").read_text(encoding="utf-8"))
    return [_read_record(place, record) for record in plain]


def _read_record(folder: Path, plain: Mapping[str, Any]) -> EventRecord:
    """One clip; masks come as run lengths."""
    size = (int(plain["size"][0]), int(plain["size"][1]))
    coded = json.loads((folder / "masks" / f"{plain['id']}.json").read_text(encoding="utf-8"))
    tracks = MaskTracks(int(plain["frames"]), size, {int(number): track for number, track in coded.items()})
    events = []
    for event in plain["events"]:
        number = int(event["track"])
        if len(tracks.objects.get(number, ())) != tracks.frames:
            raise DataError(f"{folder}: {plain['id']} has no mask per frame for track {number}; make the set again")
        there = [t for t, coded in enumerate(tracks.objects[number]) if coded is not None]
        masks = {t: tracks.mask(number, t) for t in there}
        events.append(Event(event["kind"], float(event["start"]), float(event["stop"]), masks))
    return EventRecord(
        plain["id"], folder / plain["video"], plain["footage"], plain["encoding"], float(plain["fps"]),
        bool(plain["variable"]), tracks.frames, size, tuple(events),
    )  # fmt: skip


def _kinds(split: str, footage: str, drawn: Sequence[EventKind]) -> tuple[EventKind, ...]:
    """Events to draw from on footage of a kind; none where the split has no such footage."""
    if split == "held":
        return tuple(kind for kind in drawn if footage in HELD_FOOTAGE or kind in HELD_KINDS)
    return tuple(kind for kind in drawn if footage not in HELD_FOOTAGE and kind not in HELD_KINDS)


def _make_clip(
    folder: Path,
    seed: int,
    encoding: str,
    kinds: Sequence[EventKind],
    real: Sequence[str],
    scene: EventScene,
    job: tuple[int, str, int],
) -> dict[str, Any]:
    """Write video and masks of one clip; its record."""
    split, footage, number = job
    own = (seed, split, list(FOOTAGE).index(footage), number)
    rng = np.random.default_rng((*own, 1))
    is_held = EVENT_SPLITS[split] == "held"
    fps, variable = int(rng.choice(_HELD_FPS if is_held else _FPS)), bool(rng.random() < _VARIABLE)
    drawn = str(rng.choice(HELD_MIX if is_held else EVENT_MIX)) if encoding == "mix" else encoding
    times = frame_seconds(rng, scene.seconds, fps, variable=variable)
    background, pictures = "made", None
    if footage in REAL:
        files = real[min(split, 1) :: 2]
        background = files[int(rng.integers(len(files)))]
        pictures = _footage(background, times, world_size(scene))
    clip = render_events(own, scene, footage, times, _kinds(EVENT_SPLITS[split], footage, kinds), pictures)
    identity = f"{EVENT_SPLITS[split]}_{footage}_{number:03d}"
    video = f"videos/{identity}{ENCODINGS[drawn][1]}"
    write_video(folder / video, clip.frames, fps, drawn, seconds=times if variable else None)
    _write_json(folder / "masks" / f"{identity}.json", _tracks(clip).plain())
    events = [
        {"kind": event.kind, "start": event.start, "stop": event.stop, "track": track}
        for track, event in enumerate(clip.events)
    ]
    return {
        "id": identity, "video": video, "footage": footage, "encoding": drawn, "fps": len(times) / scene.seconds,
        "variable": variable, "frames": len(times), "size": scene.size, "background": Path(background).name,
        "events": events,
    }  # fmt: skip


def _footage(path: str, times: NDArray[np.float64], size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """The picture of a video file at each time, to and fro where the file is shorter."""
    with VideoStream(path, threads=1) as stream:
        at = stream.packets.frame_seconds
        length = float(at[-1]) or 1.0
        folded = length - np.abs(times % (2 * length) - length)  # forward, then backward
        wanted = np.searchsorted(at, folded, side="right").clip(1, len(at)) - 1
        pictures = {}
        for frame in stream.frames(sorted(set(wanted.tolist())), size=size):
            assert frame.rgb is not None
            pictures[frame.index] = frame.rgb.permute(1, 2, 0).numpy().copy()
    known = np.array(sorted(pictures))
    return [pictures[int(known[np.searchsorted(known, n).clip(max=len(known) - 1)])] for n in wanted]


def _tracks(clip: EventClip) -> MaskTracks:
    tracks = MaskTracks(len(clip.frames), (clip.frames.shape[1], clip.frames.shape[2]))
    for number, event in enumerate(clip.events):
        for frame, mask in event.masks.items():
            tracks.put(frame, {number: mask})
    return tracks


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1 if path.parent.name != "masks" else None) + "\n", encoding="utf-8")
