"""The HTTP surface, one file a noun; each makes a router from what it needs."""
