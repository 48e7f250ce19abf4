"""What is asserted, by topic. Each probe returns what it saw, or raises Unmet."""
