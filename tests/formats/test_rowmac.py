"""What a row's authenticator covers: the document's text, whatever the values are."""

from __future__ import annotations

import hmac
import json

from hypothesis import given
from hypothesis import strategies as st

from broker.formats import rowmac
from broker.formats.canonical import encode
from broker.grants.policy import Mode

KEY = bytes(range(32))
SCALARS = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.sampled_from(Mode)
VALUES = SCALARS | st.lists(st.text()) | st.dictionaries(st.text(), st.none() | st.integers() | st.lists(st.text()))


def in_json(value: object) -> str:
    return json.dumps(value.hex() if isinstance(value, bytes) else value, sort_keys=True, separators=(",", ":"))


@given(fields=st.dictionaries(st.text(), VALUES))
def test_each_value_counts_as_its_json_text_after_its_name(fields: dict[str, object]) -> None:
    said = [text for name in sorted(fields) for text in (name, in_json(fields[name]))]
    expected = hmac.digest(KEY, encode("keybroker/row/v1", "leases", *said), "sha256")
    assert rowmac.mac(KEY, "leases", fields) == b"\x01" + expected
    assert rowmac.fits(KEY, "leases", fields, b"\x01" + expected)
