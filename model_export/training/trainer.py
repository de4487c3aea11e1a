"""transformers' Trainer with what a detector needs: averaged weights, AP by epoch, checkpoints that a kill
cannot damage, and an end when asked."""

import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.utils.logging import disable_progress_bar

from boxdrop.detect.settings import HELD_OUT
from boxdrop.job.stop import Stop
from boxdrop.training.folder import CHECKPOINT, Ended, TrainingFolder
from boxdrop.training.plan import DRAWN, LEARNT, SMALL, WATCHED, Epoch, Plan, TrainingError
from model_export.training.images import Augmented, Reader, collate, measure
from model_export.training.optimizer import MuonAndAdamW
from model_export.training.starts import card_of, evaluated, parameter_groups, start_model

_WEIGHTS: Final = "weights.safetensors"
_AVERAGED: Final = "averaged.safetensors"
_NEW_CLASSES: Final = 10.0
"""Times the learning rate, for the scores of classes that are new to a trained small detector."""

_LONGEST_AVERAGE: Final = 0.9998
_SHARE_AVERAGED: Final = 20
"""The averages reach back over this part of all steps."""


class InterruptedTrainingError(TrainingError):
    """It was asked to end. The checkpoint is saved; called again, it goes on from there."""


def train(folder: TrainingFolder, stop: Stop, say: Callable[[str], None]) -> Ended:
    """Train, or go on from the newest checkpoint.

    Args:
        folder: planned and filled.
        stop: due when it has to end; a checkpoint is saved first.
        say: called with each line of progress.

    Raises:
        InterruptedTrainingError: it was asked to end.
        TrainingError: it cannot begin or go on; says why.
    """
    disable_progress_bar()
    plan = folder.plan()
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device cuda: PyTorch finds no GPU here; leave it out to train on the CPU")
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    images = list(folder.read_images())
    learnt = [each for each in images if each.split == LEARNT]
    if not any(each.boxes for each in learnt):
        raise TrainingError(
            f"the split {LEARNT} has no box to learn from; freeze a data set with more images"
        )
    model, processor, origin = start_model(plan)
    checkpoint = _tidy(folder)
    trainer = DetectorTrainer(folder, plan, model, processor, images, stop, say)
    say(
        f"{len(learnt):,} images to learn from, {len(trainer.watched):,} to watch, "
        f"{sum(each.split == HELD_OUT for each in images):,} held out; on {trainer.device}"
    )
    if checkpoint is not None:
        say(f"going on from step {checkpoint.name.removeprefix(CHECKPOINT)}")
        trainer.averaged = load_file(checkpoint / _AVERAGED, device=str(model.device))
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except (OSError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "PytorchStreamWriter" in str(error):
            raise TrainingError(
                f"{folder.path}: the disk is full; free some space and train again: it goes on from its last "
                "checkpoint"
            ) from None
        if "out of memory" in str(error):
            raise TrainingError(
                f"the memory is too small: choose a smaller --batch than {plan.batch}"
            ) from None
        raise
    if stop.is_due:
        raise InterruptedTrainingError(f"asked to end; a checkpoint is in {folder.checkpoints}")
    ended = trainer.end()
    card_of(origin, folder.best)
    folder.write_ended(ended)
    return ended


def _tidy(folder: TrainingFolder) -> Path | None:
    """Remove what a kill left, and return the newest checkpoint."""
    checkpoint = folder.checkpoint()
    retired = folder.best.with_name("best.old")
    if retired.exists() and not folder.best.exists():
        retired.rename(folder.best)
    for each in (retired, folder.best.with_name("best.new"), folder.path / "unfinished"):
        shutil.rmtree(each, ignore_errors=True)
    step = 0 if checkpoint is None else int(checkpoint.name.removeprefix(CHECKPOINT))
    folder.write_epochs(each for each in folder.epochs() if each.step <= step)
    return checkpoint


class DetectorTrainer(Trainer):
    """See the module.

    Attributes:
        averaged: the weights, averaged over the last steps; what is measured and exported.
        watched: the images that decide when it ends.
    """

    control: TrainerControl
    optimizer: Any

    def __init__(
        self,
        folder: TrainingFolder,
        plan: Plan,
        model: Any,
        processor: Any,
        images: Any,
        stop: Stop,
        say: Callable[[str], None],
    ) -> None:
        self.folder, self.plan, self.processor, self.stop, self.say = folder, plan, processor, stop, say
        self.watched = [each for each in images if each.split == WATCHED]
        if not any(each.boxes for each in self.watched):
            self.watched = []
        learnt = [each for each in images if each.split == LEARNT]
        self.averaged: dict[str, torch.Tensor] = {}
        self._began = time.monotonic()
        epochs = folder.epochs()
        self._before = epochs[-1].seconds if epochs else 0.0
        self._losses: list[float] = []
        side = max(processor.size["height"], processor.size["width"])
        self.augmented = Augmented(Reader(folder, learnt, 2 * side), plan, processor)
        steps = -(-len(learnt) // plan.batch) * plan.epochs
        self._longest = min(_LONGEST_AVERAGE, 1 - min(0.5, _SHARE_AVERAGED / steps))
        arguments = TrainingArguments(
            output_dir=str(folder.path / "unfinished"),
            per_device_train_batch_size=plan.batch,
            num_train_epochs=plan.epochs,
            learning_rate=plan.rate,
            lr_scheduler_type=SchedulerType.COSINE,
            warmup_steps=max(1, min(300, steps // 20)),
            max_grad_norm=0.1,
            seed=plan.seed,
            data_seed=plan.seed,
            use_cpu=plan.device == "cpu" or not torch.cuda.is_available(),
            eval_strategy="epoch" if self.watched else "no",
            save_strategy="no",
            logging_strategy="no",
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
            dataloader_num_workers=0,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        super().__init__(
            model=model,
            args=arguments,
            data_collator=collate,
            train_dataset=self.augmented,
            eval_dataset=self.watched or None,
            callbacks=[_Watch(self)],
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # it would count labels as a language model's tokens
        self.device = "GPU " + torch.cuda.get_device_name() if self.model.device.type == "cuda" else "CPU"

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW, with a rate of its own for the backbone; for the small one, Muon, too."""
        if self.optimizer is None and self.plan.start in (SMALL, DRAWN):
            classes = _NEW_CLASSES if self.plan.start == DRAWN else 1.0
            self.optimizer = MuonAndAdamW(self.model, self.plan.rate, classes)
        elif self.optimizer is None:
            self.optimizer = torch.optim.AdamW(parameter_groups(self.model, self.plan))
        return self.optimizer

    def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
        """One step; its loss is noted for the curve."""
        loss: torch.Tensor = super().training_step(*arguments, **options)
        self._losses.append(float(loss))
        return loss

    @torch.no_grad()
    def average(self) -> None:
        """Take the weights after a step into the averages."""
        step = self.state.global_step
        kept = min(self._longest, (1 + step) / (10 + step))
        for name, value in self.model.state_dict().items():
            if name in self.averaged and value.dtype.is_floating_point:
                self.averaged[name].lerp_(value, 1 - kept)
            else:
                self.averaged[name] = value.clone()

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """AP of the averaged weights on the watched images; the best model is kept."""
        ap50, ap = self._with_averages(
            lambda model: measure(
                model,
                self.processor,
                self.watched,
                self.folder.images,
                len(self.plan.classes),
                self.plan.batch,
            )
        )
        before = max((each.ap or 0.0 for each in self.folder.epochs()), default=-1.0)
        if ap > before:
            self._keep_best()
        self._note(ap50, ap)
        if self._is_late():
            self.control.should_training_stop = True
        metrics = {"eval_ap": ap}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def end(self) -> Ended:
        """Choose the model to export, and say why the training ended."""
        if not self.watched:
            self._keep_best()
            why = f"after all {self.plan.epochs} epochs; no image was there to watch"
            return Ended(why, self.plan.epochs, self.device)
        epochs = self.folder.epochs()
        best = max(epochs, key=lambda each: each.ap or 0.0)  # the first of equals, which was kept
        stopped = epochs[-1].epoch < self.plan.epochs
        why = f"no better AP for {self.plan.patience} epochs" if stopped else "after all epochs"
        return Ended(why, best.epoch, self.device)

    def _is_late(self) -> bool:
        """Whether the best epoch is so long ago that the training ends. The curve alone decides, so that an
        interruption changes nothing."""
        values = [each.ap or 0.0 for each in self.folder.epochs()]
        return len(values) - 1 - values.index(max(values)) >= self.plan.patience

    def finish_epoch(self) -> None:
        """Note an epoch that no image watches."""
        if not self.watched:
            self._note(None, None)

    def _note(self, ap50: float | None, ap: float | None) -> None:
        seconds = self._before + time.monotonic() - self._began
        loss = sum(self._losses) / max(1, len(self._losses))
        self._losses = []
        number = round(self.state.epoch or 0)
        epoch = Epoch(number, self.state.global_step, loss, ap50, ap, seconds)
        self.folder.write_epochs([*self.folder.epochs(), epoch])
        shown = "" if ap is None else f", AP50 {ap50:.3f}, AP {ap:.3f}"
        self.say(f"epoch {number} of {self.plan.epochs}: loss {loss:.2f}{shown} ({seconds:.0f} s)")

    def _with_averages(self, use: Callable[[Any], Any]) -> Any:
        """Call something with the averaged weights in the model."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.averaged or own)
        try:
            with evaluated(self.model):
                return use(self.model)
        finally:
            self.model.load_state_dict(own)

    def _keep_best(self) -> None:
        new, old = self.folder.best.with_name("best.new"), self.folder.best.with_name("best.old")
        shutil.rmtree(new, ignore_errors=True)
        self._with_averages(lambda model: model.save_pretrained(new))
        self.processor.save_pretrained(new)
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.best.exists():
            self.folder.best.rename(old)
        new.rename(self.folder.best)
        shutil.rmtree(old, ignore_errors=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights under the names that the model has in memory.

        transformers 5.23 writes some under their names on the hub, and its Trainer does not turn them back:
        it would go on with random ones in their place, and say so in a warning only.
        """
        self.model.load_state_dict(load_file(Path(resume_from_checkpoint) / _WEIGHTS))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint elsewhere, and give it its name once it is complete."""
        super()._save_checkpoint(model, trial)
        step = self.state.global_step
        written = Path(self.args.output_dir) / f"checkpoint-{step}"
        for name, values in ((_WEIGHTS, self.model.state_dict()), (_AVERAGED, self.averaged)):
            save_file({key: each.detach().cpu().clone() for key, each in values.items()}, written / name)
        self.folder.checkpoints.mkdir(exist_ok=True)
        complete = self.folder.checkpoints / f"{CHECKPOINT}{step}"
        shutil.rmtree(complete, ignore_errors=True)
        written.rename(complete)
        for each in self.folder.checkpoints.glob(f"{CHECKPOINT}*"):
            if each != complete:
                shutil.rmtree(each, ignore_errors=True)
        self.say(f"checkpoint at step {step}")


class _Watch(TrainerCallback):
    """Averages the weights, asks for checkpoints by the clock, and ends when asked."""

    def __init__(self, trainer: DetectorTrainer) -> None:
        self._trainer = trainer
        self._saved = time.monotonic()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Choose the changes of the images."""
        self._trainer.augmented.epoch = int(state.epoch or 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """See the class."""
        self._trainer.average()
        if self._ends_epoch(args, state):
            return  # a checkpoint is saved after the epoch was measured
        if self._trainer.stop.is_due:
            control.should_save = control.should_training_stop = True
        elif self._is_due():
            control.should_save = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the epoch, if it was not interrupted."""
        if not self._ends_epoch(args, state):
            control.should_evaluate = control.should_save = False
            return
        self._trainer.finish_epoch()
        if self._trainer.stop.is_due:
            control.should_save = control.should_training_stop = True
        elif self._is_due():
            control.should_save = True

    def _ends_epoch(self, args: Any, state: Any) -> bool:
        return bool(state.global_step % (state.max_steps // round(args.num_train_epochs)) == 0)

    def _is_due(self) -> bool:
        return time.monotonic() - self._saved >= self._trainer.plan.save_every_s

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin the time to the next checkpoint."""
        self._saved = time.monotonic()
