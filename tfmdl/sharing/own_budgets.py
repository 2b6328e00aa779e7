"""Domains of several methods in one network, each with a budget of its own."""

from tfmdl.sharing.low_rank import LowRank


class OwnBudgets(LowRank):
    """Each domain shares what its own method shares, and adds what that adds.

    It makes one model of packs of the methods that are low-rank updates with nothing in them, and of low-rank updates
    of any ranks: a near domain costs a head, a far one more. No domain has a variable that its pack does not have.

    Args:
        domains: Names of the domains, in the order of their ids.
        methods: By domain its method; a domain that is missing uses the shared network as it is.
        dtype: Keras dtype policy of the layers.
    """

    def __init__(self, domains, methods, dtype="float32"):
        super().__init__(domains, dtype=dtype)
        self.methods = dict(methods)

    def of_dtype(self, dtype):
        return type(self)(self.domains, self.methods, dtype)

    def shares(self, part, *, last=False):
        owners = [domain for domain, method in self.methods.items() if not method.shares(part, last=last)]
        return tuple(domain for domain in self.domains if domain not in owners)

    @property
    def rank(self):
        return {domain: method.rank for domain, method in self.methods.items() if isinstance(method, LowRank)}
