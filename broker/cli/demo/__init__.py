"""The whole story on this machine: the broker, the sandbox upstream, an operator, a customer and a job."""
