"""What an export says of itself, what it is asked, and what the client is answered."""

import dataclasses
import http.server
import json
import pathlib
import threading

import numpy as np

from faults import formats, mutations
from faults.kind import MIB, JsonKind, Kind, plainly


class Manifest(JsonKind):
    """What an export says of itself, and of a domain."""

    name = "export"

    @property
    def file(self):
        return getattr(self, "_file", "assets/export.json")

    @property
    def named(self):
        return ("assets/export.json", "assets/domains/pets.json")

    def make(self, folder):
        from tfmdl.architecture import Architecture
        from tfmdl.data.preprocessing import Preprocessing
        from tfmdl.files import write_json

        architecture = Architecture(width=4, blocks_per_stage=1).to_json()
        made = {
            "domains": ["pets"], "domain_ids": {"pets": 0}, "next_domain_id": 1, "size": [16, 16],
            "architecture": architecture, "base_domain": "pets", "trunk_fingerprint": "0" * 64, "folded": True,
            "precision": "float32",
        }  # fmt: skip
        write_json(folder / "assets/export.json", made)
        facts = {
            "label_names": ["a", "b"], "category_ids": [0, 1], "accuracy": 0.5, "architecture": architecture,
            "preprocessing": dataclasses.asdict(Preprocessing(16, 16, 16, 16, (0.5,) * 3, (0.2,) * 3)),
        }  # fmt: skip
        write_json(folder / "assets/domains/pets.json", facts)

    def read(self, folder):
        from tfmdl.serving.versions import read_domain, read_manifest

        found = []
        for one in (read_manifest(folder), read_domain(folder, "pets")):
            fields = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
            fields["architecture"] = one.architecture.to_json()
            if "preprocessing" in fields:
                fields["preprocessing"] = dataclasses.asdict(one.preprocessing)
            found.append(fields)
        return found

    def spoil(self, folder, rng):
        self._file = rng.choice(self.named)
        return super().spoil(folder, rng)

    def said(self, folder):
        return [
            {key: value for key, value in plainly((folder / name).read_bytes()).items() if key in known}
            for name, known in zip(self.named, self.sound, strict=True)
        ]


class Version(Kind):
    """Graph and values of an export, half of the time without the hashes that it has of them, as 0.1.0 wrote them.

    Without hashes what is not noticed here is when the next version is compared with this one.
    """

    name, weight, mib = "version", 2, 1024
    files = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
    named = ("/export",)  # all of it where a version has no graph: it is none then

    def make(self, folder):
        _write_export(folder / "export")

    def spoil(self, folder, rng):
        version = folder / "export/1"
        hashed = rng.random() < 0.5
        if not hashed:
            manifest = version / "assets/export.json"
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "files": None}))
        file = rng.choice(self.files)
        if rng.random() < 0.1:
            told = mutations.spoil_file(version / file, rng, pipes=False, hole=64 * MIB)
        else:
            told = mutations.rewrite(version / file, mutations.spoil_bytes, rng)
        return f"{file}{'' if hashed else ' without hash'}: {told}", hashed

    def read(self, folder):
        import tensorflow as tf

        from tfmdl.files import fingerprint
        from tfmdl.serving.source import from_export
        from tfmdl.serving.versions import reading

        source = from_export(folder / "export")
        with reading(source.previous):
            tf.saved_model.load(str(source.previous))
        return {pack.domain: fingerprint(pack.tensors) for pack in source.packs}

    def fault(self, folder, found, strict):
        return super().fault(folder, found, strict) if strict else None


class Reply(Kind):
    """What a server answers to the client, by REST."""

    name, weight = "reply", 10
    file = "reply.json"

    @property
    def named(self):
        return (self.address, "row ", "{", "[", '"')  # a refusal is about the request, in the server's words

    def make(self, folder):
        answer = {"label": ["a", "b"], "probability": [0.75, 0.25], "class_id": [0, 1]}
        (folder / self.file).write_text(json.dumps({"predictions": [answer, answer]}))

    def ready(self, folder):
        self.status = 200
        kind = self

        class Sends(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(kind.status)
                self.send_header("Content-Length", str(len(kind.body)))
                self.end_headers()
                self.wfile.write(kind.body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sends)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_address[1]}/v1/models/m"
        super().ready(folder)

    def spoil(self, folder, rng):
        path = folder / self.file
        self.status = rng.choice((200, 200, 200, 200, 200, 200, 400, 404, 500, 302, 204))
        if rng.random() < 0.3:
            content, told = mutations.spoil_bytes(path.read_bytes(), rng)
        else:
            content, told = mutations.spoil_json(json.loads(path.read_bytes()), rng)
        path.write_bytes(content)
        return f"{told}, status {self.status}", False

    def read(self, folder):
        from tfmdl.serving.remote import RestClient, classify_files

        self.body = (folder / self.file).read_bytes()
        client = RestClient(self.address, timeout=20)
        return [answer for answers in classify_files(client, "pets", [b"x", b"y"], 2) for answer in answers]

    def said(self, folder):
        assert self.status == 200, "a status other than 200 is taken for an answer"
        return plainly(self.body)["predictions"]


