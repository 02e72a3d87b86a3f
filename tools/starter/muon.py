"""Muon: momentum whose update is orthogonalised (Newton-Schulz), for the hidden matrices of a network."""

import torch

# Five polynomials that take singular values in 0..1 close to one.
POLYNOMIALS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)


class Muon:
    """Matrices of one shape are stacked and updated together."""

    def __init__(self, parameters, momentum=0.95):
        self.momentum, self.groups = momentum, {}
        for p in parameters:
            self.groups.setdefault(tuple(p.flatten(1).shape), []).append(p)
        self.buffers = {shape: torch.zeros(len(ps), *shape, device=ps[0].device) for shape, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, rate):
        """One update with Nesterov momentum; the rate is the spectral size of a square matrix's change."""
        for shape, parameters in self.groups.items():
            gradient = torch.stack([p.grad.flatten(1) for p in parameters])
            buffer = self.buffers[shape]
            buffer.lerp_(gradient, 1 - self.momentum)
            update = _orthogonalise(gradient.lerp(buffer, self.momentum))
            scale = -rate * max(1, shape[0] / shape[1]) ** 0.5
            torch._foreach_add_(parameters, [u.reshape(p.shape) for u, p in zip(update, parameters)], alpha=scale)

    def state_dict(self):
        """The momentum buffers."""
        return self.buffers

    def load_state_dict(self, state):
        """Take momentum buffers from a checkpoint."""
        for shape, buffer in state.items():
            self.buffers[shape].copy_(buffer)


def _orthogonalise(x):
    """The nearest matrices with all singular values about one, for a stack [n, a, b]."""
    is_tall = x.shape[1] > x.shape[2]
    x = (x.mT if is_tall else x).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for a, b, c in POLYNOMIALS:
        m = x @ x.mT
        x = a * x + (b * m + c * (m @ m)) @ x
    return (x.mT if is_tall else x).float()
