"""What the methods have in common that share plain convolutions and add to them."""

from tfmdl.sharing.method import SharingMethod


class PlainConvolutions(SharingMethod):
    """Shares the 3x3 convolutions; each domain owns what the method adds to them, the normalisation and the head."""

    convolutions = frozenset({"plain"})
    default_backbone = "resnet26"

    def shares(self, part, *, last=False):
        return part != "norm"
