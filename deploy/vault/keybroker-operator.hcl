# What people who look after the broker's master key may do: rotate it and retire old versions, not use it.
path "transit/keys/keybroker" {
  capabilities = ["read"]
}
path "transit/keys/keybroker/rotate" {
  capabilities = ["update"]
}
path "transit/keys/keybroker/config" {
  capabilities = ["update"]
}
