"""Multinomial logistic regression on features of questions: how classifiers of what is asked are fitted."""

import torch
from torch import Tensor
from torch.nn import functional as F


def fit_logistic(
    features: Tensor, labels: Tensor, classes: int, *, penalty: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Weights (classes, D) and bias (classes,); each class has equal weight, however many examples it has.

    Args:
        features: (N, D) float32.
        labels: (N,) int64, each class at least once.
        classes: how many there are.
        penalty: of the squared weights.
        steps: of L-BFGS at most.
    """
    share = 1 / torch.bincount(labels, minlength=classes).float()
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weight.T + bias, labels, share) + penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(step)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
