"""An optimiser without the compiler does what torch's own does."""

import subprocess
import sys

import pytest
import torch

from albench.optimisers import eager

KINDS = [
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (torch.optim.Adam, {"lr": 0.1}),
    (torch.optim.RMSprop, {"lr": 0.01}),
]


def trained(kind, options):
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 3)
    optimiser = kind(layer.parameters(), **options)
    for update in range(6):
        if update == 3:
            optimiser.load_state_dict(optimiser.state_dict())
        optimiser.zero_grad(set_to_none=True)
        layer(torch.randn(4, 5)).square().mean().backward()
        optimiser.step()
    return torch.cat([parameter.detach().flatten() for parameter in layer.parameters()])


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_numbers_are_torchs(kind, options):
    assert torch.equal(trained(eager(kind), options), trained(kind, options))


def test_it_leaves_the_compiler_out():
    code = (
        "import sys, torch; from albench.optimisers import eager\n"
        "p = torch.nn.Parameter(torch.ones(2)); o = eager(torch.optim.SGD)([p], 0.1)\n"
        "p.sum().backward(); o.step(); o.zero_grad(); o.load_state_dict(o.state_dict())\n"
        "assert float(p[0]) < 1; assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
