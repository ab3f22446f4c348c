"""Muon (Jordan et al., 2024): momentum whose steps are made nearly orthogonal, for weight matrices.

PyTorch's own does its iteration in bfloat16, which a CPU without that type emulates thirty times slower;
this one stays in float32 and handles all matrices of one shape in one batched product.
"""

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)     # the quintic of the Newton-Schulz iteration
ITERATIONS = 5


def orthogonalize(m):
    """m [N, R, C] -> matrices with the same singular vectors and singular values near 1."""
    a, b, c = COEFFICIENTS
    tall = m.shape[1] > m.shape[2]
    x = m.transpose(1, 2) if tall else m
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        s = x @ x.transpose(1, 2)
        x = a * x + (b * s + c * s @ s) @ x
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized, scaled by sqrt(max(1, rows / columns)); decoupled decay."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                by_shape.setdefault(tuple(p.shape), []).append(p)
            for (rows, columns), params in by_shape.items():
                self.step_shape(group, params, max(1, rows / columns) ** 0.5)

    def step_shape(self, group, params, size):
        updates = []
        for p in params:
            buf = self.state[p].setdefault("momentum", torch.zeros_like(p))
            buf.lerp_(p.grad, 1 - group["momentum"])
            updates.append(p.grad.lerp(buf, group["momentum"]))
        for p, u in zip(params, orthogonalize(torch.stack(updates))):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(u, alpha=-group["lr"] * size)
