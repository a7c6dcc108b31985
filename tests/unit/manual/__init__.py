"""The manual as it is written: navigation, links, prose, the convention of its blocks, what is generated."""
