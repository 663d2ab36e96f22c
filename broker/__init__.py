"""Keybroker: a credential broker for API keys that customers share with a vendor.

This docstring is the map.

Glossary: one word, one thing.  Names on the wire (routes, codes, event kinds, columns, commands) may be older::

    organization          a customer of the upstream SaaS.; for people, a customer.  *Tenant* is said of fences
    provider, upstream    a declared service; the service itself, as it answers
    credential            the place of a key: organization × provider × label, which are its *address*
    key, version          what the upstream gave; the n-th key of a credential
    tenant evidence       what shows that two keys are of one organization; it is *assessed*
    verify, probe         a request with the key: the first one, by which it comes into use; any later one
    due, window           what has to be done now; the time it may take
    cooldown, pause       a wait that the upstream asked for; a stop that the customer or an operator asked for
    intake request        an ask for a key.  Its *link* works once; what comes over it is a *submission*
    self-issued           of a link: made by the customer, from the previous one
    pending review        of what came: waits for an operator's decision (``held`` on the wire)
    rotation              one change of a key; *automatic* if the upstream's own API makes the new one
    grace, retiring       the time in which both keys work; the state of the previous one meanwhile
    revoke, purge         end a key's use for good; delete one that was never in use
    withdraw, destroy     the customer's revoking; deleting the data key, so that nobody can open the key any more
    certificate           a signed statement that a key is dead upstream, or works again (*accepted again*)
    exposure, incident    a report that a key is known to others; what is done about it
    leak, finding         a key where it should not be; one place where the scanner saw it
    workload              a program that uses keys.  Texts for people say job
    account, role         a person at the vendor; what they may do (``operator``, ``security``, ``admin``)
    passkey, ceremony     a key pair on a person's device, by which they sign in; making it, or proving that one has it
    issuer, claim         who signs tokens that others bring; what such a token says
    platform, preset      what runs a job and gives it a token; what is known of such tokens
    trust, era            which tokens of an issuer are a workload's; an issuer's time from one suspension to the next
    grant                 a workload's right to a credential; its *limits* are part of it
    review                a decision whether a grant or an account is still needed; it is due before it is *overdue*
    lease                 minutes of a grant; *use* forwards calls, *reveal* hands the key out
    bound, proof          of a token: of use only to whoever holds a key; what shows that for one request (DPoP)
    access snapshot       rights, key and states of one access target, read at one moment, kept in memory
    plan                  what doesn't change between two calls under one lease on one access snapshot
    guard, epoch          a condition of an event: "this row's epoch is still 7"; the number that any change raises
    quota                 a counter that an event takes from in its own transaction
    dry run               what a job's call would get now: decided, and not made
    proxied call, use     a call as the job asked for it; the same, allowed and on the record
    in-flight call        a proxied call between these two and its end; *cut* if what it depends on is revoked
    commit point          the audit append: before it nothing is revealed or used
    envelope, DEK, KEK    a sealed value; the key that seals it; the key that wraps that key (*binding*: AAD)
    internal root         the broker's own key, from which every other own key is derived, one for each use
    orphan                a value in Vault that no row knows
    leak fingerprint      a keyed digest by which a key is found again without being known
    log, checkpoint       the record as a tree that only grows; its signed size and root
    witness, cosignature  who checks that it only grows; what they say of a checkpoint.  Some of them are a *quorum*
    write tag             a random mark by which a writer knows its own value in Vault
    SIEM, sink            a customer's system for events of security; a place that the record is pushed to
    data subject          whom an event names: its actor, its organization, the account that it is about
    erase                 delete a data subject's key: nobody reads the personal parts of their events any more
    class, prune          uses, decisions or changes, each kept for so many days; delete an event but for its entry
    legal hold            while which nothing is erased or pruned
    notice, delivery      what operators are notified of; one way of telling it to one receiver
    invalidation message  "this changed", from replica to replica
    idempotency           the same request again has the same answer and changes nothing

Floors, top to bottom; imports go down only (``pyproject.toml``, import-linter)::

    __main__ cli          operator, job and server commands; the demo
    serving archiving kv_audit restored rewrap app database rights keystore_setup worker schema tables config
                          composition root, restores, periodic work, migrations, settings
    pruning               what is over, deleted after a time
    web                   the edge: api, console, pages, proxy; callers, services, middleware, metrics.  No rules
    erasure               people and organizations, erased
    leaks                 our keys where they should not be
    incidents             exposed keys: cut off, replaced, accounted for
    rotations             changes of a key, whole: asked for, decided, retired, given up
    proxy | intake        one proxied call | receiving a key
    leases                short rights to use
    reviews               whether grants and accounts are still needed, decided in time by people
    grants                who may use what, and how; policy is a pure function
    care                  keys in use: whether the upstream takes them, their age, policies
    credentials           what a key is: versions and their lawful moves; lifecycle is a pure function
    identity              who calls: workloads, operators
    organizations         the upstream's customers, and their end
    witness               who cosigns the log: served, or asked by the broker
    parts                 what all above are made of: one value
    issuers               who signs others' tokens, their keys, the check of these tokens, and what platforms' say
    providers             upstreams, declared
    siem                  the record in the forms of SIEMs: pulled, or pushed to sinks
    notifications         what operators are told
    audit | keystore      the record, which is the commit point | seal and open
    client                the job's side; imports only formats, and base/closed
    base | sandbox        plumbing without product words | the reference upstream's stand-in
    wire                  HTTP/1.1 on both sides: what is accepted, refused, bounded
    formats               bytes that outlive a process: pure, versioned

*call*: one proxied call, from the job's socket to the record of its outcome.

    1   wire/server             reads the request; refuses what can be read in two ways
    2   web/proxy               makes it one value, ``ProxiedCall`` of ``proxy/use``, with who calls
    3   proxy/authorize         finds the lease that its token names, or one of the job's own
    4   proxy/path              refuses a path that can be read in two ways
    5   proxy/in_flight         lets it in; from here on it is cut the moment something it depends on is revoked
    6   proxy/call              reads a small body before anything is decided
    7   leases/leasing          takes the snapshot that the lease stands on, with the epochs that guard it
    8   grants/policy           decides whether its grant allows it
    9   audit/log               makes the use durable if its guards hold and its quotas are there
    10  proxy/forward           opens the key
    11  proxy/request_headers   leaves out what is not for the upstream, and puts the key into its place
    12  proxy/forward           sends the call on
    13  proxy/redact            masks the key in the answer
    14  proxy/response_headers  leaves out what is not for the job
    15  proxy/retry             decides: the answer is handed over, or the call is made again from (7)
    16  proxy/forward           puts the outcome on the record

*lease*: a short right to use a key, from the token of the workload that asks to the token of the lease.

    1   web/callers             finds out which workload asks, and from where
    2   identity/access_tokens  verifies its token; whether the workload still stands is for the epochs to say
    3   web/api/leases          makes what is asked for one value, ``AccessRequest``
    4   leases/leasing          answers a repeat with the lease that the first one got
    5   leases/snapshot         has what is known of all that the request names, at one moment, and its epochs
    6   grants/policy           decides: a pure function of these and the time
    7   leases/leasing          puts a refusal on the record, then tells it
    8   leases/lease            makes the row of the lease, authenticated
    9   audit/log               makes event and row durable if no epoch has moved; if one has, it goes on from 5
    10  keystore/keyring        opens the key, only if it is to be revealed
    11  leases/leasing          refuses after all what was cut off while the key was opened
    12  formats/token           makes the lease's token, which can't be made from anything in the database
    13  web/api/leases          answers

*submission*: a customer's key, from the page that they opened to their receipt.

    1   web/pages/intake          takes a sealed key, and the proof of the link's secret that came with it
    2   intake/challenges         knows the nonce that the proof answers: ours, for this link, not expired
    3   intake/proving            looks the link up and compares the proof; a wrong one is counted and refused
    4   intake/challenges         uses the nonce up, for all replicas
    5   intake/submission         refuses a link that is spent, or was tried too often
    6   intake/submission         opens the seal: the key exists here from now on
    7   credentials/staging       refuses a key of another form or organization, seals it, and calls back
    8   intake/submission         locks the link and checks it again, in a transaction of its own
    9   credentials/staging       keeps the key as the next version; it binds to its organization
    10  intake/submission         spends the link; after this commit no crash loses the key
    11  credentials/verification  records that the key will be used, then opens it
    12  credentials/probe         asks the upstream with it
    13  credentials/evidence      assesses whether its ids are this organization's
    14  credentials/verification  decides: the key comes into use, waits for an operator, or is purged
    15  intake/submission         settles the link likewise, in the same transaction
    16  web/pages/intake          answers with the receipt

If a process ends after step 10, the worker goes on with step 11.

*rotation*: one change of key, from the wish for a new one until the old one is dead upstream.

    1   web/api/rotations           takes an operator's wish; ``rotations/schedule`` has it if a key's time has come
    2   rotations/requests          opens the rotation and its link together
    3   credentials/rotation        begins it, if no other one is open
    4   intake/links                makes the one-time link
    5   intake/submission           takes the new key over the link: the submission
    6   credentials/staging         keeps the key; the rotation is ``verifying``
    7   credentials/verification    compares the new key's ids with the old one's: the same tenant's, or held
    8   credentials/moves           moves both at once: the new key is active, the old one retiring
    9   credentials/rotation        begins the grace window, in which the old key can be fallen back to
    10  care/health                 notes if the upstream refuses the new key meanwhile, or takes it again
    11  rotations/commands          lets an operator promote, roll back or cancel, in any state that allows it
    12  rotations/retirement        finds old keys that no job has any more, or whose deadline has come
    13  rotations/commands          retires the old key; nobody uses it from this commit on
    14  rotations/revocation_check  asks the upstream with the old key until it is refused, and certifies that

``credentials/rotation_lifecycle`` is the table of all its states.  If the provider's API makes keys,
``rotations/minting`` does the steps 4 to 6.
"""
