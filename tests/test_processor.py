"""The processor: what stands in the prompt, what is supervised, and what belongs to it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ov2kit.recipes import rewrite_prompt
from ov2kit.recipes.prompts import timestamp, timestamp_runs

GOLDEN = Path(__file__).parent / "golden"
PROMPT = np.load(GOLDEN / "11_prompt.npz", allow_pickle=False)
META = json.loads((GOLDEN / "11_prompt_meta.json").read_text())


@pytest.mark.parametrize("case", META["cases"], ids=lambda case: str(case["case"]))
def test_rewritten_prompts_match_the_reference(case):
    positions = torch.from_numpy(PROMPT[f"case{case['case']}_positions"])
    runs = timestamp_runs(positions, case["fps"], merge=case["merge"], decimals=case["decimals"])
    assert [[run.stamp, run.tokens] for run in runs] == case["runs"]
    assert rewrite_prompt(case["text"], runs) == case["rewritten"]
    assert rewrite_prompt(case["text"], [tuple(pair) for pair in case["runs"]]) == case["rewritten"]


def test_timestamps_match_the_reference():
    rows = META["timestamp_text"]["rows"]
    assert len(rows) > 20
    assert [timestamp(frame / fps, decimals) for frame, fps, decimals, _ in rows] == [row[3] for row in rows]
