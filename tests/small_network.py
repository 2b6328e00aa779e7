"""A network of 8 layers instead of 26, quickly built and traced, for tests of what does not depend on the depth."""

from tfmdl.architecture import Architecture
from tfmdl.sharing import options_of


def small(method="pointwise_sharing", backbone=None, *, width=4, blocks_per_stage=1, **options):
    return Architecture(method, backbone, width, blocks_per_stage, options_of(method, options))
