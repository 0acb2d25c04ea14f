"""Muon for the inner convolutions of a U-Net, AdamW for all other parameters.

A convolution's filters, as a matrix of one row a channel, often get gradients of a few large
directions only. Muon replaces the momentum by the nearest matrix with orthonormal rows (or
columns), so that small directions are learned as fast (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/). torch.optim.Muon takes matrices only, is newer than the
oldest supported torch, and costs several times as much (see `Batch.orthogonalize`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Of the quintic iteration x -> a x + b x^3 + c x^5 on singular values, the source's: it lifts
# small ones fastest, and ends between 0.7 and 1.2, which serves as well as 1.
A, B, C = 3.4445, -4.7750, 2.0315
STEPS = 3
BLOCK = 256  # rows
USUAL_WIDTH = 64  # inputs of the last convolution, at which it has AdamW's rate


class Muon(torch.optim.Optimizer):
    """Muon for the filters of a network's inner convolutions, AdamW for all other parameters.

    AdamW updates the first and the last convolution, which depend on colours and classes, norms and
    biases. model: a UNet; the order of its parameters tells which is which.
    lr: AdamW's learning rate; Muon's is `ratio` times that, the most that a direction of a square
    matrix moves in a step. That of the last convolution's weights is higher in narrow networks,
    whose logits are sums of fewer features and would need as many more steps.
    """

    _packing: 'Packing | None' = None

    def __init__(
        self, model: nn.Module, lr: float, ratio: float = 20.0, weight_decay: float = 0.01
    ):
        _, *filters, last = (p for p in model.parameters() if p.dim() == 4)
        self._factors = {last: max(1.0, USUAL_WIDTH / last.shape[1])}  # of the learning rate
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
        self._muon_step(inner)
        self._adamw_step(rest)

    def _muon_step(self, group: dict) -> None:
        filters = [p for p in group['params'] if p.grad is not None]
        if not filters:
            return
        for p in filters:  # a loaded state may have been saved in another memory format
            momentum = self.state[p]['momentum']
            if momentum.stride() != p.stride():
                self.state[p]['momentum'] = torch.empty_like(p).copy_(momentum)
        momenta = [self.state[p]['momentum'] for p in filters]
        if self._packing is None or not self._packing.holds(filters, momenta):
            self._packing = Packing(filters, momenta)
        gradients = [p.grad for p in filters]
        self._packing.step(momenta, gradients, group['lr'], group['momentum'])

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
        rates = [group['lr'] * self._factors.get(p, 1.0) for p in parameters]
        torch._foreach_mul_(parameters, [1 - rate * group['weight_decay'] for rate in rates])
        steps = [-rate / (1 - first ** group['steps']) for rate in rates]
        torch._foreach_addcdiv_(parameters, means, scales, steps)


class Packing:
    """All filters, cut into chunks of one shape, so that one batched product serves them all.

    On an H100 a step of the default network takes 32 ms filter by filter, nearly all of it for
    launching 570 kernels (dev/GPU.md). There small blocks are padded to the rows of the largest. On
    a CPU launches are cheap and products are not: only blocks of equal height share a batch.
    """

    def __init__(
        self, filters: list[Tensor], momenta: list[Tensor], pad: bool | None = None
    ) -> None:
        """Lay out the filters (O, I, h, w). pad: one batch for all, by default on GPUs alone."""
        self.pointers = _pointers(filters, momenta)
        pad = filters[0].device.type != 'cpu' if pad is None else pad
        shapes = [_block_shape(p) for p in filters]
        highest = max(rows for _, rows, _ in shapes)
        heights = [highest if pad else rows for _, rows, _ in shapes]
        self.batches, self.filters, self.momenta, self.packed = [], [], [], []
        for height in sorted(set(heights)):
            chosen = [k for k, rows in enumerate(heights) if rows == height]
            batch = Batch.of([filters[k] for k in chosen], height)
            self.batches.append(batch)
            for k, start in zip(chosen, batch.starts, strict=True):
                packed = list(batch.parts(filters[k], start))
                self.packed += [part for _, part in packed]
                self.filters += [part for part, _ in packed]
                self.momenta += [part for part, _ in batch.parts(momenta[k], start)]

    def holds(self, filters: list[Tensor], momenta: list[Tensor]) -> bool:
        """Tell whether these are the tensors that were laid out, where they were in memory."""
        return self.pointers == _pointers(filters, momenta)

    def step(
        self, momenta: list[Tensor], gradients: list[Tensor], lr: float, momentum: float
    ) -> None:
        """Update momenta and filters from the gradients."""
        updates = [torch.empty_like(batch.chunks) for batch in self.batches]
        torch._foreach_copy_(self.packed, self.momenta)
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        # Nesterov's direction is `momentum` times the new average plus 1 - momentum times the
        # gradient. By both averages it is, up to a factor that orthogonalizing removes:
        for batch in self.batches:
            batch.chunks.mul_(-momentum / (1 + momentum))
        torch._foreach_add_(self.packed, self.momenta)
        for batch, update in zip(self.batches, updates, strict=True):
            batch.orthogonalize(update)
        torch._foreach_add_(self.filters, self.packed, alpha=-lr)


@dataclass
class Batch:
    """Blocks of rows, each cut into chunks (R, K) of columns; the last is filled up with zeros.

    chunks: (N, R, K). of_block: (M, N), 1 where a chunk belongs to a block. block_of: (N,), each
    chunk's block. scales: (M, 1, 1), factors of the results. starts: each filter's first chunk.
    """

    chunks: Tensor
    of_block: Tensor
    block_of: Tensor
    scales: Tensor
    identity: Tensor
    starts: list[int]

    @classmethod
    def of(cls, filters: list[Tensor], rows: int) -> 'Batch':
        """Return the batch of filters whose blocks have at most so many rows."""
        shapes = [_block_shape(p) for p in filters]
        # Of the widths in use that which takes the least memory, Gram matrices included.
        width = min(
            {columns for _, _, columns in shapes},
            key=lambda k: sum(n * -(-columns // k) for n, _, columns in shapes) * (k + rows),
        )
        blocks: list[int] = []  # of each chunk
        scales: list[float] = []  # of each block
        starts = []
        for parameter, (count, _, columns) in zip(filters, shapes, strict=True):
            starts.append(len(blocks))
            blocks += [len(scales) + k for k in range(count) for _ in range(-(-columns // width))]
            scales += count * [max(1, len(parameter) / parameter[0].numel()) ** 0.5]
        like = filters[0]
        chunks = like.new_zeros(len(blocks), rows, width)
        block_of = torch.tensor(blocks, device=like.device)
        of_block = torch.arange(len(scales), device=like.device)[:, None] == block_of
        return cls(
            chunks, of_block.to(like.dtype), block_of, like.new_tensor(scales)[:, None, None],
            torch.eye(rows, dtype=like.dtype, device=like.device), starts,
        )  # fmt: skip

    def parts(self, tensor: Tensor, start: int) -> list[tuple[Tensor, Tensor]]:
        """Return pairs of views: a part of a filter, and the part of the chunks that takes it."""
        matrix = _matrix(tensor)
        count, rows, columns = _block_shape(tensor)
        width = self.chunks.shape[2]
        whole, rest = divmod(columns, width)
        number = whole + bool(rest)
        taken = self.chunks[start : start + count * number]
        taken = taken.view(count, number, -1, width)[:, :, :rows]
        blocks = matrix.view(count, rows, columns)
        pairs = []
        if whole:
            left = blocks[:, :, : whole * width].view(count, rows, whole, width)
            pairs.append((left.transpose(1, 2), taken[:, :whole]))
        if rest:
            pairs.append((blocks[:, :, whole * width :], taken[:, whole, :, :rest]))
        return pairs

    def orthogonalize(self, scratch: Tensor) -> None:
        """Replace each block by one with singular values of about 1, times its scale.

        Every Newton-Schulz iterate is a polynomial of the block's Gram matrix times the block, so
        only the first and the last product involve the long side. Blocks of at most 256 rows cost a
        fifth of whole 1024 x 9216 filters and train as well (dev/LOG.md). scratch: like `chunks`.
        """
        rows = self.chunks.shape[1]
        grams = torch.bmm(self.chunks, self.chunks.mT).view(-1, rows * rows)
        gram = (self.of_block @ grams).view(-1, rows, rows)
        # The Frobenius norm is at least the largest singular value, which must not pass 1.
        norm = gram.diagonal(dim1=1, dim2=2).sum(1).clamp_min_(1e-20).view(-1, 1, 1)
        gram.div_(norm)
        # Polynomials of one matrix commute. Each factor is A + higher; A comes in by beta.
        higher = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
        product = torch.add(higher, self.identity, alpha=A)
        for _ in range(STEPS - 1):
            gram = torch.baddbmm(gram, higher, gram, beta=A)
            gram = torch.baddbmm(gram, gram, higher, beta=A)
            higher = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
            product = torch.baddbmm(product, higher, product, beta=A)
        product.mul_(norm.rsqrt_() * self.scales)
        torch.bmm(product[self.block_of], self.chunks, out=scratch)
        self.chunks.copy_(scratch)


def _matrix(tensor: Tensor) -> Tensor:
    """Return a filter (O, I, h, w) as a view of one row a channel, or its transpose if higher.

    The order of columns does not matter; that of memory allows a view.
    """
    if not tensor.is_contiguous():  # channels last, as the network is kept
        tensor = tensor.permute(0, 2, 3, 1)
    matrix = tensor.view(len(tensor), -1)
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT


def _block_shape(tensor: Tensor) -> tuple[int, int, int]:
    """Return the number of blocks of a filter's matrix, and their rows and columns."""
    rows, columns = _matrix(tensor).shape
    count = 1
    while rows // count > BLOCK and rows % (2 * count) == 0:
        count *= 2
    return count, rows // count, columns


def _pointers(filters: list[Tensor], momenta: list[Tensor]) -> list[tuple]:
    return [(t.data_ptr(), t.stride()) for t in (*filters, *momenta)]
