"""The lease of a call that came with an access token alone, if the grant allows that."""

from __future__ import annotations

from broker.base.clock import Clock, later
from broker.base.errors import BrokerError
from broker.base.recent import Recent
from broker.grants.policy import AccessRequest, AccessTarget, Mode, refuse_call
from broker.identity.principal import Via
from broker.leases.lease import Lease
from broker.leases.leasing import Leasing
from broker.proxy.use import ProxiedCall, WorkloadCaller

_REMEMBERED = 20_000
# A lease that ends sooner is not taken for another call.
_MARGIN_MS = 5_000


class Implicit:
    """Issues such leases and keeps each for as long as it lasts."""

    def __init__(self, leasing: Leasing, clock: Clock) -> None:
        self._leasing = leasing
        self._clock = clock
        self._kept = Recent[tuple[AccessTarget, str, Via, str], Lease](_REMEMBERED)

    async def lease(self, caller: WorkloadCaller, call: ProxiedCall, *, again: bool = False) -> Lease:
        """A lease that stands and whose grant allows ``call``.

        A new one is on the record as every lease is.  ``caller`` is the one who asks for the call.  ``again`` says that
        the kept one turned out to have ended.

        Raises:
            LeaseDenied: no grant allows it; recorded.
        """
        target = AccessTarget(caller.workload.id, call.organization, call.provider, caller.label)
        via, jkt = caller.workload.via, caller.workload.jkt
        kept = self._kept.get((target, caller.purpose, via, jkt))
        if kept is not None and not again and await self._carries(kept, call):
            return kept
        request = AccessRequest(target, Mode.USE, caller.purpose, call=call, via=via, jkt=jkt)
        actor = call.actor(caller.workload.id, caller.workload.name)
        lease = (await self._leasing.issue(actor, request)).lease
        self._kept[target, caller.purpose, via, jkt] = lease
        return lease

    async def _carries(self, lease: Lease, call: ProxiedCall) -> bool:
        if not lease.stands(later(self._clock(), _MARGIN_MS)):
            return False
        try:
            lease, snapshot = await self._leasing.snapshot_of(await self._leasing.known(lease.id))
        except BrokerError:
            return False
        grant = snapshot.grant(lease.grant_id)
        return grant is not None and refuse_call(grant, call) is None
