"""Which files a calculation needs, and how they are laid out to be sent."""
