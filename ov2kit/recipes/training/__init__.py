"""Training: the LightningModule, optimizer, checkpoints, callbacks."""
