"""Processes below another one, as Linux says."""

from pathlib import Path


def children(parent):
    """Those right below it; none where it has ended."""
    found = []
    for path in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            found += [int(each) for each in path.read_text().split()]
        except OSError:  # it has ended meanwhile
            continue
    return found


def below(parent):
    """All below it, and itself."""
    return [parent, *(each for child in children(parent) for each in below(child))]


def title(process):
    """Its command line; empty where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def workers_of(parent):
    """Workers of the local engine: those below the server that forks them."""
    return [worker for child in children(parent) for worker in children(child)]


def actors_of(parent):
    """Actors of Ray and what is below them."""
    return [each for actor in below(parent) if title(actor).startswith(b"ray::MapWorker") for each in below(actor)]
