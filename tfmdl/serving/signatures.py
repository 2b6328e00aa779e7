"""The signatures of an export: from image files or pixels to labels, all of it in the graph.

    serving_default         image_bytes string (rows,), domain string (rows,)       JPEG, PNG, GIF or BMP files
    tf_example              examples string (rows,), domain string (rows,)          as `tfmdl.data.records` has them
    features                image_bytes string (rows,), domain string (rows,)       answers with the pooled features
    serve_images            image float32 (rows, height, width, 3), domain_id int32 (rows,)      computes no strings
    classify_<domain>       image float32 (rows, any height, any width, 3)
    ..._uint8               the last two for uint8
    domains                 index int32 (rows,)                     answers with a domain's name and id

Pixels are red, green and blue in 0..255; those of float32 are rounded to whole numbers, as image files hold them. All
but serve_images, which takes images of just the size that the network sees, resize and crop as evaluation does. Rows of
one request may be of any domains that are seen at one size; others have their classify_<domain>. An export of very many
domains has no other classify_<domain> than these: each takes seconds to write, and memory where it is served.

The answer, one row per image, the most probable class first:

    label        string (rows, k)    name of the class; not from serve_images
    probability  float32 (rows, k)   of that class among the domain's classes
    class_id     int32 (rows, k)     its index in the domain, from 0

k is `TOP`, or the number of classes where that is less. Where rows of several domains share one answer, k follows the
domain with the most classes, and a row of a domain with fewer is filled up: label "", probability 0, class_id -1.
features answers with features, float32 (rows, channels). domains answers for the domains counted from 0 with domain,
string (rows,), and domain_id, int32 (rows,); where there are no more with "" and -1.

What one domain is answered does not depend on which other domains there are, not in a single bit: no operation on its
values mixes them with another's.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator

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
DOMAINS = "domains"
_TOLD = 50  # domains in a message: by gRPC it may have 8 kB


@dataclasses.dataclass(frozen=True)
class Served:
    """What an export serves.

    Attributes:
        model: A `MultiDomainClassifier`, or what is folded from one.
        packs: The packs of its domains, in their order.
        ids: What stands for each domain in serve_images, by name. An id outlives versions: it is never given to
            another domain.
        size: Height and width of the images of a batch that mixes domains.
        gathers: A batch mixes domains; False for a folded network of one domain. A domain alone is computed like one
            among others otherwise: its answers stay what they are when others come.
        domain_signatures: Each domain has its classify_<domain>; otherwise only those have that no batch mixes.
    """

    model: object
    packs: tuple[Pack, ...]
    ids: dict[str, int]
    size: tuple[int, int]
    gathers: bool = True
    domain_signatures: bool = True

    @property
    def one_graph(self) -> bool:
        """Whether one graph computes any domain, which is a number to it: they are of one method."""
        return self.gathers and not self.model.budgets

    @property
    def mixable(self) -> tuple[Pack, ...]:
        """The packs whose domains share a batch: those that are evaluated at `size`."""
        return tuple(pack for pack in self.packs if pack.preprocessing.size == self.size)

    @property
    def asked_alone(self) -> tuple[Pack, ...]:
        """The packs whose domains have signatures of their own."""
        return tuple(
            pack for pack in self.packs if self.domain_signatures or pack.preprocessing.size != self.size
        )

    @property
    def top(self) -> int:
        """How many classes an answer of a mixed batch names."""
        return min(TOP, max(len(pack.label_names) for pack in self.mixable))


def most_common_size(packs) -> tuple[int, int]:
    """Returns the size that most of the packs' domains are evaluated at; the first of several."""
    sizes = Counter(pack.preprocessing.size for pack in packs)
    return max(sizes, key=sizes.get)


def all_signatures(served: Served) -> dict[str, Callable]:
    """Returns the signatures by name.

    Raises:
        ValueError: if the names of two domains lead to one name of a signature.
    """
    features, best = mixed_features(served), mixed_best(served)
    signatures = {
        **file_signatures(served, features, best),
        **mixed_pixel_signatures(served, features, best),
        DOMAINS: list_of_domains(served),
    }
    for size in dict.fromkeys(pack.preprocessing.size for pack in served.asked_alone):
        for pack, name, signature in pixel_signatures(served, size):
            if name in signatures:
                raise ValueError(f"domain {pack.domain!r}: another domain's signature is named {name!r} already")
            signatures[name] = signature
    return signatures


