"""Several processes: joining and leaving the group, and training one model together."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from mmengine.model import MMDistributedDataParallel
from torch import Tensor, nn
from torch import distributed as dist

from pretext.errors import InputError

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[torch.device]:
    """Join torchrun's process group if torchrun started this process, and yield the device to use.

    The backend is NCCL with a GPU for each process, else Gloo on the CPU. At the end all processes wait for each other
    (without that torchrun sometimes aborts); after an error they leave at once.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    use_gpu = gpus >= processes
    if 0 < gpus < processes and local_rank == 0:
        print(f"fewer GPUs ({gpus}) than processes ({processes}): all compute on the CPU", file=sys.stderr)
    device = torch.device("cuda", local_rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    dist.init_process_group("nccl" if use_gpu else "gloo", timeout=timedelta(minutes=30))
    try:
        yield device
        dist.barrier()
    finally:
        dist.destroy_process_group()


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's number and the number of processes; (0, 1) without a group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def on_first(action: Callable[[], T]) -> T:
    """Call a function on the first process alone; return its value, or raise its InputError, on all."""
    rank, world_size = rank_and_world_size()
    if world_size == 1:
        return action()
    value: T | None = None
    error: InputError | None = None
    if rank == 0:
        try:
            value = action()
        except InputError as raised:
            error = raised
    told: list[Any] = [value, error]
    dist.broadcast_object_list(told, src=0)
    if told[1] is not None:
        raise told[1]
    return cast(T, told[0])


def data_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to its device; with several processes, synchronise its batch norms and wrap it for mmengine."""
    model = model.to(device)
    if rank_and_world_size()[1] == 1:
        return model
    model = synchronize_batch_norm(model, device).to(device)
    # By default mmengine takes the GPU number LOCAL_RANK, which fails without GPUs.
    device_ids = [device.index] if device.type == "cuda" else None
    with warnings.catch_warnings():
        # What replaces the option would make all processes start with the buffers of the first.
        warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
        wrapped: nn.Module = MMDistributedDataParallel(
            module=model, device_ids=device_ids, broadcast_buffers=False
        )
    return wrapped


def synchronize_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Make every batch norm of ``model`` compute its statistics over the batches of all processes."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    for name, child in model.named_children():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            synchronized = SyncBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
            # The same parameters and buffers, so that frozen ones stay frozen.
            synchronized.weight, synchronized.bias = child.weight, child.bias
            synchronized.running_mean, synchronized.running_var = child.running_mean, child.running_var
            synchronized.num_batches_tracked = child.num_batches_tracked
            setattr(model, name, synchronized.train(child.training))
        else:
            synchronize_batch_norm(child, device)
    return model


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batches of all processes, which must be of equal size, on any device.

    torch's own SyncBatchNorm needs GPUs; with this one two processes on a CPU compute what one does.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C) or (N, C, H, W)."""
        if not self.training:
            return super().forward(x)
        world_size = dist.get_world_size()
        shape = (1, -1) + (1,) * (x.ndim - 2)
        others = [dim for dim in range(x.ndim) if dim != 1]
        mean = _AllReduce.apply(x.float().mean(others)) / world_size
        centered = x.float() - mean.view(shape)
        var = _AllReduce.apply(centered.square().mean(others)) / world_size
        self._update_running(mean.detach(), var.detach(), x.numel() // x.shape[1] * world_size)
        y = centered * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        normalized: Tensor = y.to(x.dtype)
        return normalized

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 4):
            raise ValueError(f"received a batch of {input.ndim} dimensions, allowed are 2 and 4")

    @torch.no_grad()
    def _update_running(self, mean: Tensor, var: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        # Without a momentum, average over all batches.
        momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(var * (count / (count - 1)), momentum)


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
