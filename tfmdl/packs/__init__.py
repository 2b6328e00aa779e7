"""Trunks and domain packs: what a finished run leaves, and how models are put together from them.

A trunk holds the whole network of the base domain but its head, by slot ("backbone/stem_conv/depthwise/kernel"). A
pack holds the slots that one domain owns, its head included, and its label space. A domain's value of a slot is the
pack's where the pack has it, the trunk's otherwise: so packs of any method compose on the trunk that they were
trained on. What a method adds to the network may be missing in a trunk: a new domain's begins, and the base domain's
stays, at its initial value, which is without effect. Both are safetensors files; what they mean is JSON in their
header.

    format.py       the files, and what they say of themselves
    variables.py    the variables of a model as files hold them
    compose.py      from trunk and packs to a model
    experts.py      what else it takes where a method mixes the kernels of several domains

Other rooms import from here.
"""

from tfmdl.packs.compose import compose, domains_without_additions, initialize, load_model, read_parts
from tfmdl.packs.experts import read_expert_packs
from tfmdl.packs.format import (
    PACKS_DIR,
    TRUNK_FILE,
    Expert,
    Pack,
    Trunk,
    pack_path,
    read_pack,
    read_packs,
    read_trunk,
    write_pack,
    write_trunk,
)
from tfmdl.packs.variables import values_of

__all__ = [
    "PACKS_DIR",
    "TRUNK_FILE",
    "Expert",
    "Pack",
    "Trunk",
    "compose",
    "domains_without_additions",
    "initialize",
    "load_model",
    "pack_path",
    "read_expert_packs",
    "read_pack",
    "read_packs",
    "read_parts",
    "read_trunk",
    "values_of",
    "write_pack",
    "write_trunk",
]
