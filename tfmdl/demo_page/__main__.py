"""A page to try a served model: `python -m tfmdl.demo_page --url=http://HOST:8501/v1/models/NAME`.

Choose a domain, drop an image, see the five most probable classes. With --data_dir the training images that are nearest
to it, too, by the served model's own features. The page is served to this machine only.
"""

import functools

from absl import flags

from tfmdl.cli import start
from tfmdl.demo_page.answers import NearestImages
from tfmdl.demo_page.server import PageServer
from tfmdl.serving.remote import RestClient


def define_flags():
    flags.DEFINE_string("url", None, "Address of the model: http://HOST:8501/v1/models/NAME.", required=True)
    flags.DEFINE_integer("port", 8600, "Port of the page, on this machine only; 0: one that is free.", 0, 65535)
    flags.DEFINE_float("timeout", 60.0, "Seconds to wait for each answer.", lower_bound=0.001)
    flags.DEFINE_string("data_dir", None, "Folder that data_prep/convert.py wrote, for the nearest training images.")
    flags.DEFINE_integer("images", 2000, "With --data_dir: training images per domain, at most.", lower_bound=1)


def main(argv):
    values = flags.FLAGS
    client_for = functools.partial(RestClient, values.url, values.timeout)
    client_for()  # which checks the address
    nearest = NearestImages(client_for, _reader(values.data_dir, values.images)) if values.data_dir else None
    with PageServer(values.port, client_for, nearest) as server:
        try:
            print(f"the page is at {server.url} (Ctrl-C ends it)", flush=True)
            server.serve_forever()
        finally:
            if nearest:
                nearest.close()


def _reader(data_dir, count):
    # TensorFlow comes with it, and takes seconds: who wants no training images does without.
    import tfmdl.quiet  # isort: skip  # noqa: F401

    from tfmdl.data.image_files import some_image_files
    from tfmdl.data.records import converted_domains

    if not converted_domains(data_dir):
        raise FileNotFoundError(f"--data_dir={data_dir}: no converted domain here")
    return lambda domain: some_image_files(data_dir, domain, "train", count)


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()
