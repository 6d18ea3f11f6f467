"""The norm of a level, and positions, have known values."""

import math

import torch
from torch.nn import functional as F

from models.layers.norms import LevelNorm
from models.layers.positions import sinusoidal_positions


def test_a_new_level_norm_bends_the_layer_norm():
    norm, x = LevelNorm(3, 8), torch.randn(2, 5, 8)
    h = F.layer_norm(x, (8,))
    torch.testing.assert_close(norm(x, torch.tensor([0, 2])), 2 * (1 - 0.1 * h) * h)


def test_each_row_has_the_gain_and_shift_of_its_level():
    norm, x = LevelNorm(2, 4), torch.randn(1, 3, 4)
    with torch.no_grad():
        norm.log_gain_shift.weight[1, :4] = math.log(3)
        norm.log_gain_shift.weight[1, 4:] = 5
    both = norm(x.expand(2, -1, -1), torch.tensor([0, 1]))
    torch.testing.assert_close(both[1], 3 * both[0] + 5)


def test_no_gradient_goes_through_the_bracket():
    norm, x = LevelNorm(1, 4), torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 3, 4, dtype=torch.float64)
    (found,) = torch.autograd.grad((norm.double()(x, torch.tensor([0])) * weight).sum(), x)
    h = F.layer_norm(x, (4,))
    (expected,) = torch.autograd.grad((h * (2 * (1 - 0.1 * h.detach())) * weight).sum(), x)
    torch.testing.assert_close(found, expected)


def test_positions_are_sines_then_cosines():
    found = sinusoidal_positions(torch.tensor([[0, 3]]), 4)
    expected = [[0, 0, 1, 1], [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)]]
    torch.testing.assert_close(found, torch.tensor([expected]))
