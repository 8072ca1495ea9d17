"""The live pages: what they show, how they stay live, and the server that serves them."""
