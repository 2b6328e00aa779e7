"""The signatures of an export: from image files or pixels to labels, all of it in the graph.

Every signature answers with the same three outputs, a row an image, the most probable class first:

    label        string (rows, k)   name of the class
    probability  float32 (rows, k)  of that class among the domain's classes
    class_id     int32 (rows, k)    its index in the domain, from 0

k is `TOP`, or the number of classes where that is less. Where rows of several domains share one answer, k
follows the domain with the most classes, and a row of a domain with fewer is filled up: label "", probability 0,
class_id -1.
"""

from collections import Counter

import numpy as np
import tensorflow as tf

from tfmdl.data.decode import center, decode_window, format_of, normalize, size_of
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import Pack

TOP = 5
SERVING_DEFAULT = "serving_default"


def build_module(model: MultiDomainClassifier, packs: list[Pack]) -> tuple[tf.Module, dict]:
    """Returns a module that holds the values of the model, and signatures on them, by name.

    Args:
        model: The model, float32.
        packs: The packs of its domains, in their order.

    Raises:
        ValueError: if the names of two domains lead to one name of a signature.
    """
    module = tf.Module()
    # Plain variables, by their paths: a loaded export knows nothing of Keras.
    module.values = {variable.path: variable.value for variable in model.variables}
    signatures = {SERVING_DEFAULT: image_file_signature(model, packs)}
    for pack in packs:
        for name, signature in pixel_signatures(model, pack).items():
            if name in signatures:
                raise ValueError(f"domain {pack.domain!r}: another domain's signature is named {name!r} already")
            signatures[name] = signature
    return module, signatures


def pixel_names(domain: str) -> tuple[str, str]:
    """Returns the names of the signatures that take float32 and uint8 pixels of `domain`."""
    return f"classify_{domain}", f"classify_{domain}_uint8"


def mixable(packs: list[Pack]) -> list[Pack]:
    """Returns the packs whose domains share one batch: those of the size that most are evaluated at."""
    sizes = Counter(_size(pack) for pack in packs)
    most_common = max(sizes, key=sizes.get)  # of equals the first
    return [pack for pack in packs if _size(pack) == most_common]


def image_file_signature(model: MultiDomainClassifier, packs: list[Pack]):
    """Returns the signature for image files, each row of the domain that it names.

    It takes image_bytes, string (rows,), which are JPEG, PNG, GIF or BMP files, and domain, string (rows,). A
    domain that is not evaluated at the size of the others (see `mixable`) is sent to its own signature.
    """
    served = mixable(packs)
    size = _size(served[0])
    names = [pack.domain for pack in served]
    elsewhere = [pack for pack in packs if pack not in served]
    # By id of the domain, which counts all packs.
    mean = np.array([pack.preprocessing.mean for pack in packs], "float32")
    std = np.array([pack.preprocessing.std for pack in packs], "float32")
    first = np.array(list(model.head.offsets.values()), "int32")
    count = np.array(list(model.num_classes.values()), "int32")
    labels = [label for pack in packs for label in pack.label_names]
    top = min(TOP, max(len(pack.label_names) for pack in served))

    def ids_of(domain):
        for pack in elsewhere:
            reason = (
                f"domain [{pack.domain}] is seen at {_pixels(pack)} pixels, not at {_pixels(served[0])}: "
                f"ask signature {pixel_names(pack.domain)[0]}"
            )
            domain = _refuse_rows(domain, domain == pack.domain, lambda row, reason=reason: reason)
        known = domain[:, None] == tf.constant(names)
        unknown = ~tf.reduce_any(known, axis=1)
        domain = _refuse_rows(
            domain,
            unknown,
            lambda row: tf.strings.join(
                [
                    "unknown domain [",
                    tf.strings.substr(domain[row], 0, 80),
                    f"]; expected {', '.join(model.domains)}",
                ]
            ),
        )
        with tf.control_dependencies([domain]):
            return tf.gather([model.domain_id(name) for name in names], tf.argmax(known, axis=1))

    @tf.function(
        input_signature=[
            tf.TensorSpec((None,), tf.string, name="image_bytes"),
            tf.TensorSpec((None,), tf.string, name="domain"),
        ]
    )
    def classify(image_bytes, domain):
        rows, domain_rows = tf.shape(image_bytes)[0], tf.shape(domain)[0]
        domain = _refuse(
            domain,
            rows != domain_rows,
            lambda: tf.strings.format(
                "image_bytes and domain want a row an image; received {} and {}", (rows, domain_rows)
            ),
        )
        domain_id = ids_of(domain)
        with tf.control_dependencies([domain_id]):
            images = _decode_rows(tf.identity(image_bytes), domain, size)
        images, domain_id = _at_least_one_row(images), _at_least_one_row(domain_id)
        own_mean, own_std = (tf.gather(value, domain_id)[:, None, None, :] for value in (mean, std))
        which = domain_id if len(packs) > 1 else names[0]  # one domain alone needs no gather
        logits = _logits(model, normalize(images, own_mean, own_std), which)
        own_first, own_count = (tf.gather(value, domain_id)[:, None] for value in (first, count))
        answer = _answer(logits, labels, top, own_first, own_count)
        return {name: value[:rows] for name, value in answer.items()}

    return classify


