"""Generated contracts between services: see protos/quakegrid/internal."""
