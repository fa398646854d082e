"""`ov2kit track`: points and masks of what an expression names, in one video or over a folder with truth."""

import json
import sys
import time
from pathlib import Path
from typing import Any, get_args

from jsonargparse import ArgumentParser, Namespace

from ov2kit.errors import CheckpointError, check_number
from ov2kit.files import check_folder, fill_folder, refuse_overwriting_inputs, write_text
from ov2kit.recipes.prompt.prompts import VideoKind
from ov2kit.recipes.spatial.prompts import MAX_NEW_TOKENS, PROMPT_FPS

REGIONS = "regions"
_OF_A_VIDEO = ("prompt", "answer")
_OF_A_SET = ("split", "true_points", "rank", "world_size", "limit", "attributes")


def parser() -> ArgumentParser:
    """Options of `ov2kit track`."""
    command = ArgumentParser(
        description="Track what an expression names: points by the model, masks by a segmenter.", exit_on_error=False
    )
    command.add_argument("--model", type=str | None, metavar="DIR", help="model directory in the released format")
    command.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    command.add_argument("--video", type=str | None, metavar="FILE", help="one video; needs --prompt")
    command.add_argument("--prompt", type=str | None, metavar="TEXT", help='what to track, such as "the red car"')
    command.add_argument("--data", type=str | None, metavar="FOLDER", help="a set with masks, see docs/spatial.md")
    command.add_argument("--split", type=str | None, metavar="NAME", help="of --data, where it has several")
    command.add_argument(
        "--answer", type=str | None, metavar="TEXT", help="take this as the model's answer to --prompt"
    )
    command.add_argument(
        "--true_points", action="store_true", help="with --data: no model, true points; measures the segmenter"
    )
    command.add_argument(
        "--segmenter", default=REGIONS, metavar="DIR",
        help=f"folder of SAM 2, EdgeTAM or a SAM 3 tracker; {REGIONS} grows regions of one color, for plain clips",
    )  # fmt: skip
    command.add_argument("--fps", default=PROMPT_FPS, type=float, help="pictures per second; 6 in the public protocol")
    command.add_argument("--source", default="codec", choices=get_args(VideoKind), help="how the model sees videos")
    command.add_argument("--frame_share", type=float | None, metavar="SHARE", help="of a hybrid: whole frames")
    command.add_argument("--budget_canvases", default=32, type=int, help="canvases or frames per video")
    command.add_argument("--max_new_tokens", default=MAX_NEW_TOKENS, type=int, help="longest answer")
    command.add_argument("--device", type=str | None, help="cpu, cuda, cuda:1; a GPU when omitted, if there is one")
    command.add_argument("--rank", type=int | None, help="which process this is; RANK of the environment when omitted")
    command.add_argument(
        "--world_size", type=int | None, help="how many processes share --data; WORLD_SIZE when omitted"
    )
    command.add_argument("--limit", type=int | None, help="only the first expressions of --data")
    command.add_argument("--attributes", action="store_true", help="print J&F by what makes videos hard")
    command.add_argument("--json", action="store_true", help="print results as JSON")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit track`."""
    check_number("--fps", parsed.fps, low=0.01, high=1000)
    for name in ("budget_canvases", "max_new_tokens", "limit"):
        check_number(f"--{name}", parsed[name], low=1, integer=True, optional=True)
    if (parsed.video is None) == (parsed.data is None):
        raise ValueError("give --video with --prompt, or --data; one of the two")
    form, other = ("--data", _OF_A_VIDEO) if parsed.data else ("--video", _OF_A_SET)
    if odd := [name for name in other if parsed[name] not in (None, False)]:
        raise ValueError(f"--{odd[0]} has no meaning with {form}; leave it out")
    if parsed.true_points and parsed.model is not None:
        raise ValueError("--true_points asks no model: leave out one of --model and --true_points")
    return _folder(parsed) if parsed.data else _video(parsed)


def _segmenter(parsed: Namespace) -> Any:
    if parsed.segmenter != REGIONS:
        from ov2kit.recipes.spatial.sam_segmenter import SamSegmenter

        return SamSegmenter.from_pretrained(parsed.segmenter, device=parsed.device)
    from ov2kit.recipes.spatial.region_growing import RegionGrowing

    return RegionGrowing()


def _answerer(parsed: Namespace) -> Any:
    if parsed.model is None:
        raise ValueError("--model is needed to ask; or give --answer with --video, --true_points with --data")
    check_folder(parsed.model, "a model directory ('ov2kit convert' makes one of a checkpoint)", CheckpointError)
    from ov2kit.recipes.generate import answerer

    return answerer(
        parsed.model, source=parsed.source, frame_share=parsed.frame_share, budget_canvases=parsed.budget_canvases,
        max_new_tokens=parsed.max_new_tokens, device=parsed.device,
    )  # fmt: skip


def _video(parsed: Namespace) -> int:
    """One video: tracks.json, overlay.mp4, contact_sheet.png."""
    from ov2kit.recipes.spatial.frames import VideoFrames
    from ov2kit.recipes.spatial.overlay import contact_sheet, write_overlay
    from ov2kit.recipes.spatial.track import ask_tracks, follow

    if not parsed.prompt:
        raise ValueError("--video needs --prompt: what is to be tracked")
    for name in ("overlay.mp4", "contact_sheet.png", "tracks.json"):
        refuse_overwriting_inputs(Path(parsed.out) / name, [parsed.video])
    frames = VideoFrames(parsed.video, fps=parsed.fps)  # before the model is loaded: it may take minutes
    segmenter = _segmenter(parsed)
    text, answered = (parsed.answer, 0.0) if parsed.answer is not None else ask_tracks(
        _answerer(parsed), Path(parsed.video), parsed.prompt
    )  # fmt: skip
    tracked = follow(text, frames, segmenter, fps=parsed.fps, answered=answered)
    height, width = frames.size
    with fill_folder(parsed.out) as out:
        began = time.perf_counter()
        write_overlay(out / "overlay.mp4", frames, tracked.masks, tracked.prompts, fps=parsed.fps)
        contact_sheet(frames, tracked.masks, tracked.prompts).save(out / "contact_sheet.png")
        seconds = {**tracked.seconds, "draw": time.perf_counter() - began}
        result = {
            "video": str(parsed.video), "expression": parsed.prompt, "answer": text, "label": tracked.tracks.label,
            "fps": parsed.fps, "frames": len(frames), "width": width, "height": height,
            "points": [_plain(point, height, width) for point in tracked.tracks.points],
            "problems": list(tracked.tracks.problems), "masks": tracked.masks.plain(), "seconds": seconds,
        }  # fmt: skip
        write_text(out / "tracks.json", json.dumps(result) + "\n")
    if not tracked.tracks.points:
        print("warning: the answer has no tracks: nothing is marked", file=sys.stderr)
    for problem in tracked.tracks.problems:
        print(f"warning: {problem}", file=sys.stderr)
    if parsed.json:
        print(json.dumps({key: value for key, value in result.items() if key != "masks"}))
    else:
        objects = tracked.tracks.object_ids()
        spent = ", ".join(f"{stage} {value:.2f} s" for stage, value in seconds.items())
        print(f"{parsed.video}: {len(objects)} objects, {len(tracked.tracks.points)} points; {spent} -> {parsed.out}")
    return 0


def _plain(point: Any, height: int, width: int) -> dict[str, Any]:
    """A point in pixels of the video."""
    where = {"x": point.x * width, "y": point.y * height}
    return {"seconds": point.seconds, "object": point.object_id, **where, "occluded": point.occluded}


def _folder(parsed: Namespace) -> int:
    """A set: predictions.jsonl, scores.json, masks/, report.html."""
    from tqdm import tqdm

    from ov2kit.recipes.evaluation.predictions import read_folder
    from ov2kit.recipes.evaluation.processes import processes
    from ov2kit.recipes.spatial.evaluate import evaluate_referring
    from ov2kit.recipes.spatial.layouts import digest_of, read_referring
    from ov2kit.recipes.spatial.page import write_page

    everything = read_referring(parsed.data, parsed.split, fps=parsed.fps)
    items = everything[: parsed.limit]
    answer = None if parsed.true_points else _answerer(parsed)
    names = ("source", "budget_canvases", "max_new_tokens", "segmenter", "fps", "true_points")
    settings = {"model": parsed.model and str(Path(parsed.model).resolve()), **{name: parsed[name] for name in names}}
    if parsed.frame_share is not None:
        settings["frame_share"] = parsed.frame_share
    settings["expressions_sha256"] = digest_of(everything)
    rank, world_size = processes(parsed.rank, parsed.world_size)
    with tqdm(
        total=len(items[rank::world_size]), unit=" expressions", disable=parsed.quiet or None, file=sys.stderr
    ) as bar:
        scores = evaluate_referring(
            answer, _segmenter(parsed), items, parsed.out, settings=settings, rank=rank, world_size=world_size,
            progress=lambda done, total: bar.update(done - bar.n),
        )  # fmt: skip
    out = Path(parsed.out)
    if scores is None:
        print(f"{out}: this process is done; others still have expressions")
        return 0
    known = read_folder(out)
    write_page(out / "report.html", scores, [known[item.id] for item in items], items, out / "masks")
    if parsed.json:
        print(json.dumps(scores))
        return 0
    shown = ("j", "f", "j&f", "hota", "public_hota", "point_f1", "point_hota", "ceiling_j&f", "segmenter_share")
    means = ", ".join(f"{name} {scores[name]:.4f}" for name in shown if name in scores)
    print(f"{parsed.data}: {means} over {scores['expressions']} expressions, {scores['errors']} errors -> {out}")
    if parsed.attributes:
        for name, row in scores["attributes"].items():
            with_it, without = ("-" if row[key] is None else f"{row[key]:.4f}" for key in ("with", "without"))
            print(f"  {name:<16} {row['videos']:4.0f} expressions, J&F {with_it}, without {without}")
    return 0
