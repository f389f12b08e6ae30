"""Model servers outside: where they are, their keys, and the one client that calls them."""
