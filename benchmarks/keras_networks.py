"""Contestants on Keras: ours, and the same network of stock layers. On the TensorFlow or the JAX backend."""

import time

import numpy as np

from benchmarks.common import Size

CLASSES = 100


def our_training(size: Size, method="pointwise_sharing", trunk=True, domains=1):
    """Training steps as train.py takes them.

    Args:
        size: A `Size`.
        method: Sharing method.
        trunk: Train the shared variables too; otherwise a domain is added.
        domains: More than one: every batch mixes so many.
    """
    from tfmdl.recipes import recipe_for
    from tfmdl.training import optimization

    _set_up()
    model = _our_model(size, method, domains)
    model.train_only(model.domains, shared=trunk)
    network = model.tower(model.domains[0]) if domains == 1 else model.mixed()
    recipe = recipe_for("paper", model.domains[0], CLASSES, 1_000_000, trunk, method)
    optimization.compile_network(network, model, dict.fromkeys(model.domains, recipe), 1000, _xla())
    inputs, labels = _our_batch(size, domains)
    return _fitting(network, inputs, labels, size)


def our_inference(size: Size, domains=1):
    """The network that eval.py runs: a tower, or the mixed graph."""
    _set_up()
    model = _our_model(size, "pointwise_sharing", domains)
    network = model.tower(model.domains[0]) if domains == 1 else model.mixed()
    return _calling(network, _our_batch(size, domains)[0], size)


def folded_inference(size: Size):
    """What an export of one domain serves: the normalisation folded into the kernels."""
    from tfmdl.serving.network import FoldedClassifier

    _set_up()
    folded = FoldedClassifier(_our_model(size, "pointwise_sharing", 1))
    domain = folded.domains[0]

    def network(image, training):
        return folded.head(folded.features(image, domain), domain=domain)

    return _calling(network, _our_batch(size, 1)[0], size)


def lite_training(size: Size):
    """Training steps of a domain added to EfficientNet-Lite0 by pointwise sharing, as the recipe finetune has it."""
    from tfmdl.recipes import recipe_for
    from tfmdl.training import optimization

    _set_up()
    model = _our_lite(1)
    (domain,) = model.domains
    model.train_only([domain], keeps_statistics=True)
    recipe = recipe_for("finetune", domain, CLASSES, 4000, False, "pointwise_sharing")
    network = model.tower(domain, recipe.dropout)
    optimization.compile_network(network, model, {domain: recipe}, 1000, _xla())
    return _fitting(network, *_our_batch(size, 1), size)


def lite_inference(size: Size, folded=False, domains=1):
    """EfficientNet-Lite0 as it is evaluated and exported, or as --fold exports it; batches of one domain, or mixed."""
    from tfmdl.serving.network import FoldedClassifier

    _set_up()
    model = _our_lite(domains)
    if folded:
        model = FoldedClassifier(model)

    def network(inputs, training):
        image, domain = (inputs, model.domains[0]) if domains == 1 else (inputs["image"], inputs["domain"])
        return model.head(model.features(image, domain), domain=domain)

    return _calling(network, _our_batch(size, domains)[0], size)


def _our_lite(domains):
    from tfmdl import imported
    from tfmdl.pretrained import efficientnet_lite

    classes = {f"domain{number}": CLASSES for number in range(domains)}
    return imported.classifier_of(efficientnet_lite.efficientnet_lite0(), classes, "pointwise_sharing")


def stock_training(size: Size, jit_compile=False):
    """Training steps of the same network of stock layers; `jit_compile` "auto" is what Keras does by default."""
    import keras

    keras.utils.set_random_seed(0)
    network = stock_network(size, decay=2.5e-4)
    network.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit_compile if keras.backend.backend() == "tensorflow" else "auto",
    )
    return _fitting(network, *_batch(size), size)


def stock_inference(size: Size):
    import keras

    keras.utils.set_random_seed(0)
    return _calling(stock_network(size), _batch(size)[0], size)


