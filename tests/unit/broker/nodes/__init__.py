"""The nodes of the fleet, as the broker treats them."""
