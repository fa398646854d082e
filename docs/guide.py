"""Hooks of mkdocs for what the guide shows and docs/ does not hold.

README and CONTRIBUTING are pages too, each package has a page with one section per name of its `__all__`, and
files of the project that a page links to come along.
"""

import importlib
import os.path
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {"index.md": ROOT / "README.md", "contributing.md": ROOT / "CONTRIBUTING.md"}
PACKAGES = [
    "ov2kit",
    "ov2kit.codec",
    "ov2kit.positional",
    "ov2kit.encoders",
    "ov2kit.connectors",
    "ov2kit.recipes",
    "ov2kit.recipes.metrics",
]
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?!https?:|#)([^)#\s]+)([^)]*)\)")


def reference(package: str) -> str:
    """Markdown for a package: its docstring, then each public name, from where it is defined."""
    module = importlib.import_module(package)
    parts = [f"# {package}", (module.__doc__ or "").strip()]
    for name in sorted(module.__all__, key=str.lower):
        if not name.startswith("__"):
            value = getattr(module, name)
            place = value.__module__ if getattr(value, "__qualname__", None) == name else package
            parts.append(f"::: {place}.{name}")
    return "\n\n".join(parts) + "\n"


def uri(path: Path) -> str:
    """Where a file of the project stands in the guide."""
    if DOCS in path.parents:
        return path.relative_to(DOCS).as_posix()
    return next((uri for uri, page in PAGES.items() if page == path), f"project/{path.relative_to(ROOT).as_posix()}")


def source(uri: str) -> Path:
    """The file of the project that stands there."""
    return PAGES.get(uri) or (ROOT / uri.removeprefix("project/") if uri.startswith("project/") else DOCS / uri)


def on_files(files: Files, config: Any) -> Files:
    for package in PACKAGES:
        files.append(File.generated(config, f"reference/{package}.md", content=reference(package)))
    waiting, seen = [*PAGES.values(), *DOCS.glob("*.md")], set(DOCS.rglob("*"))
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            files.append(File.generated(config, uri(path), abs_src_path=str(path)))
        if path.suffix == ".md":
            linked = {(path.parent / found[2]).resolve() for found in _LINK.finditer(path.read_text(encoding="utf-8"))}
            waiting += sorted(each for each in linked - seen if each.is_file())
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between files of the project, made links within the guide. Folders have no page and stay text."""
    if page.file.src_uri.startswith("reference/"):
        return markdown
    path = source(page.file.src_uri)

    def moved(found: re.Match[str]) -> str:
        target = (path.parent / found[2]).resolve()
        if target.is_dir():
            return found[1]
        link = os.path.relpath(uri(target), os.path.dirname(page.file.src_uri) or ".")
        return f"[{found[1]}]({link}{found[3]})"

    return _LINK.sub(moved, markdown)
