"""The signatures of an export: from image files or pixels to labels, all of it in the graph.

    serving_default         image_bytes string (rows,), domain string (rows,)       JPEG, PNG, GIF or BMP files
    tf_example              examples string (rows,), domain string (rows,)          as `tfmdl.data.records` has them
    features                image_bytes string (rows,), domain string (rows,)       answers with the pooled features
    serve_images            image float32 (rows, height, width, 3), domain_id int32 (rows,)      computes no strings
    classify_<domain>       image float32 (rows, any height, any width, 3)
    ..._uint8               the last two for uint8

Pixels are red, green and blue in 0..255; those of float32 are rounded to whole numbers, as image files hold them. All
but serve_images, which takes images of just the size that the network sees, resize and crop as evaluation does. Rows of
one request may be of any domains that are seen at one size; others have their classify_<domain>.

The answer, one row per image, the most probable class first:

    label        string (rows, k)    name of the class; not from serve_images
    probability  float32 (rows, k)   of that class among the domain's classes
    class_id     int32 (rows, k)     its index in the domain, from 0

k is `TOP`, or the number of classes where that is less. Where rows of several domains share one answer, k follows the
domain with the most classes, and a row of a domain with fewer is filled up: label "", probability 0, class_id -1.
features answers with features, float32 (rows, channels).

What one domain is answered does not depend on which other domains there are, not in a single bit: no operation on its
values mixes them with another's.
"""

import dataclasses
from collections import Counter

import numpy as np
import tensorflow as tf

from tfmdl.data.decode import normalize, window_of_images
from tfmdl.packs import Pack
from tfmdl.serving.images import decode_rows, encoded_images
from tfmdl.serving.limits import MAX_PIXELS, RULES, pixels_needed, pixels_told
from tfmdl.serving.refusal import refuse, refuse_rows, refuse_rows_without_strings

TOP = 5
SERVING_DEFAULT = "serving_default"
TF_EXAMPLE = "tf_example"
FEATURES = "features"
SERVE_IMAGES = ("serve_images", "serve_images_uint8")


@dataclasses.dataclass(frozen=True)
class Served:
    """What an export serves.

    Attributes:
        model: A `MultiDomainClassifier`, or what is folded from one.
        packs: The packs of its domains, in their order.
        ids: What stands for each domain in serve_images, by name. An id outlives versions: it is never given to
            another domain.
        size: Height and width of the images of a batch that mixes domains.
        gathers: A batch mixes domains; False for a folded network of one domain.
    """

    model: object
    packs: tuple[Pack, ...]
    ids: dict[str, int]
    size: tuple[int, int]
    gathers: bool = True

    @property
    def mixable(self) -> tuple[Pack, ...]:
        """The packs whose domains share a batch: those that are evaluated at `size`."""
        return tuple(pack for pack in self.packs if pack.preprocessing.size == self.size)

    @property
    def top(self) -> int:
        """How many classes an answer of a mixed batch names."""
        return min(TOP, max(len(pack.label_names) for pack in self.mixable))


def most_common_size(packs) -> tuple[int, int]:
    """Returns the size that most of the packs' domains are evaluated at; the first of several."""
    sizes = Counter(pack.preprocessing.size for pack in packs)
    return max(sizes, key=sizes.get)


def module_of_values(model) -> tf.Module:
    """Returns a module of the values of a model: plain variables by their paths, for an export knows no Keras."""
    module = tf.Module()
    module.values = {variable.path: variable.value for variable in model.variables}
    return module


def build_module(served: Served) -> tuple[tf.Module, dict]:
    """Returns a module that holds the values of the model, and signatures on them, by name.

    Raises:
        ValueError: if the names of two domains lead to one name of a signature.
    """
    module = module_of_values(served.model)
    features = mixed_features(served)
    signatures = {**file_signatures(served, features), **mixed_pixel_signatures(served, features)}
    for pack in served.packs:
        for name, signature in pixel_signatures(served.model, pack).items():
            if name in signatures:
                raise ValueError(f"domain {pack.domain!r}: another domain's signature is named {name!r} already")
            signatures[name] = signature
    return module, signatures


def pixel_names(domain: str) -> tuple[str, str]:
    """Returns the names of the signatures that take float32 and uint8 pixels of `domain`."""
    return f"classify_{domain}", f"classify_{domain}_uint8"


def mixed_features(served: Served):
    """Returns a function from pixels, (rows, *served.size, 3), and slots, int32 (rows,), to pooled features.

    A slot is the position of the row's domain in `served.mixable`. There is at least one row.
    """
    preprocessing = [pack.preprocessing for pack in served.mixable]
    mean = np.array([each.mean for each in preprocessing], "float32")
    std = np.array([each.std for each in preprocessing], "float32")
    names = [pack.domain for pack in served.mixable]
    index = np.array([served.model.domain_id(name) for name in names], "int32")

    # Its graph is large, and stored once for all signatures that call it.
    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec((None, *served.size, 3), tf.float32), tf.TensorSpec((None,), tf.int32)],
    )
    def features(images, slot):
        own_mean, own_std = (tf.gather(value, slot)[:, None, None, :] for value in (mean, std))
        images = normalize(images, own_mean, own_std)
        return served.model.features(images, tf.gather(index, slot) if served.gathers else names[0])

    return features


