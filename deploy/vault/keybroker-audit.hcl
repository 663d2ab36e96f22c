# What whoever runs `broker keystore audit` may do beside the broker itself: see which paths there are, not what is there.
path "secret/metadata/keybroker/organizations/*" {
  capabilities = ["list"]
}
