"""The command line, and the one place where registry, gateway and training meet.

One file a noun. Modules here import only click and `hub.errors` at the top; everything heavier is
imported inside the command that needs it, so that `hub --help` stays instant.
"""
