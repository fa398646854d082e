"""One object store and one machine that uses it, for all tests of datasets: both take seconds to start."""

from types import SimpleNamespace

import pytest

from tests.clips import encode
from tests.recipes.datasets.machine import Machine
from tests.recipes.datasets.s3 import BUCKET, serving


@pytest.fixture(scope="session")
def some_videos(tmp_path_factory):
    """Six videos of 8 to 13 frames and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    for frames in range(8, 14):
        encode(folder / f"clip{frames:02d}.mp4", frames=frames, gop=4)
    (folder / "broken.mp4").write_bytes(b"not a video" * 100)
    return folder


@pytest.fixture(scope="session")
def served(some_videos):
    """The store: `gate`, `client` past the gate, `environ` and `machine`; some videos lie in `in/`."""
    with serving() as (gate, environ, client):
        for path in some_videos.iterdir():
            client.put_file(str(path), f"{BUCKET}/in/{path.name}")
        with Machine(environ) as machine:
            yield SimpleNamespace(gate=gate, environ=environ, client=client, machine=machine)


@pytest.fixture
def store(served, request):
    """The same, without a fault, and with `out`: a place in it for this test alone."""
    served.gate.calm()
    out = f"{BUCKET}/{request.node.name}"
    yield SimpleNamespace(**vars(served), out=out)
    served.gate.calm()
