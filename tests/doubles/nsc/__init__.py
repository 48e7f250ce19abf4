"""`nsc`, NATS' tool for operators: what its commands make of accounts, users and their claims."""
