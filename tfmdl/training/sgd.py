"""SGD with momentum and an L2 term per variable, and with Adam for some variables."""

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    def step_of_sgd(optimizer, gradient, variable, learning_rate):
        """Does what Keras's SGD with momentum does, in one op instead of five: a network has hundreds of variables."""
        momentum = optimizer.momentums[optimizer._get_variable_index(variable)]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=momentum.value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=gradient,
            momentum=tf.constant(optimizer.momentum, variable.dtype),
        )

else:
    step_of_sgd = keras.optimizers.SGD.update_step


class DecayingSGD(keras.optimizers.SGD):
    """SGD with momentum that adds a multiple of each variable to its gradient, as an L2 term in the loss would.

    As a term in the loss it would take several more ops for each variable. Keras's own `weight_decay` is of the
    decoupled kind: it bypasses the momentum.

    Args:
        learning_rate, momentum: Of SGD.
        decay_of: Gives the multiple for a variable.
    """

    def __init__(self, learning_rate, momentum, decay_of, **kwargs):
        super().__init__(learning_rate, momentum=momentum, **kwargs)
        self.decay_of = decay_of

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.decays = [self.decay_of(variable) for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        if self.decays[index]:
            gradient = gradient + variable * self.decays[index]
        self.move(index, gradient, variable, learning_rate)

    def move(self, index, gradient, variable, learning_rate):
        """Moves the `index`th variable by its whole gradient."""
        step_of_sgd(self, gradient, variable, learning_rate)


class SGDWithAdam(DecayingSGD):
    """`DecayingSGD`, but Adam for some variables. The oldest Keras that is accepted has no MultiOptimizer.

    Args:
        learning_rate, momentum: Of SGD.
        decay_of: As for `DecayingSGD`; Adam too sees the L2 term in the gradient.
        adam_rate_of: Gives Adam's learning rate for a variable, a number or a schedule; None where SGD moves it.
        beta_1, beta_2, epsilon: Of Adam.

    Reference: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    """

    def __init__(
        self,
        learning_rate,
        momentum,
        decay_of,
        adam_rate_of,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        **kwargs,
    ):
        super().__init__(learning_rate, momentum, decay_of, **kwargs)
        self.adam_rate_of = adam_rate_of
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.adam_rates = [self.adam_rate_of(variable) for variable in variables]
        self.moments = [
            None
            if rate is None
            else [self.add_variable_from_reference(variable, name=name) for name in ("first", "second")]
            for variable, rate in zip(variables, self.adam_rates, strict=True)
        ]

    def move(self, index, gradient, variable, learning_rate):
        if self.moments[index] is None:
            super().move(index, gradient, variable, learning_rate)
            return
        first, second = self.moments[index]
        rate = self.adam_rates[index]
        rate = rate(self.iterations) if callable(rate) else rate
        steps = ops.cast(self.iterations + 1, "float32")
        self.assign(first, first + (gradient - first) * (1 - self.beta_1))
        self.assign(second, second + (ops.square(gradient) - second) * (1 - self.beta_2))
        mean = first / (1 - ops.power(self.beta_1, steps))
        square = second / (1 - ops.power(self.beta_2, steps))
        self.assign_sub(variable, rate * mean / (ops.sqrt(square) + self.epsilon))
