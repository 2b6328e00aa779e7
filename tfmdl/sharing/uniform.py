"""The two ends: everything shared, or nothing."""

from tfmdl.sharing.method import SharingMethod


class UniformSharing(SharingMethod):
    """Treats all parts alike: `shared` says how. The head is always the domain's own."""

    shared: bool

    def shares(self, part, *, last=False):
        return self.shared
