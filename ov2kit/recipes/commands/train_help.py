"""What `ov2kit fit --help` says, read from the sources: nothing heavy is imported to show it."""

import ast
from collections.abc import Mapping
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]
CONFIGS = _PACKAGE / "recipes" / "configs"
_OPTIONS = {
    "--config FILE": "YAML; a name alone is looked up among the shipped ones. Later ones override earlier ones",
    "--out DIR": "folder for runs; each gets version_N in it (runs)",
    "--ckpt_path FILE": "checkpoint to go on from, or to ask; its model settings are the defaults",
    "--trainer.NAME": "max_steps, devices, precision, strategy, accumulate_grad_batches, ...",
    "--print_config": "print all settings as YAML and stop",
    "--help.all": "every option, those of Lightning's Trainer included",
}


def config_names() -> list[str]:
    """Names of the shipped configs."""
    return sorted(path.name for path in CONFIGS.glob("*.yaml"))


def short_help(command: str, description: str, options: Mapping[str, str]) -> str:
    """Usage, shipped configs, and the options of model and data with their meaning.

    Args:
        command: its name.
        description: what it does.
        options: those that it has beside the ones of all training commands.
    """
    lines = [f"usage: ov2kit {command} [--config FILE] [--NAME VALUE ...]", "", description, "", "configs:"]
    for name in config_names():
        first = (CONFIGS / name).read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        lines.append(f"  {name:<22} {first}")
    lines += ["", "options:"]
    for option, meaning in {**_OPTIONS, **options}.items():
        lines += _entry(option, meaning)
    folder = Path(__file__).parents[1]
    options_of_data = folder / "data" / "options.py"
    for key, path, name in (
        ("model", folder / "training" / "lit.py", "LitLlavaOneVision2"),
        ("data.sources", options_of_data, "Sources"),
        ("data.tokens", options_of_data, "Tokens"),
        ("data.order", options_of_data, "Order"),
        ("data.loading", options_of_data, "Loading"),
    ):
        lines += ["", f"{key}:"]
        for option, (default, meaning) in _arguments(path, name).items():
            lines += _entry(f"--{key}.{option}", f"{meaning} ({default})" if default != "None" else meaning)
    return "\n".join(lines)


def _entry(option: str, meaning: str) -> list[str]:
    width, indent = 78, 30
    lines, line = [], f"  {option}"
    line = line.ljust(indent) if len(line) < indent else line + "\n" + " " * indent
    used = indent
    for word in meaning.split():
        if used + len(word) > width and used > indent:
            lines.append(line.rstrip())
            line, used = " " * indent, indent
        line, used = line + word + " ", used + len(word) + 1
    return [*lines, line.rstrip()]


def _arguments(path: Path, name: str) -> dict[str, tuple[str, str]]:
    """Arguments of a class, or fields of a dataclass: default as written, and meaning from the docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    made = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    meanings = _meanings(ast.get_docstring(made) or "")
    return {
        option: ("required" if default is None else _as_text(default, tree), meanings.get(option, ""))
        for option, default in _defaults(made).items()
    }


def _defaults(made: ast.ClassDef) -> dict[str, ast.expr | None]:
    init = [node for node in made.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    if not init:
        return {ast.unparse(node.target): node.value for node in made.body if isinstance(node, ast.AnnAssign)}
    arguments = init[0].args
    named = [*arguments.args[1:], *arguments.kwonlyargs]
    given = [*arguments.defaults, *arguments.kw_defaults]
    defaults = [*[None] * (len(named) - len(given)), *given]
    return {argument.arg: default for argument, default in zip(named, defaults, strict=True)}


def _as_text(default: ast.expr, tree: ast.Module) -> str:
    """A default as written; of a constant of ours, its value."""
    if not isinstance(default, ast.Name):
        if isinstance(default, ast.BinOp) and isinstance(default.op, ast.Pow):  # as sizes are written
            return str(ast.literal_eval(default.left) ** ast.literal_eval(default.right))
        return ast.unparse(default)
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == default.id for target in node.targets):
            return _as_text(node.value, tree)
        if isinstance(node, ast.ImportFrom) and default.id in [name.name for name in node.names]:
            path = _PACKAGE.parent.joinpath(*str(node.module).split(".")).with_suffix(".py")
            return _as_text(default, ast.parse(path.read_text(encoding="utf-8")))
    return default.id


def _meanings(docstring: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name, inside = "", False
    for line in docstring.splitlines():
        if line.strip() == "Args:":
            inside = True
        elif inside and line and not line.startswith(" "):
            break
        elif inside and line.startswith("    ") and not line.startswith("     ") and ":" in line:
            name, _, text = line.strip().partition(":")
            found[name] = text.strip()
        elif inside and line.strip() and name:
            found[name] += " " + line.strip()
    return found
