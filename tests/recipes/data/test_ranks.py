"""Two processes on CPUs: they share an epoch, and resume together."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT
from tests.patience import PATIENCE
from tests.recordings import make_media, mixed_records, write_jsonl

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from tests.conversation_data import conversation_data
from tests.recipes.data.test_resume import Notes, keep_all, trainer

folder = Path(sys.argv[1])
small = {"budget_canvases": 3, "max_pixels": 56 * 84, "source": "mix", "cache": str(folder / "cache")}
cases = {
    "batches": {"batch_size": 2, "group_by_length": True},
    "stream": {"pack": "stream", "pack_length": 300, "pack_buffer": 3, "rows_per_epoch": 3},
}
told = {}
for name, options in cases.items():
    saved = folder / name
    ranks = {"devices": 2, "strategy": "ddp", "max_epochs": 2}
    whole, rest = Notes(), Notes()
    first, data = (conversation_data(str(folder / "all.jsonl"), **small, **options) for _ in range(2))
    trainer(saved, keep_all(saved), **ranks).fit(whole, first)
    run = trainer(saved, **ranks)
    run.fit(rest, data, ckpt_path=saved / "step=2.ckpt")
    told[name] = {"whole": whole.seen, "rest": rest.seen}
(folder / f"rank{run.global_rank}.json").write_text(json.dumps(told))
torch.distributed.destroy_process_group()
"""


def test_two_ranks_share_an_epoch_and_resume(tmp_path: Path) -> None:
    make_media(tmp_path, 4, 3)
    write_jsonl(tmp_path / "all.jsonl", mixed_records(9, 4, 4))
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    root = ROOT
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    ranks = [json.loads((tmp_path / f"rank{r}.json").read_text()) for r in range(2)]
    for case in ("batches", "stream"):
        one, two = (rank[case] for rank in ranks)
        assert len(one["whole"]) == len(two["whole"])
        for rank in (one, two):
            assert rank["rest"] == rank["whole"][2:], case
        assert rank["rest"], case
    epoch = len(ranks[0]["batches"]["whole"]) // 2
    mine, other = ({name for names, _ in r["batches"]["whole"][:epoch] for name in names} for r in ranks)
    assert mine.isdisjoint(other)
    assert len(mine | other) == 14  # 9 videos, 1 picture, 4 texts
