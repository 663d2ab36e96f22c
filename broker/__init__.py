"""Keybroker: a credential broker for API keys that customers share with a vendor.  This docstring is the map.

Vocabulary.  An *organization* is a customer of the upstream SaaS: a tenant.  A *provider* is a declared upstream.  A
*credential* is organization × provider × label; its keys are numbered *versions*.  An *intake* is a request for a key
over a one-time link.  A *workload* is a job; a *grant* is its right to a credential; a *lease* is minutes of that
right; a *use* is one proxied call under a lease.  An *operator* is a person at the vendor.

Floors, top to bottom; imports go down only (``pyproject.toml``, import-linter)::

    __main__ cli          operator, job and server commands; the demo
    serving kv_audit restored rewrap app database rights keystore_setup worker schema tables config
                          composition root, restores, periodic work, migrations, settings
    web                   the edge: api, pages, proxy; callers, idempotency, services, middleware, metrics.  No rules
    leaks                 our keys where they should not be
    incidents             exposed keys: cut off, replaced, accounted for
    rotations             changes of a key, whole: asked for, decided, retired, given up
    proxy | intake        one proxied call | receiving a key
    leases                short rights to use
    grants                who may use what, and how; policy is a pure function
    care                  keys in use: whether upstream takes them, their age, policies
    credentials           what a key is: versions and their lawful moves; lifecycle is a pure function
    identity              who calls: workloads, operators
    organizations         the upstream's customers, and their end
    providers             upstreams, declared
    notifications         what operators are told
    audit | keystore      the record, which is the commit point | seal and open
    client                the job's side; imports only formats, and base/closed
    base | sandbox        plumbing without product words | the reference upstream's stand-in
    wire                  HTTP/1.1 on both sides: what is accepted, refused, bounded
    formats               bytes that outlive a process: pure, versioned

The path of one proxied call: ``wire/server`` → ``web/proxy`` → ``proxy/call`` → ``proxy/path`` → ``leases/snapshot`` →
``grants/policy`` → ``audit/log`` (durable, guards hold, quotas taken) → ``keystore/keyring`` →
``proxy/request_headers`` → ``base/outbound`` → ``wire/client`` → ``proxy/response_headers``, ``proxy/redact`` →
``audit/log`` (outcome); all within ``proxy/in_flight``, which cuts it the moment something it relies on is revoked.
"""
