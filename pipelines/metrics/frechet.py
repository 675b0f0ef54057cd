"""Features for a Frechet distance between sets of toy scenes."""

from __future__ import annotations

from torch import Tensor, nn

from pipelines.models.judge import SceneJudge


class JudgeFeatures(nn.Module):
    """The judge's last features, averaged over the picture.

    For torchmetrics' FrechetInceptionDistance, which then is no *Inception* distance: its values
    compare with each other only.
    """

    def __init__(self, judge: SceneJudge) -> None:
        """Read from `judge`, whose weights stay its own."""
        super().__init__()
        self.judge = judge
        self.num_features = judge.width

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, width) of images (B, 3, 128, 128) in [-1, 1]."""
        return self.judge.late(self.judge.early(images)).mean((2, 3))