def file_signatures(served: Served, features_of) -> dict:
    """Returns the signatures that take image files and examples, each row of the domain that it names, by name."""
    mixable, model = served.mixable, served.model
    elsewhere = [pack for pack in served.packs if pack not in mixable]
    names = [pack.domain for pack in mixable]
    covers, centres = ([getattr(p.preprocessing, name) for p in mixable] for name in ("cover_size", "centre"))

    def slot_of(domain):
        """Returns which of `names` each row's domain is."""
        for pack in elsewhere:
            reason = (
                f"domain [{pack.domain}] is seen at {_pixels(pack.preprocessing.size)} pixels, not at "
                f"{_pixels(served.size)}: ask signature {pixel_names(pack.domain)[0]}"
            )
            domain = refuse_rows(domain, domain == pack.domain, lambda row, reason=reason: reason)
        known = domain[:, None] == tf.constant(names)

        def reason(row):
            expected = f"]; expected {', '.join(model.domains)}"
            return tf.strings.join(["unknown domain [", tf.strings.substr(domain[row], 0, 80), expected])

        domain = refuse_rows(domain, ~tf.reduce_any(known, axis=1), reason)
        with tf.control_dependencies([domain]):
            return tf.argmax(known, axis=1, output_type=tf.int32)

    def strings(name):
        return tf.TensorSpec((None,), tf.string, name=name)

    # Reading image files is a large part of the graph: as `mixed_features`, it is stored once.
    @tf.function(autograph=False, input_signature=[strings("image_bytes"), strings("domain")])
    def read_and_embed(image_bytes, domain):
        """Returns features and slots of at least one row."""
        slot = slot_of(domain)
        with tf.control_dependencies([slot]):
            cover, centre = tf.gather(tf.constant(covers), slot), tf.gather(tf.constant(centres), slot)
            images = decode_rows(tf.identity(image_bytes), domain, cover, served.size, centre)
        images, slot = _at_least_one_row(images), _at_least_one_row(slot)
        return features_of(tf.cast(images, tf.float32), slot), slot

    def paired(files, domain, argument):
        """Returns `files` and how many there are, once `domain` is found to have as many rows."""
        rows, domain_rows = tf.shape(files)[0], tf.shape(domain)[0]
        reason = f"{argument} and domain want one row per image; received {{}} and {{}}"
        domain = refuse(domain, rows != domain_rows, lambda: tf.strings.format(reason, (rows, domain_rows)))
        with tf.control_dependencies([domain]):
            return tf.identity(files), rows

    def signature(argument, answer, read=tf.identity):
        @tf.function(autograph=False, input_signature=[strings(argument), strings("domain")])
        def answered(files, domain):
            files, rows = paired(files, domain, argument)
            return _first(rows, answer(*read_and_embed(read(files), domain)))

        return answered

    def classes(pooled, slot):
        return _mixed_answer(served, pooled, slot)

    return {
        SERVING_DEFAULT: signature("image_bytes", classes),
        TF_EXAMPLE: signature("examples", classes, encoded_images),
        FEATURES: signature("image_bytes", lambda pooled, slot: {"features": pooled}),
    }


def mixed_pixel_signatures(served: Served, features_of) -> dict:
    """Returns the signatures for pixels of any domains, float32 and uint8, by name. They compute no strings."""
    ids = np.array([served.ids[pack.domain] for pack in served.mixable], "int32")
    expected = ", ".join(f"{served.ids[pack.domain]} {pack.domain}" for pack in served.mixable)
    shape = (None, *served.size, 3)

    def answer(image, domain_id):
        rows, id_rows = tf.shape(image)[0], tf.shape(domain_id)[0]
        reason = "image and domain_id want one row per image; received"
        paired = tf.debugging.Assert(rows == id_rows, [reason, rows, id_rows])
        with tf.control_dependencies([paired]):
            domain_id = tf.identity(domain_id)
        known = domain_id[:, None] == tf.constant(ids)
        image = refuse_rows_without_strings(
            image, ~tf.reduce_any(known, axis=1), f"has no domain_id of {expected}; received", domain_id
        )
        slot = tf.argmax(tf.cast(known, tf.int32), axis=1, output_type=tf.int32)
        image, slot = _at_least_one_row(image), _at_least_one_row(slot)
        pooled = features_of(tf.cast(image, tf.float32), slot)
        answer = _mixed_answer(served, pooled, slot, with_labels=False)
        return _first(rows, answer)

    def signature(dtype, name):
        @tf.function(
            autograph=False,
            input_signature=[
                tf.TensorSpec(shape, dtype, name="image"),
                tf.TensorSpec((None,), tf.int32, name="domain_id"),
            ],
        )
        def classify(image, domain_id):
            if dtype == tf.float32:
                finite = tf.reduce_all(tf.math.is_finite(image), axis=(1, 2, 3))
                image = refuse_rows_without_strings(image, ~finite, "of image is not finite")
                image = _as_in_files(image)
            return answer(image, domain_id)

        return classify

    return {name: signature(dtype, name) for name, dtype in zip(SERVE_IMAGES, (tf.float32, tf.uint8), strict=True)}


