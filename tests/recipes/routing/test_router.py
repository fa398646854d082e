"""Router: facts of streams whose content is known, plans, and what provenance says of them."""

import json

import numpy as np
import pytest

from benchmarks._routing.fit import fitted
from benchmarks.routing import read
from ov2kit.codec import CodecTokenizer, FrameTokenizer, Provenance, VideoStream
from ov2kit.codec.tokenizers.presets import PRESETS
from ov2kit.errors import OptionError
from ov2kit.recipes import Processor, Router, small_tokenizer
from ov2kit.recipes.evidence.films.encode import write_video
from ov2kit.recipes.routing.question_kind import KINDS
from ov2kit.recipes.routing.stream_facts import stream_facts
from ov2kit.recipes.routing.values import ROUTES, route_values
from tests.paths import SAMPLE

FPS, FRAMES = 25, 75


def picture(seed: int, size=(96, 144)) -> np.ndarray:
    """Smooth texture."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 210, (size[0] // 8 + 1, size[1] // 8 + 1, 1)).repeat(3, axis=2)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)[: size[0], : size[1]].astype(np.uint8)


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """Facts of four made-up clips."""
    folder = tmp_path_factory.mktemp("facts")
    wide, rng = picture(0, (96, 400)), np.random.default_rng(1)
    noise = rng.normal(0, 25, (FRAMES, 96, 144, 3))
    clips = {
        "still": [picture(0)] * FRAMES,
        "pan": [wide[:, 3 * t : 3 * t + 144] for t in range(FRAMES)],
        "cuts": [picture((t >= 10) + (t >= 40) + (t >= 60)) for t in range(FRAMES)],
        "noise": [(picture(0) + noise[t]).clip(0, 255).astype(np.uint8) for t in range(FRAMES)],
        "burst": [picture(0) if t < 50 else (picture(0) + noise[t]).clip(0, 255).astype(np.uint8)
                  for t in range(FRAMES)],
    }  # fmt: skip
    found = {}
    for name, frames in clips.items():
        write_video(folder / f"{name}.mp4", np.stack(frames), FPS, "x264-veryfast")
        with VideoStream(folder / f"{name}.mp4", threads=1) as stream:
            found[name] = stream_facts(stream)
    return found


def test_a_pan_moves_as_far_as_it_does_and_a_still_not(facts):
    assert facts["still"].motion_share == 0
    assert facts["pan"].motion_share > 0.8
    assert facts["pan"].camera == pytest.approx(3, rel=0.15)


def test_cuts_are_counted(facts):
    assert [facts[name].cuts for name in ("still", "pan")] == [0, 0]
    assert facts["cuts"].cuts == 2  # of three: one of the distances is the longest


def test_noise_costs_all_the_time_and_a_burst_does_not(facts):
    assert facts["noise"].bits_per_pixel > 10 * facts["still"].bits_per_pixel
    assert facts["noise"].noise > 0.8 > facts["burst"].noise
    assert facts["burst"].dynamics > 3 > facts["noise"].dynamics
    assert all(fact.seconds == pytest.approx(3, abs=0.1) for fact in facts.values())


@pytest.fixture(scope="module")
def stream():
    with VideoStream(SAMPLE, threads=1) as opened:
        yield opened


@pytest.mark.parametrize(
    ("question", "kind", "wanted"),
    [
        ("At which second does the bird fly up?", "when", {"codec", "hybrid"}),
        ("What is written on the sign?", "say", {"frames"}),
        ("Where is the rabbit in the picture?", "where", {"frames"}),
    ],
)
def test_time_goes_to_blocks_and_detail_to_frames(stream, question, kind, wanted):
    plan = Router(4)(question, stream)
    assert plan.asked.kind == kind
    assert plan.route.source in wanted
    assert plan.values[plan.route.name] == max(plan.values.values())
    assert f"So {plan.route.name}." in plan.why
    assert f"{plan.asked.shares[kind]:.2f}" in plan.why


def test_a_plan_is_done_and_provenance_says_why(stream):
    for question, kind in (("When does it jump?", CodecTokenizer), ("What does the poster say?", FrameTokenizer)):
        plan = Router(4)(question, stream)
        assert isinstance(plan.tokenizer(), kind)
        canvases = plan(stream, max_pixels=20_000).validate()
        assert len(canvases) == 4
        assert int(canvases.is_anchor.sum()) == plan.whole_frames
        made = Provenance.of(canvases)
        assert made.plan == json.loads(json.dumps(plan.plain()))
        assert made.plan["why"] == plan.why
        assert made.plan["question"] == question
        assert canvases == plan.tokenizer(max_pixels=20_000)(stream)


def test_processors_take_a_plan(stream):
    plan = Router(4)("When does it jump?", stream)
    own = Processor(small_tokenizer()).with_options(**plan.request())
    assert (own.source, own.codec.preset, own.codec.budget_canvases) == (plan.route.source, "event", 4)
    assert own.frames.budget_canvases == 4
    assert plan.route.source != "hybrid" or own.frame_share == plan.route.frame_share


def test_doubt_is_weighed():
    values = route_values()
    with VideoStream(SAMPLE, threads=1) as opened:
        facts = stream_facts(opened)
    sure = {kind: values.of_kind(kind, facts) for kind in KINDS}
    shares = dict.fromkeys(KINDS, 0.0) | {"when": 0.25, "say": 0.75}
    expected = values.expected(shares, facts)
    assert expected == pytest.approx([0.25 * a + 0.75 * b for a, b in zip(sure["when"], sure["say"], strict=True)])


def test_a_question_that_is_not_understood_gets_what_is_best_over_all_kinds(stream):
    plan = Router(4)("Wann fliegt der Vogel auf?", stream)
    assert plan.asked.kind is None
    values = route_values()
    even = [float(np.mean(v)) for v in zip(*(values.of_kind(kind, plan.stream) for kind in KINDS), strict=True)]
    assert list(plan.values.values()) == pytest.approx(even, abs=1e-4)
    assert plan.route == values.routes[int(np.argmax(even))]
    assert plan.why.startswith("The question is not understood, 0.00 of its words are known: all kinds count alike. ")
    assert plan.plain()["kind"] is None


def test_values_are_those_of_the_preset(stream):
    """The release's canvases follow the bits as the paper's do, and were not measured."""
    plans = {preset: Router(4, preset=preset)("What happens?", stream) for preset in PRESETS}
    assert plans["release"].values == plans["paper"].values != plans["event"].values
    assert {name for name, plan in plans.items() if "with preset paper: " in plan.why} == {"paper", "release"}
    frames = {plans[name].values["frames"] for name in ("paper", "event")}
    assert max(frames) - min(frames) < 0.05  # the same frames; what the stream says is fitted apart


def test_what_the_router_expects_was_measured():
    """The values of the package follow from the stored rows of the clips to tune by."""
    assert json.loads(ROUTES.read_text()) == fitted(read("tune"))


def test_options_are_checked(stream):
    with pytest.raises(OptionError, match="budget_canvases"):
        Router(0)
    with pytest.raises(OptionError, match="preset"):
        Router(preset="paprika")
    with pytest.raises(OptionError, match="question"):
        Router()(None, stream)
