"""The wheel without people: simulated labelers, who say so, and one round around it all."""
