"""Who changed what, and when: an entry for every request and command that changes something,
written in the transaction of the change and chained to the entry before it."""
