"""An e-mail address is one that a mail server takes, or it is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base.mailbox import NotAMailbox, mailbox

TAKEN = {
    "admin@acme.example": "admin@acme.example",
    "first.last+keys/o'neil@mail.acme.example": "first.last+keys/o'neil@mail.acme.example",
    "Admin@Acme.EXAMPLE": "Admin@acme.example",
    "root@localhost": "root@localhost",
    "admin@bücher.example": "admin@xn--bcher-kva.example",
    "admin@xn--bcher-kva.example": "admin@xn--bcher-kva.example",
    "admin@faß.example": "admin@xn--fa-hia.example",
    "admin@例え。テスト": "admin@xn--r8jz45g.xn--zckzah",
}
REFUSED = [
    "",
    "admin",
    "@acme.example",
    "admin@",
    "a,b@acme.example",
    "a;b@acme.example",
    "a@acme.example,b@acme.example",
    "<a@acme.example",
    "a@acme.example>",
    "Ada <a@acme.example>",
    "a@acme.example (Ada)",
    '"a b"@acme.example',
    "a b@acme.example",
    "a@b@acme.example",
    ".a@acme.example",
    "a.@acme.example",
    "a..b@acme.example",
    "jörg@acme.example",
    "admin@acme.example.",
    "admin@acme.example。",
    "admin@acme..example",
    "admin@-acme.example",
    "admin@acme_power.example",
    "admin@192.0.2.1",
    "admin@[192.0.2.1]",
    "admin@xn--zzzz.example",
    "admin@℀.example",
    "adm\u200bin@acme.example",
    "admin@ac\u200bme.example",
    "admin@acme.example\u200b",
    "admin@ac\u00adme.example",
    "admin@\u202eacme.example",
    "admin@acme.example\n",
    "admin@acme.example\r\nRCPT TO:<x@evil.example>",
    f"{'a' * 65}@acme.example",
    f"admin@{'a' * 64}.example",
    f"admin@{'a.' * 125}example",
]


@pytest.mark.parametrize("text", TAKEN)
def test_an_address_is_taken_with_its_domain_in_ascii(text: str) -> None:
    assert mailbox(text) == TAKEN[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_one_address_is_refused(text: str) -> None:
    with pytest.raises(NotAMailbox, match="write one e-mail address"):
        mailbox(text)


@given(st.text() | st.from_regex(r"[a-z.,;<>]{1,9}@[a-zü.\u200b。]{1,9}", fullmatch=True))
def test_what_is_taken_is_plain_and_stays_as_it_is(text: str) -> None:
    try:
        taken = mailbox(text)
    except NotAMailbox:
        return
    assert taken.isascii()
    assert taken.count("@") == 1
    assert not set(taken) & set(',;:<>()[]"\\ \r\n')
    assert mailbox(taken) == taken
