"""Put every measured table of README.md and docs/ between its markers, from the files in benchmarks/results.

    python -m benchmarks.tables

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`; a test holds that it is what this writes.
"""

from pathlib import Path

from benchmarks._tables import (
    bits,
    datasets,
    events,
    finetuning,
    live,
    routing,
    scaling,
    serving,
    small_models,
    speed,
    stages,
)
from benchmarks._tables.markdown import fill
from ov2kit.files import write_text

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TABLES = {
    "speed": speed.clips,
    "aims": speed.aims,
    "scaling": scaling.growth,
    "stages": stages.stages,
    "ways": lambda: speed.kept("ways"),
    "attention-cpu": lambda: speed.kept("attention-cpu"),
    "attention-gpu": speed.gpu,
    "encoder-gpu": speed.gpu_encoder,
    "finetuning": finetuning.memory,
    "serving": serving.load,
    "serving-conditions": serving.conditions,
    "budget": small_models.budget,
    "budget-published": small_models.budget_beside_published,
    "minutes": small_models.minutes,
    "minutes-short": small_models.minutes_in_short,
    "pruning": small_models.pruning,
    "pruning-seconds": lambda: small_models.pruning("pruning"),
    "positions": lambda: small_models.without_times("positions"),
    "visibility": lambda: small_models.without_times("visibility"),
    "tuning": small_models.tuning,
    "tracking": small_models.tracking,
    "events": events.overall,
    "events-footage": events.footage,
    "events-held": lambda: events.overall("held"),
    "events-held-footage": lambda: events.footage("held"),
    "events-parts": events.parts,
    "events-time": events.times,
    "events-models": events.models,
    "routing": routing.by_kind,
    "routing-taken": routing.taken,
    "routing-time": routing.of_time,
    "routing-detail": routing.of_detail,
    "question-kinds": routing.questions,
    "question-voices": routing.voices,
    "question-embedding": routing.embedding,
    "routing-paper": routing.of_paper,
    "routing-held": routing.held,
    "routing-held-footage": routing.held_footage,
    "query-scores": routing.query_scores_table,
    "scores": bits.shares,
    "scores-by-scale": bits.by_scale,
    "scores-as-run": bits.as_run,
    "scores-by-clip": bits.clip_by_clip,
    "scores-estimated": lambda: speed.kept("scores-estimated"),
    "bits": bits.estimates,
    "bits-blocks": bits.chosen_blocks,
    "bits-by-clip": bits.estimates_clip_by_clip,
    "datasets": datasets.runs,
    "datasets-million": datasets.million,
    "live-truth": live.truth,
    "live-map": small_models.delays,
    "live-gate": live.truth_gate,
    "live-day": live.day,
    "live-sources": live.sources,
    "bits-cost": lambda: speed.kept("bits-cost"),
}


def main() -> None:
    """Write the pages whose tables are not what the results say."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        made = fill(text, TABLES)
        if made != text:
            write_text(page, made)
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
