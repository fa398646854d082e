"""What `ov2kit fit | validate | test | predict` run: LightningCLI, quiet, with one line for each wrong option."""

import json
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger

from ov2kit.errors import CheckpointError, OptionError, OutputError
from ov2kit.files import kind_of, refuse_overwriting_inputs
from ov2kit.recipes.commands.flat_options import sectioned_flags, sectioned_settings
from ov2kit.recipes.commands.train_errors import explained
from ov2kit.recipes.commands.train_files import beside_configs, with_known_configs
from ov2kit.recipes.data.datamodule import ConversationData
from ov2kit.recipes.model.quantized import numel
from ov2kit.recipes.model.starting import read_checkpoint
from ov2kit.recipes.training.answers import Answers
from ov2kit.recipes.training.checkpoints import PlainCheckpoints
from ov2kit.recipes.training.lit import LitLlavaOneVision2
from ov2kit.recipes.training.monitors import Monitors
from ov2kit.recipes.training.progress import Bar, Lines
from ov2kit.recipes.training.resuming import architecture, differences, learning, listed, trainer_settings
from ov2kit.recipes.training.run_checkpoint import RunCheckpoint
from ov2kit.recipes.training.stopping import StopBetweenSteps, Stopped
from ov2kit.recipes.training.throughput import Throughput
from ov2kit.recipes.training.unstarted import RunFolder

#: parts of a checkpoint that say what it was made with
_SETTINGS = ("hyper_parameters", "ConversationData", "trainer_settings")


class RecipeCLI(LightningCLI):
    """LightningCLI for one command: only its parser is built, and no options of optimizers beside the model's.

    Args:
        command: fit, validate, test or predict.
        arguments: what follows it.
        run: whether to run the command after building everything.
    """

    def __init__(self, command: str, arguments: Sequence[str], run: bool = True) -> None:
        self.command, self._go = command, run
        strict = {"exit_on_error": False}
        super().__init__(
            LitLlavaOneVision2,
            ConversationData,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "enable_model_summary": False,
                "log_every_n_steps": 10,
                "gradient_clip_val": 1.0,
            },
            seed_everything_default=0,
            parser_kwargs={**strict, command: strict},
            args=[command, *with_known_configs(sectioned_flags(arguments, _say), _say)],
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override] # of this command alone
        skipped = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule", "weights_only"}
        return {self.command: skipped | {"return_predictions", "verbose"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str, default="runs", help="folder for runs; each gets version_N in it")
        if self.command == "predict":
            parser.add_argument(
                "--predictions", type=str | None, default=None, help="JSONL file; in the run by default"
            )
        if self.command == "fit":
            parser.add_argument(
                "--allow_changed_settings",
                type=bool,
                default=False,
                help="go on from a checkpoint although settings that decide what is learned differ from its own",
            )
            parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
            parser.set_defaults(
                {"checkpoint.save_last": True, "checkpoint.save_top_k": 0, "checkpoint.every_n_train_steps": 500}
            )
        parser.link_arguments("data.tokens.tokenizer", "model.tokenizer")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Settings of a checkpoint that is named, by a flag or a config, come first, then configs, then flags."""
        own = self._subcommand_parsers[self.command]
        #: what that checkpoint says of its settings
        self.checkpoint: dict[str, Any] = {}
        try:
            plain = [a for a in args if not a.startswith("--print_config")]
            self.config = parser.parse_args(plain)
            path = self.config[self.command].ckpt_path
            if path is not None:
                content = read_checkpoint(path)
                self.checkpoint = {name: value for name, value in content.items() if name in _SETTINGS}
                settings = self.checkpoint["hyper_parameters"]
                own.set_defaults({f"model.{name}": value for name, value in settings.items()})
            if path is not None or plain != list(args):
                self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise ArgumentError(None, explained(error, self.command, own)) from error

    def _parse_ckpt_path(self) -> None:
        """Done in `parse_arguments`, where flags can still override it."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.command]
        if self._go and self.command != "fit" and not self.checkpoint and not config.model.start:
            raise CheckpointError(
                f"{self.command} needs a trained model, and fresh weights would answer at random: give --ckpt_path "
                "FILE or --model.start DIR"
            )
        start, data = config.model.start, config.data
        if start and data.tokens.tokenizer is None and (Path(start).expanduser() / "tokenizer_config.json").exists():
            data.tokens.tokenizer = start
        for name in ("path", "val_path", "test_path", "predict_path"):
            data.sources[name] = beside_configs(data.sources[name])

    def instantiate_trainer(self, **options: Any) -> Trainer:
        config = self.config_init[self.command]
        if kind_of(config.out) not in (None, "folder"):
            raise OutputError(f"{config.out}: expected a folder for runs, got a {kind_of(config.out)}")
        if config.trainer.logger in (None, True):
            config.trainer.logger = CSVLogger(config.out, name="", flush_logs_every_n_steps=20)
        if config.trainer.enable_progress_bar is None:
            config.trainer.enable_progress_bar = sys.stderr.isatty()
        config.trainer.default_root_dir = config.trainer.default_root_dir or config.out
        if self.command == "predict" and config.predictions:
            refuse_overwriting_inputs(config.predictions, _texts({**vars(config), "predictions": None}))
        own: list[Callback] = [Answers(config.get("predictions"))]
        if self.command == "fit":
            own += [Throughput(), StopBetweenSteps()]
            own += [] if config.trainer.enable_progress_bar else [Lines()]
        if config.trainer.enable_progress_bar:
            own.append(Bar())
        config.trainer.callbacks = [Monitors(), *_several(config.trainer.callbacks), *own]
        config.trainer.plugins = [*_several(config.trainer.plugins), PlainCheckpoints()]
        return super().instantiate_trainer(**options)

    def after_instantiate_classes(self) -> None:
        vision, tokens = self.model.model.config.vision_config, self.datamodule.tokens
        for option, field in (("patch", "patch_size"), ("merge", "spatial_merge_size")):
            if (size := getattr(vision, field)) != getattr(tokens, option):
                raise OptionError(f"the model has {field} {size}; set --data.tokens.{option} {size}")
        self.datamodule.connect(self.model)
        path = self.config[self.command].get("ckpt_path")
        if self.checkpoint:
            self._compare(path)
        elif self._go and self.command != "fit" and self.model.fresh_parts:
            raise CheckpointError(
                f"{self.command} needs a trained model, and of {self.config[self.command].model.start} the "
                f"{', '.join(self.model.fresh_parts)} would be replaced by one of random weights: leave it, or give "
                "--ckpt_path FILE of a run that trained it"
            )

    def _compare(self, path: str) -> None:
        """Refuse a checkpoint of another model, and to go on with a run as another one without being asked to."""
        was, now = self.checkpoint["hyper_parameters"], dict(self.model.hparams)
        if changed := differences(architecture(was), architecture(now)):
            raise CheckpointError(
                f"{path} holds another model than the settings make ({listed(changed)}): set them as they were, or "
                "start a new run from it with --model.start"
            )
        settings = sectioned_settings(self.checkpoint.get("ConversationData", {}).get("settings", {}))
        before = learning(was) | settings
        after = learning(now) | (self.datamodule.settings() if settings else {})
        if self.command == "fit" and (known := self.checkpoint.get("trainer_settings")):
            before, after = before | known, after | trainer_settings(self.trainer)
        changed = differences(before, after)
        if not changed:
            return
        if self.command != "fit":
            _say(f"not as the checkpoint was trained: {listed(changed)}")
        elif self.config.fit.allow_changed_settings:
            _say(f"going on with changed settings: {listed(changed)}")
        else:
            raise CheckpointError(
                f"{path} was trained with other settings: {listed(changed)}. Set them as they were, go on with them "
                "by --allow_changed_settings true, or start a new run with --model.start"
            )

    def before_fit(self) -> None:
        parts = []
        for name in ("encoder", "connector", "language_model"):
            part = getattr(self.model.model, name)
            count = sum(numel(p) for p in part.parameters())
            learning = sum(numel(p) for p in part.parameters() if p.requires_grad)
            how = "learns" if learning == count else "frozen" if not learning else f"{learning / count:.0%} learns"
            parts.append(f"{name} {count / 1e6:.2f}M {how}")
        _say(f"run {self.trainer.log_dir}: {', '.join(parts)}")
        self._began = time.perf_counter()

    def after_fit(self) -> None:
        loss = self.trainer.callback_metrics.get("loss")
        said = "" if loss is None else f", loss {float(loss):.4f}"
        seconds = time.perf_counter() - self._began
        _say(f"{self.trainer.global_step} steps in {seconds:.0f} s{said}; everything is in {self.trainer.log_dir}")

    def _after_evaluation(self) -> None:
        if _is_first():
            print(json.dumps({name: float(value) for name, value in self.trainer.callback_metrics.items()}))

    after_validate = _after_evaluation
    after_test = _after_evaluation

    def after_predict(self) -> None:
        answers = next(c for c in self.trainer.callbacks if isinstance(c, Answers))  # type: ignore[attr-defined]
        _say(f"answers are in {answers.target(self.trainer)}")

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kept = {"fit": {}, "predict": {"return_predictions": False}}.get(subcommand, {"verbose": False})
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True, **kept}

    def _run_subcommand(self, subcommand: str) -> None:
        if not self._go:
            return
        folder = RunFolder(Path(self.trainer.log_dir or self.trainer.default_root_dir))
        try:
            super()._run_subcommand(subcommand)
        except BaseException:
            if _is_first() and not any(c.has_stepped for c in self._stops()):
                folder.remove_start()
            raise

    def _stops(self) -> list[StopBetweenSteps]:
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        return [callback for callback in callbacks if isinstance(callback, StopBetweenSteps)]


