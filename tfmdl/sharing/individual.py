"""Nothing shared: one network per domain."""

from tfmdl.sharing.uniform import UniformSharing


class Individual(UniformSharing):
    """Each domain owns a whole network, fine-tuned from the base domain's.

    Reference: Guo et al., AAAI 2019 ("Individual Network" of Table 1).
    """

    name = "individual"
    shared = False
