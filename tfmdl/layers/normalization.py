"""Batch normalisation with statistics, scale and offset per domain."""

import keras
from keras import ops

from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.fused import normalize_batch, normalize_by


class DomainBatchNormalization(keras.layers.Layer):
    """Batch normalisation over (batch, height, width), each domain by its own statistics, scale and offset.

    In training each domain is normalised by its own images of the batch, whether it is alone in it (the domain as a
    name) or not (one domain an image), and only the moving statistics of the domains that are there move. A domain
    whose scale is frozen (`variable.trainable` is False) is normalised by its moving statistics in training too,
    and these do not move: a frozen domain cannot be forgotten. Statistics are float32 under any dtype policy.

    Args:
        domains: Names of the domains, in the order of their ids.
        shared: One set of statistics, scale and offset serves all domains.
        momentum: Of the moving statistics, in Keras's sense: the share of the old value that stays.
        epsilon: Added to the variance.

    Input shape: (batch, height, width, channels).
    Output shape: the same.

    Raises:
        ValueError: if `momentum` is not in [0, 1] or `epsilon` is not positive.

    Reference: Ioffe and Szegedy, "Batch Normalization", ICML 2015; per domain as in Guo et al., AAAI 2019.
    """

    def __init__(self, domains, shared=False, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be in [0, 1]; received momentum={momentum}")
        if epsilon <= 0:
            raise ValueError(f"`epsilon` must be positive; received epsilon={epsilon}")
        self.domains = tuple(domains)
        self.shared = shared
        self.momentum = momentum
        self.epsilon = epsilon

        def bank(name, initializer, learned):
            return DomainBank(domains, shared, initializer, learned, dtype="float32", name=name)

        self.gamma = bank("gamma", "ones", learned=True)
        self.beta = bank("beta", "zeros", learned=True)
        self.moving_mean = bank("moving_mean", "zeros", learned=False)
        self.moving_variance = bank("moving_variance", "ones", learned=False)

    def build(self, input_shape):
        for bank in (self.gamma, self.beta, self.moving_mean, self.moving_variance):
            bank.build((input_shape[-1],))

    def call(self, inputs, domain, training=False):
        learns = [self.gamma.variable(name).trainable for name in self.domains]
        if isinstance(domain, str) or self.shared:
            name = domain if isinstance(domain, str) else self.domains[0]
            if training and self.gamma.variable(name).trainable:
                return self._normalize_one_domain(inputs, name)
        elif training and any(learns):
            return self._normalize_mixed(inputs, domain, learns)
        return self._normalize_frozen(inputs, domain)

    def _normalize_one_domain(self, inputs, name):
        outputs, mean, variance = normalize_batch(
            inputs, self.gamma.select(name), self.beta.select(name), self.epsilon
        )
        for bank, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            bank.variable(name).assign(self._moved(bank.select(name), new))
        return outputs

    def _normalize_frozen(self, inputs, domain):
        gamma, beta, mean, variance = (
            bank.select(domain) for bank in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        if len(gamma.shape) == 1:
            return normalize_by(inputs, gamma, beta, mean, variance, self.epsilon)
        centred = inputs - ops.cast(mean, inputs.dtype)[:, None, None, :]
        return _scale_and_shift(centred, gamma * ops.rsqrt(variance + self.epsilon), beta)

    def _normalize_mixed(self, inputs, domain, learns):
        domain = ops.broadcast_to(domain, (ops.shape(inputs)[0],))
        membership = ops.one_hot(domain, len(self.domains), dtype="float32")  # (batch, domains)
        images = ops.sum(membership, axis=0)
        present = ops.logical_and(images > 0, ops.convert_to_tensor(learns))
        share = ops.transpose(membership / ops.maximum(images, 1.0))  # (domains, batch): sums to one over a domain

        x = ops.cast(inputs, "float32")
        old_mean, old_variance = self.moving_mean.stacked(), self.moving_variance.stacked()
        batch_mean = ops.matmul(share, ops.mean(x, axis=(1, 2)))
        mean = ops.where(present[:, None], batch_mean, old_mean)
        centred = x - ops.take(mean, domain, axis=0)[:, None, None, :]
        batch_variance = ops.matmul(share, ops.mean(ops.square(centred), axis=(1, 2)))
        variance = ops.where(present[:, None], batch_variance, old_variance)

        for bank, old, new in (
            (self.moving_mean, old_mean, mean),
            (self.moving_variance, old_variance, variance),
        ):
            moved = ops.where(present[:, None], self._moved(old, new), old)
            for name, value, learn in zip(self.domains, ops.unstack(moved), learns, strict=True):
                if learn:
                    bank.variable(name).assign(value)
        scale = ops.take(self.gamma.stacked() * ops.rsqrt(variance + self.epsilon), domain, axis=0)
        return ops.cast(_scale_and_shift(centred, scale, self.beta.select(domain)), inputs.dtype)

    def _moved(self, old, new):
        return old * self.momentum + ops.stop_gradient(new) * (1.0 - self.momentum)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "domains": list(self.domains),
            "shared": self.shared,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }


def _scale_and_shift(x, scale, offset):
    """Returns `x * scale + offset`, with one scale and offset (batch, channels) an image."""
    return x * ops.cast(scale, x.dtype)[:, None, None, :] + ops.cast(offset, x.dtype)[:, None, None, :]
