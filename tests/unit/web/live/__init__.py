"""What changes while one looks: feeds, frames, and what somebody sees of others."""
