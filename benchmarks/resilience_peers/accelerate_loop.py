"""Accelerate: `save_state`, `load_state`, `skip_first_batches`; the loop remembers its step in the folder's name."""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.resilience_peers import task

PACKAGES = ("accelerate", "torchdata", "torch")
SETTINGS = {
    "default": task.Setting("Accelerate"),
    "seedable": task.Setting("Accelerate, use_seedable_sampler=True"),
    "stateful": task.Setting("Accelerate, use_seedable_sampler=True and use_stateful_dataloader=True"),
}


def train(call: task.Call) -> task.Trained:
    """Train, or go on after an interruption."""
    set_seed(task.SEED)
    stateful = call.setting == "stateful"
    config = DataLoaderConfiguration(use_seedable_sampler=call.setting != "default", use_stateful_dataloader=stateful)
    accelerator = Accelerator(cpu=True, dataloader_config=config)
    network = task.Network()
    optimizer = task.adamw(network)
    loader = DataLoader(task.dataset(), batch_size=task.BATCH_SIZE, shuffle=True)
    model, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    step = 0
    if call.resume:
        saved = sorted(int(place.name.removeprefix("step_")) for place in call.folder.glob("step_*"))
        if saved:
            step = saved[-1]
            accelerator.load_state(str(call.folder / f"step_{step}"))
    start_epoch, skipped = divmod(step, task.STEPS_PER_EPOCH)
    for epoch in range(start_epoch, task.NUM_EPOCHS):
        loader.set_epoch(epoch)
        # A stateful loader goes on by itself from where load_state has put it.
        rest = accelerator.skip_first_batches(loader, skipped) if skipped and not stateful else loader
        skipped = 0
        for inputs, targets in rest:
            optimizer.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(model(inputs), targets))
            optimizer.step()
            step += 1
            if step % task.SAVE_EVERY == 0:
                accelerator.save_state(str(call.folder / f"step_{step}"))
    return task.Trained.of(accelerator.unwrap_model(model), task.updates_of(optimizer))
