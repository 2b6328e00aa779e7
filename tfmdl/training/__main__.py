"""Trains a trunk, or adds a domain to one: `python train.py --domain=NAME --data_dir=DIR --workdir=DIR`."""

import tfmdl.quiet  # isort: skip  # noqa: F401

import sys

from absl import flags

from tfmdl import backend, option_flags
from tfmdl.backbones import BACKBONES
from tfmdl.cli import start
from tfmdl.config import RunConfig
from tfmdl.recipes import PRESET_NAMES
from tfmdl.sharing import METHODS
from tfmdl.training.callbacks import Terminated
from tfmdl.training.loop import train
from tfmdl.training.settings import configure

FLAGS = flags.FLAGS
POSITIVE = {"lower_bound": 1}


def define_flags():
    flags.DEFINE_list("domain", None, "Domain to train; several, by commas, train a trunk jointly.", required=True)
    flags.DEFINE_string("data_dir", None, "Folder that data_prep/convert.py wrote.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the run; the same command goes on where it stopped.", required=True)
    flags.DEFINE_enum("method", "pointwise_sharing", list(METHODS), "What the domains share.")
    flags.DEFINE_enum("backbone", None, list(BACKBONES), "The network; by default the one of the method's paper.")
    flags.DEFINE_string(
        "init_from", None, "Run whose trunk the domain is added to, or imagenet; without it a trunk is trained."
    )
    flags.DEFINE_list("packs", [], "For soft_sharing: runs of pointwise_sharing, the domain's own among them.")
    option_flags.define()
    flags.DEFINE_enum(
        "recipe",
        None,
        list(PRESET_NAMES),
        "How to train: as the paper (paper), shorter (quick), or so that a pretrained trunk keeps what it knows "
        "(finetune, the default there).",
    )
    flags.DEFINE_integer("epochs", None, "Length of the run; scales the recipe's schedule.", **POSITIVE)
    flags.DEFINE_integer("batch_size", None, "Images per step, instead of the recipe's.", **POSITIVE)
    flags.DEFINE_float("learning_rate", None, "First learning rate, instead of the recipe's.", lower_bound=0.0)
    flags.DEFINE_bool("scale_learning_rate", False, "Let the learning rate grow with --batch_size, and rise to it.")
    flags.DEFINE_float("weight_decay", None, "Weight decay, instead of the recipe's.", lower_bound=0.0)
    flags.DEFINE_bool("flips", None, "Mirror every other training image, whatever the recipe says: not for letters.")
    flags.DEFINE_integer("width", None, "Channels after the stem: 64, or those of the trunk.", lower_bound=2)
    flags.DEFINE_integer(
        "blocks_per_stage", None, "Residual blocks of each stage: 4, which make ResNet-26, or the trunk's.", **POSITIVE
    )
    flags.DEFINE_integer(
        "image_size", None, "Side of the training crop: 64, or what a pretrained trunk was made for.", lower_bound=8
    )
    flags.DEFINE_enum(
        "precision", "auto", ["auto", "float32", "mixed_bfloat16", "mixed_float16"], "Keras dtype policy."
    )
    flags.DEFINE_integer("seed", 0, "Seed of weights, order, crops and dropout.", lower_bound=0)
    flags.DEFINE_integer("max_steps", None, "Stop after so many steps.", **POSITIVE)
    flags.DEFINE_list("train_splits", ["train"], "Splits to train on.")
    flags.DEFINE_bool("sync_norm", False, "On several devices: normalise by the whole batch, not each one's part.")
    flags.DEFINE_enum("jit_compile", "auto", ["auto", "on", "off"], "Compile the step with XLA; auto: on one GPU.")
    flags.DEFINE_bool("cache", False, "Keep decoded images in memory.")
    flags.DEFINE_integer("checkpoint_every", 500, "Steps between checkpoints.", **POSITIVE)
    flags.DEFINE_list("profile_steps", None, "First and last step to profile, as in 10,20.")
    flags.register_validator(
        "profile_steps",
        lambda steps: steps is None or (len(steps) == 2 and all(step.isdecimal() for step in steps)),
        "must be two numbers, as in 10,20",
    )
    flags.DEFINE_bool("tensorboard", True, "Write events for TensorBoard.")
    flags.DEFINE_bool("distributed", False, "Be one of several processes that train together, on Keras's JAX backend.")


def config_of_flags() -> RunConfig:
    """Returns the run that the flags ask for."""
    names = (
        "data_dir workdir init_from packs method backbone width blocks_per_stage recipe epochs batch_size "
        "learning_rate scale_learning_rate weight_decay flips image_size precision seed max_steps train_splits "
        "sync_norm jit_compile cache checkpoint_every profile_steps tensorboard"
    )
    return configure(FLAGS.domain, **{name: FLAGS[name].value for name in names.split()}, **option_flags.values())


def main(argv):
    if FLAGS.distributed:
        backend.join_processes()
    try:
        train(config_of_flags())
    except Terminated as terminated:
        print(terminated, file=sys.stderr)
        return 143


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()
