"""Time into groups, each to get one I-canvas and its P-canvases.

Four ways, one interface (`Grouping`): packets or frames in, groups out, never more than the budget.

- `BitCostGrouping` (paper): where the bytes are spent.
- `ReadinessGrouping` (release): where the block scores of the sampled frames suffice.
- `FixedGrouping`: n equal spans. `ContainerGrouping`: the encoder's own keyframes.
"""

from ov2kit.codec.grouping.bitcost import BitCostGrouping
from ov2kit.codec.grouping.bitcost_walk import GroupTrace
from ov2kit.codec.grouping.interface import Grouping
from ov2kit.codec.grouping.plain import ContainerGrouping, FixedGrouping, even_subset
from ov2kit.codec.grouping.readiness import ReadinessGrouping, ReadyGroup

__all__ = [
    "BitCostGrouping",
    "ContainerGrouping",
    "FixedGrouping",
    "GroupTrace",
    "Grouping",
    "ReadinessGrouping",
    "ReadyGroup",
    "even_subset",
]