class Request(Kind):
    """What an export is asked: three images, as files or as examples, of which the second is spoiled, or its domain.

    REST and gRPC are TensorFlow Serving's own: this is what reaches the graph.
    """

    name, weight, mib, lines = "request", 10, 2048, True  # TensorFlow adds lines of its own
    named = ("row 1: ",)
    files = ("0.img", "1.img", "2.img")

    def make(self, folder):
        for name, content in zip(self.files, formats.sound_images().values(), strict=False):
            (folder / name).write_bytes(content)
        _write_export(folder / "export")

    def ready(self, folder):
        import tensorflow as tf

        (version,) = (folder / "export").glob("[0-9]*")
        self._loaded = tf.saved_model.load(str(version))
        self._signature, self._domains = "serving_default", ["pets", "cars", "pets"]
        super().ready(folder)

    def spoil(self, folder, rng):
        self._signature, self._domains = rng.choice(("serving_default", "tf_example")), ["pets", "cars", "pets"]
        path = folder / self.files[1]
        content = rng.choice(list(formats.sound_images().values()))
        draw = rng.random()
        if draw < 0.1:
            self._domains[1] = rng.choice([odd for odd in mutations.ODD if isinstance(odd, str) and odd != "\ud800"])
            told = f"domain {self._domains[1]!r:.20}"
        elif draw < 0.7:
            content, told = formats.spoil_image(content, rng)
        else:
            content, told = mutations.spoil_bytes(content, rng)
        if self._signature == "tf_example":
            content = _example(content)
            if draw >= 0.85:
                content, more = mutations.spoil_bytes(content, rng)
                told += f", example: {more}"
        path.write_bytes(content)
        return f"{self._signature}: {told}", False

    def read(self, folder):
        contents = [(folder / name).read_bytes() for name in self.files]
        if self._signature == "tf_example":
            contents = [_example(contents[0]), contents[1], _example(contents[2])]
        return self._answers(self._signature, contents)

    def _answers(self, signature, contents):
        import tensorflow as tf

        ask = self._loaded.signatures[signature]
        argument = "examples" if signature == "tf_example" else "image_bytes"
        try:
            answer = ask(**{argument: tf.constant(contents), "domain": tf.constant(self._domains)})
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(error.message) from error
        return {name: value.numpy() for name, value in answer.items()}

    def fault(self, folder, found, strict):
        for row in (0, 2):
            if any(not np.array_equal(found[name][row], self.sound[name][row]) for name in ("class_id", "label")):
                return f"row {row} is answered otherwise"
            if np.abs(found["probability"][row] - self.sound["probability"][row]).max() > 1e-6:
                return f"row {row} is answered with other probabilities"
        labels = [label.decode() for label in found["label"][1]]
        if sorted(labels) != ["cars a", "cars b", "cars c"] or abs(found["probability"][1].sum() - 1) > 1e-5:
            return f"an answer that is none: {labels}, {found['probability'][1]}"
        content = (folder / self.files[1]).read_bytes()
        if self._signature == "tf_example":
            import tensorflow as tf

            # By TensorFlow, whose parser takes some wire formats that protobuf's refuses.
            fields = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
            content = tf.io.parse_single_example(content, fields)["image/encoded"].numpy()
        plain = formats.without_loss(content)
        if plain is None:
            return None
        sound = [(folder / name).read_bytes() for name in (self.files[0], self.files[2])]
        wanted = self._answers("serving_default", [sound[0], plain, sound[1]])
        if np.abs(np.sort(wanted["probability"][1]) - np.sort(found["probability"][1])).max() > 1e-4:
            return f"is answered {found['probability'][1]}; its pixels, as Pillow sees them, {wanted['probability'][1]}"
        return None


def _example(encoded):
    from tfmdl.data.records import serialize_example

    return serialize_example(encoded=encoded, image_format="png", height=20, width=24, label=0, text="", image_id=0)


def _write_export(folder: pathlib.Path) -> None:
    """Writes an export of a small network of two domains, whose classes are not all as probable."""
    import tempfile

    from tfmdl.architecture import Architecture
    from tfmdl.data.preprocessing import Preprocessing
    from tfmdl.model import MultiDomainClassifier
    from tfmdl.packs import write_pack, write_trunk
    from tfmdl.serving.source import from_runs
    from tfmdl.serving.writer import write_export

    rng = np.random.default_rng(0)
    classes = {"pets": 2, "cars": 3}
    model = MultiDomainClassifier(classes, Architecture(width=4, blocks_per_stage=1))
    for variable in model.variables:
        if variable.path.startswith("head/kernel"):
            variable.assign(rng.normal(size=variable.shape))
    with tempfile.TemporaryDirectory() as name:
        run = pathlib.Path(name)
        trunk_fingerprint = write_trunk(run / "trunk.safetensors", model, "pets")
        for domain, count in classes.items():
            write_pack(
                run / "packs" / f"{domain}.safetensors", model, domain,
                label_names=[f"{domain} {'abc'[index]}" for index in range(count)], category_ids=list(range(count)),
                preprocessing=Preprocessing(16, 16, 16, 16, (0.5,) * 3, (0.2,) * 3),
                trunk_fingerprint=trunk_fingerprint, accuracy=None, base=domain == "pets",
            )  # fmt: skip
        write_export(from_runs(trunk=str(run), pack_paths=[str(run)]), folder)
