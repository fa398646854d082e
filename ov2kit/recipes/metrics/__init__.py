"""Metrics: plain functions on Python values and tensors, and torchmetrics classes that add them up.

Every state is a sum, so processes, epochs cut in two and merged files give the value of one pass.
"""

from ov2kit.errors import needs_extra

with needs_extra("ov2kit.recipes.metrics"):
    import torchmetrics as _torchmetrics  # noqa: F401

from ov2kit.recipes.metrics.assignment import assign
from ov2kit.recipes.metrics.event_recall import (
    EventRecall,
    EventShown,
    background_share,
    block_shares,
    blocks_of_mask,
    event_shown,
    shown_blocks,
)
from ov2kit.recipes.metrics.hota import HOTA, HotaCounts, hota_counts
from ov2kit.recipes.metrics.jumpscore import (
    TOLERANCES,
    JumpScoreMAP,
    JumpScoreRow,
    aggregate_jumpscore,
    average_precision,
    jumpscore_row,
)
from ov2kit.recipes.metrics.overlap import box_similarity, mask_similarity
from ov2kit.recipes.metrics.point_tracks import PointTracks, PointTrackScore, point_in_mask, point_track_score
from ov2kit.recipes.metrics.spans import parse_spans
from ov2kit.recipes.metrics.spatial_answers import (
    BoxAccuracy,
    Counting,
    PointsInMasks,
    RelationAccuracy,
    boxes_matched,
    depth_between,
    parse_count,
    parse_relation,
    points_in_masks,
    relation_between,
)
from ov2kit.recipes.metrics.start_times import is_explicit_empty, parse_answer, parse_starts
from ov2kit.recipes.metrics.temporal_iou import TemporalIoU, span_iou, temporal_row
from ov2kit.recipes.metrics.token_accounting import TokenAccounting, TokenCount, count_tokens
from ov2kit.recipes.metrics.video_masks import JAndF, boundaries, boundary_f, region_iou

__all__ = [
    "HOTA",
    "TOLERANCES",
    "BoxAccuracy",
    "Counting",
    "EventRecall",
    "EventShown",
    "HotaCounts",
    "JAndF",
    "JumpScoreMAP",
    "JumpScoreRow",
    "PointTrackScore",
    "PointTracks",
    "PointsInMasks",
    "RelationAccuracy",
    "TemporalIoU",
    "TokenAccounting",
    "TokenCount",
    "aggregate_jumpscore",
    "assign",
    "average_precision",
    "background_share",
    "block_shares",
    "blocks_of_mask",
    "boundaries",
    "boundary_f",
    "box_similarity",
    "boxes_matched",
    "count_tokens",
    "depth_between",
    "event_shown",
    "hota_counts",
    "is_explicit_empty",
    "jumpscore_row",
    "mask_similarity",
    "parse_answer",
    "parse_count",
    "parse_relation",
    "parse_spans",
    "parse_starts",
    "point_in_mask",
    "point_track_score",
    "points_in_masks",
    "region_iou",
    "relation_between",
    "shown_blocks",
    "span_iou",
    "temporal_row",
]
