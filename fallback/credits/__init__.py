"""Prepaid credits: the ledger over the broker's counters, its journal, the billing of attempts."""
