"""A wrong provider file is refused with its name, the field and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.providers import catalog
from tests.providers.files import BASIC, QUERY, changed, definition

PATTERN = "^ex_[A-Za-z0-9]{20}$"
LABEL = "^[a-z0-9][a-z0-9-]{0,61}$"
BASE = "https://{subdomain}.example.com/api"

BROKEN = [
    ('id = "example"', 'id = "Ex ample"', "id: write lower-case letters"),
    ("version = 1", "version = 0", "version: write 1 or more"),
    ("version = 1", 'version = "1"', "version: must be a whole number"),
    ('title = "Example"', "", "title: is missing; add it"),
    ('title = "Example"', 'titel = "Example"', "titel: is not a field of a provider file; check its spelling"),
    ('title = "Example"', 'title = "two\\nlines"', "title: write one line"),
    ('"https://docs.example.com"', '"docs.example.com"', "docs: write a whole address"),
    ("\n[key]", "\n[[extra]]\nx = 1\n\n[key]", "extra: is not a field of a provider file"),
    (BASE, "http://{subdomain}.example.com", "host.base_url: must begin with https://"),
    (BASE, "https://{subdomain}.example.com/", "host.base_url: write scheme, host and base path only"),
    (BASE, "https://user@{subdomain}.example.com", "host.base_url: a variable fills a whole part of the host"),
    (BASE, "https://:pw@{subdomain}.example.com", "host.base_url: write scheme, host and base path only"),
    (BASE, "https://{subdomain}.example.com?x=1", "host.base_url: is not a public host name"),
    (BASE, "https://{subdomain}.example.com/#", "host.base_url: write scheme, host and base path only"),
    (BASE, "https://{subdomain}.example.com/../x", "host.base_url: write scheme, host and base path only"),
    (BASE, "https://{subdomain}.example.com:99999", "host.base_url: write scheme, host and base path only"),
    (BASE, "https://{subdomain}.com", "host.base_url: the customer could name any domain"),
    (BASE, "https://example.{subdomain}", "host.base_url: is not a public host name"),
    (BASE, "https://api-{subdomain}.example.com", "host.base_url: a variable fills a whole part"),
    (BASE, "https://{subdomain}x.example.com", "host.base_url: a variable fills a whole part"),
    (BASE, "https://{tenant}.example.com", "host.base_url: uses ['tenant'], [host.variables] declares ['subdomain']"),
    (BASE, "https://api.example.com/{subdomain}", "host.base_url: write scheme, host and base path only"),
    (BASE, "https://{subdomain}.Example.com", "host.base_url: is not a public host name in lower case"),
    (BASE, "https://{subdomain}.corp.internal", "host.base_url: is not a public host name"),
    (LABEL, "^[a-z.]{1,20}$", "host.variables.subdomain.pattern: must match nothing but one host name part"),
    (LABEL, "^[a-z]{1,64}$", "host.variables.subdomain.pattern: must match nothing but one host name part"),
    (LABEL, ".*", "host.variables.subdomain.pattern: must be anchored"),
    (f'pattern = "{LABEL}"', "", "host.variables.subdomain.pattern: needs either pattern"),
    (f'pattern = "{LABEL}"', 'choices = ["evil.com/"]', "host.variables.subdomain.choices: 'evil.com/' is not a host"),
    ('title = "Subdomain"', 'title = ""', "host.variables.subdomain.title: write one line"),
    ("[admin]", '[admin.translations.German]\nrole = "x"\n[admin]', "admin.translations.German: is no language"),
    ("[admin]", '[admin.translations.de]\nrolle = "x"\n[admin]', "admin.translations.de.rolle: is not a field"),
    ("[host]\n", '[host]\nprivate = "yes"\n', "host.private: must be true or false"),
    ("Bearer {key}", "Bearer", "auth.format: needs exactly one {key} hole, has 0; write for example format = "),
    ("Bearer {key}", "{key} {key}", "auth.format: needs exactly one {key} hole, has 2"),
    ("Bearer {key}", "{key} {user}", "auth.format: has a brace that is not of {key}"),
    ("Bearer {key}", "Bearer {key}\\r\\nX: y", "auth.format: holds characters that HTTP can't carry"),
    ('name = "Authorization"', 'name = "Bad Header"', "auth.name: is not a header name"),
    ('name = "Authorization"', 'name = "Content-Length"', "auth.name: is a header of the connection"),
    ('placement = "header"', 'placement = "cookie"', "auth.placement: is not a kind of placement; write placement = "),
    ('placement = "header"\n', "", "auth.placement: is missing; write placement = "),
    (BASIC[0], BASIC[1], "auth.username: is missing; add it"),
    (BASIC[0], f'{BASIC[1]}\nusername = "u"', "auth.username: needs exactly one {key} hole in username and password"),
    (BASIC[0], f'{BASIC[1]}\nusername = "{{ke"\npassword = "y}}"', "auth.username: needs exactly one {key} hole"),
    (BASIC[0], f'{BASIC[1]}\nusername = "{{key}}"\npassword = "{{key}}"', "auth.username: needs exactly one"),
    (BASIC[0], f'{BASIC[1]}\nusername = "a:{{key}}"', "auth.username: must not hold a colon"),
    (QUERY[0], 'placement = "query"\nname = "a&b"', "auth.name: is not a parameter name"),
    ("\n[key]", '\n[key]\nscan_names = ["Api Key"]', "key.scan_names[0]: write what stands before a key"),
    (PATTERN, "ex_[A-Za-z0-9]{20}", "key.pattern: must be anchored; write it as ^…$"),
    (PATTERN, "^ex_.{20}$", "key.pattern: has '.' outside a class; name the characters"),
    (PATTERN, "^ex_[A-Za-z0-9]+$", "key.pattern: repeats without an end; write the counts"),
    ("ex_xxxxxxxxxxxxxxxxxxxx", "ex_xxx", "key.example: doesn't match pattern"),
    ("ex_xxxxxxxxxxxxxxxxxxxx", "ex_a1B2c3D4e5F6g7H8i9J0", "key.example: could be a real key"),
    ("bad_key = [401]", "bad_key = [401, 200]", "verify.bad_key: shares [200] with good"),
    ("bad_key = [401]", "bad_key = [401, 503]", "verify.bad_key: holds [503], which says nothing about the key"),
    ("bad_key = [401]", "bad_key = []", "verify.bad_key: "),
    ("bad_key = [401]", "bad_key = [4010]", "verify.bad_key[0]: write 599 or less"),
    ('path = "/me"', 'path = "me"', "verify.path: write a path that begins with /"),
    ('path = "/me"', 'path = "/a/../me"', "verify.path: write a path that begins with /"),
    ('path = "/me"', 'path = "/me"\nmethod = "DELETE"', "verify.method: write GET, POST or HEAD"),
    ('path = "/me"', 'path = "/me"\nmethod = "HEAD"', "verify.method: HEAD has no answer for identity.path"),
    ('path = "[].id"', 'path = "$..id"', "identity.path: is not a path into JSON"),
    ("[presets.read-only]", '[presets."Read Only"]', "presets.Read Only: write lower-case letters"),
    ('methods = ["GET"]', 'methods = ["get"]', "presets.read-only.methods[0]: write GET, "),
    ('methods = ["GET"]', 'methods = "GET"', "presets.read-only.methods: must be a list"),
    ('paths = ["/**"]', 'paths = ["/a?b=*"]', "presets.read-only.paths: '/a?b=*' holds ?"),
    ('paths = ["/**"]', 'paths = ["facilities"]', "presets.read-only.paths[0]: write a path that begins with /"),
    ("statuses = [429]", 'header = "Retry After"', "retry.header: is not a header name"),
    ("statuses = [429]", "cap_seconds = 0", "retry.cap_seconds: write 1 or more"),
    ("statuses = [429]", "otherwise_seconds = 90", "retry.otherwise_seconds: is longer than cap_seconds"),
    (
        "statuses = [429]",
        "statuses_with_header = [200]",
        "retry.statuses_with_header[0]: write 400 or more",
    ),
    ("statuses = [429]", "statuses_with_header = [429]", "retry.statuses_with_header: shares [429] with statuses"),
    ("statuses = [429]", 'unit = "minutes"', "retry.unit: write seconds, milliseconds"),
    ("statuses = [429]", 'headers = [{ name = "A" }, { name = "a" }]', "retry.headers: names a twice; leave one"),
    ("statuses = [429]", 'header = "B"\nheaders = [{ name = "A" }]', "retry.headers: stands beside header or unit"),
    ("statuses = [429]", 'headers = [{ name = "A", remaining = "a" }]', "retry.headers[0].remaining: is the header"),
    ("statuses = [429]", 'headers = [{ name = "A", left = "b" }]', "retry.headers[0].left: is not a field"),
    ("version = 1", 'version = 1\nencoded_slashes = ["/a/**"]', "encoded_slashes: '/a/**' has no * for what may hold"),
    ("version = 1", 'version = 1\nencoded_slashes = ["/a%2F*"]', "encoded_slashes: '/a%2F*' has no *"),
    ("version = 1", 'version = 1\nencoded_slashes = ["/a//*"]', "encoded_slashes: '/a//*' holds ?, *** or an empty"),
    ("version = 1", 'version = 1\nencoded_slashes = ["a"]', "encoded_slashes[0]: write a path that begins with /"),
    ("interval_days = 90", "interval_days = 0", "rotation.interval_days: write 1 or more"),
    (
        "new_key_revokes_old = false",
        'new_key_revokes_old = "no"',
        "rotation.new_key_revokes_old: must be true or false",
    ),
    ("Accept =", "authorization =", "required_headers.authorization: is the header that carries the key"),
    ("Accept =", "Host =", "required_headers.Host: is a header of the connection"),
    ("Accept =", '"Bad Header" =', "required_headers: 'Bad Header' is not a header name"),
    ("Accept =", 'accept = "*/*"\nAccept =', "required_headers.Accept: stands there twice"),
    ('"application/json"', '"a\\r\\nX-Evil: 1"', "required_headers.Accept: write visible ASCII"),
    ('where = ["Open Settings, API keys."]', "where = []", "admin.where: "),
    ('role = "Administrator"', 'role = "Administrator"\nlink = "ftp://x"', "admin.link: write a whole address"),
]


@pytest.mark.parametrize(("old", "new", "line"), BROKEN, ids=lambda text: repr(text)[:40])
def test_a_wrong_field_is_named_with_its_fix(old: str, new: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(catalog.ProviderInvalid) as refused:
        definition(tmp_path, (old, new))
    lines = refused.value.public.splitlines()
    assert any(text.startswith(f"example.toml: {line}") for text in lines), lines


def test_every_fault_of_a_file_is_listed(tmp_path: Path) -> None:
    with pytest.raises(catalog.ProviderInvalid) as refused:
        definition(
            tmp_path,
            ("version = 1", "version = -1"),
            ("Bearer {key}", "Bearer"),
            (PATTERN, "^.$"),
            ("bad_key = [401]", "bad_key = [200, 500]"),
            ('role = "Administrator"', ""),
        )
    fields = [line.split(": ")[1] for line in refused.value.public.splitlines()]
    assert fields == ["version", "auth.format", "key.pattern", "verify.bad_key", "verify.bad_key", "admin.role"]


def test_the_fault_of_a_format_reads_as_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(catalog.ProviderInvalid) as refused:
        definition(tmp_path, ("Bearer {key}", "Bearer"))
    assert refused.value.public == (
        'example.toml: auth.format: needs exactly one {key} hole, has 0; write for example format = "Bearer {key}"'
    )


def test_a_key_that_holds_a_colon_is_no_user_name(tmp_path: Path) -> None:
    colon = (PATTERN, "^ex_[A-Za-z0-9:]{20}$")
    with pytest.raises(catalog.ProviderInvalid, match=r"key\.pattern: accepts ':'"):
        definition(tmp_path, (BASIC[0], f'{BASIC[1]}\nusername = "{{key}}"'), colon)
    assert definition(tmp_path, (BASIC[0], f'{BASIC[1]}\nusername = "api"\npassword = "{{key}}"'), colon)


def test_what_is_not_toml_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('id = "example"\nversion = = 1\n')
    with pytest.raises(catalog.ProviderInvalid, match=r"^broken\.toml: is not TOML: .*line 2"):
        catalog.check(path)


def test_what_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes('title = "é"'.encode("latin-1"))
    with pytest.raises(catalog.ProviderInvalid, match=r"^latin\.toml: is not TOML"):
        catalog.check(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(catalog.ProviderInvalid, match=r"^gone\.toml: No such file"):
        catalog.check(tmp_path / "gone.toml")


def test_a_private_host_may_be_http_on_an_address_of_this_machine(tmp_path: Path) -> None:
    subdomain = f'[host.variables.subdomain]\ntitle = "Subdomain"\npattern = "{LABEL}"\n'
    for url in ("http://127.0.0.1:8080", "http://localhost:1", "https://[::1]:8443/api", "http://sandbox.internal"):
        host = (f'base_url = "{BASE}"', f'base_url = "{url}"\nprivate = true')
        assert definition(tmp_path, host, (subdomain, "")).url({}) == url
        public = (f'base_url = "{BASE}"', f'base_url = "{url}"')
        with pytest.raises(catalog.ProviderInvalid, match=r"host\.base_url: .*private = true"):
            definition(tmp_path, public, (subdomain, ""))


def test_the_file_that_others_break_is_right(tmp_path: Path) -> None:
    assert definition(tmp_path).id == "example"
    assert changed() in (tmp_path / "example.toml").read_text()
