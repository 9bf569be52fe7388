# The overlay has no pins of its own: everything goes through the processing system, whose IP brings its constraints,
# the 100 MHz clock among them.
