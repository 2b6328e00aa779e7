"""One classifier per domain over one concatenated label space."""

import keras
import numpy as np
from keras import ops

from tfmdl.layers.domain_bank import DomainBank

MASKED_LOGIT = -1e9  # finite, so that gradients stay finite; its softmax is exactly zero


class DomainHead(keras.layers.Layer):
    """One dense classifier per domain.

    With the domain as a name: the logits of that domain's classes. With a scalar or one domain per image: logits over
    the concatenated label space (the domains' classes one after the other, in the order of their ids), in which the
    classes of every other domain are masked with `MASKED_LOGIT`. Always float32.

    Args:
        num_classes: Number of classes by name of the domain; its order is the order of the ids.

    Input shape: (batch, channels).
    Output shape: (batch, num_classes[domain]) for a name, else (batch, sum of all classes).

    Raises:
        ValueError: if there is no domain, or one has no class.
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not num_classes:
            raise ValueError(f"`num_classes` must name at least one domain; received num_classes={num_classes}")
        for domain, classes in num_classes.items():
            if classes < 1:
                raise ValueError(f"`num_classes` must be positive; received {classes} for domain {domain!r}")
        self.num_classes = dict(num_classes)
        # A bank of one domain each, since no two need have the same number of classes.
        self.kernels = {}
        self.biases = {}
        for domain in num_classes:
            uniform = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
            self.kernels[domain] = DomainBank((domain,), initializer=uniform, dtype="float32", name="kernel")
            self.biases[domain] = DomainBank((domain,), dtype="float32", name="bias")

    @property
    def offsets(self):
        """Index of each domain's first class in the concatenated label space, by name."""
        starts = np.cumsum([0, *self.num_classes.values()])[:-1]
        return dict(zip(self.num_classes, starts.tolist(), strict=True))

    def build(self, input_shape):
        for domain, classes in self.num_classes.items():
            self.kernels[domain].build((input_shape[-1], classes))
            self.biases[domain].build((classes,))

    def call(self, inputs, domain):
        if isinstance(domain, str):
            self._check(domain)
            return ops.matmul(inputs, self.kernels[domain].select(domain)) + self.biases[domain].select(domain)
        kernel = ops.concatenate([self.kernels[name].select(name) for name in self.num_classes], axis=1)
        bias = ops.concatenate([self.biases[name].select(name) for name in self.num_classes])
        logits = ops.matmul(inputs, kernel) + bias
        owner = np.repeat(np.arange(len(self.num_classes)), list(self.num_classes.values()))
        own = ops.equal(ops.expand_dims(domain, -1), ops.convert_to_tensor(owner, dtype="int32"))
        return ops.where(own, logits, MASKED_LOGIT)

    def compute_output_spec(self, inputs, domain):
        if isinstance(domain, str):
            self._check(domain)
            return keras.KerasTensor((inputs.shape[0], self.num_classes[domain]), dtype="float32")
        return keras.KerasTensor((inputs.shape[0], sum(self.num_classes.values())), dtype="float32")

    def _check(self, domain):
        if domain not in self.num_classes:
            raise ValueError(f"`domain` must be one of {', '.join(self.num_classes)}; received domain={domain!r}")

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}
