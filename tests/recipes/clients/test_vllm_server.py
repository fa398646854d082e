"""A served directory answers over HTTP as `ov2kit generate` does. Runs where vLLM is installed, see `make clients`."""

import base64
import json
import re
import shutil
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import av
import pytest

pytest.importorskip("vllm", reason="needs vllm: make clients")

from tests.clips import encode
from tests.paths import SAMPLE
from tests.patience import PATIENCE, wait_until
from tests.recipes.clients.served import BUDGET, NEW, Own, write_model
from tests.recipes.clients.server import FLAGS, Server

TEXT = {"type": "text", "text": "What happens?"}
VFR = [0, 40, 80, 120, 1500, 1540, 1580, 3210, 3250, 3290, 7730, 7770]
CODE = "from pathlib import Path\nPath({!r}).touch()\n"


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """The only folder that the server may read."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("media")
    shutil.copy(SAMPLE, folder / "sample.mp4")
    encode(folder / "other.mp4", frames=25)
    encode(folder / "short.mp4", frames=7)
    encode(folder / "vfr.mp4", frames=len(VFR), times_ms=VFR)
    (folder / "broken.mp4").write_bytes(b"no video at all")
    (folder / "cut.mp4").write_bytes(SAMPLE.read_bytes()[:3000])
    Image.effect_mandelbrot((160, 120), (-2, -1.5, 1, 1.5), 100).convert("RGB").save(folder / "picture.png")
    return folder


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """As a released one: with Python files of its own that say they are the model and the processor."""
    folder = write_model(tmp_path_factory.mktemp("served") / "tiny")
    classes = {
        "config.json": {"AutoConfig": "configuration_own.Config", "AutoModelForCausalLM": "modeling_own.Model"},
        "preprocessor_config.json": {"AutoProcessor": "processing_own.Processor"},
    }
    for name, auto_map in classes.items():
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), "auto_map": auto_map}))
    for name in ("configuration_own", "modeling_own", "processing_own"):
        (folder / f"{name}.py").write_text(CODE.format(str(folder.parent / "executed")))
    return folder


@pytest.fixture(scope="module")
def server(directory, media):
    flags = (*FLAGS, "--allowed-local-media-path", str(media))
    with Server(directory, directory.parent / "log", flags) as running:
        yield running


@pytest.fixture(scope="module")
def own(directory):
    return Own(directory)


def part(kind, path):
    """The same picture or video as the server gets it and as our processor does."""
    url = path if isinstance(path, str) else f"file://{path}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}, {"type": kind, kind: str(path)}


def body(content, **options):
    chat = [{"role": "user", "content": content}]
    return {"messages": chat, "max_tokens": NEW, "temperature": 0, "return_token_ids": True, **options}


def ask(server, content, **options):
    """Token ids of the prompt and of the answer."""
    status, found = server.post(body(content, **options))
    assert status == 200, found
    return found["prompt_token_ids"], found["choices"][0]["token_ids"]


@pytest.fixture(scope="module")
def chats(media):
    """(what the server gets, what our processor gets), of every kind."""
    kinds = {
        "v": part("video", media / "sample.mp4"),
        "w": part("video", media / "other.mp4"),
        "s": part("video", media / "short.mp4"),
        "i": part("image", media / "picture.png"),
        "t": (TEXT, TEXT),
    }
    names = ("t", "it", "vt", "tv", "vwt", "ivt", "vit", "wist", "vvt")
    return {name: tuple([kinds[letter][side] for letter in name] for side in (0, 1)) for name in names}


@pytest.mark.parametrize("name", ["t", "it", "vt", "tv", "vwt", "ivt", "vit", "wist", "vvt"])
def test_prompt_and_greedy_tokens_are_our_own(server, own, chats, name):
    theirs, ours = chats[name]
    assert ask(server, theirs) == own.ask(ours)


def test_they_are_the_same_side_by_side(server, own, chats):
    """Twice as many requests as the server answers in a step."""
    order = ["vt", "t", "it", "vwt", "wist", "tv", "ivt", "vt"]
    with ThreadPoolExecutor(len(order)) as pool:
        found = list(pool.map(lambda name: ask(server, chats[name][0]), order))
    want = [own.ask(chats[name][1]) for name in order]
    assert found == want
    assert len({tuple(ids) for _, ids in want}) > 4  # answers differ, so that mixing them up would show


PLACES = ("mm_processor_kwargs", "media_io_kwargs")


def placed(place, asked):
    """Options in one of the two places that a request has for them."""
    return {place: asked if place == "mm_processor_kwargs" else {"video": asked}}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("many", [{"num_frames": 3}, {"fps": 0.5}])
def test_sampled_frames(server, own, chats, place, many):
    theirs, ours = chats["vt"]
    found = ask(server, theirs, **placed(place, {"video_backend": "frame", **many}))
    wanted = {"target_fps" if name == "fps" else name: value for name, value in many.items()}
    assert found == own.ask(ours, source="frames", **wanted)
    assert found != own.ask(ours)


@pytest.mark.parametrize("place", PLACES)
def test_a_question_of_the_request_routes(server, own, chats, place):
    """vLLM reads media apart from the text, so the question comes as an option."""
    theirs, ours = chats["vt"]
    found = {}
    for question in ("What is written on the sign?", "When does the bird fly up?"):
        asked = {"video_backend": "route", "question": question}
        found[question] = ask(server, theirs, **placed(place, asked))
        assert found[question] == own.ask(ours, source="route", question=question)
    assert found["What is written on the sign?"] == own.ask(ours, source="frames", num_frames=BUDGET)
    assert len({str(each) for each in found.values()}) == 2
    status, said = server.post(body(theirs, **placed(place, {"video_backend": "route"})))
    assert status == 400
    assert "source 'route' chooses by the question" in said["error"]["message"]


def test_times_of_a_variable_frame_rate_are_those_of_the_file(server, own, media):
    theirs, ours = part("video", media / "vfr.mp4")
    prompt, answer = ask(server, [theirs, TEXT])
    assert (prompt, answer) == own.ask([ours, TEXT])
    with av.open(str(media / "vfr.mp4")) as file:
        true = {f"{frame.time:.1f}" for frame in file.decode(video=0)}
    stamps = re.findall(r"<([0-9.]+) seconds>", own.processor.tokenizer.decode(prompt))
    assert set(stamps) <= true
    assert max(map(float, stamps)) > 7  # index / fps would end before a second


def test_a_video_in_the_request_itself(server, own, media, chats):
    data = base64.b64encode((media / "sample.mp4").read_bytes()).decode()
    theirs, _ = part("video", f"data:video/mp4;base64,{data}")
    assert ask(server, [theirs, TEXT]) == own.ask(chats["vt"][1])


@pytest.mark.parametrize("place", PLACES)
def test_budgets_of_one_request(server, own, chats, place):
    theirs, ours = chats["vt"]
    asked = {"budget_canvases": 2, "decimals": 2}
    found = ask(server, theirs, **placed(place, asked))
    assert found == own.ask(ours, codec_config={"budget_canvases": 2}, decimals=2)
    assert ask(server, theirs) == own.ask(ours)  # and the next request has the server's


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"budget_canvases": 10**6}, f"budget_canvases must be a whole number from 1 to {BUDGET} on this server"),
        ({"budget_canvases": -1}, f"budget_canvases must be a whole number from 1 to {BUDGET} on this server"),
        ({"max_pixels": 10**9}, "max_pixels must be a whole number from 1 to 16000 on this server"),
        ({"num_frames": 10**6}, "num_frames must be a whole number from 1 to"),
        ({"budget": 2}, "budget_canvases"),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_absurd_options_are_the_clients_fault(server, chats, place, asked, message):
    status, said = server.post(body(chats["vt"][0], **placed(place, asked)))
    assert status == 400
    assert message in said["error"]["message"]


@pytest.mark.parametrize("name", ["broken.mp4", "cut.mp4"])
def test_so_are_files_that_are_no_video(server, own, media, chats, name):
    status, said = server.post(body([part("video", media / name)[0], TEXT]))
    assert status == 400
    assert "\n" not in said["error"]["message"]
    assert ask(server, chats["vt"][0]) == own.ask(chats["vt"][1])


@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("absent", "absent.mp4: cannot be read (No such file or directory)"),
        ("folder", "folder.mp4: cannot be read (Is a directory)"),
        ("outside", "must be a subpath of"),
        ("outside and absent", "must be a subpath of"),  # nothing is said about what lies there
        ("other", "The URL must be either a HTTP, data or file URL"),
        ("plain", "expected data:TYPE;base64,BYTES, got 'data:text"),  # vLLM takes what follows for a path
        ("no base64", ""),
        ("no comma", "missing ',' separator"),
    ],
)
def test_so_are_files_that_cannot_be_read(server, media, kind, place, message):
    (media / "folder.mp4").mkdir(exist_ok=True)
    urls = {
        "absent": media / "absent.mp4",
        "folder": media / "folder.mp4",
        "outside": SAMPLE,
        "outside and absent": media.parent / "absent.mp4",
        "other": f"ftp://{media}/sample.mp4",
        "plain": "data:text/plain,hello",
        "no base64": f"data:{kind}/x;base64,!!!!",
        "no comma": f"data:{kind}/x;base64",
    }
    status, said = server.post(body([part(kind, urls[place])[0], TEXT]))
    assert status == 400
    assert message in said["error"]["message"]
    assert "\n" not in said["error"]["message"]


@pytest.mark.parametrize("name", ["no such loader", 5])
def test_so_is_a_loader_that_does_not_exist(server, own, chats, name):
    status, said = server.post(body(chats["vt"][0], media_io_kwargs={"video": {"video_backend": name}}))
    assert status == 400
    text = said["error"]["message"]
    assert text.startswith(f"unknown video_backend {name!r}; known: ")
    assert {"codec", "frame"} <= set(text.partition("known: ")[2].split(", "))
    assert ask(server, chats["vt"][0]) == own.ask(chats["vt"][1])


def test_a_broken_video_does_not_harm_the_requests_beside_it(server, own, media, chats):
    bad = [part("video", media / "broken.mp4")[0], TEXT]
    with ThreadPoolExecutor(6) as pool:
        sent = [pool.submit(server.post, body(content)) for content in [chats["vt"][0], bad, chats["it"][0], bad] * 2]
        found = [one.result() for one in sent]
    assert [status for status, _ in found] == [200, 400] * 4
    for number, name in ((0, "vt"), (2, "it"), (4, "vt"), (6, "it")):
        assert found[number][1]["choices"][0]["token_ids"] == own.ask(chats[name][1])[1]


def test_a_client_that_goes_away_leaves_nothing_running(server, own, chats):
    request = server.request(body(chats["vt"][0], stream=True, max_tokens=6000, ignore_eos=True))
    reply = urllib.request.urlopen(request, timeout=PATIENCE)
    reply.readline()
    wait_until(lambda: server.running() == 1)  # the server counts now and then
    reply.close()
    wait_until(lambda: server.running() == 0)
    assert ask(server, chats["vt"][0]) == own.ask(chats["vt"][1])


def test_python_files_of_the_directory_never_ran(server, directory, chats):
    ask(server, chats["vt"][0])
    assert not (directory.parent / "executed").exists()
