"""Batch normalisation with statistics, scale and offset per domain."""

import keras
import numpy as np
from keras import ops

from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.fused import normalize_batch, normalize_by, normalize_images, normalize_shared_batch
from tfmdl.layers.side_by_side import SideBySide, lay_out, take_apart


class DomainBatchNormalization(keras.layers.Layer):
    """Batch normalisation over (batch, height, width), each domain by its own statistics, scale and offset.

    In training each domain is normalised by its own images of the batch, whether it is alone in it (the domain as a
    name) or not (one domain per image), and only the moving statistics of the domains that are there move. A domain
    whose scale is frozen (`variable.trainable` is False) is normalised by its moving statistics in training too,
    and these do not move: a frozen domain cannot be forgotten. Statistics are float32 under any dtype policy.

    Devices that share a batch normalise each by its own part of it, unless `synchronized`. Their moving statistics are
    the mean of what each would move them to; one without an image of a domain would leave that domain's as they are.

    Args:
        domains: Names of the domains, in the order of their ids.
        shared: One set of statistics, scale and offset serves all domains, or those of these names: such a set, which
            only some domains use, is part of a trunk, and its statistics do not move.
        momentum: Of the moving statistics, in Keras's sense: the share of the old value that stays.
        epsilon: Added to the variance.

    Attributes:
        keeps_statistics: Domains that are trained, too, are normalised by their moving statistics, and these stay as
            they are: set by whoever trains, for domains of few images.
        synchronized: Devices that share a batch of one domain, in equal parts, normalise by all of it: set by whoever
            trains.

    Input shape: (batch, height, width, channels).
    Output shape: the same.

    Raises:
        ValueError: if `momentum` is not in [0, 1] or `epsilon` is not positive.

    Reference: Ioffe and Szegedy, "Batch Normalization", ICML 2015; per domain as in Guo et al., AAAI 2019.
    """

    takes_side_by_side = True
    keeps_statistics = False
    synchronized = False

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
        for bank in self._banks:
            bank.build((input_shape[-1],))

    def call(self, inputs, domain, training=False):
        if isinstance(domain, SideBySide):
            if not self.gamma.one_for_all:
                return self._normalize_images(inputs, domain.ids, training)
            images = take_apart(inputs, self.gamma.variable(self.domains[0]).shape[0])
            return lay_out(self.call(images, domain.ids, training))
        if isinstance(domain, str) or self.gamma.one_for_all:
            name = domain if isinstance(domain, str) else self.domains[0]
            if training and self._learns_statistics(name):
                return self._normalize_one_domain(inputs, name)
        elif training or len(ops.shape(domain)):
            ids = ops.broadcast_to(domain, (ops.shape(inputs)[0],))
            return take_apart(self._normalize_images(lay_out(inputs), ids, training), inputs.shape[-1])
        return normalize_by(inputs, *(bank.select(domain) for bank in self._banks), self.epsilon)

    def _normalize_one_domain(self, inputs, name):
        normalize = normalize_shared_batch if self.synchronized else normalize_batch
        outputs, mean, variance = normalize(
            inputs, self.gamma.select(name), self.beta.select(name), self.epsilon
        )
        for bank, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            bank.variable(name).assign(self._moved(bank.select(name), new))
        return outputs

    def _normalize_images(self, wide, ids, training):
        """Normalises images that lie side by side, each by its own domain's statistics."""
        learns = [self._learns_statistics(name) for name in self.domains]
        gamma, beta, mean, variance = (bank.select(ids) for bank in self._banks)
        if not training or not any(learns):
            flat = (ops.reshape(value, (-1,)) for value in (gamma, beta, mean, variance))
            return normalize_by(wide, *flat, self.epsilon)
        # (batch, domains): whether an image moves the statistics of a domain, and its share in them.
        member = ops.one_hot(ids, len(self.domains), dtype="float32") * ops.convert_to_tensor(learns, "float32")
        images = ops.sum(member, axis=0)
        share = member / ops.maximum(images, 1.0)
        given = 1.0 - ops.sum(member, axis=1, keepdims=True)
        outputs, mean, variance = normalize_images(
            wide, gamma, beta, ops.matmul(member, ops.transpose(share)), given * mean, given * variance, self.epsilon
        )
        for bank, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            old = bank.stacked()
            moved = self._moved(old, ops.matmul(ops.transpose(share), new))
            moved = ops.where(images[:, None] > 0, moved, old)
            for name, value, learn in zip(self.domains, ops.unstack(moved), learns, strict=True):
                if learn:
                    bank.variable(name).assign(value)
        return outputs

    def _learns_statistics(self, name):
        of_trunk = name in self.gamma.sharing and not self.gamma.one_for_all
        return self.gamma.variable(name).trainable and not self.keeps_statistics and not of_trunk

    def scale_and_offset(self, domain):
        """Returns what the layer comes to in inference for the domain of this name: input * scale + offset.

        Returns:
            Scale and offset, each (channels,), float64.

        Raises:
            ValueError: if there is no such domain.
        """
        gamma, beta, mean, variance = (bank.exact(domain) for bank in self._banks)
        scale = gamma / np.sqrt(variance + self.epsilon)
        return scale, beta - mean * scale

    @property
    def _banks(self):
        return self.gamma, self.beta, self.moving_mean, self.moving_variance

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
