"""Upkeep of a workspace: backup, restore, and looking whether lake, ledger and files agree."""
