"""The core of an event as the database keeps it: the same bytes, packed.

::

    packed = 0x01 | raw DEFLATE (RFC 1951, window of 4,096 bytes) of the core, with the dictionary below

A core is mostly names of fields, which the dictionary has, and hexadecimal digits, so a quarter to a third is left.
What unpacks gives exactly the bytes that were packed, which are those that the event's commitment commits to.  A core
that begins with ``{`` is not packed.
"""

from __future__ import annotations

import zlib
from typing import Final

from broker.formats.audit_event import MAX_BYTES

_FIRST: Final = b"\x01"
_WINDOW: Final = -12
# Of version 1, for ever. What is most frequent comes last.
DICTIONARY: Final = (
    b'"fingerprint":"","host":"api.","method":"DELETE","PUT","PATCH","HEAD","intake":"int_0123456789abcdef",'
    b'"subject":"rot_exp_whk_ntc_dlv_fnd_opr_keystore.rewrapped","operator.created","grant.revoked","credential.'
    b'revoked","credential.probe.completed","rotation.call.authorized","intake.submitted","audit.read","auth.token_'
    b'issued","refused","failed","reason":"","mode":"reveal","decision":"denied","type":"operator"},"broker","system"'
    b'"kind":"use.denied","lease.ended","lease.denied","lease.renewed","outcome":null,"status":null},"target":{"host":"'
    b'","method":"POST","query":["page","limit"]},'
    b'{"actor":{"id":"wkl_01","type":"workload"},"credential":"crd_01","decision":"allowed","grant":"grt_01","id":"evt_01'
    b'","kind":"lease.issued","lease":"lse_01","mode":"use","organization":"org_01","provider":"raptor-comply","request":'
    b'"req_01","time":17,"v":3,"version":1,"workload":"wkl_01"}'
    b'{"actor":{"id":"wkl_01","type":"workload"},"credential":"crd_01","decision":"allowed","grant":"grt_01","id":"evt_01'
    b'","kind":"use.completed","lease":"lse_01","mode":"use","organization":"org_01","outcome":{"bytes_in":1,"bytes_out":0,'
    b'"ms":1,"status":200},"provider":"raptor-comply","request":"req_01","target":{"host":"api.raptormaps.com","method":"'
    b'GET","query":[]},"time":17,"use":"use_01","kind":"use.authorized","v":3,"version":1,"workload":"wkl_01"}'
)


class NotPacked(ValueError):
    """Bytes that are no packed core."""


def pack(core: bytes) -> bytes:
    """A core, packed."""
    packer = zlib.compressobj(1, zlib.DEFLATED, _WINDOW, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    return _FIRST + packer.compress(core) + packer.flush()


def unpack(kept: bytes) -> bytes:
    """The core that was kept, packed or as it is.

    Raises:
        NotPacked: it is neither, or it is more than a core may be.
    """
    if kept[:1] == b"{":
        return kept
    if kept[:1] != _FIRST:
        raise NotPacked
    unpacker = zlib.decompressobj(_WINDOW, DICTIONARY)
    try:
        core = unpacker.decompress(kept[1:], MAX_BYTES)
    except zlib.error:
        raise NotPacked from None
    if not unpacker.eof or unpacker.unused_data:
        raise NotPacked
    return core
