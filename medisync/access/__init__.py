"""Who may do what: accounts, sessions, tokens, permissions, the gate in front of every door, and the audit log."""