def stock_network(size: Size, decay=None):
    """The separable ResNet-26 of stock Keras layers."""
    import keras
    from keras import layers

    keras.config.set_dtype_policy(size.dtype)
    l2 = keras.regularizers.L2(decay) if decay else None
    bn = {"momentum": 0.9, "epsilon": 1e-5, "beta_regularizer": l2, "gamma_regularizer": l2}

    def conv(x, filters, strides=1):
        x = layers.DepthwiseConv2D(3, strides, "same", use_bias=False, depthwise_regularizer=l2)(x)
        x = layers.Conv2D(filters, 1, use_bias=False, kernel_regularizer=l2)(x)
        return layers.BatchNormalization(**bn)(x)

    image = keras.Input((size.image_size, size.image_size, 3))
    x = conv(image, size.width)
    for filters in (2 * size.width, 4 * size.width, 8 * size.width):
        for block in range(4):
            shortcut = x
            if block == 0:
                shortcut = layers.AveragePooling2D(2)(x)
                shortcut = keras.ops.pad(shortcut, ((0, 0), (0, 0), (0, 0), (0, filters // 2)))
            x = layers.ReLU()(conv(x, filters, 2 if block == 0 else 1))
            x = layers.ReLU()(layers.Add()([conv(x, filters), shortcut]))
    x = layers.ReLU()(layers.BatchNormalization(**bn)(x))
    x = layers.GlobalAveragePooling2D()(x)
    logits = layers.Dense(CLASSES, dtype="float32", kernel_regularizer=l2, bias_regularizer=l2)(x)
    return keras.Model(image, logits)


def matrix_products(size: Size, backward=True, weights=True):
    """The matrix products of the pointwise convolutions alone: forward, and the gradients of inputs and weights."""
    import keras

    random = np.random.default_rng(0)
    dtype = "bfloat16" if "bfloat16" in size.dtype else "float32"
    operands = []
    for pixels, channels, filters in size.pointwise():
        shapes = (pixels, channels), (channels, filters), (pixels, filters)
        operands.append([keras.ops.cast(random.random(shape, "float32"), dtype) for shape in shapes])

    def products(operands):
        results = []
        for x, kernel, dy in operands:
            results.append(keras.ops.matmul(x, kernel))
            if backward:
                results.append(keras.ops.matmul(dy, keras.ops.transpose(kernel)))
            if backward and weights:
                results.append(keras.ops.matmul(keras.ops.transpose(x), dy))
        return results

    return _timed(_compiled(products), operands, size)


def _set_up():
    import keras

    if keras.backend.backend() == "tensorflow":
        from tfmdl.training import devices

        devices.set_up(0)
    else:
        keras.utils.set_random_seed(0)


def _xla():
    import keras

    if keras.backend.backend() != "tensorflow":
        return "auto"
    from tfmdl.training import devices

    return devices.use_xla("auto")


def _our_model(size, method, domains):
    from tfmdl.architecture import Architecture
    from tfmdl.model import MultiDomainClassifier

    classes = {f"domain{number}": CLASSES for number in range(domains)}
    return MultiDomainClassifier(classes, Architecture(method, "resnet26_separable", size.width), size.dtype)


def _batch(size):
    random = np.random.default_rng(0)
    images = random.normal(size=(size.batch, size.image_size, size.image_size, 3)).astype("float32")
    return images, random.integers(CLASSES, size=size.batch).astype("int32")


def _our_batch(size, domains):
    images, labels = _batch(size)
    if domains == 1:
        return images, labels
    domain = np.arange(size.batch, dtype="int32") % domains
    return {"image": images, "domain": domain}, labels + domain * CLASSES


def _fitting(network, inputs, labels, size):
    """Returns turns of `fit` on one batch again and again, as images/s."""
    dataset = _repeated(inputs, labels, size.steps)

    def turn():
        started = time.perf_counter()
        network.fit(dataset, verbose=0, shuffle=False)
        return size.batch * size.steps / (time.perf_counter() - started)

    return turn


def _repeated(inputs, labels, steps):
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False  # or the end of a turn may wait for the tuner to wake up, for up to a turn
        return tf.data.Dataset.from_tensors((inputs, labels)).repeat(steps).with_options(options)
    inputs, labels = keras.tree.map_structure(keras.ops.convert_to_tensor, (inputs, labels))

    class Repeated(keras.utils.PyDataset):
        def __len__(self):
            return steps

        def __getitem__(self, index):
            return inputs, labels

    return Repeated()


def _calling(network, inputs, size):
    import keras

    if keras.backend.backend() == "tensorflow":
        return _timed(_compiled(lambda x: network(x, training=False)), inputs, size)
    state = [[variable.value for variable in group] for group in _states(network)]
    call = _compiled(lambda state, x: network.stateless_call(*state, x, training=False)[0])
    return _timed(lambda x: call(state, x), inputs, size)


def _states(network):
    return network.trainable_variables, network.non_trainable_variables


def _compiled(function):
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    import jax

    return jax.jit(function)


def _timed(function, inputs, size):
    """Returns turns of calls of `function`, as images/s."""
    import keras

    inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)

    def turn():
        started = time.perf_counter()
        for _ in range(size.steps):
            outputs = function(inputs)
        last = keras.tree.flatten(outputs)[-1]
        if hasattr(last, "block_until_ready"):
            last.block_until_ready()
        else:
            last.numpy()
        return size.batch * size.steps / (time.perf_counter() - started)

    return turn
