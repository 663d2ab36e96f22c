# What a broker with BROKER_KEYSTORE=vault-kv may do: keep customers' keys below its own prefix, and its own master
# keys beside them. It lists nothing, and never deletes a path: a value that is over is destroyed by its number, as is
# any other by whoever has the broker's token and knows the path.
path "auth/token/renew-self" {
  capabilities = ["update"]
}
# /readyz asks with it whether these rights still hold. Whether the mount keeps what is put there it tries, now and
# then, at organizations/probe/probe/probe, with a value that is no key and is destroyed at once.
path "sys/capabilities-self" {
  capabilities = ["update"]
}
path "secret/data/keybroker/organizations/*" {
  capabilities = ["create", "update", "read"]
}
# What people who browse are told, and that every write checks and sets. A path can't be told to forget by itself: no
# other time of deletion, nor another number of values. (Numbers are compared as texts here.)
path "secret/metadata/keybroker/organizations/*" {
  capabilities = ["create", "update", "read"]
  allowed_parameters = {
    "custom_metadata"      = []
    "cas_required"         = [true]
    "delete_version_after" = ["0s"]
    "max_versions"         = ["10000"]
  }
}
path "secret/destroy/keybroker/organizations/*" {
  capabilities = ["update"]
}
path "secret/data/keybroker/broker/master-keys" {
  capabilities = ["create", "update", "read"]
}
path "secret/metadata/keybroker/broker/master-keys" {
  capabilities = ["read"]
}
path "secret/destroy/keybroker/broker/master-keys" {
  capabilities = ["update"]
}
# How far the record was, about once a second: what shows that the database was restored from a backup.
path "secret/data/keybroker/broker/heads/*" {
  capabilities = ["create", "update", "read"]
}
path "secret/metadata/keybroker/broker/heads/*" {
  capabilities = ["read"]
}
