"""Networks that do not fit a GPU together take turns on it.

As accelerate's `cpu_offload_with_hook` does, without its hooks: these would be copied with the UNet
whenever a method captures attention (`diffusion.attention`), and with each hook the networks before
it. A structural copy shares its parameters, so it moves along with the original.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

REST = torch.device("cpu")


class Residence:
    """Lets one group of networks at a time be on the device; the others wait in main memory.

    For one job at a time, as the app's gate sees to. Networks without buffers alone: a buffer would
    not move with a structural copy.

    Attributes:
        device: where networks compute.
        present: index of the one group that is there; None if there may be several, or none.
    """

    def __init__(self, device: torch.device, groups: Sequence[Sequence[nn.Module]]) -> None:
        self.device = device
        self.present: int | None = None
        self._groups = [tuple(group) for group in groups]

    def bring(self, index: int) -> None:
        """Make sure that a group is on the device.

        Where gradients are recorded nobody leaves: a graph may run through what is there.
        """
        if index == self.present:
            return
        if not torch.is_grad_enabled():
            for other, group in enumerate(self._groups):
                if other != index:
                    self._move(group, REST)
        self._move(self._groups[index], self.device)
        self.present = None if torch.is_grad_enabled() else index

    @staticmethod
    def _move(group: Sequence[nn.Module], device: torch.device) -> None:
        for network in group:
            network.to(device)
