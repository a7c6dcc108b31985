"""The pages of the reference, each made of what the code says of itself."""
