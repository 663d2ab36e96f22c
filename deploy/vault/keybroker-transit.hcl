# What a broker with BROKER_KEYSTORE=vault-transit may do: wrap and unwrap with one key, and see its newest version.
# It can't rotate, export, configure or delete the key: that is an operator's (keybroker-operator.hcl).
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "transit/encrypt/keybroker" {
  capabilities = ["update"]
}
path "transit/decrypt/keybroker" {
  capabilities = ["update"]
}
path "transit/keys/keybroker" {
  capabilities = ["read"]
}
# How far the record was, about once a second: what shows that the database was restored from a backup.
path "secret/data/keybroker/broker/heads/*" {
  capabilities = ["create", "update", "read"]
}
path "secret/metadata/keybroker/broker/heads/*" {
  capabilities = ["read"]
}