def pixel_signatures(model: MultiDomainClassifier, pack: Pack) -> dict:
    """Returns the signatures for pixels of one domain, float32 and uint8, by name.

    Both take image, (rows, height, width, 3) of any size: red, green and blue in 0..255. Those of float32 are
    rounded to whole numbers, as image files hold them. Images are resized and cropped as in evaluation.
    """
    domain, size = pack.domain, _size(pack)
    mean, std = pack.preprocessing.mean, pack.preprocessing.std
    shape = (None, None, None, 3)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
    def classify(image):
        rows = tf.shape(image)[0]
        empty = tf.reduce_any(tf.shape(image)[1:3] < 1) & (rows > 0)
        image = _refuse(image, empty, lambda: f"domain [{domain}]: images have no pixels")
        image = tf.cond(rows > 0, lambda: center(image, size), lambda: tf.zeros((1, *size, 3), tf.uint8))
        image = tf.ensure_shape(image, (None, *size, 3))
        logits = _logits(model, normalize(image, mean, std), domain)
        answer = _answer(logits, pack.label_names, min(TOP, len(pack.label_names)))
        return {name: value[:rows] for name, value in answer.items()}

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])
    def classify_float32(image):
        return classify(tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8))

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, name="image")])
    def classify_uint8(image):
        return classify(image)

    return dict(zip(pixel_names(domain), (classify_float32, classify_uint8), strict=True))


def _size(pack):
    return pack.preprocessing.height, pack.preprocessing.width


def _pixels(pack):
    return "{}x{}".format(*_size(pack))


def _logits(model, images, domain):
    return model.head(model.features(images, domain), domain=domain)


def _answer(logits, labels, top, first=0, count=None):
    """Returns the outputs of a signature.

    Args:
        logits: (rows, classes) of one domain, or of several, with the classes of all others masked.
        labels: Names of the classes.
        top: How many classes to name.
        first, count: First class of the row's domain, and how many it has, int32 (rows, 1); by default all.
    """
    _, column = tf.math.top_k(logits, top)
    probability = tf.gather(tf.nn.softmax(logits), column, batch_dims=1)
    class_id = column - first
    own = (class_id >= 0) & (class_id < (tf.shape(logits)[1] if count is None else count))
    return {
        "label": tf.where(own, tf.gather(labels, column), ""),
        "probability": tf.where(own, probability, 0.0),
        "class_id": tf.where(own, class_id, -1),
    }


def _decode_rows(encoded, domain, size):
    """Decodes image files as evaluation does: string (rows,) to uint8 (rows, *size, 3)."""
    rows = tf.size(encoded, tf.int64)
    formats = format_of(encoded)

    def described(row, fault):
        length = tf.strings.as_string(tf.strings.length(encoded[row]))
        return tf.strings.join(["the image of ", length, " bytes for domain [", domain[row], "] ", fault])

    encoded = _refuse_rows(encoded, formats == "", lambda row: described(row, "is no JPEG, PNG, GIF or BMP file"))

    def decode(row):
        height, width = tf.unstack(size_of(encoded[row], formats[row]))
        return row, decode_window(encoded[row], formats[row], height, width, size, size, tf.constant([0, 0]))

    # A dataset, because nothing else in a graph outlives an error: so the row that fails can be named. It
    # ends with a blank image, since a dataset cannot give a batch of none.
    blank = tf.data.Dataset.from_tensors((rows, tf.zeros((*size, 3), tf.uint8)))
    dataset = tf.data.Dataset.range(rows).map(decode).ignore_errors().concatenate(blank).batch(rows + 1)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False  # they would run at each request
    decoded, images = dataset.with_options(options).get_single_element()

    whole = tf.scatter_nd(decoded[:, None], tf.ones_like(decoded), (rows + 1,))[:-1]
    return _refuse_rows(images[:-1], whole == 0, lambda row: described(row, "is damaged: it does not decode"))


def _at_least_one_row(values):
    """Adds a row of zeros where there is none: not every op takes an empty batch."""
    missing = tf.cast(tf.equal(tf.shape(values)[0], 0), tf.int32)
    return tf.pad(values, [[0, missing], *[[0, 0]] * (len(values.shape) - 1)])


def _refuse_rows(values, bad, reason):
    """Returns `values`, or fails with the first row that is `bad`, bool (rows,), and `reason(row)`."""

    def message():
        row = tf.argmax(bad)
        return tf.strings.join(["row ", tf.strings.as_string(row), ": ", reason(row)])

    return _refuse(values, tf.reduce_any(bad), message)


def _refuse(values, bad, message):
    """Returns `values`, or fails with `message()` if the scalar `bad` is true.

    TensorFlow escapes quotes in such messages: names stand in brackets.
    """

    def fail():
        tf.debugging.Assert(False, [message()])
        return False

    # The message is made only where it is needed: it reads rows that may not be there.
    checked = tf.cond(bad, fail, lambda: True)
    with tf.control_dependencies([checked]):
        return tf.identity(values)
