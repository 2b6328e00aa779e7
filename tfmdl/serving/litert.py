"""One domain as LiteRT files, for phones and small boards: float32, and int8 weights (dynamic range).

    <export_dir>/<domain>.tflite, <domain>_int8.tflite
    <export_dir>/<domain>.json          labels and preprocessing

Input image, float32 (1, height, width, 3): red, green and blue in 0..255, resized and cropped to what the network sees.
Output probability, float32 (1, classes).
"""

import contextlib
import dataclasses
import os
import pathlib

import numpy as np
import tensorflow as tf

from tfmdl import backend
from tfmdl.data.decode import normalize
from tfmdl.files import flush, flush_all, write_json
from tfmdl.serving.assets import domain_facts
from tfmdl.serving.network import FoldedClassifier
from tfmdl.serving.samples import live_answers, samples_of
from tfmdl.serving.source import ExportSource
from tfmdl.serving.versions import aside, naming
from tfmdl.serving.writer import Options

try:
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError:
    Interpreter = None

# What only a SavedModel has, by the flag that asks for it.
OF_SAVED_MODELS = {
    "version": "version",
    "keep": "keep",
    "domain_signatures": "domain_signatures",
    "precision": "precision",
    "license": "license_line",
}

# By how much probabilities may differ from the live model's.
TOLERANCES = {"float32": 1e-4, "int8": 0.1}


@dataclasses.dataclass(frozen=True)
class LiteRtFile:
    """A finished file: its path, its size, and the largest difference of its probabilities from the live model's."""

    path: pathlib.Path
    num_bytes: int
    difference: float


def write_litert(
    source: ExportSource, export_dir: str | os.PathLike, options: Options | None = None
) -> list[LiteRtFile]:
    """Writes the one domain of a source, float32 and int8, each checked before it takes its name.

    Raises:
        ValueError: if Keras's backend is not TensorFlow, there are several domains, the options are of a SavedModel, or
            a file does not answer as the live model does. Also if LiteRT's interpreter, which says so, is not
            installed.
    """
    backend.check_writes_graphs()
    options = options or Options()
    for flag, name in OF_SAVED_MODELS.items():
        if getattr(options, name) != getattr(Options(), name):
            raise ValueError(f"--format=litert does not take --{flag}={getattr(options, name)}")
    if Interpreter is None:
        raise ValueError("--format=litert checks what it writes with LiteRT's interpreter: pip install 'tfmdl[litert]'")
    if len(source.packs) != 1:
        raise ValueError(f"--format=litert wants one domain; received {', '.join(source.model.domains)}")
    (pack,) = source.packs
    samples, _ = samples_of(source.packs, options.data_dir)
    images = [sample.window for sample in samples[pack.domain]]
    _, wanted = live_answers(source.model, pack, images)
    folder = pathlib.Path(export_dir).absolute()
    done, moves = [], []
    with naming(folder), aside(folder, ".partial-") as made:
        for precision, suffix in (("float32", ""), ("int8", "_int8")):
            content = _converted(source.model, pack, precision)
            difference = float(np.abs(_run(content, images) - wanted).max())
            allowed = TOLERANCES[precision] if options.tolerance is None else options.tolerance
            if not difference <= allowed:
                raise ValueError(
                    f"the {precision} file does not answer as the model does: probabilities differ by "
                    f"{difference:.2g}; expected at most {allowed:g} (--tolerance)"
                )
            name = f"{pack.domain}{suffix}.tflite"
            (made / name).write_bytes(content)
            moves.append(name)
            done.append(LiteRtFile(folder / name, len(content), difference))
        write_json(made / f"{pack.domain}.json", domain_facts(pack))
        flush_all(made)
        for name in (f"{pack.domain}.json", *moves):
            os.replace(made / name, folder / name)
    flush(folder)
    return done


def _converted(model, pack, precision):
    network = FoldedClassifier(model)
    preprocessing = pack.preprocessing

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec((1, *preprocessing.size, 3), tf.float32, name="image")]
    )
    def classify(image):
        image = normalize(image, preprocessing.mean, preprocessing.std)
        logits = network.head(network.features(image, pack.domain), domain=pack.domain)
        return {"probability": tf.nn.softmax(logits)}

    module = tf.Module()
    module.values = [variable.value for variable in network.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([classify.get_concrete_function()], module)
    if precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    with _quiet():
        return converter.convert()


def _run(content, images):
    """Returns the probabilities of uint8 images, one by one through LiteRT's own interpreter."""
    with _quiet():
        run = Interpreter(model_content=content).get_signature_runner()
        return np.concatenate([run(image=image[None].astype("float32"))["probability"] for image in images])


@contextlib.contextmanager
def _quiet():
    """The converter logs from C++, whatever levels are set."""
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