def pixel_names(domain: str) -> tuple[str, str]:
    """Returns the names of the signatures that take float32 and uint8 pixels of `domain`."""
    return f"classify_{domain}", f"classify_{domain}_uint8"


def list_of_domains(served: Served):
    """Returns the signature that lists the domains."""
    names, ids = zip(*((pack.domain, served.ids[pack.domain]) for pack in served.packs), strict=True)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((None,), tf.int32, name="index")])
    def domains(index):
        known = (index >= 0) & (index < len(names))
        at = tf.where(known, index, 0)
        return {
            "domain": tf.where(known, tf.gather(tf.constant(names), at), ""),
            "domain_id": tf.where(known, tf.gather(tf.constant(ids), at), -1),
        }

    return domains


def mixed_features(served: Served):
    """Returns a function from pixels, (rows, *served.size, 3), and slots, int32 (rows,), to pooled features.

    A slot is the position of the row's domain in `served.mixable`. There is at least one row.
    """
    normalized = _normalizer(served.mixable)
    names = [pack.domain for pack in served.mixable]
    index = np.array([served.model.domain_id(name) for name in names], "int32")

    @_stored_once(tf.TensorSpec((None, *served.size, 3), tf.float32), tf.TensorSpec((None,), tf.int32))
    def features(images, slot):
        images = normalized(images, slot)
        return served.model.features(images, tf.gather(index, slot) if served.gathers else names[0])

    return features


def mixed_best(served: Served):
    """Returns a function from features and slots to probability and index of the best classes of each row's domain."""
    channels = served.model.backbone.compute_output_shape((None, None, None, 3))[-1]
    columns = served.top

    @_stored_once(tf.TensorSpec((None, channels), tf.float32), tf.TensorSpec((None,), tf.int32))
    def best(features, slot):
        probabilities, class_ids = [], []
        # By domain, for all rows, and then each row's own: what a domain is answered is the same whoever else is there.
        for pack in served.mixable:
            top = min(columns, len(pack.label_names))
            probability, class_id = _best(served.model.head(features, domain=pack.domain), top)
            fill = [[0, 0], [0, columns - top]]
            probabilities.append(tf.pad(probability, fill))
            class_ids.append(tf.pad(class_id, fill, constant_values=-1))
        own = tf.stack([slot, tf.range(tf.size(slot))], axis=1)
        return tuple(tf.gather_nd(tf.stack(values), own) for values in (probabilities, class_ids))

    return best


def file_signatures(served: Served, features_of, best_of) -> dict:
    """Returns the signatures that take image files and examples, each row of the domain that it names, by name."""
    mixable, model = served.mixable, served.model
    elsewhere = [pack for pack in served.packs if pack.preprocessing.size != served.size]
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
            expected = f"]; expected {_some(model.domains)}"
            return tf.strings.join(["unknown domain [", tf.strings.substr(domain[row], 0, 80), expected])

        domain = refuse_rows(domain, ~tf.reduce_any(known, axis=1), reason)
        with tf.control_dependencies([domain]):
            return tf.argmax(known, axis=1, output_type=tf.int32)

    def strings(name):
        return tf.TensorSpec((None,), tf.string, name=name)

    @_stored_once(strings("image_bytes"), strings("domain"))
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

    first_label = np.cumsum([0, *(len(pack.label_names) for pack in mixable)])[:-1].astype("int32")
    labels = [label for pack in mixable for label in pack.label_names]

    def classes(pooled, slot):
        probability, class_id = best_of(pooled, slot)
        at = tf.gather(first_label, slot)[:, None] + tf.maximum(class_id, 0)
        label = tf.where(class_id >= 0, tf.gather(tf.constant(labels), at), "")
        return {"label": label, "probability": probability, "class_id": class_id}

    return {
        SERVING_DEFAULT: signature("image_bytes", classes),
        TF_EXAMPLE: signature("examples", classes, encoded_images),
        FEATURES: signature("image_bytes", lambda pooled, slot: {"features": pooled}),
    }


def mixed_pixel_signatures(served: Served, features_of, best_of) -> dict:
    """Returns the signatures for pixels of any domains, float32 and uint8, by name. They compute no strings."""
    ids = np.array([served.ids[pack.domain] for pack in served.mixable], "int32")
    expected = _some([f"{served.ids[pack.domain]} {pack.domain}" for pack in served.mixable])
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
        probability, class_id = best_of(features_of(tf.cast(image, tf.float32), slot), slot)
        return _first(rows, {"probability": probability, "class_id": class_id})

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


