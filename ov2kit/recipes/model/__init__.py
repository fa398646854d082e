"""The full model: encoder, connector and language model as one."""