def pixel_signatures(model, pack: Pack) -> dict:
    """Returns the signatures for pixels of one domain, of any size, float32 and uint8, by name."""
    domain, preprocessing = pack.domain, pack.preprocessing
    size, cover, centre = preprocessing.size, preprocessing.cover_size, preprocessing.centre
    shape = (None, None, None, 3)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape, tf.uint8)])
    def classify(image):
        rows, sides = tf.shape(image)[0], tf.shape(image)[1:3]
        empty = tf.reduce_any(sides < 1) & (rows > 0)
        image = refuse(image, empty, lambda: f"domain [{domain}]: images have no pixels")
        too_large = pixels_needed(tf.maximum(sides, 1), tf.constant(cover)) > MAX_PIXELS
        image = refuse(
            image,
            too_large & (rows > 0),
            lambda: tf.strings.join(
                [f"domain [{domain}]: an image ", pixels_told(sides, tf.constant(cover)), RULES["pixels"]]
            ),
        )
        image = tf.cond(
            rows > 0,
            lambda: window_of_images(image, cover, size, centre),
            lambda: tf.zeros((1, *size, 3), tf.uint8),
        )
        image = normalize(tf.ensure_shape(image, (None, *size, 3)), preprocessing.mean, preprocessing.std)
        logits = model.head(model.features(image, domain), domain=domain)
        probability, class_id = _best(logits, min(TOP, len(pack.label_names)))
        label = tf.gather(tf.constant(pack.label_names), class_id)
        return _first(rows, {"label": label, "probability": probability, "class_id": class_id})

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])
    def classify_float32(image):
        finite = tf.reduce_all(tf.math.is_finite(image), axis=(1, 2, 3))
        image = refuse_rows(image, ~finite, lambda row: f"image for domain [{domain}] is not finite")
        return classify(tf.cast(_as_in_files(image), tf.uint8))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape, tf.uint8, name="image")])
    def classify_uint8(image):
        return classify(image)

    return dict(zip(pixel_names(domain), (classify_float32, classify_uint8), strict=True))


def _mixed_answer(served, features, slot, with_labels=True):
    """Returns the outputs of a signature, for rows of several domains, each of the domain in its slot."""
    probabilities, class_ids = [], []
    # By domain, for all rows, and then each row's own: what a domain is answered is the same whoever else is there.
    for pack in served.mixable:
        top = min(served.top, len(pack.label_names))
        probability, class_id = _best(served.model.head(features, domain=pack.domain), top)
        fill = [[0, 0], [0, served.top - top]]
        probabilities.append(tf.pad(probability, fill))
        class_ids.append(tf.pad(class_id, fill, constant_values=-1))
    own = tf.stack([slot, tf.range(tf.size(slot))], axis=1)
    probability, class_id = (tf.gather_nd(tf.stack(values), own) for values in (probabilities, class_ids))
    answer = {"probability": probability, "class_id": class_id}
    if with_labels:
        labels = [label for pack in served.mixable for label in pack.label_names]
        first = np.cumsum([0, *(len(pack.label_names) for pack in served.mixable)])[:-1].astype("int32")
        at = tf.gather(first, slot)[:, None] + tf.maximum(class_id, 0)
        answer["label"] = tf.where(class_id >= 0, tf.gather(tf.constant(labels), at), "")
    return answer


def _best(logits, top):
    """Returns probability and index of the `top` most probable classes of each row."""
    _, class_id = tf.math.top_k(logits, top)
    return tf.gather(tf.nn.softmax(logits), class_id, batch_dims=1), class_id


def _as_in_files(image):
    """Returns float32 pixels as image files hold them: whole numbers in 0..255."""
    return tf.clip_by_value(tf.round(image), 0.0, 255.0)


def _first(rows, answer):
    """Returns the outputs without the row that stands in where there are none."""
    return {name: value[:rows] for name, value in answer.items()}


def _at_least_one_row(values):
    """Adds a row of zeros where there is none: not every op takes an empty batch."""
    missing = tf.cast(tf.equal(tf.shape(values)[0], 0), tf.int32)
    return tf.pad(values, [[0, missing], *[[0, 0]] * (len(values.shape) - 1)])


def _pixels(size):
    return "{}x{}".format(*size)
