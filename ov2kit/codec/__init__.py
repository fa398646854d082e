"""ov2kit.codec: a video file -> Canvases, and each step between them as a separate module."""

from ov2kit.codec.assets.loading import load_assets
from ov2kit.codec.assets.saving import save_assets
from ov2kit.codec.grouping import BitCostGrouping, ContainerGrouping, FixedGrouping, ReadinessGrouping
from ov2kit.codec.live.gate import BitCostGate, Gated
from ov2kit.codec.live.group import LiveGroup
from ov2kit.codec.live.grouping import RunningGrouping
from ov2kit.codec.live.rate import TokenRate
from ov2kit.codec.live.tokenizer import LiveTokenizer
from ov2kit.codec.provenance.provenance import Provenance
from ov2kit.codec.scoring.block_scorer import BlockScorer as BlockScorer  # deprecated, so not in __all__
from ov2kit.codec.scoring.byte_share import ByteShareSaliency
from ov2kit.codec.scoring.color_names import ColorNames
from ov2kit.codec.scoring.estimated_bits import EstimatedBitsScorer
from ov2kit.codec.scoring.event_saliency import EventSaliency
from ov2kit.codec.scoring.event_scorer import EventScorer
from ov2kit.codec.scoring.external_maps import ExternalMapScorer
from ov2kit.codec.scoring.query_saliency import QuerySaliency
from ov2kit.codec.scoring.random_saliency import RandomSaliency, RandomScorer
from ov2kit.codec.scoring.saliency import MotionResidualSaliency
from ov2kit.codec.scoring.saliency_scorer import SaliencyScorer
from ov2kit.codec.scoring.scorer import Scorer
from ov2kit.codec.selection.blocks import SaliencyBlockSelector, TopKBlockSelector
from ov2kit.codec.selection.packing import CanvasPacker
from ov2kit.codec.selection.plan import packet_columns
from ov2kit.codec.signals.bit_cost import BitCostMap
from ov2kit.codec.stream import VideoStream
from ov2kit.codec.tokenizers.codec import CodecTokenizer
from ov2kit.codec.tokenizers.frames import FrameTokenizer
from ov2kit.codec.tokenizers.images import ImageTokenizer
from ov2kit.codec.tokenizers.interface import Tokenizer
from ov2kit.codec.video.frame import Frame
from ov2kit.codec.video.packets import PacketTable

__all__ = [
    "BitCostGate",
    "BitCostGrouping",
    "BitCostMap",
    "ByteShareSaliency",
    "CanvasPacker",
    "CodecTokenizer",
    "ColorNames",
    "ContainerGrouping",
    "EstimatedBitsScorer",
    "EventSaliency",
    "EventScorer",
    "ExternalMapScorer",
    "FixedGrouping",
    "Frame",
    "FrameTokenizer",
    "Gated",
    "ImageTokenizer",
    "LiveGroup",
    "LiveTokenizer",
    "MotionResidualSaliency",
    "PacketTable",
    "Provenance",
    "QuerySaliency",
    "RandomSaliency",
    "RandomScorer",
    "ReadinessGrouping",
    "RunningGrouping",
    "SaliencyBlockSelector",
    "SaliencyScorer",
    "Scorer",
    "TokenRate",
    "Tokenizer",
    "TopKBlockSelector",
    "VideoStream",
    "load_assets",
    "packet_columns",
    "save_assets",
]
