# What people who look after the broker's master key may do: rotate it and retire old versions; neither use it nor make
# it exportable or deletable.
path "transit/keys/keybroker" {
  capabilities = ["read"]
}
path "transit/keys/keybroker/rotate" {
  capabilities = ["update"]
}
path "transit/keys/keybroker/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "min_encryption_version" = []
  }
}
