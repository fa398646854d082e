"""What a sample says of its canvases in numbers."""

from collections.abc import Sequence

from ov2kit.recipes.prompt.media import Clip, known_seconds


def canvas_stats(clips: Sequence[Clip]) -> dict[str, float]:
    """Counts of canvases, groups, pictures, videos and their seconds, and the share of patches in P-canvases."""
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
            seconds = known_seconds(clip)
            last = max(clip.clip_times()[0].values(), default=0.0)
            counts["video_seconds"] += last if seconds is None else seconds
    return counts | {"p_share": shown_p / shown if shown else 0.0}
