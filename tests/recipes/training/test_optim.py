"""Parts learn at their own rates, the rest does not move, and the rate follows its curve."""

import math

import pytest
import torch
from torch import nn

from ov2kit.recipes.training.learning_rates import freeze_all_but, parameter_groups, part_of
from ov2kit.recipes.training.optim import adamw, cosine_with_warmup


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.ModuleDict({"first": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})
        self.connector = nn.Linear(4, 3)
        self.connector_two = nn.Linear(3, 3)
        self.language_model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5))

    def forward(self, x):
        shown = self.connector_two(self.connector(self.encoder["norm"](self.encoder["first"](x))))
        return self.language_model[1](shown + self.language_model[0](torch.arange(len(x))))


def test_a_part_is_a_whole_word_and_the_longest_wins():
    parts = {"encoder": 1.0, "encoder.first": 2.0, "connector": 3.0}
    assert part_of("encoder.first.weight", parts) == "encoder.first"
    assert part_of("encoder.norm.weight", parts) == "encoder"
    assert part_of("connector_two.weight", parts) is None
    assert part_of("connector", parts) == "connector"


def test_groups_hold_each_learning_parameter_once_with_its_rate():
    model = Model()
    parts = {"encoder": 1e-5, "encoder.first": 0.0, "connector": 1e-4}
    freeze_all_but(model, parts)
    groups = parameter_groups(model, parts, weight_decay=0.01)
    found = {id(p): (g["part"], g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert sum(len(g["params"]) for g in groups) == len(found)
    assert found == {
        id(model.encoder["norm"].weight): ("encoder", 1e-5, 0.0),
        id(model.encoder["norm"].bias): ("encoder", 1e-5, 0.0),
        id(model.connector.weight): ("connector", 1e-4, 0.01),
        id(model.connector.bias): ("connector", 1e-4, 0.0),
    }


def test_only_named_parts_move():
    model = Model()
    parts = {"connector": 1e-2, "language_model.1": 1e-2}
    freeze_all_but(model, parts)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = adamw(model, parts, weight_decay=0.1)
    for _ in range(3):
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"connector.weight", "connector.bias", "language_model.1.weight", "language_model.1.bias"}


def test_weight_decay_leaves_norms_and_biases():
    model = Model()
    freeze_all_but(model, {"encoder": 0.1})
    optimizer = adamw(model, {"encoder": 0.1}, weight_decay=0.5)
    for p in model.encoder.parameters():
        p.grad = torch.zeros_like(p)
    weight, bias = model.encoder["first"].weight.detach().clone(), model.encoder["first"].bias.detach().clone()
    optimizer.step()
    assert torch.allclose(model.encoder["first"].weight, weight * (1 - 0.1 * 0.5))
    assert torch.equal(model.encoder["first"].bias, bias)
    assert torch.equal(model.encoder["norm"].weight, torch.ones(4))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"conector": 1e-4}, "conector.*connector.*encoder"),
        ({"connector": -1e-4}, "'connector' must be at least 0, got -0.0001"),
        ({"connector": math.nan}, "'connector' must be a finite number, got nan"),
        ({"connector": 0.0}, "nothing is left to learn"),
        ({}, "nothing is left to learn"),
    ],
)
def test_wrong_parts_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        freeze_all_but(Model(), parts)


def rates(steps, taken, **options):
    model = nn.Linear(1, 1)
    groups = [{"params": [model.weight], "lr": 1e-4}, {"params": [model.bias], "lr": 1e-7}]
    optimizer = torch.optim.AdamW(groups)
    schedule = cosine_with_warmup(optimizer, steps, **options)
    seen = []
    for _ in range(taken):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return torch.tensor(seen, dtype=torch.float64)


def test_rate_warms_up_and_falls_to_its_least():
    seen = rates(1000, 1005, warmup_share=0.002, min_lr=1e-6)
    assert seen[:3, 0].tolist() == pytest.approx([0.5e-4, 1e-4, 1e-4])
    middle = 2 + (999 - 2) / 2  # halfway between the top and the last update
    half = (seen[math.floor(middle), 0] + seen[math.ceil(middle), 0]) / 2
    assert half.item() == pytest.approx((1e-4 + 1e-6) / 2, rel=1e-4)
    assert seen[999:, 0].tolist() == pytest.approx([1e-6] * 6)
    assert (seen[1:, 0].diff() <= 0).all()
    assert seen[2:, 1].tolist() == pytest.approx([1e-7] * 1003)  # a rate below the least stays


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_short_runs_have_a_rate_in_every_step(steps):
    seen = rates(steps, steps, warmup_share=0.5)[:, 0]
    assert seen[0] > 0
    assert seen.max() <= 1e-4


def test_schedule_resumes_where_it_was():
    def build():
        layer = nn.Linear(1, 1)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
        return optimizer, cosine_with_warmup(optimizer, 50, warmup_share=0.1, min_lr=1e-5)

    def go(optimizer, schedule, count):
        seen = []
        for _ in range(count):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return seen

    whole = go(*build(), 30)
    first, second = build(), build()
    head = go(*first, 12)
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_dict(first[1].state_dict())
    assert head + go(*second, 18) == whole


def test_wrong_schedules_are_refused():
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters())
    with pytest.raises(ValueError, match="at least 1"):
        cosine_with_warmup(optimizer, 0)
    with pytest.raises(ValueError, match="warmup_share"):
        cosine_with_warmup(optimizer, 10, warmup_share=1.0)
