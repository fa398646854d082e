"""Attributes of videos, drawn so that each is there or not; switches of ids, counted by hand."""

import numpy as np
import pytest

from ov2kit.recipes.spatial.attributes import ATTRIBUTES, attribute_table, attributes_of, id_switches
from ov2kit.recipes.spatial.segmenter import MaskTracks


def tracks(*objects, size=(40, 60)):
    """Squares: (row, column, side) per frame, None where there is nothing."""
    found = MaskTracks(len(objects[0]), size)
    for frame in range(found.frames):
        masks = {}
        for number, path in enumerate(objects):
            masks[number] = np.zeros(size, dtype=bool)
            if path[frame] is not None:
                row, column, side = path[frame]
                masks[number][row : row + side, column : column + side] = True
        found.put(frame, masks)
    return found


STILL = [(10, 10, 8)] * 6


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([STILL], ()),
        ([STILL, STILL], ("several objects",)),
        ([[(10, 10, 8)] * 2 + [None] * 2 + [(10, 10, 8)] * 2], ("occlusion",)),
        ([[(10, 10, 8)] * 2 + [(10, 10, 5)] + [(10, 10, 8)] * 3], ("occlusion",)),
        ([[None, *STILL[1:]]], ("out of view",)),
        ([[(10, 10 + 5 * t, 8) for t in range(6)]], ("fast motion",)),
        ([[(10, 10 + 2 * t, 8) for t in range(6)]], ()),
        ([[(10, 10, 4)] * 6], ("small",)),
        ([[(0, 0, 30)] * 6], ("large",)),
        ([[None] * 6], ("out of view",)),
    ],
)
def test_each_attribute_is_seen_where_it_is(objects, expected):
    assert attributes_of(tracks(*objects)) == expected


def test_switches_of_ids_are_counted_where_objects_are_covered():
    left, right = [(5, 5, 8)] * 6, [(25, 40, 8)] * 6
    truth = tracks(left, right)
    assert id_switches(truth, truth) == 0
    swapped = tracks([*left[:3], *right[3:]], [*right[:3], *left[3:]])
    assert id_switches(swapped, truth) == 2
    gone = tracks([*left[:3], None, None, None], [None, None, None, *left[3:]])
    assert id_switches(gone, truth) == 1


def test_the_table_parts_videos_by_attribute():
    rows = [
        {"j&f": 0.9, "attributes": []},
        {"j&f": 0.5, "attributes": ["fast motion", "small"]},
        {"j&f": 0.3, "attributes": ["fast motion"]},
    ]
    table = attribute_table(rows)
    assert table["fast motion"] == {"videos": 2.0, "with": pytest.approx(0.4), "without": pytest.approx(0.9)}
    assert table["small"]["with"] == 0.5
    assert table["large"] == {"videos": 0.0, "with": None, "without": pytest.approx(1.7 / 3)}
    assert list(table) == ["all", *ATTRIBUTES]
