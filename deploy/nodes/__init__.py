"""Machines that join the fabric of another one, and what that one says of them."""