def run(command: str, arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        command: fit, validate, test or predict.
        arguments: what follows it.

    Returns:
        Exit status: 0, or 130 or 143 when stopped.
    """
    _quiet()
    try:
        RecipeCLI(command, ["--help" if argument == "--help.all" else argument for argument in arguments])
    except Stopped as stopped:
        _say(str(stopped))
        return 128 + stopped.signum
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):
            return _interrupted()
        return ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        return _interrupted()
    except MisconfigurationException as error:
        raise OptionError(str(error)) from error
    return 0


def _interrupted() -> int:
    _say("interrupted; the newest checkpoint of the run is as it was")
    return 128 + signal.SIGINT


def _is_first() -> bool:
    """Whether this is the process that speaks; before processes have found each other too."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def _say(text: str) -> None:
    if _is_first():
        print(text, file=sys.stderr, flush=True)


def _several(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, list | tuple) else [given]


def _texts(value: Any, known: set[int] | None = None) -> list[str]:
    """Every text in settings, wherever it stands: any of them may be the path of an input."""
    if isinstance(value, str | os.PathLike):
        return [str(value)]
    known = set() if known is None else known
    if id(value) in known:  # objects may hold one another
        return []
    known.add(id(value))
    held = (
        value.values() if isinstance(value, Mapping) else vars(value).values() if hasattr(value, "__dict__") else value
    )
    return [text for each in held for text in _texts(each, known)] if isinstance(held, Iterable) else []


def _quiet() -> None:
    """Lightning's notes and tips are not for users of this command; warnings about their data are."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", category=FutureWarning)
