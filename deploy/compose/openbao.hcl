storage "raft" {
  path    = "/openbao/file"
  node_id = "one"
}
listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/run/secrets/openbao.pem"
  tls_key_file  = "/run/secrets/openbao.key"
}
# Without an audit device OpenBao serves unaudited.
audit "file" "file" {
  options {
    file_path = "/openbao/file/audit.log"
  }
}
api_addr     = "https://openbao:8200"
cluster_addr = "https://openbao:8201"
