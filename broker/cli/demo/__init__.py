"""The whole story on this machine: a broker, a sandbox, an operator, a customer and a job."""
