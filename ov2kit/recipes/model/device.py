"""The device that a command was asked for, checked before anything is loaded onto it."""

import torch


def usable_device(name: str | None) -> torch.device:
    """A device by name; a GPU if there is one, else the CPU, for None.

    Raises:
        ValueError: no device is called so, or this machine has none.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no values")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has a word of its own for each
        reason = str(error).strip().split("\n")[0][:200]
        known = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ValueError(f"device {name!r} cannot be used ({reason}); usable here: {', '.join(known)}") from error
    return device
