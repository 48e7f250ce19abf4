"""What a call may cost, before and after it: prices, estimates, the length of recordings."""
