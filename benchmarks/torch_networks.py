"""Contestants on PyTorch: the same network, channels last, and what the machine can do at most."""

import time

from benchmarks.common import Size, cores

CLASSES = 100


def training(size: Size, compiled=False):
    """Training steps: SGD with momentum and weight decay."""
    import torch

    device = _set_up()
    network = _to_device(_network(size), device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    return _stepping(torch.compile(network) if compiled else network, optimizer, size, device)


def inference(size: Size, compiled=False):
    import torch

    device = _set_up()
    network = _to_device(_network(size), device).eval()
    return _calling(torch.compile(network) if compiled else network, size, device)


def lite_training(size: Size, keeps_statistics=False):
    """Training steps of EfficientNet-Lite0, all but the pointwise kernels, by Adam.

    With `keeps_statistics`, it normalises by the moving statistics.
    """
    import torch

    device = _set_up()
    network = _to_device(_lite(size), device).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.groups == 1 and module.kernel_size == (1, 1):
            module.requires_grad_(False)
        if isinstance(module, torch.nn.BatchNorm2d) and keeps_statistics:
            module.eval()
    network._conv_stem.requires_grad_(False)  # shared, as plain convolutions are
    optimizer = torch.optim.Adam([each for each in network.parameters() if each.requires_grad], 1e-3)
    return _stepping(network, optimizer, size, device)


def lite_inference(size: Size, fused=False):
    """EfficientNet-Lite0 in eval mode. `fused`: each normalisation in the convolution before it."""
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    device = _set_up()
    network = _to_device(_lite(size), device).eval()
    if fused:
        pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
        for block in network._blocks:
            pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
            if hasattr(block, "_expand_conv"):
                pairs.append((block, "_expand_conv", "_bn0"))
        for holder, conv, norm in pairs:
            setattr(holder, conv, fuse_conv_bn_eval(getattr(holder, conv), getattr(holder, norm)))
            setattr(holder, norm, torch.nn.Identity())
    return _calling(network, size, device)


def _stepping(forward, optimizer, size, device):
    """Returns what times training steps."""
    import torch

    loss_of = torch.nn.CrossEntropyLoss()
    images, labels = _batch(size, device)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with _autocast(size, device):
            loss = loss_of(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return _timed(step, size)


def _calling(forward, size, device):
    """Returns what times inference."""
    import torch

    images, _ = _batch(size, device)

    def call():
        with torch.inference_mode(), _autocast(size, device):
            return forward(images)

    return _timed(call, size)


def _lite(size):
    """The network of efficientnet-lite-pytorch, made faster: where zeros stand evenly around, convolutions add them."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    how = {"num_classes": CLASSES, "image_size": size.image_size, "drop_connect_rate": 0.0}
    network = EfficientNet.from_name("efficientnet-lite0", **how)
    for module in network.modules():
        padding = getattr(getattr(module, "static_padding", None), "padding", None)
        if padding and len(set(padding)) == 1:
            module.padding, module.static_padding = padding[:2], torch.nn.Identity()
    return network


def matrix_products(size: Size, backward=True, weights=True):
    """The matrix products of the pointwise convolutions alone: forward, and the gradients of inputs and weights."""
    import torch

    device = _set_up()
    dtype = torch.bfloat16 if "bfloat16" in size.dtype else torch.float32
    operands = []
    for pixels, channels, filters in size.pointwise():
        shapes = (pixels, channels), (channels, filters), (pixels, filters)
        operands.append([torch.rand(shape, device=device).to(dtype) for shape in shapes])

    def products():
        for x, kernel, dy in operands:
            last = x @ kernel
            if backward:
                last = dy @ kernel.T
            if backward and weights:
                last = x.T @ dy
        return last

    return _timed(products, size)


def memory_copy(size: Size):
    """A copy of what a step must at least move: each convolution's output, each norm's, and their gradients."""
    import torch

    device = _set_up()
    bytes_each = 2 if "bfloat16" in size.dtype else 4
    numbers = sum(2 * (pixels * channels + 2 * pixels * filters) for pixels, channels, filters in size.pointwise())
    source = torch.ones(numbers * bytes_each // 4, device=device)
    target = torch.empty_like(source)

    return _timed(lambda: target.copy_(source), size)


def _set_up():
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(cores())
    return "cuda" if torch.cuda.is_available() else "cpu"


def _batch(size, device):
    import torch

    images = torch.randn(size.batch, 3, size.image_size, size.image_size)
    images = images.to(device, memory_format=torch.channels_last)
    return images, torch.randint(CLASSES, (size.batch,), device=device)


def _to_device(network, device):
    import torch

    return network.to(device, memory_format=torch.channels_last)


def _autocast(size, device):
    import torch

    return torch.autocast(device, torch.bfloat16, enabled="bfloat16" in size.dtype)


def _timed(function, size):
    import torch

    def turn():
        started = time.perf_counter()
        for _ in range(size.steps):
            result = function()
        result.flatten()[0].item()  # waits for a GPU
        return size.batch * size.steps / (time.perf_counter() - started)

    assert torch.get_num_threads() == cores()
    return turn


def _network(size):
    import torch
    from torch import nn
    from torch.nn import functional

    class Separable(nn.Sequential):
        def __init__(self, channels, filters, stride):
            super().__init__(
                nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
                nn.Conv2d(channels, filters, 1, bias=False),
                nn.BatchNorm2d(filters),
            )

    class Block(nn.Module):
        def __init__(self, channels, filters):
            super().__init__()
            self.missing = filters - channels
            self.conv1 = Separable(channels, filters, 2 if self.missing else 1)
            self.conv2 = Separable(filters, filters, 1)

        def forward(self, inputs):
            x = self.conv2(functional.relu(self.conv1(inputs), inplace=True))
            if self.missing:
                inputs = functional.pad(functional.avg_pool2d(inputs, 2), (0, 0, 0, 0, 0, self.missing))
            return functional.relu(x + inputs, inplace=True)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            channels = size.width
            self.stem = Separable(3, channels, 1)
            blocks = []
            for filters in (2 * size.width, 4 * size.width, 8 * size.width):
                for _ in range(4):
                    blocks.append(Block(channels, filters))
                    channels = filters
            self.blocks = nn.Sequential(*blocks)
            self.norm = nn.BatchNorm2d(channels)
            self.head = nn.Linear(channels, CLASSES)

        def forward(self, images):
            x = functional.relu(self.norm(self.blocks(self.stem(images))), inplace=True)
            return self.head(torch.mean(x.float(), dim=(2, 3)))

    return Network()