def pixel_signatures(served: Served, size: tuple[int, int]) -> Iterator[tuple[Pack, str, Callable]]:
    """Yields packs, and signatures for pixels of their domain alone, of any size, float32 and uint8, with their names.

    Args:
        served: What is served.
        size: Height and width that the domains are seen at; those of another size are left out.
    """
    packs = [pack for pack in served.asked_alone if pack.preprocessing.size == size]
    names = tf.constant([pack.domain for pack in packs])
    covers, centres = ([getattr(p.preprocessing, name) for p in packs] for name in ("cover_size", "centre"))
    normalized = _normalizer(packs)
    index = np.array([served.model.domain_id(pack.domain) for pack in packs], "int32")
    shape, slot_spec = (None, None, None, 3), tf.TensorSpec((), tf.int32)

    def told(slot, *reason):
        return tf.strings.join(["domain [", tf.gather(names, slot), "]: ", *reason])

    @_stored_once(tf.TensorSpec(shape, tf.float32), slot_spec)
    def as_in_files(image, slot):
        finite = tf.reduce_all(tf.math.is_finite(image), axis=(1, 2, 3))
        image = refuse_rows(image, ~finite, lambda row: told(slot, "image is not finite"))
        return tf.cast(_as_in_files(image), tf.uint8)

    @_stored_once(tf.TensorSpec(shape, tf.uint8), slot_spec)
    def window(image, slot):
        """Returns at least one row of what the network sees."""
        rows, sides = tf.shape(image)[0], tf.shape(image)[1:3]
        cover, centre = tf.gather(tf.constant(covers), slot), tf.gather(tf.constant(centres), slot)
        empty = tf.reduce_any(sides < 1) & (rows > 0)
        image = refuse(image, empty, lambda: told(slot, "images have no pixels"))
        too_large = pixels_needed(tf.maximum(sides, 1), cover) > MAX_PIXELS
        image = refuse(
            image,
            too_large & (rows > 0),
            lambda: told(slot, "an image ", pixels_told(sides, cover), RULES["pixels"]),
        )
        image = tf.cond(
            rows > 0,
            lambda: window_of_images(image, cover, size, centre),
            lambda: tf.zeros((1, *size, 3), tf.uint8),
        )
        return normalized(tf.ensure_shape(image, (None, *size, 3)), slot)

    @_stored_once(tf.TensorSpec((None, *size, 3), tf.float32), slot_spec)
    def tower(images, slot):
        return served.model.features(images, tf.gather(index, slot))

    def signature(slot, pack, dtype):
        @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape, dtype, name="image")])
        def classify(image):
            rows = tf.shape(image)[0]
            images = window(image if dtype == tf.uint8 else as_in_files(image, slot), slot)
            pooled = tower(images, slot) if served.one_graph else served.model.features(images, pack.domain)
            logits = served.model.head(pooled, domain=pack.domain)
            probability, class_id = _best(logits, min(TOP, len(pack.label_names)))
            label = tf.gather(tf.constant(pack.label_names), class_id)
            return _first(rows, {"label": label, "probability": probability, "class_id": class_id})

        return classify

    for slot, pack in enumerate(packs):
        for name, dtype in zip(pixel_names(pack.domain), (tf.float32, tf.uint8), strict=True):
            yield pack, name, signature(slot, pack, dtype)


def _stored_once(*specs):
    """Makes a function a graph of its own, stored and loaded once for all signatures that call it."""
    return tf.function(autograph=False, input_signature=specs)


def _normalizer(packs):
    """Returns a function from pixels and slots (a scalar, or one for each row) to normalised images, float32."""
    mean, std = (np.array([getattr(pack.preprocessing, name) for pack in packs], "float32") for name in ("mean", "std"))

    def normalized(images, slot):
        own = (tf.gather(value, slot) for value in (mean, std))
        return normalize(images, *(value[:, None, None, :] if slot.shape.rank else value for value in own))

    return normalized


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


def _some(names):
    more = f" and {len(names) - _TOLD} more, which signature {DOMAINS} lists" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + more


def _pixels(size):
    return "{}x{}".format(*size)
