"""Muon for the inner convolutions of a U-Net, AdamW for all other parameters.

A convolution's filters, as a matrix of one row a channel, often get gradients of a few large
directions only. Muon replaces the momentum by the nearest matrix with orthonormal rows (or
columns), so that small directions are learned as fast (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/). torch.optim.Muon takes matrices only, is newer than the
oldest supported torch, and costs several times as much (see `orthogonalize`).
"""

import torch
from torch import Tensor, nn

# Of the quintic iteration x -> a x + b x^3 + c x^5 on singular values, the source's: it lifts
# small ones fastest, and ends between 0.7 and 1.2, which serves as well as 1.
A, B, C = 3.4445, -4.7750, 2.0315
STEPS = 3
BLOCK = 256  # rows


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return the matrix (M, N) with singular values of about 1 in blocks of at most 256 rows.

    In blocks of columns where there are fewer columns. Every Newton-Schulz iterate is a polynomial
    of the block's Gram matrix times the block, so only the first and the last product involve the
    long side. Blocks cost a fifth of whole 1024 x 9216 filters and train as well (dev/LOG.md).
    """
    rows, columns = matrix.shape
    if rows > columns:
        return orthogonalize(matrix.mT).mT
    count = 1
    while rows // count > BLOCK and rows % (2 * count) == 0:
        count *= 2
    blocks = matrix.reshape(count, rows // count, columns)
    gram = blocks @ blocks.mT
    # The Frobenius norm is at least the largest singular value, which must not pass 1.
    squared_norm = gram.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(1e-20)[:, None, None]
    gram = gram / squared_norm
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    product = identity
    for step in range(STEPS):
        factor = torch.baddbmm(gram, gram, gram, beta=B, alpha=C) + A * identity
        product = factor @ product if step else factor
        if step < STEPS - 1:
            gram = factor @ gram @ factor  # polynomials of one matrix commute
    return (product * squared_norm.rsqrt() @ blocks).reshape(rows, columns)


class Muon(torch.optim.Optimizer):
    """Muon for the filters of a network's inner convolutions, AdamW for all other parameters.

    AdamW updates the first and the last convolution, which depend on colours and classes, norms and
    biases. model: a UNet; the order of its parameters tells which is which.
    lr: AdamW's learning rate; Muon's is `ratio` times that, the most that a direction of a square
    matrix moves in a step.
    """

    def __init__(
        self, model: nn.Module, lr: float, ratio: float = 20.0, weight_decay: float = 0.01
    ):
        filters = [p for p in model.parameters() if p.dim() == 4][1:-1]
        inner = {id(p) for p in filters}
        rest = [p for p in model.parameters() if id(p) not in inner]
        groups = [
            {'params': rest, 'betas': (0.9, 0.999), 'weight_decay': weight_decay, 'steps': 0},
            {'params': filters, 'lr': ratio * lr, 'momentum': 0.95},
        ]
        super().__init__(groups, {'lr': lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # torch's takes one
        """Make one step from the present gradients; `closure` is not supported."""
        rest, inner = self.param_groups
        # All memory first: a step that finds none must not have moved half the parameters.
        for group, names in ((rest, ('mean', 'square')), (inner, ('momentum',))):
            for parameter in group['params']:
                if not self.state[parameter]:
                    self.state[parameter].update({n: torch.zeros_like(parameter) for n in names})
        self._adamw_step(rest)
        for parameter in inner['params']:
            if parameter.grad is not None:
                self._muon_step(parameter, parameter.grad, inner['lr'], inner['momentum'])

    def _muon_step(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        average = self.state[parameter]['momentum'].lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(average, momentum)  # Nesterov's
        # Channels last, as the network is kept: rows are contiguous, and this copies nothing.
        direction = direction.permute(0, 2, 3, 1)
        matrix = direction.reshape(len(direction), -1)
        rows, columns = matrix.shape
        update = orthogonalize(matrix).view(direction.shape).permute(0, 3, 1, 2)
        parameter.add_(update, alpha=-lr * max(1, rows / columns) ** 0.5)

    def _adamw_step(self, group: dict) -> None:
        parameters = [p for p in group['params'] if p.grad is not None]
        if not parameters:
            return
        gradients = [p.grad for p in parameters]
        means = [self.state[p]['mean'] for p in parameters]
        squares = [self.state[p]['square'] for p in parameters]
        group['steps'] += 1
        first, second = group['betas']
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        # Both averages start from zero: divided by the weight that they have gathered.
        scales = torch._foreach_sqrt(squares)
        torch._foreach_div_(scales, (1 - second ** group['steps']) ** 0.5)
        torch._foreach_add_(scales, 1e-8)
        torch._foreach_mul_(parameters, 1 - group['lr'] * group['weight_decay'])
        step = -group['lr'] / (1 - first ** group['steps'])
        torch._foreach_addcdiv_(parameters, means, scales, step)
