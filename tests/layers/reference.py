"""What the layers compute, in plain numpy and one image or kernel position at a time."""

import numpy as np


def conv(images, kernel, strides=1):
    """Convolves (batch, height, width, channels) with (height, width, channels, filters), padding "same"."""
    return _slide(images, kernel, strides, lambda patch, weights: patch @ weights)


def depthwise_conv(images, kernel, strides=1):
    """Convolves each channel by itself; the kernel is (height, width, channels, 1)."""
    return _slide(images, kernel, strides, lambda patch, weights: patch * weights[:, 0])


def _slide(images, kernel, strides, apply):
    height, width = kernel.shape[:2]
    out_height, out_width = (-(-side // strides) for side in images.shape[1:3])
    missing = [
        max((out - 1) * strides + size - side, 0)
        for out, size, side in zip((out_height, out_width), (height, width), images.shape[1:3], strict=True)
    ]
    padding = [(m // 2, m - m // 2) for m in missing]
    padded = np.pad(images.astype("float64"), [(0, 0), *padding, (0, 0)])
    total = 0.0
    for row in range(height):
        for column in range(width):
            patch = padded[
                :, row : row + strides * out_height : strides, column : column + strides * out_width : strides
            ][:, :out_height, :out_width]
            total = total + apply(patch, kernel[row, column].astype("float64"))
    return total


def batch_norm(images, gamma, beta, epsilon=1e-5):
    """Returns the normalised images, and their mean and biased variance."""
    x = images.astype("float64")
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return normalize(images, gamma, beta, mean, variance, epsilon), mean, variance


def normalize(images, gamma, beta, mean, variance, epsilon=1e-5):
    """Normalises by given statistics."""
    return (images.astype("float64") - mean) / np.sqrt(variance + epsilon) * gamma + beta


def dense(features, kernel, bias):
    return features.astype("float64") @ kernel + bias
